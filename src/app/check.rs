//! The checker of the invariants (docs/invariants.md), which must hold after any fault: checks a
//! live database in one snapshot.

mod columns;
mod derived;
mod history;
mod rows;
mod schedules;
mod structures;
mod stuck_work;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, IsolationLevel, Statement, TransactionOptions, TransactionTrait,
};
use uuid::Uuid;

use crate::kernel::db::Db;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;

/// Maximum number of examples kept per invariant.
const EXAMPLES: usize = 5;

/// Result of checking one invariant.
#[derive(Clone, Debug)]
pub struct Violations {
    /// The invariant.
    pub what: &'static str,
    /// Number of checks.
    pub looked_at: u64,
    /// Number of violations.
    pub wrong: u64,
    /// Examples of violations.
    pub examples: Vec<String>,
}

impl Violations {
    fn new(what: &'static str) -> Self {
        Self { what, looked_at: 0, wrong: 0, examples: Vec::new() }
    }

    fn record(&mut self, holds: bool, example: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !holds {
            self.wrong += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(example());
            }
        }
    }
}

/// Checks all invariants in one snapshot; concurrent writers are allowed.
pub async fn check(db: &Db) -> Result<Vec<Violations>> {
    let options = match db.dialect() {
        Dialect::Postgres => TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        },
        Dialect::Sqlite => TransactionOptions::default(),
    };
    let tx = db.read().connection().begin_with_options(options).await?;
    let mut snapshot = CheckedSnapshot { tx, dialect: db.dialect(), now: db.now(), seeded: HashSet::new() };
    snapshot.seeded = snapshot.made_by_seed().await?;
    let mut all = history::check(&snapshot).await?;
    all.extend(derived::check(&snapshot).await?);
    all.extend(rows::check(&snapshot).await?);
    all.extend(columns::check(&snapshot).await?);
    all.extend(schedules::check(&snapshot).await?);
    all.push(structures::check(&snapshot).await?);
    all.extend(stuck_work::check(&snapshot).await?);
    if !snapshot.seeded.is_empty() {
        let mut found =
            Violations::new("campaigns and runs of `sortie seed` have only part of their history: not checked");
        found.looked_at = snapshot.seeded.len() as u64;
        all.push(found);
    }
    snapshot.tx.rollback().await?;
    Ok(all)
}

/// A snapshot of the database.
struct CheckedSnapshot {
    tx: DatabaseTransaction,
    dialect: Dialect,
    /// The time of the check.
    now: DateTime<Utc>,
    /// Campaigns and runs created by `sortie seed`.
    seeded: HashSet<Uuid>,
}

impl CheckedSnapshot {
    async fn made_by_seed(&self) -> Result<HashSet<Uuid>> {
        let name = match self.dialect {
            Dialect::Postgres => "created_by->>'name'",
            Dialect::Sqlite => "json_extract(created_by, '$.name')",
        };
        let kind = name.replace("name", "kind");
        let mut seeded = HashSet::new();
        for noun in ["campaign", "run"] {
            let sql =
                format!("SELECT id FROM {noun} WHERE {name} = '{}' AND {kind} = 'ENGINE'", crate::app::seed::ACTOR);
            for row in self.all(&sql).await? {
                seeded.insert(row.try_get_by_index(0)?);
            }
        }
        Ok(seeded)
    }

    async fn all(&self, sql: &str) -> Result<Vec<sea_orm::QueryResult>> {
        Ok(self.tx.query_all_raw(Statement::from_string(self.tx.get_database_backend(), sql)).await?)
    }

    /// True if a row belongs to a campaign or run created by `sortie seed`, identified by one of
    /// its columns.
    fn has_seeded(&self, row: &sea_orm::QueryResult, column: usize) -> Result<bool> {
        let of: Option<Uuid> = row.try_get_by_index(column)?;
        Ok(of.is_some_and(|id| self.seeded.contains(&id)))
    }

    async fn count(&self, sql: &str) -> Result<u64> {
        let rows = self.all(sql).await?;
        let count = rows.first().map(|row| row.try_get_by_index::<i64>(0)).transpose()?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
