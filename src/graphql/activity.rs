//! Activities: actions that people took within steps of guided work, and calls of campaigns.

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::ActivityKind;

use super::list::{List, Totals, args, list};
use super::loader::{load, must_load, nested_page};
use super::record::Record;
use super::run::Run;
use super::step::Step;
use super::{Actor, db, viewer};
use crate::domain::message::activity::{self as noun, Filter};
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::page::Args;

/// An action that a person took within a step, or a call made in a campaign's run.
pub struct Activity(pub entity::activity::Model);

impl RowFields for Activity {}

/// An action that a person took within a step, or a call made in a campaign's run.
#[Object]
impl Activity {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The kind of action.
    async fn kind(&self) -> ActivityKind {
        self.0.kind
    }

    /// The action as a sentence for people.
    async fn summary(&self) -> &str {
        &self.0.summary
    }

    /// Details of the action, depending on its kind: ids, `from` and `to`, the text of a note.
    async fn details(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.details.clone()))
    }

    /// The run in which it was taken.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The step within which it was taken.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.0.step_id).await?))
    }

    /// The record that it is about; null if it is about none.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The person who took it.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Time of the action.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Returns one page of activities.
pub(super) async fn activities(ctx: &Context<'_>, filter: Filter, args: Args, alone: bool) -> Result<List<Activity>> {
    let page = nested_page(ctx, noun::window(db(ctx), viewer(ctx), &filter, args)?, alone).await?;
    Ok(list(page, Totals::Activities(filter), Activity))
}

/// Query fields for activities.
#[derive(Default)]
pub struct ActivityQuery;

#[Object]
impl ActivityQuery {
    /// Activities that match the filter, newest first. Page with `first` and `after`, or `last` and
    /// `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn activities(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Activity>> {
        Box::pin(activities(ctx, filter.unwrap_or_default(), args(first, after, last, before), true)).await
    }
}
