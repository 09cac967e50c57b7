//! Sweeps: large changes applied in chunks, with the position that they have reached.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// The kind of change that a sweep applies.
    pub enum SweepKind {
        /// Stores the audience.
        Audience,
        /// Creates a task's steps, one per recipient.
        FanOut,
        /// Approves the drafts of an approved review.
        Approve,
        /// Returns the drafts of a rejected review to be drafted again.
        Redraft,
        /// Skips the open steps of a cancelled run.
        Cancel,
        /// Retries the failed steps of a failed phase, or of a completed run's failed recipients.
        Retry,
        /// Enqueues a fan-out's steps that were skipped because a single step had not completed, now
        /// that it has; the reason is that step's key.
        Follow,
        /// Sets the outcomes of recipients that have none when their run ends.
        Close,
        /// Opts out many records, and stops their open work.
        Unsubscribe,
        /// Empties what is personal of an erased record in all tables. Held while work on the record
        /// is in somebody's hands.
        Erase,
    }
}

/// One sweep; deleted when it is finished, or when its run has ended for good.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sweep")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SweepId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run whose rows it changes; null for a sweep over records.
    pub run_id: Option<RunId>,
    /// The task, if the sweep is about one.
    pub task_id: Option<TaskId>,
    /// The kind of change.
    pub kind: SweepKind,
    /// Key of the last row processed.
    pub last_key: Option<Uuid>,
    /// The actor that caused it.
    pub actor: Actor,
    /// Reason that is written to the rows.
    pub reason: Option<String>,
    /// Selection of the rows, if the sweep is not about a run; for an erasure also the texts to look
    /// for, which are gone with the sweep.
    pub detail: Option<Json>,
    /// Start time.
    pub created_at: DateTimeUtc,
    /// True while its run is failed: it continues when the run is retried; or while an erasure waits.
    pub held: bool,
}

impl ActiveModelBehavior for ActiveModel {}
