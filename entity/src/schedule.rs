//! Schedules, which start runs of a campaign or guided work, once or repeatedly.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a schedule.
    pub enum ScheduleStatus {
        /// Active: the next occurrence exists as a SCHEDULED run.
        Active,
        /// Paused: the next occurrence exists as a SCHEDULED run, but does not start until the
        /// schedule is resumed.
        Paused,
        /// Ended: there are no more occurrences.
        Ended,
    }

    /// Policy of a repeating schedule for local times that do not exist, because the clock goes
    /// forward.
    pub enum GapPolicy {
        /// Fires at the first instant after the gap.
        Shift,
        /// Skips that occurrence, and records it.
        Skip,
    }

    /// Policy of a repeating schedule for local times that occur twice, because the clock goes
    /// back.
    pub enum FoldPolicy {
        /// Fires once, at the first of the two times.
        Once,
        /// Fires at both times.
        Both,
    }

    /// Policy for occurrences whose time passed while nothing could start, because the server was
    /// down.
    pub enum CatchUpPolicy {
        /// Starts none of them; they are recorded as missed.
        None,
        /// Starts the last one, so at most one run is late; those before it are recorded as missed.
        Last,
        /// Starts all within the catch-up window, in order; those before the window are recorded as
        /// missed.
        All,
    }

    /// Policy for an occurrence that falls due while an earlier run of the same schedule is open.
    pub enum OverlapPolicy {
        /// The occurrence does not start, and is recorded as missed.
        Skip,
        /// The occurrence starts when the earlier run has ended. One occurrence waits; further ones are
        /// recorded as missed.
        BufferOne,
        /// The occurrence starts when the earlier run has ended; any number waits, and they start in
        /// order.
        BufferAll,
        /// The earlier run is cancelled, and the occurrence starts.
        CancelOther,
        /// The occurrence starts beside the earlier run.
        AllowAll,
    }

    /// Reason why a schedule ended.
    pub enum EndReason {
        /// A person ended it.
        EndedByPerson,
        /// The last occurrence has passed, or no starts remain.
        Exhausted,
        /// The campaign was cancelled.
        CampaignCancelled,
        /// The campaign was completed.
        CampaignCompleted,
    }
}

/// Transitions of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleTransition {
    /// An occurrence falls due, and another one follows.
    Fire,
    /// A person pauses it.
    Pause,
    /// A person resumes it, or the engine at the end of the pause.
    Resume,
    /// The last occurrence fell due, or a person ended it.
    End,
}

impl StateMachine for ScheduleStatus {
    type Transition = ScheduleTransition;
    const TRANSITIONS: &'static [ScheduleTransition] =
        &[ScheduleTransition::Fire, ScheduleTransition::Pause, ScheduleTransition::Resume, ScheduleTransition::End];
    const BY_ENGINE: &'static [ScheduleTransition] = &[ScheduleTransition::Fire];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: ScheduleTransition) -> Option<Self> {
        use ScheduleTransition::*;
        match (self, transition) {
            (Self::Active, Fire) => Some(Self::Active),
            (Self::Active, Pause) => Some(Self::Paused),
            (Self::Paused, Resume) => Some(Self::Active),
            (Self::Active | Self::Paused, End) => Some(Self::Ended),
            (Self::Active, Resume) | (Self::Paused, Fire | Pause) | (Self::Ended, Fire | Pause | Resume | End) => None,
        }
    }
}

/// One schedule.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "schedule")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ScheduleId,
    /// The tenant.
    pub org_id: OrgId,
    /// The campaign; null for guided work.
    pub campaign_id: Option<CampaignId>,
    /// The template of guided work; null if there is a campaign.
    pub run_template_id: Option<RunTemplateId>,
    /// The member that guided work is assigned to.
    pub assignee_id: Option<MemberId>,
    /// Records that guided work starts with, as JSON.
    pub linked: Option<Json>,
    /// Current status.
    pub status: ScheduleStatus,
    /// Start time of a single occurrence; null for a repeating schedule.
    pub at: Option<DateTimeUtc>,
    /// Five-field cron pattern of a repeating schedule.
    pub cron: Option<String>,
    /// IANA time zone of the pattern.
    pub time_zone: String,
    /// Policy for local times that do not exist.
    pub gap: GapPolicy,
    /// Policy for local times that occur twice.
    pub fold: FoldPolicy,
    /// Name of its runs; null: the campaign's or the template's name.
    pub name: Option<String>,
    /// Policy for occurrences whose time passed while nothing could start.
    pub catch_up: CatchUpPolicy,
    /// Maximum age, in seconds, of an occurrence that is caught up; null: no maximum.
    pub catch_up_window_seconds: Option<i64>,
    /// Time before which nothing occurs.
    pub start_at: Option<DateTimeUtc>,
    /// Time after which nothing occurs.
    pub end_at: Option<DateTimeUtc>,
    /// Number of starts left; null without a limit.
    pub remaining: Option<i32>,
    /// Maximum delay, in seconds, of a start behind its occurrence.
    pub jitter_seconds: i32,
    /// Policy for occurrences that fall due while an earlier run is open.
    pub overlap: OverlapPolicy,
    /// Start time of the first of its waiting runs, except those that wait for an earlier run; null
    /// while it is paused, and once it has ended.
    pub next_at: Option<DateTimeUtc>,
    /// Watermark: each occurrence up to this time has a run, or is recorded as not started.
    pub accounted_until: Option<DateTimeUtc>,
    /// Time of the pattern's last change; null for schedules older than this column.
    pub pattern_since: Option<DateTimeUtc>,
    /// Start of the pause; null while it is not paused.
    pub paused_at: Option<DateTimeUtc>,
    /// Time at which it resumes by itself; null if a person has to resume it.
    pub paused_until: Option<DateTimeUtc>,
    /// End time; null while it has not ended.
    pub ended_at: Option<DateTimeUtc>,
    /// Reason for its end; null while it has not ended.
    pub end_reason: Option<EndReason>,
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
