//! The plan, reusable; and the law of its life.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::definition::Overrides;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a campaign stands in its life.
    pub enum CampaignStatus {
        /// Being written.
        Draft,
        /// Submitted, waiting for somebody to approve it.
        PendingApproval,
        /// Approved: it may run.
        Active,
        /// Held: nothing of it launches, fires, is claimed or sent.
        Paused,
        /// Done.
        Completed,
        /// Called off.
        Cancelled,
        /// Its run failed (campaigns for one record).
        Failed,
    }
}

/// What may happen to a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CampaignTransition {
    /// Its author asks for approval.
    Submit,
    /// A person lets it run; also again, when it has changed since.
    Approve,
    /// A person sends it back, saying why.
    Reject,
    /// A person holds it.
    Pause,
    /// A person lets it go on.
    Resume,
    /// A person, or the engine with the run of a campaign for one record.
    Complete,
    /// The engine, with the run of a campaign for one record.
    Fail,
    /// A person calls it off.
    Cancel,
    /// The engine, with the retry of the run of a campaign for one record.
    Reopen,
}

impl StateMachine for CampaignStatus {
    type Transition = CampaignTransition;
    const TRANSITIONS: &'static [CampaignTransition] = {
        use CampaignTransition::*;
        &[Submit, Approve, Reject, Pause, Resume, Complete, Fail, Cancel, Reopen]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: CampaignTransition) -> Option<Self> {
        use CampaignStatus as S;
        use CampaignTransition::*;
        match (self, act) {
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
    /// Its name.
    pub name: String,
    /// For its readers.
    pub description: String,
    /// The way to its records.
    pub channel: Channel,
    /// Where it stands.
    pub status: CampaignStatus,
    /// What it is for.
    pub goal_id: Option<GoalId>,
    /// Where its content comes from.
    pub writer_id: Option<WriterId>,
    /// Who lets content out.
    pub reviewer_id: Option<ReviewerId>,
    /// What is rendered.
    pub message_template_id: Option<MessageTemplateId>,
    /// Its audience.
    pub segment_id: Option<SegmentId>,
    /// Its one record, in place of a segment.
    pub record_id: Option<RecordId>,
    /// What its writer is told beyond the writer's own instructions.
    pub instructions: String,
    /// Values for blanks, a flat JSON object.
    pub variables: Json,
    /// The structure of its runs; none: the platform's for its channel.
    pub run_template_id: Option<RunTemplateId>,
    /// What it changes in that structure.
    pub overrides: Overrides,
    /// Rises with every edit; runs keep the version that they started with.
    pub version: i32,
    /// Why it was last rejected.
    pub rejected_because: Option<String>,
    /// Who approved it.
    pub approved_by: Option<Actor>,
    /// When it was approved.
    pub approved_at: Option<DateTimeUtc>,
    /// The version that was approved last; none before the first approval.
    pub approved_version: Option<i32>,
    /// Who made it.
    pub created_by: Actor,
    /// Case-folded name and description, for searching.
    pub search: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
