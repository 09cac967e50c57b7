//! Connections to Postgres; the first is quick to fail, and with a word on what to do.

use std::time::Duration;

use sea_orm::ConnectOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection};
use sea_orm::sqlx::{Connection, Error as Sqlx};

use crate::kernel::error::{Error, Result};
use crate::kernel::secret;

/// How long a server may take to answer at the start.
pub(super) const PATIENCE: Duration = Duration::from_millis(2_500);

/// So many connections, each of whose statements ends after its time; without one: when it is done.
pub(super) fn options(url: &str, connections: u32, statement: Option<Duration>) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false).map_sqlx_postgres_opts(move |options| {
        // A transaction that somebody forgot would hold up the numbering of the log.
        let options = options.options([("idle_in_transaction_session_timeout", "30s")]);
        match statement {
            Some(most) => options.options([("statement_timeout", format!("{}ms", most.as_millis()))]),
            None => options,
        }
    });
    options
}

/// The server's host and port, for the log.
pub(super) fn place(url: &str) -> String {
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

/// The refusal of a role that may not make tables, with what lets it.
pub(super) fn may_not_create(url: &str, err: &sea_orm::DbErr) -> Error {
    let options = url.parse::<PgConnectOptions>().ok();
    let role = options.as_ref().map_or("the role", PgConnectOptions::get_username);
    let database = database(url);
    Error::ours(format!(
        "{}: the role {role} may not make tables in the database {database} ({err}): make the database with \
         `createdb -O {role} {database}`, or let it, as the owner, by `GRANT CREATE ON SCHEMA public TO {role}`",
        place(url)
    ))
}

/// Connects once. The pool would try for 30 seconds, and then know only that it had waited.
pub(super) async fn reach(url: &str, patience: Duration) -> Result<()> {
    let options: PgConnectOptions = url.parse().map_err(|err: Sqlx| {
        // sqlx says it twice.
        let told = err.to_string().replace("error with configuration: ", "");
        let told = secret::without(&told, url);
        Error::ours(format!("DATABASE_URL (--database-url) can't be read: {told}"))
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
            let told = format!("does not answer within {:.1} s", patience.as_secs_f32());
            format!("{told}: is the address right, and does a firewall let it through?")
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
    Err(Error::ours(format!("{place}: {remedy}")))
}
