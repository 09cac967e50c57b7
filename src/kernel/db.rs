//! The database: connecting, reading, and writing in transactions that carry their events.

mod address;
pub(crate) mod batch;
pub(crate) mod commits;
pub mod dialect;
pub mod error_codes;
pub(crate) mod fair;
pub(crate) mod file;
mod lanes;
mod pools;
mod postgres;
mod reachability;
mod reader;
mod row_size;
mod schema;
mod state;
mod statements;
mod transaction;
mod write_context;
mod write_priority;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use entity::id::OrgId;
use sea_orm::{Database, DatabaseConnection};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::kernel::audit::refusals::Refusals;
use crate::kernel::clock::Clock;
use crate::kernel::error::Result;
use crate::kernel::event::sequencer;
use crate::kernel::event::tail::Tails;
use commits::Commits;
use dialect::Dialect;
pub use file::is_in_use;
use pools::Pools;
use reachability::Reachability;
pub use reader::Reader;
pub use schema::display_name;
use statements::Statements;
pub use transaction::Tx;
pub use write_context::WriteContext;
use write_priority::WritePriority;

/// The connections to the database, and the clock for timestamps. Clones share everything.
#[derive(Clone, Debug)]
pub struct Db {
    pools: Pools,
    dialect: Dialect,
    url: Arc<str>,
    clock: Clock,
    /// Wakes those who wait for commits: the engine's loops and followers of the log.
    commits: Commits,
    tails: Arc<Tails>,
    /// The sequencer, its listener and the probe (Postgres only); they end with the last clone.
    numbering: Arc<Mutex<JoinSet<()>>>,
    credential_changes: watch::Sender<u64>,
    write_priority: WritePriority,
    /// The changes that each org has in flight.
    org_writers: Arc<Mutex<HashMap<OrgId, Arc<Semaphore>>>>,
    statements: Arc<Statements>,
    watermark: Arc<sequencer::Watermark>,
    has_model: Arc<AtomicBool>,
    has_tokens: Arc<AtomicBool>,
    /// Domain of this process's mail, as used in Message-IDs.
    domain: Arc<std::sync::OnceLock<String>>,
    refusals: Arc<Refusals>,
    audit_days: Arc<std::sync::OnceLock<u32>>,
    reach: Reachability,
}

impl Db {
    /// Connects to `sqlite://PATH` or `postgres://…`. On SQLite, one process at a time.
    pub async fn connect(url: &str, clock: Clock) -> Result<Self> {
        Self::open(url, clock, true).await
    }

    /// Connects read-only, possibly beside a process that writes.
    pub async fn connect_read_only(url: &str, clock: Clock) -> Result<Self> {
        Self::open(url, clock, false).await
    }

    async fn open(url: &str, clock: Clock, to_write: bool) -> Result<Self> {
        address::check(url)?;
        let dialect = Dialect::of(url)?;
        let statements = Arc::new(Statements::default());
        let reach = Reachability::default();
        let pools = Pools::open(url, dialect, to_write, &statements, &reach).await;
        let pools = pools.map_err(|err| schema::unopened(url, err))?;
        let (tails, write_priority, numbering) = (Arc::default(), WritePriority::default(), Arc::default());
        Ok(Self {
            pools,
            dialect,
            url: url.into(),
            clock,
            commits: Commits::default(),
            tails,
            numbering,
            credential_changes: watch::Sender::new(0),
            write_priority,
            org_writers: Arc::default(),
            statements,
            watermark: Arc::default(),
            has_model: Arc::default(),
            has_tokens: Arc::default(),
            domain: Arc::default(),
            refusals: Arc::default(),
            audit_days: Arc::default(),
            reach,
        })
    }

    /// Migrates the schema; from then on events are numbered.
    pub async fn migrate(&self) -> Result<()> {
        use migration::{Migrator, MigratorTrait};
        self.must_not_be_newer().await?;
        migration::after_each_statement(|| crate::kernel::failpoint::reach("migrating"));
        match self.dialect {
            Dialect::Sqlite => Migrator::up(&self.pools.writer, None).await.map_err(|err| self.unmigrated(err))?,
            Dialect::Postgres => {
                // A migration has no statement timeout.
                let own = Database::connect(postgres::options(&self.url, 1, None)).await?;
                Migrator::up(&own, None).await.map_err(|err| self.unmigrated(err))?;
                own.close().await?;
            }
        }
        let mut numbering = self.numbering.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if self.dialect == Dialect::Postgres && numbering.is_empty() {
            let (commits, watermark) = (self.commits.clone(), self.watermark.clone());
            numbering.spawn(self.reach.clone().probe(self.url.clone(), self.pools.front.clone(), self.clock.clone()));
            let pool = self.pools.engine.clone();
            numbering.spawn(sequencer::run(pool.clone(), commits.clone(), watermark));
            numbering.spawn(sequencer::listen(pool, commits));
        }
        Ok(())
    }

    /// Connections for statements that only read.
    pub fn read(&self) -> &Reader {
        &self.pools.reader
    }

    /// Connections for authentication and health checks: they wait for no request and no engine.
    pub fn front(&self) -> &DatabaseConnection {
        &self.pools.front
    }

    /// The sequence number below which every event is numbered.
    pub(crate) fn watermark(&self) -> &sequencer::Watermark {
        &self.watermark
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The current time, for timestamps.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// The clock of the timestamps.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The tails of the log with followers in this process.
    pub(crate) fn tails(&self) -> &Tails {
        &self.tails
    }

    /// Wakes when the log has grown: after a commit on SQLite, after its events were numbered on Postgres.
    pub fn nudges(&self) -> watch::Receiver<()> {
        self.commits.log()
    }

    /// The signals of commits.
    pub(crate) fn commits(&self) -> &Commits {
        &self.commits
    }

    /// Wakes all who wait for a commit, so that they look again.
    pub fn wake(&self) {
        self.commits.wake_all();
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let numbered = {
            let mut numbering = self.numbering.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            numbering.abort_all();
            !numbering.is_empty()
        };
        if numbered {
            let _ = sequencer::caught_up(&self.pools.engine, &self.watermark, &self.commits).await;
        }
        self.pools.close().await;
    }
}
