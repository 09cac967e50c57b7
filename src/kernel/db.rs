//! The database: connecting, reading, and writing in transactions that carry their events.

mod address;
pub(crate) mod batch;
pub mod dialect;
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
mod write_priority;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use entity::AuditOutcome;
use entity::id::{Id, OrgId};
use sea_orm::{Database, DatabaseConnection, DatabaseTransaction};
use sea_orm::{SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::kernel::audit::Entry;
use crate::kernel::budget::Conditions;
use crate::kernel::clock::Clock;
use crate::kernel::error::{Error, Result};
use crate::kernel::event::tail::Tails;
use crate::kernel::event::{self, Event, sequencer};
use crate::kernel::idempotency::{IdempotentRequest, ResultIds};
use crate::kernel::limits;
use dialect::Dialect;
use pools::Pools;
use reachability::Reachability;
pub use reader::Reader;
pub use schema::place;
use write_priority::Turns;

/// The connections to the database, and the clock for timestamps. Clones share everything.
#[derive(Clone, Debug)]
pub struct Db {
    pools: Pools,
    dialect: Dialect,
    url: Arc<str>,
    clock: Clock,
    /// Wakes those who wait for commits: the engine's loops and followers of the log.
    nudge: watch::Sender<()>,
    tails: Arc<Tails>,
    /// The sequencer, its listener and the probe (Postgres only); they end with the last clone.
    numbering: Arc<Mutex<JoinSet<()>>>,
    once: Option<Arc<IdempotentRequest>>,
    entry: Option<Arc<Entry>>,
    answers: Option<&'static str>,
    door: watch::Sender<u64>,
    turns: Turns,
    patient: bool,
    /// The changes that each org has in flight.
    shares: Arc<Mutex<HashMap<OrgId, Arc<Semaphore>>>>,
    statements: Arc<AtomicU64>,
    floor: Arc<sequencer::Watermark>,
    writing: Arc<AtomicBool>,
    tokens: Arc<AtomicBool>,
    /// Domain of this process's mail, as used in Message-IDs.
    domain: Arc<std::sync::OnceLock<String>>,
    refusals: Arc<crate::kernel::audit::refusals::Refusals>,
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
        let statements = Arc::new(AtomicU64::new(0));
        let reach = Reachability::default();
        let pools = Pools::open(url, dialect, to_write, &statements, &reach).await;
        let pools = pools.map_err(|err| schema::unopened(url, err))?;
        let nudge = watch::Sender::new(());
        let (tails, turns, numbering) = (Arc::default(), Turns::default(), Arc::default());
        Ok(Self {
            pools,
            dialect,
            url: url.into(),
            clock,
            nudge,
            tails,
            numbering,
            once: None,
            entry: None,
            answers: None,
            door: watch::Sender::new(0),
            turns,
            patient: false,
            shares: Arc::default(),
            statements,
            floor: Arc::default(),
            writing: Arc::default(),
            tokens: Arc::default(),
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
            let (written, floor) = (self.nudge.subscribe(), self.floor.clone());
            numbering.spawn(self.reach.clone().probe(self.url.clone(), self.pools.front.clone(), self.clock.clone()));
            numbering.spawn(sequencer::run(self.pools.engine.clone(), written, self.nudge.clone(), floor));
            numbering.spawn(sequencer::listen(self.pools.engine.clone(), self.nudge.clone()));
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
    pub(crate) fn floor(&self) -> &sequencer::Watermark {
        &self.floor
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The current time, for timestamps.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// A handle for one request with an idempotency key: its transactions store the key.
    pub fn with_idempotency(&self, once: Option<IdempotentRequest>) -> Self {
        Self { once: once.map(Arc::new), ..self.clone() }
    }

    /// A handle for a mutation that returns an object of this noun, which its key and the audit
    /// refer to.
    pub fn with_result_noun(&self, noun: &'static str) -> Self {
        Self { answers: Some(noun), ..self.clone() }
    }

    /// A handle for the engine: on SQLite, requests' writes go first.
    pub fn for_engine(&self) -> Self {
        Self { patient: true, ..self.clone() }
    }

    /// A handle whose transactions write this audit entry.
    pub fn with_audit_entry(&self, entry: Option<Arc<Entry>>) -> Self {
        Self { entry, ..self.clone() }
    }

    /// The idempotent request that this handle belongs to.
    pub fn idempotency(&self) -> Option<&IdempotentRequest> {
        self.once.as_deref()
    }

    /// The tails of the log with followers in this process.
    pub(crate) fn tails(&self) -> &Tails {
        &self.tails
    }

    /// Wakes after a commit here, and after events of other nodes were numbered.
    pub fn nudges(&self) -> watch::Receiver<()> {
        self.nudge.subscribe()
    }

    /// Wakes those who wait for a commit, so that they look again.
    pub fn wake(&self) {
        self.nudge.send_replace(());
    }

    /// A permit among the concurrent changes of the request's org; the limit leaves connections for
    /// other orgs. Errors: LIMIT_EXCEEDED.
    async fn share(&self) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(request) = crate::kernel::cost::current().filter(|_| !self.patient) else { return Ok(None) };
        let most = if self.dialect == Dialect::Sqlite { 1 } else { limits::WRITERS_PER_ORG };
        let share = {
            let mut all = self.shares.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            all.retain(|_, share| Arc::strong_count(share) > 1 || share.available_permits() < most);
            all.entry(request.owner().org).or_insert_with(|| Arc::new(Semaphore::new(most))).clone()
        };
        match tokio::time::timeout(limits::LANE_PATIENCE, share.acquire_owned()).await {
            Ok(permit) => Ok(Some(permit.map_err(Error::internal)?)),
            Err(_) => {
                Err(crate::kernel::cost::busy("the changes of this org have waited too long for a connection".into())
                    .into())
            }
        }
    }

    /// Begins a write transaction; call it through `transact!`.
    #[doc(hidden)]
    pub async fn begin(&self) -> Result<Tx> {
        let mut options = TransactionOptions::default();
        if self.dialect == Dialect::Sqlite {
            options.sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        }
        let share = self.share().await?;
        let inner = if self.patient {
            self.turns.wait_for_requests().await;
            self.pools.engine.begin_with_options(options).await?
        } else {
            let _waiting = self.turns.request_waiting();
            self.reach.unless_away(self.pools.writer.begin_with_options(options)).await?
        };
        let (now, kept) = (self.clock.now(), Mutex::default());
        let (once, entry) = (self.once.clone(), self.entry.clone());
        let (dialect, clock, answers, conditions) =
            (self.dialect, self.clock.clone(), self.answers, Conditions::default());
        let tx = Tx { inner, dialect, now, clock, kept, once, entry, answers, conditions, _share: share };
        if let Some(once) = &self.once {
            once.claim(&tx).await?;
        }
        Ok(tx)
    }

    /// Commits with the events, or rolls back; `None` means: retry. Call it through `transact!`.
    #[doc(hidden)]
    pub async fn end<T>(&self, tx: Tx, outcome: Result<T>, tries: &mut u32) -> Option<Result<T>> {
        let authenticator = tx.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).authenticator;
        let outcome = match outcome {
            Ok(value) => tx.commit().await.map(|wrote| {
                if authenticator {
                    self.door.send_modify(|changes| *changes += 1);
                }
                if wrote {
                    self.nudge.send_replace(());
                }
                value
            }),
            Err(err) => {
                // A failed rollback leaves a broken connection, which the pool discards.
                let _ = tx.inner.rollback().await;
                Err(err)
            }
        };
        match outcome {
            Err(err) if err.db().is_some_and(|err| dialect::is_retryable(err, *tries)) => {
                *tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5 << (*tries).min(6))).await;
                None
            }
            outcome => Some(outcome),
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        let numbered = {
            let mut numbering = self.numbering.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            numbering.abort_all();
            !numbering.is_empty()
        };
        if numbered {
            let _ = sequencer::caught_up(&self.pools.engine, &self.floor).await;
        }
        self.pools.close().await;
    }
}

/// `transact!(db, |tx| { … })`: runs the block in one write transaction, commits it with its
/// events, and retries on deadlock, serialisation failure or busy. It is a macro because a function
/// that takes an async closure can't yet promise that the future is `Send`.
#[macro_export]
macro_rules! transact {
    ($db:expr, |$tx:ident| $body:expr) => {{
        let mut tries = 0;
        loop {
            let tx = $db.begin().await?;
            let outcome: $crate::kernel::error::Result<_> = {
                let $tx = &tx;
                async { $body }.await
            };
            if let Some(outcome) = $db.end(tx, outcome, &mut tries).await {
                break outcome;
            }
        }
    }};
}

/// An open write transaction.
#[derive(Debug)]
pub struct Tx {
    inner: DatabaseTransaction,
    dialect: Dialect,
    now: DateTime<Utc>,
    clock: Clock,
    kept: Mutex<CommitBuffer>,
    once: Option<Arc<IdempotentRequest>>,
    entry: Option<Arc<Entry>>,
    answers: Option<&'static str>,
    pub(crate) conditions: Conditions,
    _share: Option<OwnedSemaphorePermit>,
}

/// Data that is collected until the commit.
#[derive(Debug, Default)]
struct CommitBuffer {
    events: Vec<Event>,
    made: ResultIds,
    authenticator: bool,
}

impl Tx {
    /// The connection for statements.
    pub fn db(&self) -> &DatabaseTransaction {
        &self.inner
    }

    /// The kind of database.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The timestamp of everything that this transaction writes.
    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    /// The current time, for rows ordered by a lock that was taken after the transaction had begun.
    pub(crate) fn now_locked(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Collects an event until the commit; call it through `event::append`.
    pub(crate) fn keep(&self, event: Event) {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).events.push(event);
    }

    /// Marks that members or keys change: open sessions are checked again after the commit.
    pub(crate) fn credentials_changed(&self) {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).authenticator = true;
    }

    /// Records the id of a created or changed object; a repeated request returns the first one of
    /// the mutation's noun.
    pub(crate) fn set_result(&self, id: impl Id) {
        self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).made.add(id);
    }

    /// Commits; true if there were events.
    async fn commit(self) -> Result<bool> {
        let kept = self.kept.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let made = kept.made.answer(self.answers);
        if let Some(once) = &self.once {
            once.keep(&self.inner, made.as_ref().map(|(id, _)| *id)).await?;
        }
        let entry = self.entry.filter(|entry| !entry.is_noted());
        if let Some(entry) = &entry {
            entry.write(&self.inner, self.now, made.map(|(_, shown)| shown), AuditOutcome::Done, None).await?;
        }
        let any = !kept.events.is_empty();
        event::write(&self.inner, self.dialect, kept.events, self.now).await?;
        self.inner.commit().await?;
        if let Some(entry) = entry {
            entry.kept();
        }
        Ok(any)
    }
}
