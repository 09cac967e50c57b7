//! The command line: demo · serve · migrate · check · apply · export · key · org · schema · state-machines · import.

// The standard macros panic if the reader is gone, as in `sortie schema | head -1`.
macro_rules! print {
    ($($text:tt)*) => { crate::kernel::terminal::out(format_args!($($text)*)) };
}
macro_rules! println {
    () => { crate::kernel::terminal::out(format_args!("\n")) };
    ($($text:tt)*) => { crate::kernel::terminal::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { crate::kernel::terminal::err(format_args!("{}\n", format_args!($($text)*))) };
}

pub mod apply;
pub mod import;
mod key;
mod open;
mod org;
mod serve;

use std::process::ExitCode;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::AuditOutcome;
use serde_json::Value;

use crate::app::seed::Size;
use crate::app::telemetry::{self, Telemetry};
use crate::graphql;
use crate::kernel::audit::{self, Entry};
use crate::kernel::clock::Clock;
use crate::kernel::config::{Command, Config, KeyCommand};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::storable::{self, Unstorable};
use crate::kernel::viewer::Viewer;

/// Stack size of a thread. The nesting of users' input is bounded and needs far less.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Runs the command that the arguments name. The whole program is compiled as part of the library:
/// a function that is awaited in the binary would be compiled once more there.
pub fn main() -> ExitCode {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    match threads.enable_all().thread_stack_size(STACK_BYTES).build() {
        Ok(threads) => threads.block_on(begin()),
        Err(err) => {
            eprintln!("sortie: threads could not be started: {err}");
            ExitCode::FAILURE
        }
    }
}

async fn begin() -> ExitCode {
    let cli = match crate::kernel::config::read() {
        Ok(cli) => cli,
        Err(unreadable) => return telemetry::report_unreadable(&unreadable),
    };
    let format = cli.command.config().map(|config| config.log_format).unwrap_or_default();
    let telemetry = match Telemetry::begin(cli.command.config()) {
        Ok(telemetry) => telemetry,
        Err(err) => return telemetry::report_failure(format, &err.to_string()),
    };
    for warning in crate::kernel::config::unknown(crate::kernel::config::names_in_environment()) {
        tracing::warn!("{warning}");
    }
    let remedy = remedy_if_in_use(&cli.command);
    let outcome = run(cli.command).await;
    telemetry.finish();
    if let Some(problem) = crate::kernel::terminal::failure() {
        eprintln!("sortie: can't write: {problem}");
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(code) => code,
        Err(err) => {
            let remedy = if crate::kernel::db::is_in_use(&err) { remedy } else { "" };
            telemetry::report_failure(format, &format!("{err}{remedy}"))
        }
    }
}

/// The remedy if another process has the database file open.
fn remedy_if_in_use(command: &Command) -> &'static str {
    match command {
        Command::Serve(_) | Command::Demo(_) => ": use that one, stop it, or name another folder with --data",
        Command::Import(_) => ": stop it, or send the file to it: `POST /import/records`",
        Command::Apply { .. } => {
            ": stop it, or send the manifest to it: the mutation `applyManifest`; `--plan` works beside it"
        }
        Command::Key { command: KeyCommand::Revoke { .. } } => {
            ": stop it, or revoke the key by the mutation `revokeApiKey`"
        }
        Command::Key { .. } => ": stop it, or make the key by the mutation `createApiKey`",
        _ => ": stop it first; Postgres is shared by many",
    }
}

/// Exit code of an import that skipped rows or fields.
const SKIPPED: u8 = 3;

async fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(config) => serve::serve(&config, true).await?,
        Command::Serve(config) => serve::serve(&config, false).await?,
        Command::Migrate(config) => migrate(&config).await?,
        Command::Check(config) => check(&config).await?,
        Command::Schema => print!("{}", graphql::sdl()),
        Command::StateMachines => print!("{}", crate::state_machines()),
        Command::Seed { campaigns, runs, steps_per_run, config } => {
            seed(&config, Size { campaigns, runs, steps_per_run }).await?;
        }
        Command::Apply { file, plan, org, config } => {
            let (db, viewer) = match plan {
                true => open::read_only(&config, &org).await?,
                false => open::of_org(&config, &org).await?,
            };
            apply::apply(&db, &viewer, &file, plan).await?;
            db.close().await;
        }
        Command::Export { org, config } => {
            let (db, viewer) = open::read_only(&config, &org).await?;
            print!("{}", crate::domain::manifest::export(&db, &viewer).await?);
            db.close().await;
        }
        Command::Key { command } => key::run(command).await?,
        Command::Org { command } => org::run(command).await?,
        Command::Import(import) => {
            let (db, viewer) = open::of_org(&import.config, &import.org).await?;
            let complete = import::import(&db, &viewer, &import).await?;
            db.close().await;
            if !complete {
                return Ok(ExitCode::from(SKIPPED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn migrate(config: &Config) -> Result<()> {
    let (db, _) = open::migrated(config).await?;
    println!("The schema is up to date.");
    db.close().await;
    Ok(())
}

async fn check(config: &Config) -> Result<()> {
    let db = Db::connect_read_only(&config.database(), Clock::real()).await?;
    db.must_match_schema().await?;
    let found = crate::app::check::check(&db).await?;
    for one in &found {
        let mark = if one.wrong == 0 { "ok   " } else { "WRONG" };
        println!("{mark} {:>9} looked at, {:>5} wrong: {}", one.looked_at, one.wrong, one.what);
        for example in &one.examples {
            println!("          {example}");
        }
    }
    db.close().await;
    match found.iter().filter(|one| one.wrong > 0).count() {
        0 => Ok(()),
        wrong => Err(Error::internal(format!("{wrong} of {} invariants do not hold", found.len()))),
    }
}

async fn seed(config: &Config, size: Size) -> Result<()> {
    let (db, viewer) = open::migrated(config).await?;
    let begun = std::time::Instant::now();
    crate::app::seed::seed(&db, &viewer, size, |runs| {
        if runs % 100_000 == 0 {
            eprintln!("{runs} runs …");
        }
    })
    .await?;
    println!("{} campaigns, {} runs in {:.0?}.", size.campaigns, size.runs, begun.elapsed());
    db.close().await;
    Ok(())
}

/// Address in audit entries written by the command line.
pub const COMMAND_LINE: &str = "command line";

/// Runs a command and writes an audit entry for it, as for a request's mutation, also if it was
/// rejected.
pub async fn audited<T>(
    db: &Db,
    viewer: &Viewer,
    mutation: &str,
    input: &Value,
    act: impl AsyncFnOnce(WriteContext) -> Result<T>,
) -> Result<T> {
    let entry = Arc::new(Entry::new(viewer, COMMAND_LINE.into(), "", mutation, input));
    let done = act(db.write().with_audit_entry(Some(entry.clone()))).await;
    if let Err(err) = &done
        && !entry.is_committed()
    {
        let (outcome, code) = match err {
            Error::Refused(refusal) => (AuditOutcome::Refused, Some(refusal.code.as_str())),
            Error::Internal(_) => (AuditOutcome::Failed, None),
        };
        audit::record(db, &entry, outcome, code).await?;
    }
    done
}

/// Time at which something expires that lasts this long (`--expires`).
pub fn expiry(now: DateTime<Utc>, lasts: std::time::Duration) -> Result<DateTime<Utc>> {
    let lasts = chrono::Duration::from_std(lasts).ok();
    let at = lasts.and_then(|lasts| now.checked_add_signed(lasts)).ok_or(Unstorable::Time);
    at.and_then(storable::time).map_err(|unstorable| unstorable.of("--expires").into())
}
