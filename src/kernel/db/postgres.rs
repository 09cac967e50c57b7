//! Connections to Postgres. The first one fails fast, with a message on what to do.

use std::time::Duration;

use sea_orm::ConnectOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{Connection, Error as Sqlx};

use crate::kernel::error::{Error, Result};
use crate::kernel::secret;

/// Timeout of the first connection.
pub(super) const PATIENCE: Duration = Duration::from_millis(2_500);

/// Time without use after which a connection is tested before it is handed out: the server may have
/// closed it meanwhile. Testing each time took a sixth of a request's time.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(1);

/// Options of a pool whose statements have a timeout; none means no timeout.
pub(super) fn options(url: &str, connections: u32, statement: Option<Duration>) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false).map_sqlx_postgres_opts(move |options| {
        // A forgotten transaction would hold up the numbering of the log.
        let options = options.options([("idle_in_transaction_session_timeout", "30s")]);
        match statement {
            Some(most) => options.options([("statement_timeout", format!("{}ms", most.as_millis()))]),
            None => options,
        }
    });
    options.test_before_acquire_if_idle_for(TEST_AFTER_IDLE);
    options
}

/// The server's host and port, for the log.
pub(super) fn server(url: &str) -> String {
    match url.parse::<PgConnectOptions>() {
        Ok(options) => format!("Postgres at {}:{}", options.get_host(), options.get_port()),
        Err(_) => "Postgres".to_owned(),
    }
}

/// The name of the database.
pub(super) fn database(url: &str) -> String {
    let options = url.parse::<PgConnectOptions>().ok();
    options.as_ref().and_then(|options| options.get_database()).unwrap_or("of the user's name").to_owned()
}

/// The error for a role without the right to create tables, with the remedy.
pub(super) fn may_not_create(url: &str, err: &sea_orm::DbErr) -> Error {
    let options = url.parse::<PgConnectOptions>().ok();
    let role = options.as_ref().map_or("the role", PgConnectOptions::get_username);
    let database = database(url);
    Error::internal(format!(
        "{}: the role {role} may not create tables in the database {database} ({err}): create the database with \
         `createdb -O {role} {database}`, or allow it, as the owner, by `GRANT CREATE ON SCHEMA public TO {role}`",
        server(url)
    ))
}

/// Connects once. The pool would try for 30 seconds and report only that it had waited.
pub(super) async fn reach(url: &str, patience: Duration) -> Result<()> {
    let options: PgConnectOptions = url.parse().map_err(|err: Sqlx| {
        // sqlx repeats this prefix.
        let message = err.to_string().replace("error with configuration: ", "");
        let message = secret::without(&message, url);
        Error::internal(format!("DATABASE_URL (--database-url) can't be read: {message}"))
    })?;
    let place = format!(
        "Postgres at {}:{}, database {}, as {}",
        options.get_host(),
        options.get_port(),
        options.get_database().unwrap_or("of the user's name"),
        options.get_username()
    );
    let remedy = match tokio::time::timeout(patience, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            return Ok(());
        }
        Err(_) => {
            let problem = format!("no response within {:.1} s", patience.as_secs_f32());
            format!("{problem}: is the address right, and does a firewall let it through?")
        }
        Ok(Err(Sqlx::Database(err))) => match err.code().as_deref() {
            Some("3D000") => format!("{}: make it with `createdb`", err.message()),
            Some("28P01" | "28000") => format!("{}: correct user or password in DATABASE_URL", err.message()),
            _ => err.message().to_owned(),
        },
        Ok(Err(Sqlx::Tls(err))) => {
            format!("TLS: {err}; where the server has none, `?sslmode=disable` in DATABASE_URL goes without")
        }
        Ok(Err(err)) => format!("can't be reached: {err}. Start it, or correct DATABASE_URL (--database-url)"),
    };
    Err(Error::internal(format!("{place}: {remedy}")))
}
