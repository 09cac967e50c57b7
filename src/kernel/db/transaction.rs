//! Write transactions: begin, which claims the idempotency key; commit with the events, the audit
//! entry and the key's result; retry.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};
use entity::AuditOutcome;
use entity::id::Id;
use sea_orm::{ConnectionTrait, DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::dialect::Dialect;
use super::error_codes;
use super::write_context::{RequestRecord, WriteContext};
use crate::kernel::budget::Conditions;
use crate::kernel::clock::Clock;
use crate::kernel::cost;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::event::insert;
use crate::kernel::event::new_event::Event;
use crate::kernel::idempotency::ResultIds;
use crate::kernel::limits;

impl WriteContext {
    /// A permit among the concurrent changes of the request's org; the limit leaves connections for
    /// other orgs. Errors: LIMIT_EXCEEDED.
    async fn org_permit(&self) -> Result<Option<OwnedSemaphorePermit>> {
        let Some(request) = cost::current().filter(|_| !self.yields_to_requests) else { return Ok(None) };
        let most = if self.dialect == Dialect::Sqlite { 1 } else { limits::WRITERS_PER_ORG };
        let permits = {
            let mut all = self.org_writers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            all.retain(|_, permits| Arc::strong_count(permits) > 1 || permits.available_permits() < most);
            all.entry(request.owner().org).or_insert_with(|| Arc::new(Semaphore::new(most))).clone()
        };
        match tokio::time::timeout(limits::LANE_PATIENCE, permits.acquire_owned()).await {
            Ok(permit) => Ok(Some(permit.map_err(Error::internal)?)),
            Err(_) => Err(cost::busy("the changes of this org have waited too long for a connection".into()).into()),
        }
    }

    /// Begins a write transaction; call it through `transact!`.
    #[doc(hidden)]
    pub async fn begin(&self) -> Result<Tx> {
        let mut options = TransactionOptions::default();
        if self.dialect == Dialect::Sqlite {
            options.sqlite_transaction_mode = Some(SqliteTransactionMode::Immediate);
        }
        let permit = self.org_permit().await?;
        let inner = if self.yields_to_requests {
            self.write_priority.wait_for_requests().await;
            self.pools.engine.begin_with_options(options).await?
        } else {
            let _waiting = self.write_priority.request_waiting();
            self.reach.unless_unreachable(self.pools.writer.begin_with_options(options)).await?
        };
        let (now, buffer) = (self.clock.now(), Mutex::default());
        let (dialect, clock, request) = (self.dialect, self.clock.clone(), self.request.clone());
        let conditions = Conditions::default();
        let tx = Tx { inner, dialect, now, clock, buffer, request, conditions, _org_permit: permit };
        if let Some(idempotency) = self.idempotency() {
            idempotency.claim(&tx.inner, now).await?;
        }
        for claim in self.request.claims.iter() {
            if tx.inner.execute(claim).await?.rows_affected() == 0 {
                return Err(Refusal::conflict("this work was taken over by another process, or has ended").into());
            }
        }
        Ok(tx)
    }

    /// Commits with the events, or rolls back; `None` means: retry. Call it through `transact!`.
    #[doc(hidden)]
    pub async fn end<T>(&self, tx: Tx, outcome: Result<T>, tries: &mut u32) -> Option<Result<T>> {
        let (credentials_changed, discarded) = {
            let buffer = tx.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            (buffer.credentials_changed, buffer.discarded)
        };
        let outcome = match outcome {
            Ok(value) if discarded => {
                let _ = tx.inner.rollback().await;
                Ok(value)
            }
            Ok(value) => tx.commit().await.map(|committed| {
                if credentials_changed {
                    self.credential_changes.send_modify(|changes| *changes += 1);
                }
                if !committed.events.is_empty() {
                    self.commits.committed(&committed.events);
                    if self.dialect == Dialect::Sqlite {
                        self.commits.numbered();
                    }
                }
                if committed.wakes_engine {
                    self.commits.wake_all();
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
            Err(err) if err.db().is_some_and(|err| error_codes::is_retryable(err, *tries)) => {
                *tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5 << (*tries).min(6))).await;
                None
            }
            outcome => Some(outcome),
        }
    }
}

/// `transact!(context, |tx| { … })`: runs the block in one write transaction, commits it with its
/// events, and retries on deadlock, serialisation failure or busy. It is a macro because a function
/// that takes an async closure can't yet promise that the future is `Send`.
#[macro_export]
macro_rules! transact {
    ($context:expr, |$tx:ident| $body:expr) => {{
        let context = &$context;
        let mut tries = 0;
        loop {
            let tx = context.begin().await?;
            let outcome: $crate::kernel::error::Result<_> = {
                let $tx = &tx;
                async { $body }.await
            };
            if let Some(outcome) = context.end(tx, outcome, &mut tries).await {
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
    buffer: Mutex<CommitBuffer>,
    request: RequestRecord,
    pub(crate) conditions: Conditions,
    _org_permit: Option<OwnedSemaphorePermit>,
}

/// Data that is collected until the commit.
#[derive(Debug, Default)]
struct CommitBuffer {
    events: Vec<Event>,
    result_ids: ResultIds,
    result_detail: Option<serde_json::Value>,
    credentials_changed: bool,
    discarded: bool,
    wakes_engine: bool,
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
    pub(crate) fn buffer_event(&self, event: Event) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).events.push(event);
    }

    /// Marks that members or keys change: open sessions are checked again after the commit.
    pub(crate) fn credentials_changed(&self) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).credentials_changed = true;
    }

    /// Wakes all loops of the engine after the commit: it gives them work that no event tells of.
    pub(crate) fn wake_engine(&self) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).wakes_engine = true;
    }

    /// Rolls back at the end, although the block succeeds: it has found that it must start over, or that
    /// there is nothing to do, and neither the audit nor the idempotency key has anything to record.
    pub(crate) fn discard(&self) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).discarded = true;
    }

    /// Records the id of a created or changed object; a repeated request returns the first one of
    /// the mutation's noun.
    pub(crate) fn set_result(&self, id: impl Id) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).result_ids.add(id);
    }

    /// Stores with the idempotency key what a repeated request returns besides the object.
    pub(crate) fn set_result_detail(&self, detail: serde_json::Value) {
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).result_detail = Some(detail);
    }

    /// Commits and returns what was collected, for the signals to others.
    async fn commit(self) -> Result<CommitBuffer> {
        let mut buffer = self.buffer.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        let result = std::mem::take(&mut buffer.result_ids).answer(self.request.result_noun);
        if let Some(idempotency) = &self.request.idempotency {
            idempotency
                .store_result(&self.inner, result.as_ref().map(|(id, _)| *id), buffer.result_detail.take())
                .await?;
        }
        let entry = self.request.audit_entry.filter(|entry| !entry.is_committed());
        if let Some(entry) = &entry {
            entry.write(&self.inner, self.now, result.map(|(_, target)| target), AuditOutcome::Done, None).await?;
        }
        insert::write(&self.inner, self.dialect, &buffer.events, self.now).await?;
        self.inner.commit().await?;
        if let Some(entry) = entry {
            entry.mark_committed();
        }
        Ok(buffer)
    }
}
