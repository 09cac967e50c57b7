//! Actions taken within a step of guided work, and calls of campaigns: one row per record, written
//! in the transaction of the action.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// A kind of action taken within a step of guided work, or of a call in a campaign's run.
    pub enum ActivityKind {
        /// A mail was sent.
        EmailSent,
        /// The record's stage was changed.
        StageChanged,
        /// A meeting was booked.
        MeetingBooked,
        /// A meeting was moved to another time.
        MeetingMoved,
        /// A meeting was cancelled.
        MeetingCancelled,
        /// A follow-up was created.
        FollowUpCreated,
        /// A follow-up was completed.
        FollowUpDone,
        /// A note was written.
        Note,
        /// The record was created.
        RecordCreated,
        /// A call was made.
        CallMade,
    }
}

/// One activity.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "activity")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ActivityId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The step.
    pub step_id: StepId,
    /// The record that the action was about; null if it was about none.
    pub record_id: Option<RecordId>,
    /// The kind of action.
    pub kind: ActivityKind,
    /// The action as a sentence for people.
    pub summary: String,
    /// Details by kind: ids, `from` and `to`, the text of a note.
    pub details: Json,
    /// The actor.
    pub actor: Actor,
    /// Time of the action.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
