//! The summary of guided work: counts of activities.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use entity::id::{RunId, StepId};
use entity::task;

use crate::domain::run::guided::summary::{Counts, Summary, of_runs};
use crate::graphql::batch_loader::Loader;
use crate::graphql::loader::{Rows, must_load};
use crate::graphql::step::Step;

/// Counts of the activities in guided work, per step and in total.
#[derive(SimpleObject)]
pub struct RunSummary {
    /// Number of completed steps.
    steps_completed: i64,
    /// Number of skipped steps.
    steps_skipped: i64,
    /// Number of open steps.
    steps_open: i64,
    /// Counts of all activities.
    total: Counts,
    /// Counts per step with activities, in step order.
    steps: Vec<StepSummary>,
}

impl RunSummary {
    /// Combines a run's tasks and activities.
    pub fn of(tasks: &[task::Model], summary: &Summary) -> Self {
        let counts = tasks.iter().fold(task::StepCounts::default(), |sum, task| sum.plus(&task.counts()));
        let steps = summary.steps.iter().map(|(id, done)| StepSummary { id: *id, done: *done });
        Self {
            steps_completed: counts.completed,
            steps_skipped: counts.skipped,
            steps_open: counts.open(),
            total: summary.total,
            steps: steps.collect(),
        }
    }
}

/// Counts of the activities within one step.
pub struct StepSummary {
    id: StepId,
    done: Counts,
}

/// Counts of the activities within one step.
#[Object]
impl StepSummary {
    /// The step.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.id).await?))
    }

    /// Counts of activities, including those before the step was reset.
    async fn done(&self) -> Counts {
        self.done
    }
}

/// Loader key for a run's summary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SummaryOf(pub RunId);

impl Loader<SummaryOf> for Rows {
    type Value = Arc<Summary>;

    async fn load(&self, runs: &[SummaryOf]) -> crate::kernel::error::Result<HashMap<SummaryOf, Self::Value>> {
        let ids: Vec<RunId> = runs.iter().map(|of| of.0).collect();
        let found = of_runs(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, one)| (SummaryOf(id), Arc::new(one))).collect())
    }
}
