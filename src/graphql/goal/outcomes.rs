//! Outcomes of a goal: its runs by status, and their recipients by outcome.

use std::collections::HashMap;

use async_graphql::{Context, Object, Result, SimpleObject};
use entity::RunStatus;
use entity::id::GoalId;
use entity::run_record::Outcome;

use crate::domain::run::goal_outcomes::{recipients_by_outcome, runs_by_status};
use crate::graphql::batch_loader::Loader;
use crate::graphql::list::{StatusCount, run_status_counts};
use crate::graphql::loader::{Rows, load};

/// Outcomes of the runs that were launched for a goal. Test runs do not count.
pub struct GoalOutcomes(pub GoalId);

/// Number of recipients with an outcome.
#[derive(SimpleObject)]
pub struct OutcomeCount {
    /// The outcome; null for recipients whose work is open.
    outcome: Option<Outcome>,
    /// Number of recipients; a record counts once for each run that it was a recipient of.
    count: u64,
}

/// Outcomes of the runs that were launched for a goal. Test runs do not count.
#[Object]
impl GoalOutcomes {
    /// Number of runs in each status, including statuses without runs; a run that is only scheduled
    /// counts as SCHEDULED. Computed only when selected.
    #[graphql(complexity = "20 + child_complexity")]
    async fn runs_by_status(&self, ctx: &Context<'_>) -> Result<Vec<StatusCount<RunStatus>>> {
        Ok(run_status_counts(&load(ctx, Some(RunsOfGoal(self.0))).await?.unwrap_or_default()))
    }

    /// Number of the runs' recipients with each outcome, including outcomes without recipients; the
    /// last entry, whose outcome is null, counts the open ones. Computed only when selected; the
    /// time that it takes grows with the number of recipients.
    #[graphql(complexity = "1_000 + child_complexity")]
    async fn recipients_by_outcome(&self, ctx: &Context<'_>) -> Result<Vec<OutcomeCount>> {
        let found = load(ctx, Some(RecipientsOfGoal(self.0))).await?.unwrap_or_default();
        let outcomes = Outcome::all().into_iter().map(Some).chain([None]);
        let count = |outcome| found.get(&outcome).copied().unwrap_or_default();
        Ok(outcomes.map(|outcome| OutcomeCount { outcome, count: count(outcome) }).collect())
    }
}

/// Loader key for the numbers of a goal's runs in each status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunsOfGoal(pub GoalId);

impl Loader<RunsOfGoal> for Rows {
    type Value = HashMap<String, u64>;

    async fn load(
        &self,
        goals: &[RunsOfGoal],
    ) -> crate::kernel::error::Result<HashMap<RunsOfGoal, HashMap<String, u64>>> {
        let ids: Vec<GoalId> = goals.iter().map(|of| of.0).collect();
        let found = runs_by_status(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, counts)| (RunsOfGoal(id), counts)).collect())
    }
}

/// Loader key for the numbers of recipients of a goal's runs with each outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecipientsOfGoal(pub GoalId);

impl Loader<RecipientsOfGoal> for Rows {
    type Value = HashMap<Option<Outcome>, u64>;

    async fn load(
        &self,
        goals: &[RecipientsOfGoal],
    ) -> crate::kernel::error::Result<HashMap<RecipientsOfGoal, HashMap<Option<Outcome>, u64>>> {
        let ids: Vec<GoalId> = goals.iter().map(|of| of.0).collect();
        let found = recipients_by_outcome(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, counts)| (RecipientsOfGoal(id), counts)).collect())
    }
}
