//! The routes, and a stop that keeps what it began.

mod files;
mod health;
mod listen;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;

use crate::channel::Mail;
use crate::channel::http_client::{self, HttpClient};
use crate::channel::language_model::LanguageModel;
use crate::engine::{Engine, EngineContext};
use crate::graphql;
use crate::kernel::clock::Clock;
use crate::kernel::config::Config;
use crate::kernel::cost::Costs;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;
use crate::transport::address_limits::Addresses;
use crate::transport::auth::Authenticator;
use crate::transport::documents::Documents;
use crate::transport::error::{Kind, RequestError};
use crate::transport::{App, http, import, sse};

/// A server that is up.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether everybody on this machine is admin.
    pub development: bool,
    engine: Engine,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    db: Arc<Db>,
}

impl Server {
    /// Listens, and starts the engine. The database must be migrated. Outside loopback it is refused while there is neither
    /// a key nor an issuer of tokens: everybody would be admin.
    pub async fn start(config: &Config, db: Arc<Db>, clock: Clock, viewer: Viewer) -> Result<Self> {
        db.keep_time().await?;
        db.trusts_tokens(config.jwt_issuer.is_some());
        crate::domain::plan::run_template::keep_built_in(&db).await?;
        crate::domain::plan::campaign::approval::keep_missing(&db).await?;
        let authenticator = Authenticator::open(config, &db, viewer).await?;
        let documents = Documents::open(config.documents.as_deref());
        let documents = documents.map_err(|err| err.of_setting("--documents (SORTIE_DOCUMENTS)"))?;
        let mail = Mail::configured(config).await?;
        let listener = TcpListener::bind(config.listen).await.map_err(|err| can_t_listen(config.listen, &err))?;
        let address = listener.local_addr()?;
        let worker = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let context = EngineContext { db: Arc::new(db.patient()), clock, lease: config.lease(), worker };
        let domain = crate::channel::mail::from(&config.mail_from)?.email.domain().to_owned();
        let secrets = http_client::secrets(config.call_secrets.as_deref());
        let secrets = secrets.map_err(|err| err.of_setting("--call-secrets (SORTIE_CALL_SECRETS)"))?;
        let http_client = Arc::new(HttpClient::new(&config.call_private, secrets)?);
        let model = LanguageModel::configured(config)?.map(Arc::new);
        db.writes(model.is_some());
        db.sends_from(&domain);
        db.keeps_audit(config.audit_days);
        let engine = Engine::start(context, mail, domain, http_client, model).await?;
        let stop = watch::Sender::new(false);
        let app = App {
            schema: graphql::quick_schema(db.clone()),
            validator: graphql::validator(),
            parsing: Default::default(),
            db: db.clone(),
            costs: Costs::new(config.answer_bytes()),
            authenticator: authenticator.clone(),
            addresses: Addresses::new(config.connections_per_address as usize),
            documents,
            presences: Default::default(),
            streams_per_key: config.streams_per_key as usize,
            client_time: config.client_time(),
            ping: config.ping(),
            phone_region: config.phone_region.clone(),
            crowds: Default::default(),
            uploads: Default::default(),
            sessions: Default::default(),
            stop: stop.subscribe(),
        };
        let connections = files::connections(config.connections as usize);
        tokio::spawn(emit_failures(authenticator.clone(), db.clone(), stop.subscribe()));
        let serving = tokio::spawn(listen::serve(listener, routes(app.clone()), app, connections));
        let (version, database) = (env!("CARGO_PKG_VERSION"), db.dialect());
        tracing::info!(version, %address, ?database, development = authenticator.development(), "Sortie is up");
        Ok(Self { address, development: authenticator.development(), engine, stop, serving, db })
    }

    /// Takes no more requests, lets the work in hand settle, and closes the database.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.engine.stop().await;
        let _ = tokio::time::timeout(limits::SOCKET_WRITE, self.serving).await;
        if let Err(err) = crate::kernel::audit::write_rest(&self.db).await {
            tracing::error!(error = %err, "refusals that were counted could not be written");
        }
        self.db.close().await;
    }
}

fn can_t_listen(address: SocketAddr, err: &std::io::Error) -> Error {
    let mend = match err.kind() {
        std::io::ErrorKind::AddrInUse => ": another program listens there; choose another port with --listen",
        std::io::ErrorKind::PermissionDenied => ": ports below 1024 need more rights; choose another with --listen",
        _ => "",
    };
    Error::ours(format!("can't listen on {address}: {err}{mend}"))
}

/// Has the failed logins told also when no further one comes.
async fn emit_failures(authenticator: Authenticator, db: Arc<Db>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::FORGET_EVERY) => authenticator.emit_failures(db.now()),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn routes(app: App) -> Router {
    Router::new()
        .route("/graphql", post(http::post).get(http::get))
        .route("/graphql/stream", post(sse::begin).get(sse::open).put(sse::reserve).delete(sse::end))
        .route("/import/records", post(import::records))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/graphiql", get(|| async { asset("index.html") }))
        .route("/graphiql/{name}", get(|Path(name): Path<String>| async move { asset(&name) }))
        .route("/", get(|| async { Redirect::temporary("/graphiql") }))
        .fallback(async || nothing(StatusCode::NOT_FOUND, "there is nothing here: ask at /graphql"))
        .method_not_allowed_fallback(async || nothing(StatusCode::METHOD_NOT_ALLOWED, "not by this method"))
        .layer(cors(&app))
        .layer(always(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Answers are of the moment, and of who asks; those that say something else, such as GraphiQL's files, do so.
        .layer(always(header::CACHE_CONTROL, "no-store"))
        .with_state(app)
}

/// A header of all answers that do not bring it themselves.
fn always(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Lets the pages of allowed origins read answers; all others get no leave from their browser.
fn cors(app: &App) -> CorsLayer {
    let authenticator = app.authenticator.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| authenticator.lets(origin)))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, sse::TOKEN, sse::LAST_ID])
        .max_age(limits::CORS_AGE)
}

fn nothing(status: StatusCode, why: &str) -> Response {
    http::refuse(http::Type::Json, &RequestError::new(Kind::Http(status), "NOT_FOUND", why))
}

/// GraphiQL, from the binary: no other host is asked.
fn asset(name: &str) -> Response {
    macro_rules! file {
        ($name:literal, $kind:literal) => {
            ($kind, include_bytes!(concat!("graphiql/", $name)).as_slice())
        };
    }
    let (kind, bytes) = match name {
        "index.html" => file!("index.html", "text/html; charset=utf-8"),
        "start.js" => file!("start.js", "text/javascript; charset=utf-8"),
        "start.css" => file!("start.css", "text/css; charset=utf-8"),
        "react.min.js" => file!("react.min.js", "text/javascript; charset=utf-8"),
        "react-dom.min.js" => file!("react-dom.min.js", "text/javascript; charset=utf-8"),
        "graphiql.min.js" => file!("graphiql.min.js", "text/javascript; charset=utf-8"),
        "graphiql.min.css" => file!("graphiql.min.css", "text/css; charset=utf-8"),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let policy = "default-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self' data:; img-src 'self' data:; \
                  object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, bytes).into_response()
}
