//! A run, one execution of a campaign or a work session, and the state machine of its status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// The type of a run: how it was started.
    pub enum RunType {
        /// Sends to test addresses only and changes no record.
        TestRun,
        /// Launched by a person.
        Run,
        /// Started by a schedule.
        Schedule,
        /// Work session in which a person goes through steps; has no campaign.
        Guided,
    }

    /// Status of a run.
    pub enum RunStatus {
        /// Waits for its start time.
        Scheduled,
        /// Accepted; the engine will start it.
        Queued,
        /// Started, and not ended.
        InProgress,
        /// Paused by a person.
        Paused,
        /// Completed.
        Completed,
        /// Cancelled.
        Cancelled,
        /// One of its phases failed, or its preflight when it fell due.
        Failed,
    }
}

/// Transitions of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTransition {
    /// The run fell due and its preflight passed.
    Enqueue,
    /// The run fell due and its preflight failed.
    FailPreflight,
    /// A person changes its start time.
    Reschedule,
    /// The engine starts it.
    Start,
    /// A person pauses it.
    Pause,
    /// A person resumes it.
    Resume,
    /// The engine completes it: all phases have ended.
    Complete,
    /// The engine fails it: a phase failed.
    Fail,
    /// A person retries its failed steps; in a completed run, the steps of the recipients that
    /// failed.
    Retry,
    /// A person cancels it.
    Cancel,
}

impl StateMachine for RunStatus {
    type Transition = RunTransition;
    const TRANSITIONS: &'static [RunTransition] = {
        use RunTransition::*;
        &[Enqueue, FailPreflight, Reschedule, Start, Pause, Resume, Complete, Fail, Retry, Cancel]
    };
    const BY_ENGINE: &'static [RunTransition] =
        &[RunTransition::Enqueue, RunTransition::FailPreflight, RunTransition::Start, RunTransition::Fail];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: RunTransition) -> Option<Self> {
        use RunStatus as S;
        use RunTransition::*;
        match (self, transition) {
            (S::Scheduled, Enqueue) => Some(S::Queued),
            (S::Scheduled, FailPreflight) => Some(S::Failed),
            (S::Scheduled, Reschedule) => Some(S::Scheduled),
            (S::Scheduled, Cancel) => Some(S::Cancelled),
            (S::Scheduled, Start | Pause | Resume | Complete | Fail | Retry) => None,
            (S::Queued, Start) => Some(S::InProgress),
            (S::Queued, Cancel) => Some(S::Cancelled),
            (S::Queued, Enqueue | FailPreflight | Reschedule | Pause | Resume | Complete | Fail | Retry) => None,
            (S::InProgress, Pause) => Some(S::Paused),
            (S::InProgress, Complete) => Some(S::Completed),
            (S::InProgress, Fail) => Some(S::Failed),
            (S::InProgress, Cancel) => Some(S::Cancelled),
            (S::InProgress, Enqueue | FailPreflight | Reschedule | Start | Resume | Retry) => None,
            (S::Paused, Resume) => Some(S::InProgress),
            (S::Paused, Cancel) => Some(S::Cancelled),
            (S::Paused, Enqueue | FailPreflight | Reschedule | Start | Pause | Complete | Fail | Retry) => None,
            (S::Failed, Retry) => Some(S::InProgress),
            (S::Failed, Enqueue | FailPreflight | Reschedule | Start | Pause | Resume | Complete | Fail | Cancel) => {
                None
            }
            (S::Completed, Retry) => Some(S::InProgress),
            (
                S::Completed,
                Enqueue | FailPreflight | Reschedule | Start | Pause | Resume | Complete | Fail | Cancel,
            ) => None,
            (
                S::Cancelled,
                Enqueue | FailPreflight | Reschedule | Start | Pause | Resume | Complete | Fail | Retry | Cancel,
            ) => None,
        }
    }
}

text_enum! {
    /// Reason code of a run that ended without being completed. `failure` explains it to people.
    pub enum RunFailure {
        /// The run fell due, and its preflight failed.
        Preflight,
        /// A phase of the run failed.
        PhaseFailed,
        /// The run was cancelled.
        Cancelled,
    }
}

impl RunFailure {
    /// Derives the code from a run's status; `None` while the run is open, and once it is
    /// completed.
    pub fn of(status: RunStatus, began: bool) -> Option<Self> {
        match status {
            RunStatus::Failed if began => Some(Self::PhaseFailed),
            RunStatus::Failed => Some(Self::Preflight),
            RunStatus::Cancelled => Some(Self::Cancelled),
            RunStatus::Scheduled
            | RunStatus::Queued
            | RunStatus::InProgress
            | RunStatus::Paused
            | RunStatus::Completed => None,
        }
    }
}

impl RunStatus {
    /// Returns true if the run has not ended.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Scheduled | Self::Queued | Self::InProgress | Self::Paused)
    }

    /// Statuses of runs that have not ended.
    pub const OPEN: [Self; 4] = [Self::Scheduled, Self::Queued, Self::InProgress, Self::Paused];
}

/// One run; its snapshot is in the table `brief`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunId,
    /// The tenant.
    pub org_id: OrgId,
    /// The campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The goal that it was launched for; while it is only scheduled, the campaign's goal at the time
    /// of scheduling. Null without a goal. The goal may have been deleted since.
    pub goal_id: Option<GoalId>,
    /// Version of the campaign that it executes; for a scheduled run, the version at the time of
    /// scheduling. 0 without a campaign.
    pub campaign_version: i32,
    /// The campaign's name at launch, used to sort lists; empty without a campaign.
    pub campaign_name: String,
    /// Display name.
    pub name: String,
    /// The type of run.
    #[sea_orm(column_name = "type")]
    pub run_type: RunType,
    /// Current status.
    pub status: RunStatus,
    /// The channel that reaches the records.
    pub channel: Channel,
    /// The schedule that it is an occurrence of.
    pub schedule_id: Option<ScheduleId>,
    /// Time of the occurrence: unique per schedule, and kept when the run is rescheduled.
    pub occurrence_at: Option<DateTimeUtc>,
    /// Time at which it will be queued.
    pub scheduled_for: Option<DateTimeUtc>,
    /// Time since which it waits for an earlier run of its schedule to end; null if it does not, and
    /// never did.
    pub buffered_at: Option<DateTimeUtc>,
    /// Past time of its schedule's pattern that it makes up for; null unless a person asked for that.
    pub backfill_for: Option<DateTimeUtc>,
    /// Time at which it was queued.
    pub queued_at: Option<DateTimeUtc>,
    /// Time at which the engine started it.
    pub started_at: Option<DateTimeUtc>,
    /// End time.
    pub ended_at: Option<DateTimeUtc>,
    /// Number of recipients; final once `audience_done` is set.
    pub audience_count: i64,
    /// Set once the whole audience is stored.
    pub audience_done: bool,
    /// Outcome, as a sentence.
    pub outcome: Option<String>,
    /// Reason for its failure or cancellation.
    pub failure: Option<String>,
    /// The run that it repeats.
    pub parent_id: Option<RunId>,
    /// The template that guided work was started from.
    pub run_template_id: Option<RunTemplateId>,
    /// Description for people.
    pub description: String,
    /// Number of messages of guided work whose outcome is open: approved, being sent, or unknown.
    #[sea_orm(column_name = "on_way")]
    pub in_flight: i64,
    /// True if a language model writes its messages: they are drafted separately from rendered
    /// ones.
    pub by_model: bool,
    /// The actor that launched it.
    pub created_by: Actor,
    /// Names of the run and the campaign, case-folded for searches.
    pub search: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

partial_model! {
    id, org_id, campaign_id, goal_id, campaign_version, campaign_name, name, run_type, status, channel, schedule_id, occurrence_at, scheduled_for, buffered_at, backfill_for, queued_at, started_at, ended_at, audience_count, audience_done, outcome, failure, parent_id, run_template_id, description, in_flight, by_model, created_by, search, created_at, updated_at, revision,
}

impl ActiveModelBehavior for ActiveModel {}
