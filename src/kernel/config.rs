//! Configuration: the command line, the environment, which no other module reads, and a file.

pub mod file;
mod import;
mod listen;
mod origin;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::kernel::error::{Error, Result};

pub use file::{Unreadable, read, unknown};
pub use import::Import;
pub use values::LogFormat;
use values::{lasts, region};

/// A GraphQL server with realtime subscriptions that runs campaigns.
#[derive(Debug, Parser)]
#[command(name = "sortie", version)]
pub struct Cli {
    /// Command to run.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the server with demo data: 2,000 leads, a campaign ready to approve, a run in progress.
    Demo(Config),
    /// Start the server.
    Serve(Config),
    /// Bring the database's schema up to date, and stop.
    Migrate(Config),
    /// Check the database's invariants, also while the server runs; changes nothing. Fails if one is violated.
    Check(Config),
    /// Print the GraphQL schema (SDL).
    Schema,
    /// Print the state machines as diagrams.
    #[command(alias = "laws")]
    StateMachines,
    /// Fill an empty database with rows to measure on.
    Seed {
        /// Campaigns.
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=99_999))]
        campaigns: u32,
        /// Runs, spread over them.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
        runs: u32,
        /// Steps of each run.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        steps_per_run: u32,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// Create, list and revoke API keys.
    Key {
        /// Command to run.
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Create and list orgs, the tenants.
    Org {
        /// Command to run.
        #[command(subcommand)]
        command: OrgCommand,
    },
    /// Create and update what a manifest declares: run templates, agents, functions, goals, writers, reviewers, message
    /// templates, segments.
    Apply {
        /// The manifest, `-` for standard input; several are applied one after the other.
        #[arg(short, long = "file", required = true, num_args = 1..)]
        file: Vec<PathBuf>,
        /// Only show the changes.
        #[arg(long)]
        plan: bool,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        org: Org,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// Print the existing objects that a manifest can declare, as one. Not a backup: it does not include campaigns,
    /// runs, records, members, stages, schedules, suppressions and keys.
    Export {
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        org: Org,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// Import records from a CSV file.
    #[command(after_long_help = import::COLUMNS)]
    Import(Import),
}

impl Command {
    /// The command's configuration; none for commands without one.
    pub fn config(&self) -> Option<&Config> {
        match self {
            Self::Demo(config) | Self::Serve(config) | Self::Migrate(config) | Self::Check(config) => Some(config),
            Self::Import(Import { config, .. }) | Self::Seed { config, .. } => Some(config),
            Self::Apply { config, .. } | Self::Export { config, .. } => Some(config),
            Self::Key { command: KeyCommand::Create { config, .. } } => Some(config),
            Self::Key { command: KeyCommand::List { config, .. } | KeyCommand::Revoke { config, .. } } => Some(config),
            Self::Org { command: OrgCommand::Create { config, .. } | OrgCommand::List { config } } => Some(config),
            Self::Schema | Self::StateMachines => None,
        }
    }
}

/// Commands for keys. On SQLite the server must be stopped; while it runs, use the mutations.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create a key and print it; it is shown only once.
    Create {
        /// Name of the key, for example its purpose.
        #[arg(long)]
        name: String,
        /// Role of the key: VIEWER, OPERATOR, REVIEWER, MANAGER, ADMIN or WORKER.
        #[arg(long)]
        role: String,
        /// The mail address of the member that the key belongs to; by default the org's first admin.
        #[arg(long)]
        member: Option<String>,
        /// The name of the agent that the key belongs to; for WORKER.
        #[arg(long)]
        agent: Option<String>,
        /// The time after which it expires: `90d`. By default it does not expire.
        #[arg(long, value_parser = lasts)]
        expires: Option<std::time::Duration>,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        org: Org,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// List the keys, the newest first.
    List {
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        org: Org,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// Revoke a key: it is invalid from now on.
    Revoke {
        /// Id of the key.
        id: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        org: Org,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
}

/// Commands for orgs.
#[derive(Debug, Subcommand)]
pub enum OrgCommand {
    /// Create an org with its first admin, and print the org's id.
    Create {
        /// Name of the org.
        #[arg(long)]
        name: String,
        /// The name of its first admin.
        #[arg(long)]
        admin: String,
        /// Email address of the admin.
        #[arg(long)]
        email: String,
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
    /// List the orgs.
    List {
        #[command(flatten)]
        #[expect(missing_docs, reason = "its help is that of the flattened fields")]
        config: Config,
    },
}

/// The tenant.
#[derive(Args, Clone, Debug)]
pub struct Org {
    /// The org's id; by default the built-in org.
    #[arg(long)]
    pub org: Option<String>,
}

/// Settings of the server and the commands.
#[derive(Args, Clone)]
#[command(next_help_heading = "Settings")]
pub struct Config {
    /// Address to listen on: `127.0.0.1:4000`, `localhost:4000`, `[::1]:4000`, or a port alone, on this machine only.
    #[arg(long, env = "SORTIE_LISTEN", default_value = "127.0.0.1:4000", value_parser = listen::address)]
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
    /// The sender of mail.
    #[arg(long, env = "SORTIE_MAIL_FROM", default_value = "Sortie <sortie@localhost>")]
    pub mail_from: String,
    /// Maximum number of messages per minute that all nodes together hand to the mail server; none: no limit.
    #[arg(long, env = "SORTIE_MAIL_PER_MINUTE", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub mail_per_minute: Option<u32>,
    /// Hours for which a message that the mail server rejects temporarily is retried before it fails.
    #[arg(long, env = "SORTIE_MAIL_RETRY_HOURS", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=720))]
    pub mail_retry_hours: u32,
    /// Timeout of one command to the mail server, in seconds.
    #[arg(long, env = "SORTIE_SMTP_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub smtp_seconds: u32,
    /// The region of imported telephone numbers that have no country code, `DE`; none: such numbers are skipped.
    #[arg(long, env = "SORTIE_PHONE_REGION", value_parser = region)]
    pub phone_region: Option<String>,
    /// A TOML file of these settings, `lease-seconds = 30`; flags and the environment take precedence.
    #[arg(long, env = "SORTIE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The log filter, by default `warn,sortie=info`; logs go to standard error.
    #[arg(long, env = "RUST_LOG")]
    pub log: Option<String>,
    /// The form of the log's lines: `text`, or `json` for collectors.
    #[arg(long, env = "SORTIE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// A collector of traces (OTLP over HTTP), `http://127.0.0.1:4318`; none: no traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Timeout for the head of a request, its body, or `connection_init`, in seconds.
    #[arg(long, env = "SORTIE_CLIENT_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub client_seconds: u32,
    /// Interval of pings on a socket, in seconds; one that is silent for two and a half times as long is closed.
    #[arg(long, env = "SORTIE_PING_SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub ping_seconds: u32,
    /// Maximum number of connections.
    #[arg(long, env = "SORTIE_CONNECTIONS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Maximum number of connections of one address (one /64 of IPv6); this machine and trusted proxies are exempt.
    #[arg(long, env = "SORTIE_CONNECTIONS_PER_ADDRESS", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_per_address: u32,
    /// Maximum number of open sockets and streams per key.
    #[arg(long, env = "SORTIE_STREAMS_PER_KEY", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub streams_per_key: u32,
    /// Days for which audit entries are kept.
    #[arg(long, env = "SORTIE_AUDIT_DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub audit_days: u32,
    /// Maximum size of a response, or of an item of a subscription, in MiB.
    #[arg(long, env = "SORTIE_ANSWER_MIB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub answer_mib: u32,
    /// Interval of checking the key or token of a socket or stream again, in seconds.
    #[arg(long, env = "SORTIE_RECHECK_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub recheck_seconds: u32,
    /// Other origins whose pages may send requests, separated by commas: `https://app.example.com`.
    #[arg(long, env = "SORTIE_ALLOW_ORIGINS", value_delimiter = ',', value_parser = origin::origin)]
    pub allow_origins: Vec<String>,
    /// Addresses of reverse proxies, separated by commas; the last address in their `X-Forwarded-For` is the client's.
    #[arg(long, env = "SORTIE_TRUSTED_PROXIES", value_delimiter = ',')]
    pub trusted_proxies: Vec<std::net::IpAddr>,
    /// The accepted `iss` of tokens.
    #[arg(long, env = "SORTIE_JWT_ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The accepted `aud` of tokens.
    #[arg(long, env = "SORTIE_JWT_AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The issuer's key set (JWKS): a URL or a file.
    #[arg(long, env = "SORTIE_JWT_JWKS")]
    pub jwt_jwks: Option<String>,
    /// The only accepted signature algorithm of tokens.
    #[arg(long, env = "SORTIE_JWT_ALGORITHM", default_value = "RS256")]
    pub jwt_algorithm: String,
    /// A JSON file of allowed (persisted) operations, `{"id": "query …"}`; all others are rejected.
    #[arg(long, env = "SORTIE_DOCUMENTS")]
    pub documents: Option<PathBuf>,
    /// Lease of a step in seconds, after which other workers may claim it.
    #[arg(long, env = "SORTIE_LEASE_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease_seconds: u32,
    /// Private networks that steps may call, separated by commas: `10.0.0.0/8`, `10.0.0.7/32`; others are rejected.
    #[arg(long, env = "SORTIE_CALL_PRIVATE", value_delimiter = ',')]
    pub call_private: Vec<ipnet::IpNet>,
    /// A TOML file of secrets that calls of the built-in org's steps may use, `warehouse = "…"` for `{{ secrets.warehouse }}`.
    #[arg(long, env = "SORTIE_CALL_SECRETS")]
    pub call_secrets: Option<PathBuf>,
    /// A language model's OpenAI-compatible chat endpoint, `https://api.example.com/v1`; none: no built-in agent.
    #[arg(long, env = "SORTIE_MODEL_URL")]
    pub model_url: Option<String>,
    /// The name of the model.
    #[arg(long, env = "SORTIE_MODEL", default_value = "gpt-4o-mini")]
    pub model: String,
    /// The API key for the model.
    #[arg(long, env = "SORTIE_MODEL_KEY", hide_env_values = true)]
    pub model_key: Option<String>,
    /// Maximum number of tokens of a response.
    #[arg(long, env = "SORTIE_MODEL_TOKENS", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub model_tokens: u32,
    /// Timeout of a response, in seconds.
    #[arg(long, env = "SORTIE_MODEL_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=600))]
    pub model_seconds: u32,
}

// URLs contain passwords, and the model's key is a secret.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("listen", &self.listen).field("data", &self.data).finish_non_exhaustive()
    }
}

impl Config {
    /// Duration of a lease.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }

    /// Timeout for a client's request head, body or `connection_init`.
    pub fn client_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.client_seconds))
    }

    /// Interval of pings on a socket.
    pub fn ping(&self) -> Duration {
        Duration::from_secs(u64::from(self.ping_seconds))
    }

    /// Interval of checking open connections' credentials again.
    pub fn recheck(&self) -> Duration {
        Duration::from_secs(u64::from(self.recheck_seconds))
    }

    /// Maximum size of a response in bytes.
    pub fn answer_bytes(&self) -> usize {
        self.answer_mib as usize * 1024 * 1024
    }

    /// Other origins whose pages may send requests.
    pub fn origins(&self) -> Vec<String> {
        self.allow_origins.iter().map(|origin| origin.trim().trim_end_matches('/').to_owned()).collect()
    }

    /// Timeout of one command to the mail server.
    pub fn smtp_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.smtp_seconds))
    }

    /// The database's URL.
    pub fn database(&self) -> String {
        self.database_url.clone().unwrap_or_else(|| format!("sqlite://{}", self.data.join("sortie.db").display()))
    }

    /// Fails if there is no database yet: only `serve`, `demo`, `migrate` and `seed` create one, so that a mistyped
    /// folder is noticed.
    pub fn must_exist(&self) -> Result<()> {
        match self.database().strip_prefix("sqlite://").map(|path| path.split('?').next().unwrap_or_default()) {
            Some(path) if !Path::new(path).exists() => {
                Err(Error::internal(crate::kernel::db::file::missing(Path::new(path))))
            }
            _ => Ok(()),
        }
    }

    /// The folder for mail as files.
    pub fn outbox(&self) -> PathBuf {
        self.data.join("outbox")
    }
}

/// Names of all environment variables.
pub fn names_in_environment() -> impl Iterator<Item = std::ffi::OsString> {
    std::env::vars_os().map(|(name, _)| name)
}

/// Value of an environment variable.
fn in_environment(name: impl AsRef<std::ffi::OsStr>) -> Option<std::ffi::OsString> {
    std::env::var_os(name)
}

/// The failpoint at which a test aborts the process, and the number of the pass.
#[cfg(debug_assertions)]
pub(crate) fn failpoint() -> Option<(String, u32)> {
    let value = std::env::var("SORTIE_FAILPOINT").ok()?;
    let (name, times) = value.split_once(':').unwrap_or((&value, "1"));
    Some((name.to_owned(), times.parse().ok()?))
}
