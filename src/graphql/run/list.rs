//! Query fields for runs: one by id, and the list.

use async_graphql::{Context, ID, InputObject, Object, Result};
use entity::id::RunId;

use super::Run;
use crate::domain::run as noun;
use crate::domain::run::list::{RunFilter, SortBy};
use crate::graphql::list::{List, RunTotals, args, list, nodes};
use crate::graphql::record::Direction;
use crate::graphql::selection::nodes_page;
use crate::graphql::{db, viewer};
use crate::kernel::page::{Args, Cursor, Page};
use crate::kernel::validate;

/// Sort order of runs.
#[derive(InputObject, Clone, Copy)]
pub struct RunOrder {
    /// Sort field.
    field: SortBy,
    /// Sort direction.
    direction: Direction,
}

impl RunOrder {
    /// The sort field, and true for descending; newest first by default.
    pub(in crate::graphql) fn of(given: Option<Self>) -> (SortBy, bool) {
        let order = given.unwrap_or(Self { field: SortBy::CreatedAt, direction: Direction::Desc });
        (order.field, order.direction == Direction::Desc)
    }
}

/// Returns one page of runs.
pub(in crate::graphql) async fn runs(
    ctx: &Context<'_>,
    filter: RunFilter,
    order: Option<RunOrder>,
    args: Args,
    alone: bool,
) -> Result<List<Run, RunTotals>> {
    let (by, descending) = RunOrder::of(order);
    let window = noun::list::window(db(ctx), viewer(ctx), &filter, by, descending, args)?;
    let page = nodes_page::<Run, _>(ctx, window, alone).await?;
    let (cursors, rows): (Vec<Cursor>, Vec<entity::run::Model>) = page.rows.into_iter().unzip();
    let runs = Run::fetch(ctx, rows, &nodes(ctx)).await?;
    let page = Page {
        rows: cursors.into_iter().zip(runs).collect(),
        has_next: page.has_next,
        has_previous: page.has_previous,
    };
    Ok(list(page, RunTotals(filter), |run| run))
}

/// Query fields for runs.
#[derive(Default)]
pub struct RunQuery;

#[Object]
impl RunQuery {
    /// Returns the run with this id; null if the org has none.
    async fn run(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Run>> {
        let found = Box::pin(noun::find(db(ctx).read(), viewer(ctx), validate::id::<RunId>("id", &id)?)).await?;
        Ok(Run::fetch(ctx, found.into_iter().collect(), &[ctx.look_ahead()]).await?.pop())
    }

    /// Runs that match the filter, newest first by default. Page with `first` and `after`, or
    /// `last` and `before`; page size 50 by default, at most 500.
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
        Box::pin(runs(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before), true)).await
    }
}
