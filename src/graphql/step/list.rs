//! Query fields for steps: one by id, and the work list.

use async_graphql::{Context, ID, Object, Result};
use entity::id::StepId;

use super::Step;
use crate::domain::run::step::{self as noun, StepFilter};
use crate::graphql::list::{List, Totals, args, list};
use crate::graphql::selection::nodes_page;
use crate::graphql::{db, viewer};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Returns one page of steps.
pub(in crate::graphql) async fn steps(
    ctx: &Context<'_>,
    filter: StepFilter,
    args: Args,
    alone: bool,
) -> Result<List<Step>> {
    let page =
        nodes_page::<Step, _>(ctx, noun::window(db(ctx), viewer(ctx), &filter, args, db(ctx).now())?, alone).await?;
    Ok(list(page, Totals::Steps(filter), Step))
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

    /// The work list: steps that match the filter, in order of creation. Page with `first` and
    /// `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn steps(
        &self,
        ctx: &Context<'_>,
        filter: Option<StepFilter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Step>> {
        Box::pin(steps(ctx, filter.unwrap_or_default(), args(first, after, last, before), true)).await
    }
}
