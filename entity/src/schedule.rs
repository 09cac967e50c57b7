//! When runs of a campaign, or guided work, start: once or repeating.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::law::Law;

words! {
    /// Whether a schedule has occurrences to come.
    pub enum ScheduleStatus {
        /// It keeps its next occurrence as a SCHEDULED run.
        Active,
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
}

/// What may happen to a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleAct {
    /// An occurrence falls due, and another one follows.
    Fire,
    /// The last occurrence fell due, or somebody ended it.
    End,
}

impl Law for ScheduleStatus {
    type Act = ScheduleAct;
    const ACTS: &'static [ScheduleAct] = &[ScheduleAct::Fire, ScheduleAct::End];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: ScheduleAct) -> Option<Self> {
        match (self, act) {
            (Self::Active, ScheduleAct::Fire) => Some(Self::Active),
            (Self::Active, ScheduleAct::End) => Some(Self::Ended),
            (Self::Ended, ScheduleAct::Fire | ScheduleAct::End) => None,
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
    /// The next occurrence; none once it has ended.
    pub next_at: Option<DateTimeUtc>,
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
