//! The state of the database and of this process, for operators, health checks and other modules.

use std::sync::atomic::Ordering;

use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::watch;

use super::Db;
use super::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::limits;

impl Db {
    /// Raises the watermark and returns it, as the sequencer does every second (Postgres only).
    pub async fn raise_watermark(&self) -> Result<i64> {
        self.watermark.raise(&self.pools.engine).await?;
        Ok(self.watermark.at())
    }

    /// Number of changes to members and keys through this process; cached principals are checked
    /// again.
    pub fn credential_change_count(&self) -> u64 {
        *self.credential_changes.borrow()
    }

    /// Wakes when members or keys were changed.
    pub fn credential_changes(&self) -> watch::Receiver<u64> {
        self.credential_changes.subscribe()
    }

    /// Runs work that may wait for a connection; fails with a connection error when the database is
    /// unreachable.
    pub(crate) async fn unless_unreachable<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.reach.unless_unreachable(work).await
    }

    /// Pings the database over connections that wait for no request. Errors: the cause.
    pub async fn answers(&self) -> Result<()> {
        self.pools.front.execute_unprepared("SELECT 1").await?;
        Ok(())
    }

    /// The connection pools: name, open connections, idle connections.
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

    /// Refreshes the query planner's statistics after a bulk insert.
    pub(crate) async fn analyze(&self) -> Result<()> {
        self.pools.engine.execute_unprepared("ANALYZE").await?;
        Ok(())
    }

    /// Refreshes SQLite's statistics of tables that have grown, by samples. Without any it takes every
    /// index for as selective as the others, and reads a run's steps among all of the org's. Postgres
    /// does this by itself (autovacuum).
    pub async fn keep_statistics(&self) -> Result<()> {
        if self.dialect == Dialect::Sqlite {
            let sample = "PRAGMA analysis_limit = 1000; PRAGMA optimize = 0x10002;";
            self.pools.engine.execute_unprepared(sample).await?;
        }
        Ok(())
    }

    /// Follows the Postgres server's clock, because nodes judge each other's leases and their
    /// machines' clocks may differ.
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

    /// Recent rejections, which the audit counts.
    pub(crate) fn refusals(&self) -> &crate::kernel::audit::refusals::Refusals {
        &self.refusals
    }

    /// Sets the retention of audit entries in days, once.
    pub fn set_audit_days(&self, days: u32) {
        let _ = self.audit_days.set(days);
    }

    /// Retention of audit entries in days.
    pub(crate) fn audit_days(&self) -> u32 {
        self.audit_days.get().copied().unwrap_or(limits::AUDIT_DAYS)
    }

    /// Sets the domain of this process's mail, once, before it is read.
    pub fn set_mail_domain(&self, domain: &str) {
        let _ = self.domain.set(domain.to_owned());
    }

    /// Domain part of Message-IDs.
    pub fn domain(&self) -> &str {
        self.domain.get().map_or("localhost", String::as_str)
    }

    /// Sets if this process has a language model; read when a writer's ability to write is checked.
    pub fn set_has_model(&self, has_model: bool) {
        self.has_model.store(has_model, Ordering::Relaxed);
    }

    /// Sets if an issuer's tokens are accepted; read when checking that an admin can still sign in.
    pub fn set_has_tokens(&self, has_issuer: bool) {
        self.has_tokens.store(has_issuer, Ordering::Relaxed);
    }

    /// True if tokens are accepted.
    pub fn has_tokens(&self) -> bool {
        self.has_tokens.load(Ordering::Relaxed)
    }

    /// True if this process has a language model.
    pub fn has_model(&self) -> bool {
        self.has_model.load(Ordering::Relaxed)
    }

    /// Number of followers of the log in this process.
    pub fn followers(&self) -> usize {
        self.tails.followers()
    }

    /// Size of the log's newest events that this process keeps for its followers, in bytes.
    pub fn followed_bytes(&self) -> usize {
        self.tails.bytes()
    }
}
