//! Work items that fail repeatedly: retried with backoff, so that they do not hold up other work.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// A kind of work item that the engine retries with backoff.
    pub enum StuckWork {
        /// Queueing a scheduled run that is due.
        Fire,
        /// Starting a queued run.
        Begin,
        /// Advancing a sweep, a large change that is applied in chunks.
        Sweep,
        /// Advancing a run whose phase has waited for events until its deadline.
        Close,
        /// Reporting overdue work.
        Tell,
        /// Returning steps with an expired lease to the queue.
        Rescue,
        /// Claiming a run's steps.
        Claim,
        /// Settling the results of a run's steps or messages.
        Settle,
    }
}

/// One work item whose last try failed; deleted when a try succeeds.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stuck")]
pub struct Model {
    /// Id of the run, step, sweep, schedule or agent that the work is about.
    #[sea_orm(primary_key, auto_increment = false)]
    pub subject: Uuid,
    /// The kind of work.
    #[sea_orm(primary_key, auto_increment = false)]
    pub work: StuckWork,
    /// The tenant.
    pub org_id: OrgId,
    /// The run; null for a sweep over records.
    pub run_id: Option<RunId>,
    /// Number of consecutive failures.
    pub failures: i32,
    /// The last error, in words that any member of the org may read.
    pub error: String,
    /// Time of the first failure.
    pub since: DateTimeUtc,
    /// Time of the last failure.
    pub last_at: DateTimeUtc,
    /// Time of the next try.
    pub next_try_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
