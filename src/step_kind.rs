//! What a step does: `perform` touches the world, outside any transaction; `record` writes our tables, inside the settle.

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
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;

/// A step that we hold, with its run.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The step, in progress under our lease.
    pub step: step::Model,
    /// Its run, as it was when the step was claimed.
    pub run: std::sync::Arc<run::Model>,
}

/// What came of performing a step.
#[derive(Clone, Debug)]
pub enum Outcome<N> {
    /// Done.
    Done {
        /// Kept on the step.
        result: Value,
        /// For `record`.
        note: N,
    },
    /// Not now: back into the queue, without counting as a failure.
    Later {
        /// Not before.
        at: DateTime<Utc>,
        /// Why.
        why: String,
        /// For `record`, where the world was touched.
        note: Option<N>,
    },
    /// Not at all.
    Skipped {
        /// The code.
        reason: StepReason,
        /// Why.
        why: String,
    },
    /// Whether it happened can't be told; a person has to.
    Unknown {
        /// What happened.
        why: String,
        /// For `record`.
        note: N,
    },
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// Whether it may succeed later.
        again: bool,
        /// Not before so long; none: by the usual pauses.
        after: Option<std::time::Duration>,
        /// For `record`, where the world was touched.
        note: Option<N>,
    },
}

impl<N> Outcome<N> {
    /// How the work has ended, for the step.
    pub(crate) fn ended(&self) -> LeaseEnd<'_> {
        match self {
            Self::Done { result, .. } => LeaseEnd::Done(result),
            Self::Later { at, why, .. } => LeaseEnd::Later(*at, why),
            Self::Skipped { reason, why } => LeaseEnd::Skipped(*reason, why),
            Self::Unknown { why, .. } => LeaseEnd::Unknown(why),
            Self::Failed { why, again, after, .. } => LeaseEnd::Failed(why, *again, *after),
        }
    }

    /// What `record` is to know.
    pub fn note(&self) -> Option<&N> {
        match self {
            Self::Done { note, .. } | Self::Unknown { note, .. } => Some(note),
            Self::Failed { note, .. } | Self::Later { note, .. } => note.as_ref(),
            Self::Skipped { .. } => None,
        }
    }
}

/// What comes of a step, once the outside has answered.
pub type Answer<'a, N> = BoxFuture<'a, Outcome<N>>;

/// One kind of step.
pub trait Work: Send + Sync + 'static {
    /// What `perform` tells `record`.
    type Outcome: Send + Sync + 'static;
    /// The kind, as definitions name it.
    const KIND: &'static str;
    /// How many steps are taken at once.
    fn batch(&self) -> u64;
    /// True if one org may have only a share of them in hand, since it decides itself what they wait for.
    fn is_shared(&self) -> bool {
        false
    }
    /// The runs whose steps it takes, as a condition on `r`; empty: all.
    fn of_runs(&self) -> &'static str {
        ""
    }
    /// What may be taken now.
    fn room(&self, db: &Db) -> impl Future<Output = Result<ChannelAllowance>> + Send {
        let _ = db;
        std::future::ready(Ok(ChannelAllowance { count: self.batch(), latest_first: false }))
    }
    /// Does the steps; one outcome each, in order. May run twice for the same step, after a death.
    fn perform(&self, db: &Db, claimed: &[Claimed])
    -> impl Future<Output = Result<Vec<Outcome<Self::Outcome>>>> + Send;
    /// Begins the steps; the answer of each, in order, comes by itself: one that the outside does not give holds up no other.
    fn begin<'a>(
        &'a self,
        db: &'a Db,
        claimed: &'a [Claimed],
    ) -> impl Future<Output = Result<Vec<Answer<'a, Self::Outcome>>>> + Send {
        async move {
            let outcomes = self.perform(db, claimed).await?.into_iter();
            Ok(outcomes.map(|outcome| std::future::ready(outcome).boxed()).collect())
        }
    }
    /// What is settled of a step whose outcome can't be: it is given up with the reason.
    fn unkept(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        let _ = outcome;
        Outcome::Failed { why: why.to_owned(), again: false, after: None, note: None }
    }
    /// Writes what follows for our tables. The steps are as they are after the settle, of one run.
    fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Says what came of places in the audience, in one statement.
pub(crate) async fn fates(tx: &Tx, fates: &[(&step::Model, Option<RecipientOutcome>, Option<String>)]) -> Result<()> {
    let rows: Vec<Value> = fates
        .iter()
        .filter_map(|(step, fate, why)| {
            // What was said by an outside is never taken for a code.
            let why = why.as_deref().map(|why| {
                // Written by the list of suppressed addresses, with its own code.
                if step.reason == Some(StepReason::Suppressed) {
                    return why.to_owned();
                }
                let code = match fate {
                    // Whatever closed its step.
                    Some(RecipientOutcome::Unknown) => RecipientReason::OutcomeUnknown,
                    _ => RecipientReason::of_step(step.reason),
                };
                let said = why.strip_prefix(&code.to_string()).map_or(why, |rest| rest.trim_start_matches([':', ' ']));
                code.with(Some(said))
            });
            Some(json!({ "of_id": step.run_record_id?.0.simple().to_string(), "to_outcome": fate, "to_reason": why }))
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
