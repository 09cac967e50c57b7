//! How far a run has come, in a list, in its detail and live.

use async_graphql::{Context, ID, SimpleObject};
use chrono::{DateTime, Utc};
use entity::{Definition, RunStatus};

use super::phase::StepCounts;
use crate::domain::run as noun;
use crate::graphql::db;
use crate::graphql::loader::RunParts;

/// How far a run has come.
#[derive(SimpleObject)]
pub struct RunProgress {
    /// Which run.
    run_id: ID,
    /// Where it stands.
    status: RunStatus,
    /// Its steps so far.
    counts: StepCounts,
    /// The number of steps that are known of: those in `counts`, and those that are still to be made, one of each kind for
    /// each recipient. Not known of are steps that an event makes. Once the run has ended, the total of `counts`.
    expected: i64,
    /// The closed steps (COMPLETED, SKIPPED, FAILED) divided by `expected`, 0 to 1; 0 where nothing is known of, 1 once a
    /// run without steps has ended.
    fraction: f64,
    /// Closed steps per minute since it began.
    per_minute: f64,
    /// When what is known of will be closed at this rate; null where that can't be told: before the run begins, after its
    /// end, while it is paused, and while people, approvals or events are awaited.
    estimated_end: Option<DateTime<Utc>>,
    /// In a subscription, where to resume from; null elsewhere.
    cursor: Option<String>,
}

impl RunProgress {
    /// As it stands now, from tasks that are at hand.
    pub fn of(ctx: &Context<'_>, run: &entity::run::Model, parts: &RunParts, definition: &Definition) -> Self {
        Self::shown(run, noun::progress::of(run, &parts.phases, &parts.tasks, definition, db(ctx).now()), None)
    }

    /// As it stands now, outside a resolver.
    pub async fn read(
        db: &crate::kernel::db::Db,
        viewer: &crate::kernel::viewer::Viewer,
        run: &entity::run::Model,
        cursor: Option<String>,
    ) -> crate::kernel::error::Result<Self> {
        Ok(Self::shown(run, noun::progress::progress(db, viewer, run).await?, cursor))
    }

    fn shown(run: &entity::run::Model, progress: noun::progress::Progress, cursor: Option<String>) -> Self {
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
