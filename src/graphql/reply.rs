//! Replies: answers from records, with their queries; their mutations are in `change`.

pub mod change;

use std::collections::HashMap;

use async_graphql::{Context, ID, InputObject, InputType, Object, Result, Value};
use chrono::{DateTime, Utc};
use entity::id::{FollowUpId, ReplyId, StepId};
use entity::{Channel, ReplyStatus};

use super::batch_loader::Loader;
use super::communication::Communication;
use super::follow_up::FollowUp;
use super::list::{List, StatusCount, args, list};
use super::loader::{ByStatus, Rows, cloned_result, load, must_load, nested_count, nested_page};
use super::member::Member;
use super::record::{Direction, Record};
use super::role::reject_workers;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::message::reply::{self as noun, Filter, SortBy};
use crate::domain::run::handle_reply::{Action, check_allowed};
use crate::graphql::counted::Counted;
use crate::graphql::selection::{RowFields, text};
use crate::kernel::page::Args;
use crate::kernel::{error, validate};

/// An answer to a message, linked to its communication, run and record.
pub struct Reply(pub entity::reply::Model);

impl RowFields for Reply {
    fn row_field(&self, name: &str) -> Option<Value> {
        let row = &self.0;
        Some(match name {
            "id" => text(row.id),
            "channel" => row.channel.to_value(),
            "externalId" => row.external_id.to_value(),
            "subject" => row.subject.to_value(),
            "receivedAt" => row.received_at.to_value(),
            "test" => row.test.to_value(),
            "status" => row.status.to_value(),
            "handledAt" => row.handled_at.to_value(),
            "note" => row.note.to_value(),
            "revision" => row.revision.to_value(),
            _ => return None,
        })
    }
}

/// An answer to a message, linked to its communication, run and record.
#[Object]
impl Reply {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The message that it answers.
    async fn communication(&self, ctx: &Context<'_>) -> Result<Communication> {
        Ok(Communication(must_load(ctx, self.0.communication_id).await?))
    }

    /// The run of the answered message.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The record that replied; null for a test recipient without a sample record.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The channel on which it arrived.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The reply's id in the external system; null if none was given.
    async fn external_id(&self) -> Option<&str> {
        self.0.external_id.as_deref()
    }

    /// The subject; null if it has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The text.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Time of arrival.
    async fn received_at(&self) -> DateTime<Utc> {
        self.0.received_at
    }

    /// The actor that recorded it.
    async fn recorded_by(&self) -> Actor {
        self.0.recorded_by.clone().into()
    }

    /// True for a reply to a test message.
    async fn test(&self) -> bool {
        self.0.test
    }

    /// Current status. It becomes HANDLED with the step or the follow-up that handles it, too.
    async fn status(&self) -> ReplyStatus {
        self.0.status
    }

    /// The member who is to handle it; null if anybody may.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// Time at which it was handled or ignored; null while it is open.
    async fn handled_at(&self) -> Option<DateTime<Utc>> {
        self.0.handled_at
    }

    /// The actor that handled or ignored it; null while it is open.
    async fn handled_by(&self) -> Option<Actor> {
        self.0.handled_by.clone().map(Actor::from)
    }

    /// Note of the person who handled or ignored it; null while it is open, and if none was given.
    async fn note(&self) -> Option<&str> {
        self.0.note.as_deref()
    }

    /// The step that handles it: one that was open for it when it was recorded. Null if there was
    /// none.
    async fn step(&self, ctx: &Context<'_>) -> Result<Option<Step>> {
        Ok(load(ctx, self.0.step_id).await?.map(Step))
    }

    /// The follow-up that was created for it, because no step handles it or its step was skipped; it is
    /// open as long as the reply is. Null if there is none.
    async fn follow_up(&self, ctx: &Context<'_>) -> Result<Option<FollowUp>> {
        Ok(load(ctx, self.0.follow_up_id).await?.map(FollowUp))
    }

    /// All actions on the reply: allowed now, or blocked with the reason.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        let each = Action::ALL.into_iter();
        each.map(|action| AvailableAction::of_verdict(action, check_allowed(&self.0, action))).collect()
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// The filter that the totals of a list of replies are counted over.
pub struct ReplyTotals(pub Filter);

#[Object]
impl ReplyTotals {
    /// Total number on all pages; computed only when selected.
    async fn total_count(&self, ctx: &Context<'_>) -> Result<u64> {
        Ok(nested_count(ctx, noun::latest(db(ctx), viewer(ctx), &self.0, Args::default())?).await?)
    }

    /// Number of replies in each status, including statuses without replies, as if the filter had no
    /// `statuses`: the counts stay while one is chosen. Computed only when selected.
    async fn counts_by_status(&self, ctx: &Context<'_>) -> Result<Vec<StatusCount<ReplyStatus>>> {
        let filter = Filter { statuses: None, ..self.0.clone() };
        let window = noun::latest(db(ctx), viewer(ctx), &filter, Args::default())?;
        let found = cloned_result(must_load(ctx, (window, ByStatus)).await?.as_ref())?;
        let count = |status: ReplyStatus| found.get(&status.to_string()).copied().unwrap_or_default();
        Ok(ReplyStatus::all().into_iter().map(|status| StatusCount { status, count: count(status) }).collect())
    }
}

/// Sort order of replies.
#[derive(InputObject, Clone, Copy)]
pub struct ReplyOrder {
    /// Sort field.
    field: SortBy,
    /// Sort direction.
    direction: Direction,
}

impl ReplyOrder {
    /// The sort field, and true for descending; newest first by default.
    pub(in crate::graphql) fn of(given: Option<Self>) -> (SortBy, bool) {
        let order = given.unwrap_or(Self { field: SortBy::CreatedAt, direction: Direction::Desc });
        (order.field, order.direction == Direction::Desc)
    }
}

/// Returns one page of replies.
pub(in crate::graphql) async fn replies(
    ctx: &Context<'_>,
    filter: Filter,
    order: Option<ReplyOrder>,
    args: Args,
    alone: bool,
) -> Result<List<Reply, ReplyTotals>> {
    let (by, descending) = ReplyOrder::of(order);
    let window = noun::window(db(ctx), viewer(ctx), &filter, by, descending, args)?;
    Ok(list(nested_page(ctx, window, alone).await?, ReplyTotals(filter), Reply))
}

/// Loader key for the newest reply that a step handles; absent if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ReplyOfStep(StepId);

impl Loader<ReplyOfStep> for Rows {
    type Value = entity::reply::Model;

    async fn load(&self, steps: &[ReplyOfStep]) -> error::Result<HashMap<ReplyOfStep, Self::Value>> {
        let ids: Vec<StepId> = steps.iter().map(|of| of.0).collect();
        let found = noun::of_steps(&self.db, &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, reply)| (ReplyOfStep(id), reply)).collect())
    }
}

/// Returns the newest reply that a step handles.
pub(in crate::graphql) async fn of_step(ctx: &Context<'_>, step: StepId) -> Result<Option<Reply>> {
    reject_workers(viewer(ctx))?;
    Ok(load(ctx, Some(ReplyOfStep(step))).await?.map(Reply))
}

/// Loader key for the reply that a follow-up was created for; absent if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ReplyOfFollowUp(FollowUpId);

impl Loader<ReplyOfFollowUp> for Rows {
    type Value = entity::reply::Model;

    async fn load(&self, follow_ups: &[ReplyOfFollowUp]) -> error::Result<HashMap<ReplyOfFollowUp, Self::Value>> {
        let ids: Vec<FollowUpId> = follow_ups.iter().map(|of| of.0).collect();
        let found = noun::of_follow_ups(&self.db, &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, reply)| (ReplyOfFollowUp(id), reply)).collect())
    }
}

/// Returns the reply that a follow-up was created for.
pub(in crate::graphql) async fn of_follow_up(ctx: &Context<'_>, id: FollowUpId) -> Result<Option<Reply>> {
    Ok(load(ctx, Some(ReplyOfFollowUp(id))).await?.map(Reply))
}

/// Query fields for replies.
#[derive(Default)]
pub struct ReplyQuery;

#[Object]
impl ReplyQuery {
    /// Returns the reply with this id; null if the org has none.
    async fn reply(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Reply>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<ReplyId>("id", &id)?).await?.map(Reply))
    }

    /// The inbox: replies that match the filter, newest first by default. Page with `first` and
    /// `after`, or `last` and `before`; page size 50 by default, at most 500.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn replies(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        order_by: Option<ReplyOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Reply, ReplyTotals>> {
        Box::pin(replies(ctx, filter.unwrap_or_default(), order_by, args(first, after, last, before), true)).await
    }
}
