//! Occurrences of a schedule that did not start: one row per stretch of them, with the reason.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// Reason why occurrences did not start.
    pub enum UnfiredReason {
        /// Their time had passed when the engine checked, and the catch-up policy does not start
        /// them late.
        Late,
        /// The schedule or its campaign was paused.
        Paused,
        /// A person cancelled the waiting run.
        Cancelled,
        /// Their local time does not exist, because the clock goes forward.
        NoSuchLocalTime,
        /// A person skipped them in advance.
        Skipped,
        /// An earlier run of the schedule was open, and the overlap policy does not start them
        /// beside it.
        Overlap,
    }
}

/// One stretch.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "unfired")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UnfiredId,
    /// The tenant.
    pub org_id: OrgId,
    /// The schedule.
    pub schedule_id: ScheduleId,
    /// The reason.
    pub reason: UnfiredReason,
    /// The first occurrence; for local times that do not exist, the occurrence after them.
    pub first_at: DateTimeUtc,
    /// The last occurrence.
    pub last_at: DateTimeUtc,
    /// The number of occurrences.
    pub count: i64,
    /// The local times that do not exist, at most 100; null for other reasons.
    pub local_times: Option<Json>,
    /// The time at which it was recorded.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
