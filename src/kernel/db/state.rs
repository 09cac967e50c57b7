//! How the database and this process are doing, as an operator and others ask.

use std::sync::atomic::Ordering;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::watch;

use super::Db;
use super::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::limits;

impl Db {
    /// How many statements were sent to it by this process, but for the beginnings and ends of transactions.
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }

    /// On Postgres, has it looked at up to where the log is numbered for certain, as the sequencer does every second; that
    /// place in the sequence of insertion.
    pub async fn raise_floor(&self) -> Result<i64> {
        self.floor.raise(&self.pools.engine).await?;
        Ok(self.floor.at())
    }

    /// How often members or keys were changed through this process: what was known of them is looked at again.
    pub fn door_changes(&self) -> u64 {
        *self.door.borrow()
    }

    /// Wakes when members or keys were changed.
    pub fn door(&self) -> watch::Receiver<u64> {
        self.door.subscribe()
    }

    /// Does something that may wait for a connection; it ends with an error of the connection when the database is away.
    pub(crate) async fn unless_away<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.reach.unless_away(work).await
    }

    /// Whether the database answers, asked over connections that wait for no request. Errors: ours, with why not.
    pub async fn answers(&self) -> Result<()> {
        self.pools.front.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// The pools of connections: their name, how many are open, and how many of those idle.
    pub fn pools(&self) -> Vec<(&'static str, usize, usize)> {
        let named = |name, pool: &DatabaseConnection| match self.dialect {
            Dialect::Sqlite => {
                let pool = pool.get_sqlite_connection_pool();
                (name, pool.size() as usize, pool.num_idle())
            }
            Dialect::Postgres => {
                let pool = pool.get_postgres_connection_pool();
                (name, pool.size() as usize, pool.num_idle())
            }
        };
        let (lanes, taken) = self.pools.reader.lanes();
        let mut all = vec![
            named("writer", &self.pools.writer),
            named("house", self.pools.reader.connection()),
            named("front", &self.pools.front),
        ];
        all.push(("reader", lanes, lanes - taken));
        all
    }

    /// Has the database look at how its rows are spread, after many were made at once.
    pub(crate) async fn analyze(&self) -> Result<()> {
        self.pools.engine.execute_unprepared("ANALYZE").await?;
        Ok(())
    }

    /// On Postgres, goes by its clock: leases of one node are judged by others, whose machines may not agree.
    pub async fn keep_time(&self) -> Result<()> {
        if self.dialect == Dialect::Postgres {
            let before = self.now();
            let sql = Statement::from_string(self.pools.engine.get_database_backend(), "SELECT clock_timestamp()");
            if let Some(row) = self.pools.engine.query_one_raw(sql).await? {
                self.clock.go_by(row.try_get_by_index(0)?, before, self.now());
            }
        }
        Ok(())
    }

    /// The refusals of late, which the audit counts.
    pub(crate) fn refusals(&self) -> &crate::kernel::audit::refusals::Refusals {
        &self.refusals
    }

    /// Sets for how many days the audit's entries are kept, once.
    pub fn keeps_audit(&self, days: u32) {
        let _ = self.audit_days.set(days);
    }

    /// For how many days the audit's entries are kept.
    pub(crate) fn audit_days(&self) -> u32 {
        self.audit_days.get().copied().unwrap_or(limits::AUDIT_DAYS)
    }

    /// Says what stands behind the @ of this process's mail, once, before it asks.
    pub fn sends_from(&self, domain: &str) {
        let _ = self.domain.set(domain.to_owned());
    }

    /// What stands behind the @ of a Message-ID.
    pub fn domain(&self) -> &str {
        self.domain.get().map_or("localhost", String::as_str)
    }

    /// Says whether this process has a language model, for who asks whether a writer can write.
    pub fn writes(&self, has_model: bool) {
        self.writing.store(has_model, Ordering::Relaxed);
    }

    /// Says whether tokens of an issuer are accepted, for who asks whether an admin can still come in.
    pub fn trusts_tokens(&self, has_issuer: bool) {
        self.tokens.store(has_issuer, Ordering::Relaxed);
    }

    /// Returns true if tokens are accepted.
    pub fn has_tokens(&self) -> bool {
        self.tokens.load(Ordering::Relaxed)
    }

    /// Whether it has one.
    pub fn has_model(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    /// How many follow the log here.
    pub fn followers(&self) -> usize {
        self.tails.followers()
    }
}
