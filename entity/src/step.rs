//! The atomic unit of work, done by a human, an agent or a workflow; and the law of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::member::Role;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a step stands.
    pub enum StepStatus {
        /// Its trigger has not fired.
        Pending,
        /// Ready to be taken by a worker.
        Queued,
        /// Being done.
        InProgress,
        /// Done, waiting for a person to let it out.
        AwaitingApproval,
        /// Done.
        Completed,
        /// Left out.
        Skipped,
        /// Given up.
        Failed,
    }

    /// Who does a step.
    pub enum Executor {
        /// A person.
        Human,
        /// An agent.
        Agent,
        /// A built-in workflow.
        Workflow,
    }

    /// Why a step was skipped, failed, put back or awaits somebody: what programs read. The sentence beside it is for people.
    pub enum StepReason {
        /// A person did it, and may have said why.
        Person,
        /// A person who approves sent it back.
        Rejected,
        /// It waited for a step that was skipped.
        WaitedForSkipped,
        /// It waited for a step that failed.
        WaitedForFailed,
        /// A decision left it out.
        LeftOutByDecision,
        /// The event that it waited for did not come while its phase was open.
        EventDidNotCome,
        /// Its condition, or its task's, does not hold.
        ConditionFalse,
        /// Its condition, or its task's, can't be judged.
        ConditionUnreadable,
        /// It was done in the run that this one repeats.
        CarriedOver,
        /// An event about its record interrupted its phase.
        Interrupted,
        /// Its run was cancelled.
        RunCancelled,
        /// There was nothing to review.
        NothingToReview,
        /// A test run skips the review unless it is asked for.
        ReviewNotAsked,
        /// The review was rejected, so that it is done again.
        ReviewRejected,
        /// The address is suppressed or was opted out.
        Suppressed,
        /// Its message was rejected, cancelled or is missing.
        NoMessage,
        /// Another record of the run has the same address, and has the step's message.
        DuplicateAddress,
        /// The record has no address for the channel any more.
        NoAddress,
        /// A person said what became of its message.
        MessageResolved,
        /// Not now: its run is held, its channel's rate is used up or its channel refuses.
        PutOff,
        /// The work failed.
        WorkFailed,
        /// Whether its message went out can't be told; a person has to.
        OutcomeUnknown,
        /// Its lease lapsed: whoever held it did not come back in time.
        LeaseLost,
        /// The server ended or hung over it several times in a row; it is taken up again only when a person says so.
        Poisoned,
        /// The worker that held it stopped and gave it back.
        WorkerStopped,
    }

    /// Where a step's content comes from.
    pub enum ContentSource {
        /// An agent drafts it.
        AgentDrafted,
        /// A message template is rendered.
        TemplateSourced,
        /// A person provides it.
        UserProvided,
        /// The system makes it.
        SystemGenerated,
    }
}

/// What may happen to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepTransition {
    /// Its trigger fires.
    Fire,
    /// A worker claims it, or a person starts it.
    Start,
    /// Whoever does it is done.
    Complete,
    /// Done, but somebody has to let it out.
    Submit,
    /// A person lets it out.
    Approve,
    /// A person sends it back; `again` while attempts are left.
    Reject {
        /// Whether attempts are left.
        again: bool,
    },
    /// It could not be done; `again` while attempts are left.
    Fail {
        /// Whether attempts are left.
        again: bool,
    },
    /// A person has it done again.
    Retry,
    /// Left out.
    Skip,
    /// A person takes it back; its result stays in the history.
    Reset,
    /// A person takes a skip back.
    Restart,
    /// Whoever held it did not come back in time; `again` while lapses are left.
    Lapse {
        /// Whether lapses are left.
        again: bool,
    },
}

impl StateMachine for StepStatus {
    type Transition = StepTransition;
    const TRANSITIONS: &'static [StepTransition] = {
        use StepTransition::*;
        &[
            Fire,
            Start,
            Complete,
            Submit,
            Approve,
            Reject { again: true },
            Reject { again: false },
            Fail { again: true },
            Fail { again: false },
            Retry,
            Skip,
            Reset,
            Restart,
            Lapse { again: true },
            Lapse { again: false },
        ]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: StepTransition) -> Option<Self> {
        use StepStatus as S;
        use StepTransition::*;
        match (self, act) {
            (S::Pending, Fire) => Some(S::Queued),
            (S::Pending, Start) => Some(S::InProgress),
            (S::Pending, Skip) => Some(S::Skipped),
            (
                S::Pending,
                Complete | Submit | Approve | Reject { .. } | Fail { .. } | Retry | Reset | Restart | Lapse { .. },
            ) => None,
            (S::Queued, Start) => Some(S::InProgress),
            (S::Queued, Skip) => Some(S::Skipped),
            (
                S::Queued,
                Fire
                | Complete
                | Submit
                | Approve
                | Reject { .. }
                | Fail { .. }
                | Retry
                | Reset
                | Restart
                | Lapse { .. },
            ) => None,
            (S::InProgress, Complete) => Some(S::Completed),
            (S::InProgress, Submit) => Some(S::AwaitingApproval),
            (S::InProgress, Fail { again: true } | Lapse { again: true }) => Some(S::Queued),
            (S::InProgress, Fail { again: false } | Lapse { again: false }) => Some(S::Failed),
            (S::InProgress, Skip) => Some(S::Skipped),
            (S::InProgress, Reset) => Some(S::Pending),
            (S::InProgress, Fire | Start | Approve | Reject { .. } | Retry | Restart) => None,
            (S::AwaitingApproval, Approve) => Some(S::Completed),
            (S::AwaitingApproval, Reject { again: true }) => Some(S::Queued),
            (S::AwaitingApproval, Reject { again: false }) => Some(S::Failed),
            (S::AwaitingApproval, Skip) => Some(S::Skipped),
            (
                S::AwaitingApproval,
                Fire | Start | Complete | Submit | Fail { .. } | Retry | Reset | Restart | Lapse { .. },
            ) => None,
            (S::Completed, Reset) => Some(S::Pending),
            (
                S::Completed,
                Fire
                | Start
                | Complete
                | Submit
                | Approve
                | Reject { .. }
                | Fail { .. }
                | Retry
                | Skip
                | Restart
                | Lapse { .. },
            ) => None,
            (S::Skipped, Restart) => Some(S::Pending),
            (
                S::Skipped,
                Fire
                | Start
                | Complete
                | Submit
                | Approve
                | Reject { .. }
                | Fail { .. }
                | Retry
                | Skip
                | Reset
                | Lapse { .. },
            ) => None,
            (S::Failed, Retry) => Some(S::Queued),
            (
                S::Failed,
                Fire
                | Start
                | Complete
                | Submit
                | Approve
                | Reject { .. }
                | Fail { .. }
                | Skip
                | Reset
                | Restart
                | Lapse { .. },
            ) => None,
        }
    }
}

impl StepStatus {
    /// The statuses that may still change by themselves.
    pub const OPEN: [Self; 4] = [Self::Pending, Self::Queued, Self::InProgress, Self::AwaitingApproval];
}

/// How far a step has come in being let out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Who submitted it.
    pub submitted_by: Option<Actor>,
    /// Who has approved it since.
    pub approved_by: Vec<Actor>,
}

/// One step.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "step")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: StepId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run.
    pub run_id: RunId,
    /// The phase.
    pub phase_id: PhaseId,
    /// The task.
    pub task_id: TaskId,
    /// The place in the audience that it is about; none for single steps.
    pub run_record_id: Option<RunRecordId>,
    /// The record that it is about.
    pub record_id: Option<RecordId>,
    /// Its key in the definition.
    pub key: String,
    /// As it is shown.
    pub name: String,
    /// Which work it is.
    pub kind: String,
    /// The order of display, from 0.
    pub sequence: i32,
    /// Where it stands.
    pub status: StepStatus,
    /// When it starts, as written in the definition.
    pub trigger: String,
    /// Where its content comes from.
    pub content_source: Option<ContentSource>,
    /// Who does it.
    pub assigned_to: Executor,
    /// What came of it.
    pub result: Option<Json>,
    /// What went wrong last, or why it was skipped.
    pub error: Option<String>,
    /// The same as a code; none where nothing is said, or by what stood there before codes were kept.
    pub reason: Option<StepReason>,
    /// Not to be claimed before.
    pub available_at: DateTimeUtc,
    /// Rises at each claim, and fences out the late.
    pub attempt_count: i32,
    /// Reported failures.
    pub failure_count: i32,
    /// How many reported failures are one too many.
    pub max_attempts: i32,
    /// How often a lease lapsed.
    pub lapse_count: i32,
    /// Who holds it.
    pub lease_owner: Option<String>,
    /// Until when.
    pub lease_expires_at: Option<DateTimeUtc>,
    /// What whoever holds it shows when it settles; none for the engine's own workers.
    pub lease_token: Option<String>,
    /// When it was last started.
    pub started_at: Option<DateTimeUtc>,
    /// The person who last started it.
    pub started_by: Option<Actor>,
    /// When it closed.
    pub completed_at: Option<DateTimeUtc>,
    /// Who closed it.
    pub completed_by: Option<Actor>,
    /// The member or the agent that does it; none: anybody who may.
    pub assignee_id: Option<Uuid>,
    /// The role that doing or approving it needs.
    pub assignee_role: Option<Role>,
    /// Whether a program outside, or an agent, takes it.
    pub outside: bool,
    /// By when it should be done.
    pub due_at: Option<DateTimeUtc>,
    /// When it was told that it is overdue.
    pub overdue_at: Option<DateTimeUtc>,
    /// Who submitted it, and who has let it out so far.
    pub approval: Option<Approval>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
