//! Query fields for steps: one by id, and the work list.

use async_graphql::{Context, ID, InputObject, Object, Result};
use entity::id::StepId;

use super::Step;
use crate::domain::run::step::list::{Sort, SortBy};
use crate::domain::run::step::{self as noun, StepFilter};
use crate::graphql::list::{List, Totals, args, list};
use crate::graphql::record::Direction;
use crate::graphql::selection::nodes_page;
use crate::graphql::{db, viewer};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Sort order of steps.
#[derive(InputObject, Clone, Copy)]
pub struct StepOrder {
    /// Sort field.
    field: SortBy,
    /// Sort direction.
    direction: Direction,
}

impl StepOrder {
    /// The order; oldest first by default.
    pub(in crate::graphql) fn of(given: Option<Self>) -> Sort {
        given.map_or(Sort::default(), |Self { field, direction }| Sort {
            by: field,
            descending: direction == Direction::Desc,
        })
    }
}

/// Returns one page of steps, oldest first.
pub(in crate::graphql) async fn steps(
    ctx: &Context<'_>,
    filter: StepFilter,
    args: Args,
    alone: bool,
) -> Result<List<Step>> {
    sorted(ctx, filter, Sort::default(), args, alone).await
}

/// Returns one page of steps in an order.
pub(in crate::graphql) async fn sorted(
    ctx: &Context<'_>,
    filter: StepFilter,
    sort: Sort,
    args: Args,
    alone: bool,
) -> Result<List<Step>> {
    let window = noun::window(db(ctx), viewer(ctx), &filter, sort, args, db(ctx).now())?;
    let page = nodes_page::<Step, _>(ctx, window, alone).await?;
    Ok(list(page, Totals::Steps(Box::new(filter)), Step))
}

/// Returns one page of a task's steps: single ones in display order, those of a fan-out, which may be
/// many, in order of creation.
pub(in crate::graphql) async fn steps_of_task(
    ctx: &Context<'_>,
    task: &entity::task::Model,
    mut filter: StepFilter,
    args: Args,
) -> Result<List<Step>> {
    filter.task_ids = Some(vec![task.id.to_string().into()]);
    if task.fan_out {
        return steps(ctx, filter, args, false).await;
    }
    let window = noun::window_in_order(db(ctx), viewer(ctx), &filter, args, db(ctx).now())?;
    Ok(list(nodes_page::<Step, _>(ctx, window, false).await?, Totals::Steps(Box::new(filter)), Step))
}

/// Query fields for steps.
#[derive(Default)]
pub struct StepQuery;

#[Object]
impl StepQuery {
    /// Returns the step with this id; null if the org has none.
    async fn step(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Step>> {
        Ok(Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<StepId>("id", &id)?)).await?.map(Step))
    }

    /// The work list: steps that match the filter, oldest first by default. Page with `first` and
    /// `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        order_by: Option<StepOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Step>> {
        let (filter, sort) = (filter.unwrap_or_default(), StepOrder::of(order_by));
        Box::pin(sorted(ctx, filter, sort, args(first, after, last, before), true)).await
    }
}
