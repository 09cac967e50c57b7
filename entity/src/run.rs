//! One execution of a campaign; and the law of its status.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// How a run came to be.
    pub enum RunType {
        /// To the test addresses only; changes no record.
        TestRun,
        /// Launched by a person, now.
        Run,
        /// Fired by a schedule.
        Schedule,
        /// Work that a person is guided through; of no campaign.
        Guided,
    }

    /// Where a run stands.
    pub enum RunStatus {
        /// Waiting for its time.
        Scheduled,
        /// Let in; the engine will start it.
        Queued,
        /// At work.
        InProgress,
        /// Held by a person.
        Paused,
        /// Done.
        Completed,
        /// Called off.
        Cancelled,
        /// A phase of it failed, or preflight when it fell due.
        Failed,
    }
}

/// What may happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTransition {
    /// Its time came and preflight passed.
    Due,
    /// Its time came and preflight failed.
    Refuse,
    /// A person moves its time.
    Reschedule,
    /// The engine begins it.
    Start,
    /// A person holds it.
    Pause,
    /// A person lets it go on.
    Resume,
    /// The engine: all phases are through.
    Complete,
    /// The engine: a phase failed.
    Fail,
    /// A person has its failed steps done again; of one that is done, those of the recipients that failed.
    Retry,
    /// A person calls it off.
    Cancel,
}

impl StateMachine for RunStatus {
    type Transition = RunTransition;
    const TRANSITIONS: &'static [RunTransition] = {
        use RunTransition::*;
        &[Due, Refuse, Reschedule, Start, Pause, Resume, Complete, Fail, Retry, Cancel]
    };

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: RunTransition) -> Option<Self> {
        use RunStatus as S;
        use RunTransition::*;
        match (self, act) {
            (S::Scheduled, Due) => Some(S::Queued),
            (S::Scheduled, Refuse) => Some(S::Failed),
            (S::Scheduled, Reschedule) => Some(S::Scheduled),
            (S::Scheduled, Cancel) => Some(S::Cancelled),
            (S::Scheduled, Start | Pause | Resume | Complete | Fail | Retry) => None,
            (S::Queued, Start) => Some(S::InProgress),
            (S::Queued, Cancel) => Some(S::Cancelled),
            (S::Queued, Due | Refuse | Reschedule | Pause | Resume | Complete | Fail | Retry) => None,
            (S::InProgress, Pause) => Some(S::Paused),
            (S::InProgress, Complete) => Some(S::Completed),
            (S::InProgress, Fail) => Some(S::Failed),
            (S::InProgress, Cancel) => Some(S::Cancelled),
            (S::InProgress, Due | Refuse | Reschedule | Start | Resume | Retry) => None,
            (S::Paused, Resume) => Some(S::InProgress),
            (S::Paused, Cancel) => Some(S::Cancelled),
            (S::Paused, Due | Refuse | Reschedule | Start | Pause | Complete | Fail | Retry) => None,
            (S::Failed, Retry) => Some(S::InProgress),
            (S::Failed, Due | Refuse | Reschedule | Start | Pause | Resume | Complete | Fail | Cancel) => None,
            (S::Completed, Retry) => Some(S::InProgress),
            (S::Completed, Due | Refuse | Reschedule | Start | Pause | Resume | Complete | Fail | Cancel) => None,
            (S::Cancelled, Due | Refuse | Reschedule | Start | Pause | Resume | Complete | Fail | Retry | Cancel) => {
                None
            }
        }
    }
}

text_enum! {
    /// What ended a run that was not completed. The sentence beside it is for people.
    pub enum RunFailure {
        /// It fell due, and its preflight failed.
        Preflight,
        /// A phase of it failed.
        PhaseFailed,
        /// It was cancelled.
        Cancelled,
    }
}

impl RunFailure {
    /// Of a run, by where it stands; none while it is open, and once it is completed.
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
    /// Whether it has not ended.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Scheduled | Self::Queued | Self::InProgress | Self::Paused)
    }

    /// The statuses that have not ended.
    pub const OPEN: [Self; 4] = [Self::Scheduled, Self::Queued, Self::InProgress, Self::Paused];
}

/// One run; what it was told stands in `brief`.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RunId,
    /// The tenant.
    pub org_id: OrgId,
    /// The plan; none of guided work.
    pub campaign_id: Option<CampaignId>,
    /// The plan's version that it runs; of a scheduled one, the version when it was scheduled. 0 without a plan.
    pub campaign_version: i32,
    /// The campaign's name at launch, by which lists sort; empty without a plan.
    pub campaign_name: String,
    /// Its own name.
    pub name: String,
    /// How it came to be.
    #[sea_orm(column_name = "type")]
    pub run_type: RunType,
    /// Where it stands.
    pub status: RunStatus,
    /// The way to its records.
    pub channel: Channel,
    /// The schedule that it is an occurrence of.
    pub schedule_id: Option<ScheduleId>,
    /// Which occurrence: unique per schedule, and kept when the run is rescheduled.
    pub occurrence_at: Option<DateTimeUtc>,
    /// When it is to be queued.
    pub scheduled_for: Option<DateTimeUtc>,
    /// When it was let in.
    pub queued_at: Option<DateTimeUtc>,
    /// When the engine began it.
    pub started_at: Option<DateTimeUtc>,
    /// When it ended.
    pub ended_at: Option<DateTimeUtc>,
    /// How many places its audience has; final once `audience_done`.
    pub audience_count: i64,
    /// Whether the audience has been taken in whole.
    pub audience_done: bool,
    /// What came of it, in a sentence.
    pub outcome: Option<String>,
    /// Why it failed, or was cancelled.
    pub failure: Option<String>,
    /// The run that it repeats.
    pub parent_id: Option<RunId>,
    /// The template that guided work was begun from.
    pub run_template_id: Option<RunTemplateId>,
    /// For its readers.
    pub description: String,
    /// Messages of guided work whose fate is open: let out, being sent, or unknown.
    pub on_way: i64,
    /// True if a language model writes its messages: they are drafted apart from those that are rendered.
    pub by_model: bool,
    /// Who launched it.
    pub created_by: Actor,
    /// Case-folded name and campaign's name, for searching.
    pub search: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
