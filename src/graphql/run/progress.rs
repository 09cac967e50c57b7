//! A run's progress, in lists, in its details and in subscriptions.

use async_graphql::{Context, ID, SimpleObject};
use chrono::{DateTime, Utc};
use entity::{Definition, RunStatus};

use super::phase::StepCounts;
use crate::domain::run as noun;
use crate::graphql::db;
use crate::graphql::loader::RunParts;

/// Progress of a run.
#[derive(SimpleObject)]
pub struct RunProgress {
    /// Id of the run.
    run_id: ID,
    /// Current status.
    status: RunStatus,
    /// Number of steps created so far, per status.
    counts: StepCounts,
    /// Number of expected steps: those in `counts` and those still to be created, one of each kind
    /// per recipient. Steps created by events are not included. After the run has ended, the total
    /// of `counts`.
    expected: i64,
    /// Closed steps (COMPLETED, SKIPPED, FAILED) divided by `expected`, 0 to 1; 0 if no steps are
    /// expected, 1 once a run without steps has ended.
    fraction: f64,
    /// Closed steps per minute since the run began.
    per_minute: f64,
    /// Estimated time at which the expected steps will be closed at this rate; null if it cannot be
    /// estimated: before the first step is closed, when none is left, after the end, while the run
    /// is paused, and while it waits for people, approvals or events.
    estimated_end: Option<DateTime<Utc>>,
    /// Cursor to resume a subscription after this item; null in queries.
    cursor: Option<String>,
}

impl RunProgress {
    /// Computes the progress from loaded tasks.
    pub fn of(ctx: &Context<'_>, run: &entity::run::Model, parts: &RunParts, definition: &Definition) -> Self {
        Self::from_progress(run, noun::progress::of(run, &parts.phases, &parts.tasks, definition, db(ctx).now()), None)
    }

    /// Reads the progress outside a resolver.
    pub async fn read(
        db: &crate::kernel::db::Db,
        viewer: &crate::kernel::viewer::Viewer,
        run: &entity::run::Model,
        cursor: Option<String>,
    ) -> crate::kernel::error::Result<Self> {
        Ok(Self::from_progress(run, noun::progress::progress(db, viewer, run).await?, cursor))
    }

    fn from_progress(run: &entity::run::Model, progress: noun::progress::Progress, cursor: Option<String>) -> Self {
        Self {
            run_id: run.id.to_string().into(),
            status: run.status,
            counts: progress.counts.into(),
            expected: progress.expected,
            fraction: progress.fraction,
            per_minute: progress.per_minute,
            estimated_end: progress.estimated_end,
            cursor,
        }
    }
}
