//! The server: starts the engine and the routes, and stops without losing work in flight.

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
use crate::transport::accept::Type;
use crate::transport::address_limits::Addresses;
use crate::transport::auth::Authenticator;
use crate::transport::documents::Documents;
use crate::transport::error::{Kind, RequestError};
use crate::transport::{App, http, import, response, sse, sse_sessions};

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// True if every client on this machine is an admin (development mode).
    pub development: bool,
    engine: Engine,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
    db: Arc<Db>,
}

impl Server {
    /// Starts the engine and listens. The database must be migrated. Rejected outside loopback
    /// without a key or a token issuer, because then every client would be an admin.
    pub async fn start(config: &Config, db: Arc<Db>, clock: Clock, viewer: Viewer) -> Result<Self> {
        db.keep_time().await?;
        db.set_has_tokens(config.jwt_issuer.is_some());
        crate::domain::plan::run_template::sync_built_in(&db.write()).await?;
        crate::domain::plan::campaign::approval::store_missing_approvals(&db.write()).await?;
        let authenticator = Authenticator::open(config, &db, viewer).await?;
        let documents = Documents::open(config.documents.as_deref());
        let documents = documents.map_err(|err| err.for_setting("--documents (SORTIE_DOCUMENTS)"))?;
        let mail = Mail::configured(config).await?;
        let listener = TcpListener::bind(config.listen).await.map_err(|err| listen_error(config.listen, &err))?;
        let address = listener.local_addr()?;
        let worker = format!("{}-{}", std::process::id(), uuid::Uuid::now_v7().simple());
        let context = EngineContext { db: db.write_in_background(), clock, lease: config.lease(), worker };
        let from = crate::channel::mail::from(&config.mail_from)?;
        let domain = from.email.domain().to_owned();
        let sender = graphql::communication::Sender { name: from.name, address: from.email.to_string() };
        let secrets = http_client::secrets(config.call_secrets.as_deref());
        let secrets = secrets.map_err(|err| err.for_setting("--call-secrets (SORTIE_CALL_SECRETS)"))?;
        let http_client = Arc::new(HttpClient::new(&config.call_private, secrets)?);
        let model = LanguageModel::configured(config)?.map(Arc::new);
        db.set_has_model(model.is_some());
        db.set_mail_domain(&domain);
        db.set_audit_days(config.audit_days);
        let engine = Engine::start(context, mail, domain, http_client, model).await?;
        let stop = watch::Sender::new(false);
        let app = App {
            schema: graphql::server_schema(db.clone(), sender),
            validator: graphql::validator(),
            parsing: Default::default(),
            db: db.clone(),
            costs: Costs::new(config.answer_bytes()),
            authenticator: authenticator.clone(),
            addresses: Addresses::new(config.connections_per_address as usize),
            documents,
            stream_quotas: Default::default(),
            streams_per_key: config.streams_per_key as usize,
            client_time: config.client_time(),
            ping: config.ping(),
            phone_region: config.phone_region.clone(),
            shared_subscriptions: Default::default(),
            shared_rows: Default::default(),
            uploads: Default::default(),
            sessions: Default::default(),
            stop: stop.subscribe(),
        };
        let connections = files::connections(config.connections as usize);
        tokio::spawn(log_failures(authenticator.clone(), db.clone(), stop.subscribe()));
        let serving = tokio::spawn(listen::serve(listener, routes(app.clone()), app, connections));
        let (version, database) = (env!("CARGO_PKG_VERSION"), db.dialect());
        tracing::info!(version, %address, ?database, development = authenticator.development(), "Sortie is up");
        Ok(Self { address, development: authenticator.development(), engine, stop, serving, db })
    }

    /// Stops accepting requests, lets work in flight settle, and closes the database.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.engine.stop().await;
        let _ = tokio::time::timeout(limits::SOCKET_WRITE, self.serving).await;
        if let Err(err) = crate::kernel::audit::write_rest(&self.db).await {
            tracing::error!(error = %err, "counted rejections could not be written to the audit log");
        }
        self.db.close().await;
    }
}

fn listen_error(address: SocketAddr, err: &std::io::Error) -> Error {
    let remedy = match err.kind() {
        std::io::ErrorKind::AddrInUse => ": another program listens there; choose another port with --listen",
        std::io::ErrorKind::PermissionDenied => ": ports below 1024 need more rights; choose another with --listen",
        _ => "",
    };
    Error::internal(format!("can't listen on {address}: {err}{remedy}"))
}

/// Periodically logs failed logins, so that the last ones are reported without a further failure.
async fn log_failures(authenticator: Authenticator, db: Arc<Db>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(limits::HOUSEKEEPING_INTERVAL) => authenticator.log_failures(db.now()),
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

fn routes(app: App) -> Router {
    Router::new()
        .route("/graphql", post(http::post).get(http::get))
        .route(
            "/graphql/stream",
            post(sse_sessions::begin).get(sse_sessions::open).put(sse_sessions::reserve).delete(sse_sessions::end),
        )
        .route("/import/records", post(import::records))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/graphiql", get(|| async { asset("index.html") }))
        .route("/graphiql/{name}", get(|Path(name): Path<String>| async move { asset(&name) }))
        .route("/", get(|| async { Redirect::temporary("/graphiql") }))
        .fallback(async || error_response(StatusCode::NOT_FOUND, "NOT_FOUND", "not found: the API is at /graphql"))
        // The router adds the header `Allow`.
        .method_not_allowed_fallback(async || {
            let message = "this path does not accept the request's method";
            error_response(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message)
        })
        .layer(cors(&app))
        .layer(default_header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // Responses depend on the moment and the principal; others, such as GraphiQL's files, set
        // their own header.
        .layer(default_header(header::CACHE_CONTROL, "no-store"))
        .with_state(app)
}

/// A header for all responses that do not set it themselves.
fn default_header(name: HeaderName, value: &'static str) -> SetResponseHeaderLayer<HeaderValue> {
    SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
}

/// Allows pages of the configured origins to read responses; browsers deny all others.
fn cors(app: &App) -> CorsLayer {
    let authenticator = app.authenticator.clone();
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |origin, _| authenticator.allows_origin(origin)))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE, header::ACCEPT, sse_sessions::TOKEN, sse::LAST_ID])
        .max_age(limits::CORS_AGE)
}

fn error_response(status: StatusCode, code: &str, message: &str) -> Response {
    response::refuse(Type::Json, &RequestError::new(Kind::Http(status), code, message))
}

/// GraphiQL's files, embedded in the binary: no other host is contacted.
fn asset(name: &str) -> Response {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    const STYLE: &str = "text/css; charset=utf-8";
    let (kind, bytes): (&str, &[u8]) = match name {
        "index.html" => ("text/html; charset=utf-8", include_bytes!("graphiql/index.html")),
        "start.js" => (SCRIPT, include_bytes!("graphiql/start.js")),
        "start.css" => (STYLE, include_bytes!("graphiql/start.css")),
        "react.min.js" => (SCRIPT, include_bytes!("graphiql/react.min.js")),
        "react-dom.min.js" => (SCRIPT, include_bytes!("graphiql/react-dom.min.js")),
        "graphiql.min.js" => (SCRIPT, include_bytes!("graphiql/graphiql.min.js")),
        "graphiql.min.css" => (STYLE, include_bytes!("graphiql/graphiql.min.css")),
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
