//! The campaign, a reusable plan, and the state machine of its status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::definition::Overrides;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a campaign.
    pub enum CampaignStatus {
        /// Not submitted yet; it can be edited.
        Draft,
        /// Submitted; waits for approval.
        PendingApproval,
        /// Approved; runs can be launched.
        Active,
        /// Paused: no run launches, no schedule fires, no step is claimed, no message is sent.
        Paused,
        /// Completed.
        Completed,
        /// Cancelled.
        Cancelled,
        /// Failed, because its run failed; only campaigns for one record.
        Failed,
    }
}

/// Transitions of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignTransition {
    /// The author submits it for approval.
    Submit,
    /// A person approves it, or approves it again after a change.
    Approve,
    /// A person rejects it, with a reason.
    Reject,
    /// A person pauses it.
    Pause,
    /// A person resumes it.
    Resume,
    /// A person completes it, or the engine does when the run of a campaign for one record
    /// completes.
    Complete,
    /// The run of a campaign for one record failed.
    Fail,
    /// A person cancels it.
    Cancel,
    /// The run of a campaign for one record is retried.
    Reopen,
}

impl StateMachine for CampaignStatus {
    type Transition = CampaignTransition;
    const TRANSITIONS: &'static [CampaignTransition] = {
        use CampaignTransition::*;
        &[Submit, Approve, Reject, Pause, Resume, Complete, Fail, Cancel, Reopen]
    };
    const BY_ENGINE: &'static [CampaignTransition] = &[CampaignTransition::Fail, CampaignTransition::Reopen];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: CampaignTransition) -> Option<Self> {
        use CampaignStatus as S;
        use CampaignTransition::*;
        match (self, transition) {
            (S::Draft, Submit) => Some(S::PendingApproval),
            (S::Draft, Cancel) => Some(S::Cancelled),
            (S::Draft, Approve | Reject | Pause | Resume | Complete | Fail | Reopen) => None,
            (S::PendingApproval, Approve) => Some(S::Active),
            (S::PendingApproval, Reject) => Some(S::Draft),
            (S::PendingApproval, Cancel) => Some(S::Cancelled),
            (S::PendingApproval, Submit | Pause | Resume | Complete | Fail | Reopen) => None,
            (S::Active, Pause) => Some(S::Paused),
            (S::Active, Complete) => Some(S::Completed),
            (S::Active, Fail) => Some(S::Failed),
            (S::Active, Cancel) => Some(S::Cancelled),
            (S::Active, Approve) => Some(S::Active),
            (S::Active, Submit | Reject | Resume | Reopen) => None,
            (S::Paused, Resume) => Some(S::Active),
            (S::Paused, Cancel) => Some(S::Cancelled),
            (S::Paused, Submit | Approve | Reject | Pause | Complete | Fail | Reopen) => None,
            (S::Failed | S::Completed, Reopen) => Some(S::Active),
            (S::Completed | S::Failed, Submit | Approve | Reject | Pause | Resume | Complete | Fail | Cancel) => None,
            (S::Cancelled, Submit | Approve | Reject | Pause | Resume | Complete | Fail | Cancel | Reopen) => None,
        }
    }
}

impl CampaignStatus {
    /// Returns true if the campaign has ended.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// One campaign.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "campaign")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: CampaignId,
    /// The tenant.
    pub org_id: OrgId,
    /// Display name.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// The channel that reaches the records.
    pub channel: Channel,
    /// Current status.
    pub status: CampaignStatus,
    /// The goal.
    pub goal_id: Option<GoalId>,
    /// The writer, which is the source of its content.
    pub writer_id: Option<WriterId>,
    /// The reviewer, who approves its content.
    pub reviewer_id: Option<ReviewerId>,
    /// The message template that is rendered.
    pub message_template_id: Option<MessageTemplateId>,
    /// The segment that is its audience.
    pub segment_id: Option<SegmentId>,
    /// The single record that it is for, instead of a segment.
    pub record_id: Option<RecordId>,
    /// Instructions for its writer, in addition to the writer's own.
    pub instructions: String,
    /// Values for placeholders, as a flat JSON object.
    pub variables: Json,
    /// Template for the structure of its runs; null for the platform's template for its channel.
    pub run_template_id: Option<RunTemplateId>,
    /// Changes to that structure.
    pub overrides: Overrides,
    /// Version number, incremented by every edit; runs keep the version that they started with.
    pub version: i32,
    /// Reason of the last rejection.
    pub rejected_because: Option<String>,
    /// The person that approved it.
    pub approved_by: Option<Actor>,
    /// Time of the approval.
    pub approved_at: Option<DateTimeUtc>,
    /// The last approved version; null before the first approval.
    pub approved_version: Option<i32>,
    /// Time at which it first became ACTIVE; null before.
    pub started_at: Option<DateTimeUtc>,
    /// Time at which it became COMPLETED, FAILED or CANCELLED; null while it has none of them.
    pub completed_at: Option<DateTimeUtc>,
    /// Time at which it was archived; null if it is not.
    pub archived_at: Option<DateTimeUtc>,
    /// The actor that archived it.
    pub archived_by: Option<Actor>,
    /// The actor that created it.
    pub created_by: Actor,
    /// Name and description, case-folded for searches.
    pub search: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

partial_model! {
    id, org_id, name, description, channel, status, goal_id, writer_id, reviewer_id, message_template_id, segment_id, record_id, instructions, variables, run_template_id, overrides, version, rejected_because, approved_by, approved_at, approved_version, started_at, completed_at, archived_at, archived_by, created_by, search, created_at, updated_at, revision,
}

impl ActiveModelBehavior for ActiveModel {}
