//! When runs of a campaign, or guided work, start: once or repeating.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Whether a schedule has occurrences to come.
    pub enum ScheduleStatus {
        /// It keeps its next occurrence as a SCHEDULED run.
        Active,
        /// It keeps that run too, but nothing of it starts until it is resumed.
        Paused,
        /// No more occurrences.
        Ended,
    }

    /// What a repeating schedule does when its local time does not exist that day.
    pub enum GapPolicy {
        /// Fires at the first instant after the gap.
        Shift,
        /// Leaves that occurrence out, and records it.
        Skip,
    }

    /// What a repeating schedule does when its local time comes twice that day.
    pub enum FoldPolicy {
        /// Fires once, the first time.
        Once,
        /// Fires both times.
        Both,
    }

    /// The occurrences that are made up for when their time passed while nothing could start, because the server was down.
    pub enum CatchUpPolicy {
        /// None: they are recorded as missed.
        None,
        /// The last one, so that at most one run is late; those before it are recorded as missed.
        Last,
        /// All within the catch-up window, in their order; those before it are recorded as missed.
        All,
    }

    /// The reason for which a schedule ended.
    pub enum EndReason {
        /// A person ended it.
        EndedByPerson,
        /// Its last occurrence is through.
        Exhausted,
        /// Its campaign was cancelled.
        CampaignCancelled,
        /// Its campaign was completed.
        CampaignCompleted,
    }
}

/// What may happen to a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleTransition {
    /// An occurrence falls due, and another one follows.
    Fire,
    /// A person holds it.
    Pause,
    /// A person lets it go on.
    Resume,
    /// The last occurrence fell due, or somebody ended it.
    End,
}

impl StateMachine for ScheduleStatus {
    type Transition = ScheduleTransition;
    const TRANSITIONS: &'static [ScheduleTransition] =
        &[ScheduleTransition::Fire, ScheduleTransition::Pause, ScheduleTransition::Resume, ScheduleTransition::End];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: ScheduleTransition) -> Option<Self> {
        use ScheduleTransition::*;
        match (self, act) {
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
    /// The plan; none of guided work.
    pub campaign_id: Option<CampaignId>,
    /// The template of guided work; none where there is a plan.
    pub run_template_id: Option<RunTemplateId>,
    /// Who is to do guided work.
    pub assignee_id: Option<MemberId>,
    /// What guided work is begun with, beside its template.
    pub linked: Option<Json>,
    /// Whether it has occurrences to come.
    pub status: ScheduleStatus,
    /// For a single one: when.
    pub at: Option<DateTimeUtc>,
    /// For a repeating one: the five-field pattern.
    pub cron: Option<String>,
    /// The IANA zone that the pattern is read in.
    pub time_zone: String,
    /// Local times that do not exist.
    pub gap: GapPolicy,
    /// Local times that come twice.
    pub fold: FoldPolicy,
    /// The name of its runs; none: the campaign's, or the template's.
    pub name: Option<String>,
    /// Occurrences whose time passed while nothing could start.
    pub catch_up: CatchUpPolicy,
    /// The age in seconds up to which an occurrence is made up for; none: any.
    pub catch_up_window_seconds: Option<i64>,
    /// The time at which the first of its waiting runs starts; none while it is paused, and once it has ended.
    pub next_at: Option<DateTimeUtc>,
    /// Each occurrence up to this one has its run, or is recorded as one that did not start.
    pub accounted_until: Option<DateTimeUtc>,
    /// The time since which the pattern is as it is; none for schedules that are older than this column.
    pub pattern_since: Option<DateTimeUtc>,
    /// The time at which it was paused; none while it is not.
    pub paused_at: Option<DateTimeUtc>,
    /// The time at which it ended; none while it has not.
    pub ended_at: Option<DateTimeUtc>,
    /// The reason for its end; none while it has not ended.
    pub end_reason: Option<EndReason>,
    /// Who made it.
    pub created_by: Actor,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
