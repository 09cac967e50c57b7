//! A bulk action, which applies one verb to many objects of one noun, and the state machine of its
//! status.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::communication::Resolution;
use crate::id::*;
use crate::member::Role;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a bulk action.
    pub enum BulkStatus {
        /// The targets are fixed; the engine has not begun.
        Pending,
        /// The engine applies it to its targets, one after the other.
        Running,
        /// Each of its targets has a result.
        Completed,
        /// Stopped by a person: targets without a result until then never get one.
        Stopped,
    }

    /// The action that a bulk action applies to each of its targets.
    pub enum BulkVerb {
        /// Cancels runs, as `cancelRun` does.
        CancelRuns,
        /// Retries runs, as `retryRun` does.
        RetryRuns,
        /// Pauses runs, as `pauseRun` does.
        PauseRuns,
        /// Resumes runs, as `resumeRun` does.
        ResumeRuns,
        /// Approves steps, as `approveStep` does.
        ApproveSteps,
        /// Rejects steps, as `rejectStep` does.
        RejectSteps,
        /// Assigns steps, as `assignStep` does.
        AssignSteps,
        /// Skips steps, as `skipStep` does.
        SkipSteps,
        /// Resolves messages whose outcome is UNKNOWN, as `resolveCommunication` does.
        ResolveCommunications,
        /// Archives campaigns, as `archiveCampaign` does.
        ArchiveCampaigns,
    }
}

/// The noun of a bulk action's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkNoun {
    /// Runs.
    Runs,
    /// Steps.
    Steps,
    /// Messages.
    Communications,
    /// Campaigns.
    Campaigns,
}

impl BulkVerb {
    /// Returns the noun of the targets.
    pub fn noun(self) -> BulkNoun {
        match self {
            Self::CancelRuns | Self::RetryRuns | Self::PauseRuns | Self::ResumeRuns => BulkNoun::Runs,
            Self::ApproveSteps | Self::RejectSteps | Self::AssignSteps | Self::SkipSteps => BulkNoun::Steps,
            Self::ResolveCommunications => BulkNoun::Communications,
            Self::ArchiveCampaigns => BulkNoun::Campaigns,
        }
    }
}

/// Transitions of a bulk action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BulkTransition {
    /// The engine begins with its first targets.
    Start,
    /// The engine has dealt with its last target.
    Complete,
    /// A person stops it.
    Stop,
}

impl BulkStatus {
    /// Statuses in which targets may still get results.
    pub const OPEN: [Self; 2] = [Self::Pending, Self::Running];

    /// Returns true while targets may still get results.
    pub fn is_open(self) -> bool {
        Self::OPEN.contains(&self)
    }
}

impl StateMachine for BulkStatus {
    type Transition = BulkTransition;
    const TRANSITIONS: &'static [BulkTransition] =
        &[BulkTransition::Start, BulkTransition::Complete, BulkTransition::Stop];
    const BY_ENGINE: &'static [BulkTransition] = &[BulkTransition::Start, BulkTransition::Complete];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: BulkTransition) -> Option<Self> {
        use BulkTransition::{Complete, Start, Stop};
        match (self, transition) {
            (Self::Pending, Start) => Some(Self::Running),
            (Self::Running, Complete) => Some(Self::Completed),
            (Self::Pending | Self::Running, Stop) => Some(Self::Stopped),
            (Self::Pending, Complete) | (Self::Running, Start) | (Self::Completed | Self::Stopped, _) => None,
        }
    }
}

/// One bulk action.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "bulk_action")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: BulkActionId,
    /// The tenant.
    pub org_id: OrgId,
    /// The action that is applied to each target.
    pub verb: BulkVerb,
    /// Current status.
    pub status: BulkStatus,
    /// The filter that selected the targets, as it was given; null if their ids were given.
    pub filter: Option<Json>,
    /// Reason that each target's action is given.
    pub reason: Option<String>,
    /// The member to assign steps to; null for other verbs, and to assign them to nobody.
    pub assignee_id: Option<MemberId>,
    /// The outcome of the messages to resolve; null for other verbs.
    pub resolution: Option<Resolution>,
    /// Number of targets.
    pub matched: i32,
    /// Number of targets that the action was applied to.
    pub done: i32,
    /// Number of targets for which it was refused.
    pub refused: i32,
    /// Number of targets for which it failed by a fault of the server.
    pub failed: i32,
    /// The actor that started it, which every target's action is made as.
    pub created_by: Actor,
    /// The actor's role when it was started: that of the credential, which may be lower than the
    /// member's.
    pub role: Role,
    /// The process that works on its targets now.
    pub lease_owner: Option<String>,
    /// Expiry of that process's lease.
    pub lease_expires_at: Option<DateTimeUtc>,
    /// Time at which a process last took it up, or of its creation: the one that waits longest is next.
    pub taken_at: DateTimeUtc,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time at which the engine began.
    pub started_at: Option<DateTimeUtc>,
    /// Time at which it was completed or stopped.
    pub ended_at: Option<DateTimeUtc>,
    /// Revision number, incremented by every change of status.
    pub revision: i32,
}

impl Model {
    /// Returns the number of targets that have a result. Targets get theirs in order, so this is also
    /// the sequence of the last of them.
    pub fn settled(&self) -> i32 {
        self.done + self.refused + self.failed
    }
}

impl ActiveModelBehavior for ActiveModel {}
