//! Something that is to be done later, set from within a step; and the law of its status.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a follow-up stands.
    pub enum FollowUpStatus {
        /// To be done.
        Open,
        /// Done.
        Done,
        /// Not to be done any more.
        Cancelled,
    }
}

/// What may happen to a follow-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowUpTransition {
    /// Somebody did it.
    Complete,
    /// It is not wanted any more.
    Cancel,
    /// It is to be done after all, or again.
    Reopen,
}

impl StateMachine for FollowUpStatus {
    type Transition = FollowUpTransition;
    const TRANSITIONS: &'static [FollowUpTransition] =
        &[FollowUpTransition::Complete, FollowUpTransition::Cancel, FollowUpTransition::Reopen];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: FollowUpTransition) -> Option<Self> {
        use FollowUpTransition::*;
        match (self, act) {
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
    /// The run that it was set in.
    pub run_id: RunId,
    /// The step that it was set from.
    pub step_id: StepId,
    /// The record that it is about; none where it is about none.
    pub record_id: Option<RecordId>,
    /// What is to be done.
    pub title: String,
    /// More about it.
    pub note: String,
    /// By when; none: at some time.
    pub due_at: Option<DateTimeUtc>,
    /// Who is to do it; none: anybody.
    pub assignee_id: Option<MemberId>,
    /// Where it stands.
    pub status: FollowUpStatus,
    /// When it was told that it is overdue.
    pub overdue_at: Option<DateTimeUtc>,
    /// When it was done or cancelled.
    pub closed_at: Option<DateTimeUtc>,
    /// Who did or cancelled it.
    pub closed_by: Option<Actor>,
    /// Who set it.
    pub created_by: Actor,
    /// When it was set.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
