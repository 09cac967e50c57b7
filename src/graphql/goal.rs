//! Goals: the object, its queries and its mutations.

pub mod outcomes;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::GoalId;
use outcomes::GoalOutcomes;

use super::campaign::Campaign;
use super::campaign::list::{CampaignOrder, campaigns};
use super::list::{List, RunTotals, args};
use super::run::Run;
use super::run::list::{RunOrder, runs};
use super::run::note::{RunNote, notes};
use super::viewer;
use crate::domain::content::goal as noun;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::domain::run::list::RunFilter;
use crate::domain::run::note::NotesOf;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// The purpose of a campaign; reusable.
pub struct Goal(pub entity::goal::Model);

impl RowFields for Goal {}

/// The purpose of a campaign; reusable.
#[Object]
impl Goal {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The intended result; empty if none was given.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The campaigns that have it as their goal now, newest first by default; empty if none has.
    /// `filter.goalIds` is ignored. Page with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<CampaignFilter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        let mut filter = filter.unwrap_or_default();
        filter.goal_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(campaigns(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// The runs that were launched for it, newest first by default, including test runs; empty if
    /// there is none. A run keeps the goal of its launch when its campaign gets another one; a run
    /// that is only scheduled has its campaign's goal at the time of scheduling. `filter.goalIds`
    /// is ignored. Page with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn runs(
        &self,
        ctx: &Context<'_>,
        filter: Option<RunFilter>,
        order_by: Option<RunOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Run, RunTotals>> {
        let mut filter = filter.unwrap_or_default();
        filter.goal_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(runs(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// Counts of the runs that were launched for it, without test runs; all 0 if there is none.
    async fn outcomes(&self) -> GoalOutcomes {
        GoalOutcomes(self.0.id)
    }

    /// Notes about the runs that were launched for it, of any campaign, that belong to the goal, newest
    /// first. Empty if there is none.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn notes(&self, ctx: &Context<'_>, first: Option<i32>, after: Option<String>) -> Result<List<RunNote>> {
        Box::pin(notes(ctx, NotesOf::Goal(self.0.id), args(first, after, None, None), false)).await
    }

    /// Creation time.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(GoalQuery: goal, goals of Goal, GoalId, Goals);

/// Fields of a new goal.
#[derive(InputObject)]
pub struct CreateGoalInput {
    /// The name.
    name: String,
    /// The intended result.
    description: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a goal. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateGoalInput {
    /// Id of the goal.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the goal has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed goal.
#[derive(SimpleObject)]
pub struct GoalPayload {
    /// The goal after the change.
    goal: Goal,
}

deletion!(GoalDeletion: delete_goal of GoalId);

/// Mutations for goals.
#[derive(Default)]
pub struct GoalMutation;

#[Object]
impl GoalMutation {
    /// Creates a goal. Rejected with BAD_USER_INPUT, naming the field.
    async fn create_goal(&self, ctx: &Context<'_>, input: CreateGoalInput) -> Result<GoalPayload> {
        let fields = noun::Fields { name: Some(input.name), description: input.description };
        Ok(GoalPayload {
            goal: Goal(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
    async fn update_goal(&self, ctx: &Context<'_>, input: UpdateGoalInput) -> Result<GoalPayload> {
        let id = validate::id::<GoalId>("id", &input.id)?;
        let fields = noun::Fields { name: input.name, description: input.description };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(GoalPayload { goal: Goal(changed) })
    }
}
