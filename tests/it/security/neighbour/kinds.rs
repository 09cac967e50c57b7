//! Each kind of attack in the list, with the requests that the tests of that kind send.

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Tenant;
use crate::harness::socket::{Came, Socket};
use crate::security::answers::RULES;
use crate::security::attacks::attacks;
use crate::security::cost::{COUNT, heavy};
use crate::security::door::connections::PREFACE;
use crate::security::door::pages::PROXIED;
use crate::security::evaluation::definitions::{AGENT, APPLY, CREATE, START, phases, slow};
use crate::security::evaluation::{conditions, documents, schemas, templates};

/// The kinds of the list. A16, a step that ends the process, has a test of its own: `security::poison`.
pub(super) const KINDS: [u8; 20] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 19, 20, 21];

const TEMPLATE: &str = "mutation($name: String!, $body: String!) { createMessageTemplate(input: { name: $name, subject: \"s\", body: $body }) { messageTemplate { id } } }";
const FILTER: &str = "mutation($name: String!, $filter: String!) { createAgent(input: { name: $name, filter: $filter }) { agent { id } } }";
const LARGE: &str = "records(first: 500) { nodes { id name attributes runs(first: 5) { nodes { id } } } }";

/// An attacker: an org's keys, and a client of the server.
#[derive(Clone)]
pub(super) struct Attacker {
    pub(super) address: SocketAddr,
    pub(super) manager: Tenant,
    pub(super) operator: Tenant,
    pub(super) viewer: Tenant,
}

impl Attacker {
    /// One round of a kind of attack; its responses are irrelevant.
    pub(super) async fn attack(&self, kind: u8, round: usize) {
        match kind {
            1 => drop(self.connections(20, PREFACE).await),
            2 => {
                let head = "POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1048576\r\n\r\n";
                let body = [head.as_bytes(), &vec![b' '; 256 * 1024]].concat();
                drop(self.connections(20, &body).await);
            }
            3 => drop(self.connections(40, b"POST /graphql HTTP/1.1\r\nHost: local").await),
            4 => {
                let guess = Tenant { key: format!("{}x", self.viewer.key), ..self.viewer.clone() };
                join_all((0..5).map(|_| guess.post("{ viewer { role } }", json!({})))).await;
            }
            5 => {
                for header in PROXIED {
                    let asked = self.viewer.client.get(format!("{}/metrics", self.viewer.url));
                    let _ = asked.header(header.0, header.1).send().await;
                }
            }
            6 => self.templates(templates::chains(1_500), round).await,
            7 => {
                let loops = "{% for a in [1,2,3,4,5,6,7,8,9] %}".repeat(4) + &"{% endfor %}".repeat(4);
                let more = ["{% for b in [a~a~a~a~a~a~a~a] %}{% endfor %}", "{{ \"a\" * 100000000 }}"];
                self.templates(more.map(str::to_owned).into_iter().chain([loops]).collect(), round).await;
            }
            8 => {
                let many: String = (0..20).map(|i| format!("a{i}: {LARGE} ")).collect();
                let queries = [format!("{{ {LARGE} }}"), format!("{{ {many} }}")];
                join_all(queries.iter().map(|query| self.viewer.post(query, json!({})))).await;
            }
            9 => {
                let of = heavy(60);
                join_all((0..4).map(|_| self.viewer.post(COUNT, of.clone()))).await;
            }
            10 => {
                let many: String = (0..40).map(|i| format!("m{i}: createMember(input: {{ name: $n, email: \"x@example.com\", role: ADMIN }}) {{ member {{ id }} }} ")).collect();
                let many = format!("mutation($n: String!) {{ {many} }}");
                self.viewer.post(&many, json!({ "n": "long".repeat(10_000) })).await;
            }
            11 | 18 => self.subscriptions(if kind == 11 { 20 } else { 2 }).await,
            12 => {
                for schema in schemas::refused().into_iter().chain([slow(round)]) {
                    self.manager.post(AGENT, json!({ "name": format!("S{round}"), "schema": schema })).await;
                }
                let steps = [slow(round + 1), slow(round + 2)];
                let steps = steps.map(|schema| json!({ "definition": { "key": "s", "name": "s", "type": "custom", "assignedTo": "HUMAN", "resultSchema": schema } }));
                self.operator.post(START, json!({ "input": { "name": "slow", "steps": steps } })).await;
            }
            13 => {
                let chains = conditions::chains(1_000).into_iter();
                let asked = chains.map(|filter| json!({ "name": format!("C{round}"), "filter": filter }));
                for variables in asked {
                    self.manager.post(FILTER, variables).await;
                }
                let yaml = json!({ "phases": phases(vec![slow(round)]) }).to_string();
                self.manager.post(CREATE, json!({ "key": format!("k{round}"), "name": "K", "yaml": yaml })).await;
            }
            14 => {
                for yaml in documents::texts(98_000) {
                    self.manager.post(APPLY, json!({ "yaml": yaml })).await;
                }
            }
            15 => {
                let head = format!(
                    "POST /import/records?kind=lead HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n12\r\nexternal_id,name\n\n\r\n",
                    self.manager.key
                );
                let open = self.connections(8, head.as_bytes()).await;
                self.manager.post("{ imports { totalCount } }", json!({})).await;
                drop(open);
            }
            17 => {
                for (_, wrong, _) in RULES {
                    self.viewer.post(wrong, json!({})).await;
                }
                for attack in attacks() {
                    self.viewer.send(&attack.request).await;
                }
                let whole = format!("{{ {} }}", documents::whole_schema(""));
                join_all((0..4).map(|_| self.viewer.post(&whole, json!({})))).await;
            }
            19 => {
                let start = "mutation { startGuidedRun(input: { templateKey: \"house\" }) { run { id } } }";
                self.operator.post(start, json!({})).await;
            }
            20 => {
                self.viewer
                    .post("{ events(first: 500) { nodes { kind payload } } auditLog { nodes { id } } }", json!({}))
                    .await;
            }
            _ => {
                let steps: Vec<Value> = ["127.0.0.1", "fec0::1", "localhost"]
                    .iter()
                    .map(|host| json!({ "key": "s", "type": "api_call", "assignedTo": "WORKFLOW", "config": { "url": format!("http://{host}/"), "headers": { "Host": host } } }))
                    .collect();
                let phases = json!([{ "key": "p", "tasks": [{ "key": "t", "steps": steps }] }]);
                let yaml = json!({ "runTemplates": [{ "key": "calls", "name": "C", "phases": phases }] }).to_string();
                self.manager.post(APPLY, json!({ "yaml": yaml })).await;
            }
        }
    }

    /// Connections that send these bytes and nothing more.
    async fn connections(&self, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        let mut open = Vec::new();
        for _ in 0..count {
            if let Ok(mut stream) = TcpStream::connect(self.address).await {
                let _ = stream.write_all(bytes).await;
                open.push(stream);
            }
        }
        open
    }

    async fn templates(&self, bodies: Vec<String>, round: usize) {
        for (i, body) in bodies.into_iter().enumerate() {
            self.manager.post(TEMPLATE, json!({ "name": format!("T{round}-{i}"), "body": body })).await;
        }
    }

    /// Subscriptions of two members, beside changes that they receive.
    async fn subscriptions(&self, count: usize) {
        let mut sockets = Vec::new();
        for key in [&self.viewer.key, &self.operator.key] {
            let mut socket = Socket::open_as(self.address, key).await;
            if !matches!(socket.came().await, Came::Message(_)) {
                continue;
            }
            for i in 0..count {
                let query = format!("subscription {{ a{i}: events {{ kind payload actor {{ name }} recordId }} }}");
                socket.subscribe(&i.to_string(), &query, json!({})).await;
            }
            sockets.push(socket);
        }
        let create = "mutation { createRecord(input: { kind: \"lead\", name: \"L\" }) { record { id } } }";
        join_all((0..10).map(|_| self.operator.post(create, json!({})))).await;
        drop(sockets);
    }
}
