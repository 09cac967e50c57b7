//! What an operator may set: the command line, and the environment, which nobody else reads.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// A GraphQL server with realtime subscriptions that runs campaigns.
#[derive(Debug, Parser)]
#[command(name = "sortie", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve with demo data: 2,000 leads, a campaign ready to approve, one already flying.
    Demo(Config),
    /// Serve.
    Serve(Config),
    /// Bring the database's schema up to date, and stop.
    Migrate(Config),
    /// Check that what must hold does: on a live database, without changing anything. Fails where something is wrong.
    Check(Config),
    /// Print the GraphQL schema (SDL).
    Schema,
    /// Print the laws of status as diagrams.
    Laws,
    /// Import records from a CSV file.
    Import {
        /// The file.
        file: PathBuf,
        /// What its records are: lead, contact, partnership, order, ticket …
        #[arg(long)]
        kind: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        config: Config,
    },
}

/// Where things are and how the engine behaves.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// Where to listen.
    #[arg(long, env = "SORTIE_LISTEN", default_value = "127.0.0.1:4000")]
    pub listen: SocketAddr,
    /// The folder for the database file and the outbox.
    #[arg(long, env = "SORTIE_DATA", default_value = "./sortie-data")]
    pub data: PathBuf,
    /// The database, `postgres://…` or `sqlite://…`; none: SQLite in the data folder.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The mail server, `smtps://user:password@host` or `smtp://user:password@host:587?tls=required`; none: the outbox.
    #[arg(long, env = "SORTIE_SMTP_URL", hide_env_values = true)]
    pub smtp_url: Option<String>,
    /// Whom mail comes from.
    #[arg(long, env = "SORTIE_MAIL_FROM", default_value = "Sortie <sortie@localhost>")]
    pub mail_from: String,
    /// How many messages a minute the mail server is handed at most; none: as many as it takes.
    #[arg(long, env = "SORTIE_MAIL_PER_MINUTE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mail_per_minute: Option<u32>,
    /// How long the mail server may take over one command, in seconds.
    #[arg(long, env = "SORTIE_SMTP_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub smtp_seconds: u32,
    /// How long a worker holds a step before others may take it, in seconds.
    #[arg(long, env = "SORTIE_LEASE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
}

impl Config {
    /// How long a lease lasts.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }

    /// How long the mail server may take over one command.
    pub fn smtp_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.smtp_seconds))
    }

    /// Where the database is.
    pub fn database(&self) -> String {
        self.database_url.clone().unwrap_or_else(|| format!("sqlite://{}", self.data.join("sortie.db").display()))
    }

    /// Where mail is put as files.
    pub fn outbox(&self) -> PathBuf {
        self.data.join("outbox")
    }
}

/// At which failpoint, and the how manieth time, a test has the process end.
#[cfg(debug_assertions)]
pub(crate) fn failpoint() -> Option<(String, u32)> {
    let said = std::env::var("SORTIE_FAILPOINT").ok()?;
    let (name, times) = said.split_once(':').unwrap_or((&said, "1"));
    Some((name.to_owned(), times.parse().ok()?))
}
