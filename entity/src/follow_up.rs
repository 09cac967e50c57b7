//! A follow-up, a to-do created within a step of guided work or for a reply that no step handles,
//! and the state machine of its status.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a follow-up.
    pub enum FollowUpStatus {
        /// Open: still to be done.
        Open,
        /// Completed.
        Done,
        /// Cancelled: no longer needed.
        Cancelled,
    }
}

/// Transitions of a follow-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowUpTransition {
    /// A person completes it.
    Complete,
    /// A person cancels it.
    Cancel,
    /// A person opens it again.
    Reopen,
}

impl StateMachine for FollowUpStatus {
    type Transition = FollowUpTransition;
    const TRANSITIONS: &'static [FollowUpTransition] =
        &[FollowUpTransition::Complete, FollowUpTransition::Cancel, FollowUpTransition::Reopen];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: FollowUpTransition) -> Option<Self> {
        use FollowUpTransition::*;
        match (self, transition) {
            (Self::Open, Complete) => Some(Self::Done),
            (Self::Open, Cancel) => Some(Self::Cancelled),
            (Self::Open, Reopen) => None,
            (Self::Done | Self::Cancelled, Reopen) => Some(Self::Open),
            (Self::Done | Self::Cancelled, Complete | Cancel) => None,
        }
    }
}

/// One follow-up.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "follow_up")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: FollowUpId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run that it was created in.
    pub run_id: RunId,
    /// The step that it was created in; for a reply, the step of the answered message.
    pub step_id: StepId,
    /// The record that it is about; null if it is about none.
    pub record_id: Option<RecordId>,
    /// Title: the task to be done.
    pub title: String,
    /// Further notes.
    pub note: String,
    /// Due time; null if there is none.
    pub due_at: Option<DateTimeUtc>,
    /// The member it is assigned to; null if anybody may do it.
    pub assignee_id: Option<MemberId>,
    /// Current status.
    pub status: FollowUpStatus,
    /// Time at which it was reported overdue.
    pub overdue_at: Option<DateTimeUtc>,
    /// Time at which it was completed or cancelled.
    pub closed_at: Option<DateTimeUtc>,
    /// The actor that completed or cancelled it.
    pub closed_by: Option<Actor>,
    /// The actor that created it.
    pub created_by: Actor,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
