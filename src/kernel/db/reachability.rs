//! The reachability of Postgres, probed once a second over its own connection.
//!
//! While it is unreachable, requests fail immediately, and the log has one line when that begins
//! and one when it ends, instead of one from each loop.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx;
use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};
use tokio::sync::watch;
use tokio::time::timeout;

use super::postgres;
use crate::kernel::clock::Clock;
use crate::kernel::{limits, outage};

/// Timeout of a probe, of an open connection and then of a new one.
const PROBE: Duration = Duration::from_millis(1_200);

/// Knows if the database is reachable. Clones share the state; an SQLite file always is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reachability(watch::Sender<bool>);

impl Reachability {
    /// Returns when the database becomes unreachable.
    pub(crate) async fn lost(&self) {
        if self.0.subscribe().wait_for(|away| *away).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs work that may wait for a connection; fails with a connection error when the database is
    /// unreachable.
    pub(crate) async fn unless_unreachable<T, E: From<DbErr>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::select! {
            biased;
            done = work => done,
            () = self.lost() => Err(DbErr::Conn(RuntimeErr::Internal("the database is unreachable".into())).into()),
        }
    }

    /// Probes forever: over an open connection, and with a new one if that does not respond.
    pub(super) async fn probe(self, url: Arc<str>, front: DatabaseConnection, clock: Clock) {
        let server = postgres::server(&url);
        outage::probed();
        let mut since = None;
        loop {
            let pool = front.get_postgres_connection_pool();
            let answers =
                since.is_none() && matches!(timeout(PROBE, sqlx::query("SELECT 1").execute(pool)).await, Ok(Ok(_)));
            let found = if answers { Ok(()) } else { postgres::reach(&url, PROBE).await };
            match (found, since) {
                (Err(err), None) => {
                    let now = clock.now();
                    since = Some(now);
                    self.0.send_replace(true);
                    outage::note(true);
                    let from = now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
                    tracing::error!(why = %err, "{server} is unreachable since {from}: requests are answered with 503");
                }
                (Ok(()), Some(from)) => {
                    since = None;
                    self.0.send_replace(false);
                    outage::note(false);
                    let seconds = (clock.now() - from).num_seconds();
                    tracing::warn!("{server} is back: it was unreachable for {seconds} s");
                }
                _ => {}
            }
            tokio::time::sleep(limits::POLL).await;
        }
    }
}
