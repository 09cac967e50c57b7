//! The checker: what must hold after any fault (design/6-invariants.md), tested on a live database in one snapshot.

mod derived;
mod history;
mod rows;
mod schedules;

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, IsolationLevel, Statement, TransactionOptions, TransactionTrait,
};

use crate::db::Db;
use crate::db::dialect::Dialect;
use crate::error::Result;

/// How many examples of what is wrong are kept of each invariant.
const EXAMPLES: usize = 5;

/// What was found of one invariant.
#[derive(Clone, Debug)]
pub struct Found {
    /// What must hold.
    pub what: &'static str,
    /// How many were looked at.
    pub looked_at: u64,
    /// How many are wrong.
    pub wrong: u64,
    /// Some of those.
    pub examples: Vec<String>,
}

impl Found {
    fn new(what: &'static str) -> Self {
        Self { what, looked_at: 0, wrong: 0, examples: Vec::new() }
    }

    fn look(&mut self, holds: bool, example: impl FnOnce() -> String) {
        self.looked_at += 1;
        if !holds {
            self.wrong += 1;
            if self.examples.len() < EXAMPLES {
                self.examples.push(example());
            }
        }
    }
}

/// Looks at everything, in one snapshot: others may write meanwhile.
pub async fn check(db: &Db) -> Result<Vec<Found>> {
    let options = match db.dialect() {
        Dialect::Postgres => TransactionOptions {
            isolation_level: Some(IsolationLevel::RepeatableRead),
            access_mode: Some(AccessMode::ReadOnly),
            ..TransactionOptions::default()
        },
        Dialect::Sqlite => TransactionOptions::default(),
    };
    let tx = db.read().begin_with_options(options).await?;
    let look = Look { tx, dialect: db.dialect() };
    let mut all = history::check(&look).await?;
    all.extend(derived::check(&look).await?);
    all.extend(rows::check(&look).await?);
    all.extend(schedules::check(&look).await?);
    look.tx.rollback().await?;
    Ok(all)
}

/// One snapshot of the database.
struct Look {
    tx: DatabaseTransaction,
    dialect: Dialect,
}

impl Look {
    async fn all(&self, sql: &str) -> Result<Vec<sea_orm::QueryResult>> {
        Ok(self.tx.query_all_raw(Statement::from_string(self.tx.get_database_backend(), sql)).await?)
    }

    async fn count(&self, sql: &str) -> Result<u64> {
        let rows = self.all(sql).await?;
        let count = rows.first().map(|row| row.try_get_by_index::<i64>(0)).transpose()?.unwrap_or(0);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
