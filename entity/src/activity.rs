//! What somebody did from within a step of guided work: one row per record, written in the transaction that did it.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// What was done.
    pub enum ActivityKind {
        /// A mail went out.
        EmailSent,
        /// The record's stage was changed.
        StageChanged,
        /// A meeting was booked.
        MeetingBooked,
        /// A meeting was moved to another time.
        MeetingMoved,
        /// A meeting was called off.
        MeetingCancelled,
        /// A follow-up was set.
        FollowUpCreated,
        /// A follow-up was done.
        FollowUpDone,
        /// Something was written down.
        Note,
        /// The record was made.
        RecordCreated,
        /// A call was made.
        CallMade,
    }
}

/// One of them.
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
    /// The record that it was done to; none where it was about none.
    pub record_id: Option<RecordId>,
    /// What was done.
    pub kind: ActivityKind,
    /// The same as a sentence.
    pub summary: String,
    /// What there is to know of it: ids, `from` and `to`, the text of a note.
    pub details: Json,
    /// Who did it.
    pub actor: Actor,
    /// When.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
