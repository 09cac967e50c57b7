//! A large effect on its way through many rows, in chunks, with the place it has come to.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// Which effect.
    pub enum SweepKind {
        /// Takes the audience in, record by record.
        Audience,
        /// Makes a task's steps, one per place of the audience.
        FanOut,
        /// Lets out the drafts of an approved review.
        Approve,
        /// Has the drafts of a rejected review written again.
        Redraft,
        /// Skips what was open in a cancelled run.
        Cancel,
        /// Has the failed steps of a failed phase done again.
        Retry,
        /// Says what came of the places of a run that sends nothing.
        Close,
        /// Takes many records out of what is written to, and stops what is open for them.
        Unsubscribe,
    }
}

/// One sweep; its row goes when it is through.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "sweep")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SweepId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run whose rows it goes through; none for one over records.
    pub run_id: Option<RunId>,
    /// The task, where it is about one.
    pub task_id: Option<TaskId>,
    /// Which effect.
    pub kind: SweepKind,
    /// The last row it has dealt with.
    pub last_key: Option<Uuid>,
    /// Who caused it.
    pub actor: Actor,
    /// Why, as it is told on the rows.
    pub reason: Option<String>,
    /// Which rows, where it is not about a run.
    pub detail: Option<Json>,
    /// When it began.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
