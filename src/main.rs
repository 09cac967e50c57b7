//! The command line: demo · serve · migrate · check · schema · laws · import.

// This is a program: what it prints is what it is for.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use sortie::clock::Clock;
use sortie::config::{Cli, Command, Config};
use sortie::db::Db;
use sortie::error::{Error, Result};
use sortie::record::import;
use sortie::server::Server;
use sortie::viewer::Viewer;
use sortie::{demo, graphql};

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "warn,sortie=info,tokio_cron_scheduler=off".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let done = match Cli::parse().command {
        Command::Demo(config) => serve(&config, true).await,
        Command::Serve(config) => serve(&config, false).await,
        Command::Migrate(config) => migrate(&config).await,
        Command::Check(config) => check(&config).await,
        Command::Schema => {
            print!("{}", graphql::schema(None).sdl());
            Ok(())
        }
        Command::Laws => {
            print!("{}", sortie::laws());
            Ok(())
        }
        Command::Import { file, kind, config } => import_file(&config, &file, &kind).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            eprintln!("sortie: {err}");
            ExitCode::FAILURE
        }
    }
}

async fn open(config: &Config) -> Result<(Arc<Db>, Viewer)> {
    let db = Arc::new(Db::connect(&config.database(), Clock::real()).await?);
    db.migrate().await?;
    let viewer = Viewer::developer(&db).await?;
    Ok((db, viewer))
}

async fn serve(config: &Config, with_demo: bool) -> Result<()> {
    let (db, viewer) = open(config).await?;
    let server = Server::start(config, db.clone(), Clock::real(), viewer.clone()).await?;
    if with_demo && let Some(run_id) = demo::seed(&db, &viewer).await? {
        let db = db.clone();
        tokio::spawn(async move {
            if let Err(err) = demo::approve(db, viewer, run_id).await {
                tracing::error!(error = %err, "the demo's review could not be approved");
            }
        });
    }
    welcome(config, &server, with_demo);
    stopped().await?;
    println!("Stopping: what is in hand is settled first.");
    server.stop().await;
    Ok(())
}

fn welcome(config: &Config, server: &Server, with_demo: bool) {
    let at = server.address;
    println!("Sortie is up, in development mode: everybody on this machine is admin of the built-in org.\n");
    println!("  GraphiQL   http://{at}/graphiql     queries, mutations and subscriptions, with examples in tabs");
    println!("  GraphQL    http://{at}/graphql      POST, and ws://{at}/graphql (graphql-transport-ws)");
    println!(
        "  Database   {}",
        if config.database_url.is_some() { "as DATABASE_URL says".to_owned() } else { config.database() }
    );
    match &config.smtp_url {
        Some(_) => println!("  Mail       over SMTP, as SORTIE_SMTP_URL says"),
        None => println!("  Mail       as files in {}", config.outbox().display()),
    }
    if with_demo {
        println!(
            "\nTry: watch the run \"First flight\" in GraphiQL's first tab, and its messages arrive in the outbox;"
        );
        println!("approve the campaign \"Win back quiet leads\", launch it, and approve its review (tabs 4 to 6).");
    }
    println!("\nCtrl-C stops.");
}

async fn stopped() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn migrate(config: &Config) -> Result<()> {
    let (db, _) = open(config).await?;
    println!("The schema is up to date.");
    db.close().await;
    Ok(())
}

async fn check(config: &Config) -> Result<()> {
    let db = Db::look(&config.database(), Clock::real()).await?;
    let found = sortie::check::check(&db).await?;
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
        wrong => Err(Error::ours(format!("{wrong} of {} invariants do not hold", found.len()))),
    }
}

async fn import_file(config: &Config, file: &std::path::Path, kind: &str) -> Result<()> {
    let source = std::fs::File::open(file).map_err(|err| Error::ours(format!("{}: {err}", file.display())))?;
    let (db, viewer) = open(config).await?;
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let report = import::import(&db, &viewer, kind, &name, std::io::BufReader::new(source), |report, problems| {
        for problem in problems {
            let column = problem.column.as_deref().map(|column| format!(", column {column}")).unwrap_or_default();
            // Some reasons quote the value themselves.
            let value = problem.value.as_deref().filter(|_| !problem.why.starts_with('`'));
            let value = value.map(|value| format!(" `{value}`")).unwrap_or_default();
            println!("line {}{column}:{value} {}", problem.line, problem.why);
        }
        eprintln!("{} rows read …", report.rows);
    })
    .await?;
    println!(
        "{} rows: {} created, {} updated, {} unchanged, {} left out.",
        report.rows, report.created, report.updated, report.unchanged, report.bad
    );
    db.close().await;
    Ok(())
}
