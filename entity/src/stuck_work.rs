//! Work that fails again and again: set aside with a growing pause, so that it holds up nothing else.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// A kind of work that the engine sets aside.
    pub enum StuckWork {
        /// Firing a scheduled run.
        Fire,
        /// Beginning a queued run.
        Begin,
        /// A sweep: a large effect on its way through many rows.
        Sweep,
        /// Moving on a run whose phase has waited for events long enough.
        Close,
        /// Telling that something is overdue.
        Tell,
        /// Taking back steps whose worker did not come back.
        Rescue,
        /// Claiming a run's steps.
        Claim,
        /// Settling what came of a run's steps or messages.
        Settle,
    }
}

/// One piece of work that failed last time; its row goes when it passes.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stuck")]
pub struct Model {
    /// The run or the sweep that it is about.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: Uuid,
    /// The kind of work.
    #[sea_orm(primary_key, auto_increment = false)]
    pub work: StuckWork,
    /// The tenant.
    pub org_id: OrgId,
    /// The run; none for a sweep over records.
    pub run_id: Option<RunId>,
    /// How often it failed in a row.
    pub failures: i32,
    /// The last failure, in words that anybody of the org may read.
    pub error: String,
    /// The first failure's time.
    pub since: DateTimeUtc,
    /// The last failure's time.
    pub last_at: DateTimeUtc,
    /// Not tried before.
    pub next_try_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
