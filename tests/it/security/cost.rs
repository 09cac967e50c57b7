//! Responses are bounded, statements end with their request, and nobody takes more than a share.

mod answers;
mod audit;
mod claims;
mod documents;
mod large;
mod live;
mod parsed;
mod room;
mod shared;
mod statements;

use std::time::{Duration, Instant};

use entity::id::Id;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::viewer::Viewer;

use crate::harness::{Kind, World, key};

/// A filter that is slow over many records: each condition reads an attribute and compares it with
/// many texts.
pub(super) fn heavy(conditions: usize) -> Value {
    let texts: Vec<String> = (0..12).map(|i| format!("none {i}")).collect();
    let or: Vec<Value> =
        (0..conditions).map(|i| json!({ "attributes": [{ "name": format!("a{i}"), "in": texts }] })).collect();
    json!({ "filter": { "or": or } })
}

pub(super) const COUNT: &str = "query($filter: RecordFilterInput) { records(filter: $filter) { totalCount } }";

impl World {
    /// Inserts records of an org, each with `bytes` bytes of attributes.
    pub(super) async fn fill(&self, kind: Kind, viewer: &Viewer, records: usize, bytes: usize) {
        let org = viewer.org_id.uuid().simple();
        let attributes = json!({ "a1": "x", "padding": "p".repeat(bytes) });
        let columns = "id, org_id, kind, name, attributes, search, priority, created_at, updated_at, revision";
        let sql = match kind {
            Kind::Sqlite => format!(
                "INSERT INTO record ({columns}) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {records}) \
                 SELECT randomblob(16), X'{org}', 'lead', 'Lead ' || i, '{attributes}', 'lead ' || i, 0, \
                 '2026-11-02T12:00:00+00:00', '2026-11-02T12:00:00+00:00', 1 FROM n"
            ),
            Kind::Postgres => format!(
                "INSERT INTO record ({columns}) SELECT gen_random_uuid(), '{org}', 'lead', 'Lead ' || i, '{attributes}'::jsonb, \
                 'lead ' || i, 0, now(), now(), 1 FROM generate_series(1, {records}) AS n(i)"
            ),
        };
        self.force(&sql).await;
    }

    /// Creates another org; returns its admin, and a key of one of its operators.
    pub async fn tenant(&self, name: &str) -> (Viewer, String) {
        let (_, admin) =
            sortie::domain::people::org::create(&self.db.write(), name, name, &format!("{name}@example.com"))
                .await
                .unwrap();
        let key = key(&self.db, &admin, Role::Operator, None).await;
        (admin, key)
    }

    /// Number of reader connections in use, and their total.
    pub(super) fn lanes(&self) -> (usize, usize) {
        let (_, all, idle) = *self.db.pools().iter().find(|(name, ..)| *name == "reader").unwrap();
        (all - idle, all)
    }

    /// Waits until the number of reader connections in use meets a condition; returns the time that
    /// it took.
    pub(super) async fn until_lanes(&self, wanted: impl Fn(usize) -> bool) -> Duration {
        let begun = Instant::now();
        while !wanted(self.lanes().0) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{:?} lanes are taken", self.lanes());
            tokio::task::yield_now().await;
        }
        begun.elapsed()
    }

    /// Status of the response to a GET.
    pub(super) async fn status(&self, path: &str) -> u16 {
        crate::harness::client().get(format!("http://{}{path}", self.address)).send().await.unwrap().status().as_u16()
    }
}

/// Repeats a request with a credential, in a task, until that is aborted.
pub(super) fn again(
    address: std::net::SocketAddr,
    shown: &str,
    query: &str,
    variables: &Value,
) -> tokio::task::JoinHandle<()> {
    let request = crate::harness::client().post(format!("http://{address}/graphql")).bearer_auth(shown);
    let request = request.json(&json!({ "query": query, "variables": variables }));
    tokio::spawn(async move {
        while let Ok(response) = request.try_clone().unwrap().send().await {
            let _ = response.bytes().await;
        }
    })
}
