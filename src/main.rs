//! The command line: demo · serve · migrate · check · apply · export · key · org · schema · state-machines · import.

use std::process::ExitCode;
use std::sync::Arc;

use async_graphql::connection::CursorType;
use entity::member::Role;
use serde_json::json;
use sortie::app::seed::Size;
use sortie::app::server::Server;
use sortie::app::telemetry::{self, Telemetry};
use sortie::app::{cli, demo};
use sortie::domain::people::{admin_access, api_key};
use sortie::graphql;
use sortie::kernel::clock::Clock;
use sortie::kernel::config::{Command, Config, KeyCommand, Org, OrgCommand};
use sortie::kernel::db::{Db, WriteContext};
use sortie::kernel::error::{Error, Result};
use sortie::kernel::viewer::Viewer;
use tokio::signal::unix::{Signal, SignalKind, signal};

// The standard macros panic if the reader is gone, as in `sortie schema | head -1`.
macro_rules! print {
    ($($text:tt)*) => { sortie::kernel::terminal::out(format_args!($($text)*)) };
}
macro_rules! println {
    () => { sortie::kernel::terminal::out(format_args!("\n")) };
    ($($text:tt)*) => { sortie::kernel::terminal::out(format_args!("{}\n", format_args!($($text)*))) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { sortie::kernel::terminal::err(format_args!("{}\n", format_args!($($text)*))) };
}

/// A query allocates thousands of small objects; glibc's allocator took a sixth of its time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Stack size of a thread. The nesting of users' input is bounded and needs far less.
const STACK_BYTES: usize = 8 * 1024 * 1024;

fn main() -> ExitCode {
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
    let cli = match sortie::kernel::config::read() {
        Ok(cli) => cli,
        Err(unreadable) => return telemetry::report_unreadable(&unreadable),
    };
    let format = cli.command.config().map(|config| config.log_format).unwrap_or_default();
    let telemetry = match Telemetry::begin(cli.command.config()) {
        Ok(telemetry) => telemetry,
        Err(err) => return telemetry::report_failure(format, &err.to_string()),
    };
    for warning in sortie::kernel::config::unknown(sortie::kernel::config::names_in_environment()) {
        tracing::warn!("{warning}");
    }
    let remedy = remedy_if_in_use(&cli.command);
    let outcome = run(cli.command).await;
    telemetry.finish();
    if let Some(problem) = sortie::kernel::terminal::failure() {
        eprintln!("sortie: can't write: {problem}");
        return ExitCode::FAILURE;
    }
    match outcome {
        Ok(code) => code,
        Err(err) => {
            let remedy = if sortie::kernel::db::is_in_use(&err) { remedy } else { "" };
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
        Command::Demo(config) => serve(&config, true).await?,
        Command::Serve(config) => serve(&config, false).await?,
        Command::Migrate(config) => migrate(&config).await?,
        Command::Check(config) => check(&config).await?,
        Command::Schema => print!("{}", graphql::sdl()),
        Command::StateMachines => print!("{}", sortie::state_machines()),
        Command::Seed { campaigns, runs, steps_per_run, config } => {
            seed(&config, Size { campaigns, runs, steps_per_run }).await?;
        }
        Command::Apply { file, plan, org, config } => {
            let (db, viewer) = match plan {
                true => open_read_only(&config, &org).await?,
                false => open_org(&config, &org).await?,
            };
            cli::apply::apply(&db, &viewer, &file, plan).await?;
            db.close().await;
        }
        Command::Export { org, config } => {
            let (db, viewer) = open_read_only(&config, &org).await?;
            print!("{}", sortie::domain::manifest::export(&db, &viewer).await?);
            db.close().await;
        }
        Command::Key { command } => key(command).await?,
        Command::Org { command } => orgs(command).await?,
        Command::Import(import) => {
            let (db, viewer) = open_org(&import.config, &import.org).await?;
            let complete = sortie::app::cli::import::import(&db, &viewer, &import).await?;
            db.close().await;
            if !complete {
                return Ok(ExitCode::from(SKIPPED));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn open(config: &Config) -> Result<(Arc<Db>, Viewer)> {
    ready(config, Db::connect(&config.database(), Clock::real()).await?).await
}

/// Opens an existing database: these commands create none.
async fn open_existing(config: &Config) -> Result<(Arc<Db>, Viewer)> {
    config.must_exist()?;
    let db = Db::connect(&config.database(), Clock::real()).await?;
    db.must_have_schema().await?;
    ready(config, db).await
}

async fn ready(config: &Config, db: Db) -> Result<(Arc<Db>, Viewer)> {
    let db = Arc::new(db);
    db.migrate().await?;
    db.set_has_tokens(config.jwt_issuer.is_some());
    let viewer = Viewer::developer(&db).await?;
    sortie::domain::plan::run_template::sync_built_in(&db.write()).await?;
    sortie::domain::plan::campaign::approval::store_missing_approvals(&db.write()).await?;
    Ok((db, viewer))
}

async fn serve(config: &Config, with_demo: bool) -> Result<()> {
    telemetry::metrics();
    // The demo's addresses are invented: its mail must not leave this machine.
    let config = &if with_demo { Config { smtp_url: None, ..config.clone() } } else { config.clone() };
    let (db, viewer) = open(config).await?;
    if with_demo && demo::is_foreign(&db, &viewer).await? {
        db.close().await;
        let database = match &config.database_url {
            Some(_) => "the database that DATABASE_URL names".to_owned(),
            None => config.data.display().to_string(),
        };
        return Err(Error::internal(format!(
            "{database} holds records, campaigns or runs already, and no demo: choose another folder (`sortie demo --data ./sortie-demo`), \
             or start without demo data (`sortie serve`)"
        )));
    }
    let server = Server::start(config, db.clone(), Clock::real(), viewer.clone()).await?;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let mut demo_visitor = None;
    if with_demo {
        if let Some(begun) = demo::seed(&db, &viewer).await? {
            tokio::spawn(report(demo::continue_demo(db.clone(), viewer.clone(), begun)));
        }
        let (db, viewer) = (db.write(), viewer.clone());
        let visit = async move { demo::live::DemoAgent::default().run_until_stopped(&db, &viewer, stopping).await };
        demo_visitor = Some(tokio::spawn(report(visit)));
    }
    let mut signals = Signals::begin()?;
    welcome(config, &server, with_demo);
    if !server.development
        && !admin_access::admin_can_authenticate(db.read(), viewer.org_id, db.now(), db.has_tokens()).await?
    {
        println!("\nNo admin has a valid key. {NEXT_KEY}");
    }
    signals.received().await;
    println!("Stopping: the steps in progress are finished or returned first.");
    stop.send_replace(true);
    if let Some(demo_visitor) = demo_visitor {
        let _ = demo_visitor.await;
    }
    server.stop().await;
    Ok(())
}

async fn report(work: impl Future<Output = Result<()>>) {
    if let Err(err) = work.await {
        tracing::error!(error = %err, "the demo's background task failed");
    }
}

fn welcome(config: &Config, server: &Server, with_demo: bool) {
    let at = server.address;
    match server.development {
        true => {
            println!("Sortie is up, in development mode: everybody on this machine is admin of the built-in org.\n")
        }
        false => println!(
            "Sortie is up. Requests need an API key or a token, as the header `Authorization: Bearer …`. In GraphiQL, \
             put it into the Headers of each tab as JSON: {{\"Authorization\": \"Bearer sortie_…\"}}.\n\
             `sortie key list` lists the ids of keys; a key itself is shown only when it is made: `sortie key create`.\n"
        ),
    }
    println!("  GraphiQL   http://{at}/graphiql     queries, mutations and subscriptions, with examples in tabs");
    println!("  GraphQL    http://{at}/graphql      POST, and ws://{at}/graphql (graphql-transport-ws)");
    println!("  Database   {}", sortie::kernel::db::display_name(&config.database()));
    match &config.smtp_url {
        Some(_) => println!("  Mail       over SMTP, as --smtp-url (SORTIE_SMTP_URL) says"),
        None => println!("  Mail       as files in {}", config.outbox().display()),
    }
    if with_demo {
        println!("\nWatch  \"Slow flight\", one step every second and a half:  http://{at}/graphiql?live");
        println!(
            "Start  \"Your own flight\": one click in GraphiQL's tab \"Fly\"; its mails come one by one into the outbox"
        );
        println!("Then   approve the campaign \"Win back quiet leads\", launch it (tab \"Approve\"),");
        println!("       and approve its review (tab \"WorkList\");");
        println!("       go through \"This week's review\", whose partners have replied (tab \"GuidedWork\")");
    }
    println!("\nCtrl-C stops; the next start with the same --data continues where it was.");
}

/// The signals that stop the process; registered before the server reports that it is up.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn begin() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn migrate(config: &Config) -> Result<()> {
    let (db, _) = open(config).await?;
    println!("The schema is up to date.");
    db.close().await;
    Ok(())
}

async fn check(config: &Config) -> Result<()> {
    let db = Db::connect_read_only(&config.database(), Clock::real()).await?;
    db.must_match_schema().await?;
    let found = sortie::app::check::check(&db).await?;
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
    let (db, viewer) = open(config).await?;
    let begun = std::time::Instant::now();
    sortie::app::seed::seed(&db, &viewer, size, |runs| {
        if runs % 100_000 == 0 {
            eprintln!("{runs} runs …");
        }
    })
    .await?;
    println!("{} campaigns, {} runs in {:.0?}.", size.campaigns, size.runs, begun.elapsed());
    db.close().await;
    Ok(())
}

async fn key(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Create { name, role, member, agent, expires, org, config } => {
            let (db, viewer) = open_org(&config, &org).await?;
            let all = Role::all();
            let role = all.into_iter().find(|one| one.to_string() == role.to_uppercase());
            let role =
                role.ok_or_else(|| Error::internal("role: one of VIEWER, OPERATOR, REVIEWER, MANAGER, ADMIN, WORKER"))?;
            let member_id = match member {
                Some(email) => Some(sortie::domain::people::member::by_email(&db, &viewer, &email).await?.id),
                None => None,
            };
            let expires_at = expires.map(|lasts| cli::expiry(db.now(), lasts)).transpose()?;
            let agent_id = match agent {
                Some(name) => Some(sortie::domain::plan::agent::by_name(db.read(), &viewer, &name).await?.id),
                None => None,
            };
            let fields = api_key::Fields { name, role, member_id, agent_id, expires_at };
            let input = json!({ "name": fields.name, "role": role, "memberId": member_id, "agentId": agent_id });
            let make = async |db: WriteContext| api_key::create(&db, &viewer, &fields).await;
            let (row, key) = cli::audited(&db, &viewer, "createApiKey", &input, make).await?;
            eprintln!("{} with the role {}. It is shown this once:", row.id, row.role);
            println!("{key}");
            eprintln!(
                "Send it as `Authorization: Bearer …`. In GraphiQL, put it into the Headers of each tab as JSON:"
            );
            eprintln!("{{\"Authorization\": \"Bearer sortie_…\"}}");
            db.close().await;
        }
        KeyCommand::List { org, config } => {
            let (db, viewer) = open_read_only(&config, &org).await?;
            let mut args = sortie::kernel::page::Args { first: Some(500), ..Default::default() };
            loop {
                let page = api_key::page(db.read(), &viewer, &args).await?;
                for (cursor, key) in page.rows {
                    let state = match (key.revoked_at, key.expires_at) {
                        (Some(at), _) => format!("revoked {}", at.format("%F %R")),
                        (None, Some(at)) if at <= db.now() => format!("expired {}", at.format("%F %R")),
                        (None, Some(at)) => format!("expires {}", at.format("%F %R")),
                        (None, None) => "does not expire".into(),
                    };
                    let used = key.last_used_at.map_or("never".into(), |at| at.format("%F %R").to_string());
                    println!("{}  {:8}  {state}, last used {used}: {}", key.id, key.role.to_string(), key.name);
                    args.after = Some(cursor.encode_cursor());
                }
                if !page.has_next {
                    break;
                }
            }
            db.close().await;
        }
        KeyCommand::Revoke { id, org, config } => {
            let (db, viewer) = open_org(&config, &org).await?;
            let id = id.parse().map_err(Error::internal)?;
            let revoke = async |db: WriteContext| api_key::revoke(&db, &viewer, id, true).await;
            let row = cli::audited(&db, &viewer, "revokeApiKey", &json!({ "id": id }), revoke).await?;
            println!("{} is revoked.", row.id);
            if !admin_access::admin_can_authenticate(db.read(), viewer.org_id, db.now(), db.has_tokens()).await? {
                eprintln!("No admin has a valid key any more. {NEXT_KEY}");
            }
            db.close().await;
        }
    }
    Ok(())
}

const NEXT_KEY: &str = "Make an admin's key with the server stopped: `sortie key create --name admin --role ADMIN`";

async fn open_org(config: &Config, org: &Org) -> Result<(Arc<Db>, Viewer)> {
    let (db, _) = open_existing(config).await?;
    let viewer = sortie::domain::people::org::admin(&db, org.org.as_deref()).await?;
    Ok((db, viewer))
}

/// Opens an existing database read-only, possibly beside a server.
async fn open_read_only(config: &Config, org: &Org) -> Result<(Arc<Db>, Viewer)> {
    let db = Arc::new(Db::connect_read_only(&config.database(), Clock::real()).await?);
    db.must_match_schema().await?;
    let viewer = sortie::domain::people::org::admin(&db, org.org.as_deref()).await?;
    Ok((db, viewer))
}

async fn orgs(command: OrgCommand) -> Result<()> {
    match command {
        OrgCommand::Create { name, admin, email, config } => {
            let (db, _) = open_existing(&config).await?;
            let (org, _) = sortie::domain::people::org::create(&db.write(), &name, &admin, &email).await?;
            println!("{}", org.id);
            db.close().await;
        }
        OrgCommand::List { config } => {
            let db = Db::connect_read_only(&config.database(), Clock::real()).await?;
            db.must_match_schema().await?;
            for org in sortie::domain::people::org::all(&db).await? {
                println!("{}  {}", org.id, org.name);
            }
            db.close().await;
        }
    }
    Ok(())
}
