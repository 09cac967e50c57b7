//! The test harness: a world with a database of its own, a server with a clock that the test sets,
//! and a client.

pub mod api;
pub mod check;
pub mod cursor;
mod gone;
pub mod life;
pub mod lists;
pub mod plan;
pub mod postgres;
pub mod sink;
pub mod socket;
mod template;
mod until;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use entity::member::Role;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};
use sortie::app::server::Server;
use sortie::channel::Mail;
use sortie::engine::{EngineContext, begin, bulk_actions, perform, rescue, send};
use sortie::kernel::clock::Clock;
use sortie::kernel::config::Config;
use sortie::kernel::db::Db;
use sortie::kernel::viewer::Viewer;
use sortie::step_kind::draft::{Draft, DraftSelection};
use sortie::step_kind::{send::Send, summarise::Summarise};

/// The database of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// Declares a test that runs on both databases; its body gets the kind.
macro_rules! both {
    ($(#[$meta:meta])* async fn $name:ident($kind:ident) $body:block) => {
        mod $name {
            use super::*;

            $(#[$meta])*
            async fn body($kind: $crate::harness::Kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                body($crate::harness::Kind::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if $crate::harness::postgres::available() {
                    body($crate::harness::Kind::Postgres).await;
                }
            }
        }
    };
}

pub struct World {
    pub db: Arc<Db>,
    pub clock: Clock,
    pub viewer: Viewer,
    pub folder: PathBuf,
    pub address: std::net::SocketAddr,
    /// Bearer credential of the client; none in development mode.
    pub shown: std::sync::Mutex<Option<String>>,
    way: Way,
}

/// Transport of the test's requests, and the means by which work advances.
enum Way {
    /// A running server with its engine, over HTTP.
    Up(Box<Server>, reqwest::Client),
    /// No server and no engine: the schema is executed directly, and work advances only by `tick`.
    Still(Box<(sortie::graphql::Schema, EngineContext, Draft, Send)>),
}

/// The start time of every test: noon on an ordinary day.
pub fn noon() -> DateTime<Utc> {
    "2026-11-02T12:00:00Z".parse().unwrap()
}

/// An HTTP client.
pub fn client() -> reqwest::Client {
    client_builder().build().unwrap()
}

pub fn client_builder() -> reqwest::ClientBuilder {
    sortie::kernel::tls::begin();
    reqwest::Client::builder()
}

/// Creates an API key of a new member; a worker's key belongs to the viewer.
pub async fn key(db: &Db, viewer: &Viewer, role: Role, expires_at: Option<DateTime<Utc>>) -> String {
    let platform = entity::org::PLATFORM;
    let first = role == Role::Admin && viewer.org_id == platform;
    if !first
        && !sortie::domain::people::admin_access::admin_can_authenticate(db.read(), platform, db.now(), db.has_tokens())
            .await
            .unwrap()
    {
        // The first key must be an admin's of the built-in org.
        let admin = Viewer::developer(db).await.unwrap();
        let (name, role) = ("first".to_owned(), Role::Admin);
        let fields =
            sortie::domain::people::api_key::Fields { name, role, member_id: None, agent_id: None, expires_at: None };
        sortie::domain::people::api_key::create(&db.write(), &admin, &fields).await.unwrap();
    }
    let name = format!("{role} {}", uuid::Uuid::now_v7().simple());
    let member_id = match role {
        Role::Worker => viewer.member_id(),
        role => {
            let email = format!("{}@example.com", name.replace(' ', "."));
            let fields = sortie::domain::people::member::Fields {
                name: Some(name.clone()),
                email: Some(email),
                role: Some(role),
                subject: None,
            };
            Some(sortie::domain::people::member::create(&db.write(), viewer, &fields).await.unwrap().id)
        }
    };
    let fields = sortie::domain::people::api_key::Fields { name, role, member_id, agent_id: None, expires_at };
    sortie::domain::people::api_key::create(&db.write(), viewer, &fields).await.unwrap().1
}

pub fn config(folder: &std::path::Path, url: &str, smtp: Option<String>) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: folder.to_owned(),
        database_url: Some(url.to_owned()),
        smtp_url: smtp,
        mail_from: "Sortie <sortie@sender.example>".into(),
        mail_per_minute: None,
        mail_retry_hours: 24,
        smtp_seconds: 3,
        phone_region: None,
        config: None,
        log: None,
        log_format: sortie::kernel::config::LogFormat::Text,
        otlp_endpoint: None,
        client_seconds: 5,
        ping_seconds: 20,
        connections: 1_000,
        connections_per_address: 500,
        streams_per_key: 500,
        answer_mib: 16,
        audit_days: 365,
        documents: None,
        recheck_seconds: 1,
        allow_origins: Vec::new(),
        trusted_proxies: vec!["127.0.0.1".parse().unwrap()],
        jwt_issuer: None,
        jwt_audience: None,
        jwt_jwks: None,
        jwt_algorithm: "RS256".into(),
        lease_seconds: 60,
        call_private: vec!["127.0.0.0/8".parse().unwrap()],
        call_secrets: None,
        model_url: None,
        model: "stand-in".into(),
        model_key: None,
        model_tokens: 500,
        model_seconds: 3,
    }
}

/// A new folder, and the URL of a fresh database.
pub async fn place(kind: Kind) -> (PathBuf, String) {
    let name = format!("sortie_test_{}", uuid::Uuid::now_v7().simple());
    let folder = std::env::temp_dir().join(&name);
    std::fs::create_dir_all(&folder).unwrap();
    let url = match kind {
        Kind::Sqlite => format!("sqlite://{}", folder.join("sortie.db").display()),
        Kind::Postgres => postgres::create(&name).await,
    };
    (folder, url)
}

impl World {
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, None).await
    }

    pub async fn with(kind: Kind, smtp: Option<String>) -> Self {
        let (folder, url) = template::migrated(kind).await;
        let clock = Clock::set_to(noon());
        let db = Arc::new(Db::connect(&url, clock.clone()).await.unwrap());
        db.migrate().await.unwrap();
        let viewer = Viewer::developer(&db).await.unwrap();
        sortie::domain::plan::run_template::sync_built_in(&db.write()).await.unwrap();
        let server =
            Server::start(&config(&folder, &url, smtp), db.clone(), clock.clone(), viewer.clone()).await.unwrap();
        let address = server.address;
        Self { db, clock, viewer, folder, address, shown: None.into(), way: Way::Up(Box::new(server), client()) }
    }

    /// A world whose server authenticates by API keys; its client uses an admin's.
    pub async fn with_auth(kind: Kind) -> Self {
        Self::with_config(kind, |_| {}).await
    }

    /// The same, with further settings of authentication and limits.
    pub async fn with_config(kind: Kind, change: impl FnOnce(&mut Config)) -> Self {
        let (folder, url) = template::migrated(kind).await;
        let clock = Clock::set_to(noon());
        let db = Arc::new(Db::connect(&url, clock.clone()).await.unwrap());
        db.migrate().await.unwrap();
        let viewer = Viewer::developer(&db).await.unwrap();
        sortie::domain::plan::run_template::sync_built_in(&db.write()).await.unwrap();
        let key = key(&db, &viewer, Role::Admin, None).await;
        let mut config = config(&folder, &url, None);
        change(&mut config);
        let server = Server::start(&config, db.clone(), clock.clone(), viewer.clone()).await.unwrap();
        let address = server.address;
        Self { db, clock, viewer, folder, address, shown: Some(key).into(), way: Way::Up(Box::new(server), client()) }
    }

    /// Status and body of the response to a request with this credential.
    pub async fn post_as(&self, shown: &str, query: &str, variables: Value) -> (u16, Value) {
        let request = crate::harness::client().post(format!("http://{}/graphql", self.address));
        let request = if shown.is_empty() { request } else { request.bearer_auth(shown) };
        let response = request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Creates an API key of a new member with a role.
    pub async fn key(&self, role: Role) -> String {
        key(&self.db, &self.viewer, role, None).await
    }

    /// A world in which work advances only by `tick`.
    pub async fn without_server(kind: Kind, smtp: Option<String>) -> Self {
        Self::made(kind, smtp, None).await
    }

    /// The same, with a limit of mails per minute.
    pub async fn with_mail_rate(kind: Kind, smtp: Option<String>, per_minute: u32) -> Self {
        Self::made(kind, smtp, Some(per_minute)).await
    }

    async fn made(kind: Kind, smtp: Option<String>, mail_per_minute: Option<u32>) -> Self {
        let (folder, url) = template::migrated(kind).await;
        let clock = Clock::set_to(noon());
        let db = Arc::new(Db::connect(&url, clock.clone()).await.unwrap());
        db.migrate().await.unwrap();
        let viewer = Viewer::developer(&db).await.unwrap();
        sortie::domain::plan::run_template::sync_built_in(&db.write()).await.unwrap();
        let mail = Mail::configured(&Config { mail_per_minute, ..config(&folder, &url, smtp) }).await.unwrap();
        let engine_context = EngineContext {
            db: db.write(),
            clock: clock.clone(),
            lease: Duration::from_secs(60),
            worker: "still".into(),
        };
        let (draft, send) = (
            Draft { takes: DraftSelection::All, domain: "sender.example".into(), model: None },
            Send { mail: Arc::new(mail) },
        );
        let way = Way::Still(Box::new((sortie::graphql::schema(Some(db.clone())), engine_context, draft, send)));
        Self { db, clock, viewer, folder, address: "127.0.0.1:0".parse().unwrap(), shown: None.into(), way }
    }

    /// Advances a still world until nothing is left to do, or only until work is queued.
    pub async fn tick(&self, and_work: bool) {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        let (_, engine_context, draft, send) = &**still;
        loop {
            let mut done = begin::tick(engine_context).await.unwrap();
            done += bulk_actions::tick(engine_context).await.unwrap();
            if and_work {
                done += perform::tick(engine_context, draft).await.unwrap();
                done += perform::tick(engine_context, send).await.unwrap();
                done += send::tick(engine_context, send).await.unwrap();
                done += perform::tick(engine_context, &Summarise).await.unwrap();
            }
            if done == 0 {
                return;
            }
        }
    }

    /// Sends the queued messages of a still world and advances nothing else.
    pub async fn work(&self) {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        while perform::tick(&still.1, &still.3).await.unwrap() > 0 {}
    }

    /// Deletes expired rows in a still world.
    pub async fn forget(&self) {
        sortie::engine::housekeeping::tick(self.engine_context(), None).await;
    }

    /// Context of the engine's loops in a still world.
    pub fn engine_context(&self) -> &EngineContext {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        &still.1
    }

    /// Reclaims expired leases in a still world.
    pub async fn rescue(&self) {
        let Way::Still(still) = &self.way else { panic!("this world moves by itself") };
        rescue::tick(&still.1).await.unwrap();
    }

    /// The whole response, with data and errors.
    pub async fn post(&self, query: &str, variables: Value) -> Value {
        match &self.way {
            Way::Up(_, client) => {
                let response = client.post(format!("http://{}/graphql", self.address));
                let shown = self.shown.lock().unwrap().clone();
                let response = match shown {
                    Some(shown) => response.bearer_auth(shown),
                    None => response,
                };
                let response = response.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
                response.json().await.unwrap()
            }
            Way::Still(still) => {
                let request =
                    async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
                let request = sortie::graphql::with_viewer(request, &self.db, &self.viewer);
                let response = sortie::graphql::batching::execute(&still.0, request).await;
                serde_json::to_value(response).unwrap()
            }
        }
    }

    /// The data of a response. Panics if it has errors.
    pub async fn ask(&self, query: &str, variables: Value) -> Value {
        let answer = self.post(query, variables.clone()).await;
        assert!(answer.get("errors").is_none(), "{query}\n{variables}\n{answer:#}");
        answer["data"].clone()
    }

    /// Code and message of the response's first error. Panics if it has none.
    pub async fn refused(&self, query: &str, variables: Value) -> (String, String) {
        let answer = self.post(query, variables).await;
        let error = &answer["errors"][0];
        assert!(error.is_object(), "{query} was not refused: {answer:#}");
        (
            error["extensions"]["code"].as_str().unwrap_or_default().to_owned(),
            error["message"].as_str().unwrap().to_owned(),
        )
    }

    pub fn outbox(&self) -> Vec<PathBuf> {
        outbox(&self.folder)
    }

    /// Rows of one statement, as text.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<String>> {
        // On Postgres events get their positions only after the commit.
        sortie::kernel::event::head(&self.db, &self.viewer).await.unwrap();
        let rows = self
            .db
            .read()
            .query_all_raw(Statement::from_string(self.db.read().get_database_backend(), sql))
            .await
            .unwrap();
        rows.iter()
            .map(|row| {
                let count = row.column_names().len();
                (0..count)
                    .map(|i| {
                        row.try_get_by_index::<Option<String>>(i)
                            .map(Option::unwrap_or_default)
                            .or_else(|_| {
                                row.try_get_by_index::<Option<i64>>(i).map(|n| n.unwrap_or_default().to_string())
                            })
                            .or_else(|_| {
                                row.try_get_by_index::<Option<i32>>(i).map(|n| n.unwrap_or_default().to_string())
                            })
                            .unwrap()
                    })
                    .collect()
            })
            .collect()
    }

    /// Checks the invariants and stops the server.
    pub async fn end(self) {
        check::check(&self).await;
        self.drop_unchecked().await;
    }

    /// Stops the server without the check, for tests that forced an impossible state by SQL.
    pub async fn drop_unchecked(self) {
        if let Way::Up(server, _) = self.way {
            server.stop().await;
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Runs a counting statement on the database.
    pub async fn number(&self, sql: &str) -> i64 {
        let statement = Statement::from_string(self.db.read().get_database_backend(), sql);
        self.db.read().query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
    }

    pub async fn force(&self, sql: &str) {
        let tx = self.db.write().begin().await.unwrap();
        tx.db().execute_unprepared(sql).await.unwrap();
        self.db.write().end(tx, Ok(()), &mut 0).await.unwrap().unwrap();
    }
}

pub fn outbox(folder: &std::path::Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(folder.join("outbox")) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        found.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "eml")).collect();
    files.sort();
    files
}

impl World {
    pub async fn ask_all_events(&self) -> Vec<Value> {
        let query = "query($after: String) { events(first: 500, after: $after) { nodes { cursor kind campaignId runId phaseId taskId stepId recordId payload actor { name } } pageInfo { hasNextPage endCursor } } }";
        let (mut all, mut after) = (Vec::new(), Value::Null);
        loop {
            let data = self.ask(query, json!({ "after": after })).await;
            all.extend(data["events"]["nodes"].as_array().unwrap().iter().cloned());
            if data["events"]["pageInfo"]["hasNextPage"] != true {
                return all;
            }
            after = data["events"]["pageInfo"]["endCursor"].clone();
        }
    }
}
