//! A step, the atomic unit of work, done by a human, an agent or a workflow, and the state machine
//! of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::member::Role;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a step.
    pub enum StepStatus {
        /// Waits for its trigger.
        Pending,
        /// Ready to be claimed by a worker.
        Queued,
        /// A worker or a person is doing it.
        InProgress,
        /// The work is done; waits for approval.
        AwaitingApproval,
        /// Completed.
        Completed,
        /// Skipped.
        Skipped,
        /// Failed for good.
        Failed,
    }

    /// The kind of worker that does a step.
    pub enum Executor {
        /// A person.
        Human,
        /// An agent.
        Agent,
        /// A workflow: the engine, or a function of the org.
        Workflow,
    }

    /// Reason code of a step that was skipped, failed, returned to the queue or waits for a person.
    /// Programs read the code; `error` explains it to people.
    pub enum StepReason {
        /// A person skipped or failed it; `error` is the reason they gave.
        Person,
        /// An approver rejected it.
        Rejected,
        /// The step waited for one that was skipped.
        WaitedForSkipped,
        /// The step waited for one that failed.
        WaitedForFailed,
        /// A decision skipped it.
        LeftOutByDecision,
        /// The event that the step waited for did not occur while its phase was open.
        EventDidNotCome,
        /// The condition of the step, or of its task, is false.
        ConditionFalse,
        /// The condition of the step, or of its task, can't be evaluated.
        ConditionUnreadable,
        /// The step was completed in the run that this one repeats.
        CarriedOver,
        /// An event about the record interrupted the phase.
        Interrupted,
        /// The run was cancelled.
        RunCancelled,
        /// The review step was skipped, because there were no drafts.
        NothingToReview,
        /// The review step of a test run was skipped, because the test run did not request it.
        ReviewNotAsked,
        /// The review was rejected, so the message is drafted again.
        ReviewRejected,
        /// The address is suppressed or was opted out.
        Suppressed,
        /// The message was rejected, cancelled or is missing.
        NoMessage,
        /// Another record of the run has the same address and got this step's message.
        DuplicateAddress,
        /// The record no longer has an address for the channel.
        NoAddress,
        /// A person resolved the outcome of the message.
        MessageResolved,
        /// Postponed: its run is paused, its channel's rate is used up or its channel refuses
        /// messages, a `wait` step's time has not come, the server or its database is busy or away,
        /// or the claim was returned.
        PutOff,
        /// The work failed.
        WorkFailed,
        /// Unknown whether the message was sent; a person must resolve it.
        OutcomeUnknown,
        /// The lease expired before the worker reported.
        LeaseLost,
        /// The server ended or hung during it several times in a row; only a person can retry it.
        Poisoned,
        /// The worker that held it stopped and returned it.
        WorkerStopped,
    }

    /// The source of a step's content.
    pub enum ContentSource {
        /// An agent drafts it.
        AgentDrafted,
        /// A message template is rendered.
        TemplateSourced,
        /// A person provides it.
        UserProvided,
        /// The system generates it.
        SystemGenerated,
    }
}

/// Transitions of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepTransition {
    /// The trigger fires.
    Fire,
    /// A worker claims it, or a person starts it.
    Start,
    /// The worker or person completes it.
    Complete,
    /// The work is done and needs approval.
    Submit,
    /// A person approves it.
    Approve,
    /// A person rejects it; `retry` while attempts are left.
    Reject {
        /// True if attempts are left.
        retry: bool,
    },
    /// The work failed; `retry` while attempts are left.
    Fail {
        /// True if attempts are left.
        retry: bool,
    },
    /// A person retries it.
    Retry,
    /// The step is skipped.
    Skip,
    /// A person resets it; its result stays in the history.
    Reset,
    /// A person undoes a skip.
    Restart,
    /// The step that it follows is done again: it waits again.
    WaitAgain,
    /// The lease expired; `retry` while the limit of lapses is not reached.
    Lapse {
        /// True if the limit of lapses is not reached.
        retry: bool,
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
            Reject { retry: true },
            Reject { retry: false },
            Fail { retry: true },
            Fail { retry: false },
            Retry,
            Skip,
            Reset,
            Restart,
            WaitAgain,
            Lapse { retry: true },
            Lapse { retry: false },
        ]
    };
    const BY_ENGINE: &'static [StepTransition] = {
        use StepTransition::*;
        &[Fire, WaitAgain, Lapse { retry: true }, Lapse { retry: false }]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: StepTransition) -> Option<Self> {
        use StepStatus as S;
        use StepTransition::*;
        match (self, transition) {
            (S::Pending, Fire) => Some(S::Queued),
            (S::Pending, Start) => Some(S::InProgress),
            (S::Pending, Skip) => Some(S::Skipped),
            (
                S::Pending,
                Complete
                | Submit
                | Approve
                | Reject { .. }
                | Fail { .. }
                | Retry
                | Reset
                | Restart
                | WaitAgain
                | Lapse { .. },
            ) => None,
            (S::Queued, Start) => Some(S::InProgress),
            (S::Queued, Skip) => Some(S::Skipped),
            (S::Queued, WaitAgain) => Some(S::Pending),
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
            (S::InProgress, Fail { retry: true } | Lapse { retry: true }) => Some(S::Queued),
            (S::InProgress, Fail { retry: false } | Lapse { retry: false }) => Some(S::Failed),
            (S::InProgress, Skip) => Some(S::Skipped),
            (S::InProgress, Reset) => Some(S::Pending),
            (S::InProgress, Fire | Start | Approve | Reject { .. } | Retry | Restart | WaitAgain) => None,
            (S::AwaitingApproval, Approve) => Some(S::Completed),
            (S::AwaitingApproval, Reject { retry: true }) => Some(S::Queued),
            (S::AwaitingApproval, Reject { retry: false }) => Some(S::Failed),
            (S::AwaitingApproval, Skip) => Some(S::Skipped),
            (
                S::AwaitingApproval,
                Fire | Start | Complete | Submit | Fail { .. } | Retry | Reset | Restart | WaitAgain | Lapse { .. },
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
                | WaitAgain
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
                | WaitAgain
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
                | WaitAgain
                | Lapse { .. },
            ) => None,
        }
    }
}

impl StepStatus {
    /// Statuses of steps that are not closed.
    pub const OPEN: [Self; 4] = [Self::Pending, Self::Queued, Self::InProgress, Self::AwaitingApproval];
}

/// Progress of a step's approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// The actor that submitted it.
    pub submitted_by: Option<Actor>,
    /// The member whose credential an agent's result was submitted with; null for a person's, and
    /// for a built-in agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_id: Option<MemberId>,
    /// The actors that have approved it since.
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
    /// The recipient; null for single steps.
    pub run_record_id: Option<RunRecordId>,
    /// The record.
    pub record_id: Option<RecordId>,
    /// Key in the definition.
    pub key: String,
    /// Display name.
    pub name: String,
    /// The name, case-folded for searches; null if that is the name in lower case, all ASCII.
    pub search: Option<String>,
    /// Type of work.
    pub kind: String,
    /// Display order, from 0.
    pub sequence: i32,
    /// Current status.
    pub status: StepStatus,
    /// Trigger, as written in the definition.
    pub trigger: String,
    /// Source of its content.
    pub content_source: Option<ContentSource>,
    /// The kind of worker that does it.
    pub assigned_to: Executor,
    /// The result.
    pub result: Option<Json>,
    /// The last error, or the reason for a skip, as a sentence.
    pub error: Option<String>,
    /// Reason code; null if there is none, or if the reason was recorded before codes existed.
    pub reason: Option<StepReason>,
    /// Time before which it can't be claimed.
    pub available_at: DateTimeUtc,
    /// Attempt number, incremented by each claim; a worker with an older attempt can't settle it.
    pub attempt_count: i32,
    /// Number of reported failures.
    pub failure_count: i32,
    /// Maximum number of attempts: with this many reported failures it fails.
    pub max_attempts: i32,
    /// Number of consecutive expired leases: reset by a settle that returns it to the queue, and by
    /// a retry.
    pub lapse_count: i32,
    /// The worker that holds the lease.
    pub lease_owner: Option<String>,
    /// Expiry of the lease.
    pub lease_expires_at: Option<DateTimeUtc>,
    /// Token that an external worker presents when it settles; null for the engine's own workers.
    pub lease_token: Option<String>,
    /// Time of the last start.
    pub started_at: Option<DateTimeUtc>,
    /// The person who last started it.
    pub started_by: Option<Actor>,
    /// Time at which it reached a final status.
    pub completed_at: Option<DateTimeUtc>,
    /// The actor that closed it.
    pub completed_by: Option<Actor>,
    /// The member or agent that it is assigned to; null: anybody with the required role.
    pub assignee_id: Option<Uuid>,
    /// Role required to do or approve it.
    pub assignee_role: Option<Role>,
    /// True if an external program or an agent claims it.
    pub outside: bool,
    /// Due time.
    pub due_at: Option<DateTimeUtc>,
    /// Time at which it was reported overdue.
    pub overdue_at: Option<DateTimeUtc>,
    /// Progress of its approval; null if it needs none.
    pub approval: Option<Approval>,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

partial_model! {
    id, org_id, run_id, phase_id, task_id, run_record_id, record_id, key, name, search, kind, sequence, status, trigger, content_source, assigned_to, result, error, reason, available_at, attempt_count, failure_count, max_attempts, lapse_count, lease_owner, lease_expires_at, lease_token, started_at, started_by, completed_at, completed_by, assignee_id, assignee_role, outside, due_at, overdue_at, approval, created_at, revision,
}

impl ActiveModelBehavior for ActiveModel {}
