//! Serves until a signal: the server, and the demo's data and visitor.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{key, open};
use crate::app::server::Server;
use crate::app::{demo, telemetry};
use crate::domain::people::admin_access;
use crate::kernel::clock::Clock;
use crate::kernel::config::Config;
use crate::kernel::error::{Error, Result};

/// Serves until the process is told to stop.
pub(super) async fn serve(config: &Config, with_demo: bool) -> Result<()> {
    telemetry::metrics();
    // The demo's addresses are invented: its mail must not leave this machine.
    let config = &if with_demo { Config { smtp_url: None, ..config.clone() } } else { config.clone() };
    let (db, viewer) = open::migrated(config).await?;
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
        println!("\nNo admin has a valid key. {}", key::NEXT_KEY);
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
    println!("  Database   {}", crate::kernel::db::display_name(&config.database()));
    match &config.smtp_url {
        Some(_) => println!("  Mail       over SMTP, as --smtp-url (SORTIE_SMTP_URL) says"),
        None => println!("  Mail       as files in {}", config.outbox().display()),
    }
    if with_demo {
        println!("\nWatch  \"Slow flight\", one lead every second and a half:  http://{at}/graphiql?live");
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
