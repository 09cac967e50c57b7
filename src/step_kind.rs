//! The kinds of steps that the engine performs. `perform` has the external effects and runs outside
//! of any transaction; `record` writes to the database, in the transaction of the settle.

pub mod api_call;
mod batch_context;
pub mod decision;
pub mod draft;
pub mod email;
pub mod send;
pub mod summarise;
pub mod update_record;
pub mod wait;

use chrono::{DateTime, Utc};
use entity::id::RecordId;
use entity::run_record::{Outcome as RecipientOutcome, RecipientReason};
use entity::step::StepReason;
use entity::{run, step};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, Statement};
use serde_json::{Value, json};

use crate::channel::pause::ChannelAllowance;
use crate::domain::run::step::lease::LeaseEnd;
use crate::kernel::db::dialect::Type;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::Result;

/// A step that this process has claimed, with its run.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The step, in progress under this process's lease.
    pub step: step::Model,
    /// The step's run, as it was when the step was claimed.
    pub run: std::sync::Arc<run::Model>,
}

/// The outcome of performing a step.
#[derive(Clone, Debug)]
pub enum Outcome<N> {
    /// Done.
    Done {
        /// The result, stored on the step.
        result: Value,
        /// The input of `record`.
        data: N,
    },
    /// Postponed: back into the queue, without counting as a failure.
    Later {
        /// The time before which the step is not claimed again.
        at: DateTime<Utc>,
        /// The reason.
        why: String,
        /// The input of `record`, if there was an external effect.
        data: Option<N>,
    },
    /// Skipped for good.
    Skipped {
        /// The reason's code.
        reason: StepReason,
        /// The reason in words.
        why: String,
    },
    /// Unknown if the external effect happened; a person has to say.
    Unknown {
        /// The reason.
        why: String,
        /// The input of `record`.
        data: N,
    },
    /// Failed.
    Failed {
        /// The reason.
        why: String,
        /// True if a retry may succeed.
        retryable: bool,
        /// Minimum delay before the retry; none for the usual backoff.
        after: Option<std::time::Duration>,
        /// The input of `record`, if there was an external effect.
        data: Option<N>,
    },
}

impl<N> Outcome<N> {
    /// The end of the step's lease that this outcome stands for.
    pub(crate) fn ended(&self) -> LeaseEnd<'_> {
        match self {
            Self::Done { result, .. } => LeaseEnd::Done(result),
            Self::Later { at, why, .. } => LeaseEnd::Later(*at, why),
            Self::Skipped { reason, why } => LeaseEnd::Skipped(*reason, why),
            Self::Unknown { why, .. } => LeaseEnd::Unknown(why),
            Self::Failed { why, retryable, after, .. } => LeaseEnd::Failed(why, *retryable, *after),
        }
    }

    /// The input of `record`, if any.
    pub fn data(&self) -> Option<&N> {
        match self {
            Self::Done { data, .. } | Self::Unknown { data, .. } => Some(data),
            Self::Failed { data, .. } | Self::Later { data, .. } => data.as_ref(),
            Self::Skipped { .. } => None,
        }
    }
}

/// The future outcome of a step, resolved when the external system has answered.
pub type Answer<'a, N> = BoxFuture<'a, Outcome<N>>;

/// One kind of step.
pub trait Work: Send + Sync + 'static {
    /// The data that `perform` passes to `record`.
    type Outcome: Send + Sync + 'static;
    /// The kind, as definitions name it.
    const KIND: &'static str;
    /// Maximum number of steps claimed at once.
    fn batch(&self) -> u64;
    /// True if each org is limited to a share of the steps in flight, since it chooses the external
    /// systems that they wait for.
    fn is_shared(&self) -> bool {
        false
    }
    /// SQL condition on the run `r` of steps to claim; empty for all runs.
    fn run_condition(&self) -> &'static str {
        ""
    }
    /// The number of steps that may be claimed now.
    fn allowance(&self, db: &Db) -> impl Future<Output = Result<ChannelAllowance>> + Send {
        let _ = db;
        std::future::ready(Ok(ChannelAllowance { count: self.batch(), latest_first: false }))
    }
    /// Makes a step due that waits only for its channel, if none is due and one may be tried now.
    /// Returns true if it did.
    fn bring_forward(&self, db: &WriteContext) -> impl Future<Output = Result<bool>> + Send {
        let _ = db;
        std::future::ready(Ok(false))
    }
    /// Performs the steps and returns one outcome each, in order. May run twice for the same step,
    /// after a crash.
    fn perform(
        &self,
        db: &WriteContext,
        claimed: &[Claimed],
    ) -> impl Future<Output = Result<Vec<Outcome<Self::Outcome>>>> + Send;
    /// Begins the steps and returns one future outcome each, in order. They resolve independently:
    /// an external system that does not answer delays no other step.
    fn begin<'a>(
        &'a self,
        db: &'a WriteContext,
        claimed: &'a [Claimed],
    ) -> impl Future<Output = Result<Vec<Answer<'a, Self::Outcome>>>> + Send {
        async move {
            let outcomes = self.perform(db, claimed).await?.into_iter();
            Ok(outcomes.map(|outcome| std::future::ready(outcome).boxed()).collect())
        }
    }
    /// The outcome to settle instead of one that can't be settled: failed, with the reason.
    fn unstorable(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        let _ = outcome;
        Outcome::Failed { why: why.to_owned(), retryable: false, after: None, data: None }
    }
    /// The records that `record` may change. The settle locks the runs that react to it together with
    /// the steps' own, in the order of their ids.
    fn changed_records(&self, performed: &[(&step::Model, &Outcome<Self::Outcome>)]) -> Vec<RecordId> {
        let _ = performed;
        Vec::new()
    }
    /// Writes the outcomes' consequences to other tables. The steps are all of one run, as they are
    /// after the settle.
    fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Sets the outcomes of recipients in a run's audience, in one statement.
pub(crate) async fn set_recipient_outcomes(
    tx: &Tx,
    fates: &[(&step::Model, Option<RecipientOutcome>, Option<String>)],
) -> Result<()> {
    let rows: Vec<Value> = fates
        .iter()
        .filter_map(|(step, outcome, why)| {
            // The text of an external system is never taken for a code.
            let why = why.as_deref().map(|why| {
                // This text comes from the suppression list and has its own code.
                if step.reason == Some(StepReason::Suppressed) {
                    return why.to_owned();
                }
                let code = match outcome {
                    // The code does not depend on what closed the step.
                    Some(RecipientOutcome::Unknown) => RecipientReason::OutcomeUnknown,
                    _ => RecipientReason::from_step_reason(step.reason),
                };
                let text = why.strip_prefix(&code.to_string()).map_or(why, |rest| rest.trim_start_matches([':', ' ']));
                code.with(Some(text))
            });
            Some(
                json!({ "of_id": step.run_record_id?.0.simple().to_string(), "to_outcome": outcome, "to_reason": why }),
            )
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [("of_id", Type::Uuid), ("to_outcome", Type::Text), ("to_reason", Type::Text)];
    let sql = format!(
        "UPDATE run_record SET outcome = v.to_outcome, reason = v.to_reason FROM {} WHERE run_record.id = v.of_id",
        tx.dialect().rows("$1", "v", &columns)
    );
    tx.db()
        .execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [json!(rows).into()]))
        .await?;
    Ok(())
}
