//! The statements that this process has sent: their number and, for tests, the statements themselves.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sea_orm::Statement;

use super::Db;

/// The statements sent.
#[derive(Debug, Default)]
pub(super) struct Statements {
    count: AtomicU64,
    keeps: AtomicBool,
    kept: Mutex<Vec<Statement>>,
}

impl Statements {
    /// Notes a statement.
    pub(super) fn sent(&self, statement: &Statement) {
        self.count.fetch_add(1, Ordering::Relaxed);
        if self.keeps.load(Ordering::Relaxed) {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(statement.clone());
        }
    }
}

impl Db {
    /// Number of statements sent by this process, without BEGIN, COMMIT and ROLLBACK.
    pub fn statements(&self) -> u64 {
        self.statements.count.load(Ordering::Relaxed)
    }

    /// Keeps statements from now on, so that a test can look at their plans.
    pub fn keep_statements(&self) {
        self.statements.keeps.store(true, Ordering::Relaxed);
    }

    /// Returns the statements kept since the last call.
    pub fn take_statements(&self) -> Vec<Statement> {
        std::mem::take(&mut *self.statements.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
