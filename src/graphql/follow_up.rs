//! Follow-ups: to-dos from guided work or for replies that no step handles, with their queries and
//! mutations.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::FollowUpStatus;
use entity::id::FollowUpId;

use super::list::{List, Totals, args, list};
use super::loader::{load, must_load, nested_page};
use super::member::Member;
use super::record::Record;
use super::reply::{Reply, of_follow_up};
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::follow_up::{self as noun, Action, Filter};
use crate::graphql::selection::RowFields;
use crate::kernel::page::Args;
use crate::kernel::validate;

/// A to-do for later, created within a person's step, or for a reply to a campaign's message
/// that no step handles.
pub struct FollowUp(pub entity::follow_up::Model);

impl RowFields for FollowUp {}

/// A to-do for later, created within a person's step, or for a reply to a campaign's message
/// that no step handles.
#[Object]
impl FollowUp {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The to-do in a few words.
    async fn title(&self) -> &str {
        &self.0.title
    }

    /// Further notes; empty if there are none.
    async fn note(&self) -> &str {
        &self.0.note
    }

    /// Due time; null if it has none.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// The member who is to do it; null if anybody may.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// Current status.
    async fn status(&self) -> FollowUpStatus {
        self.0.status
    }

    /// True if it is open and past its due time.
    async fn overdue(&self, ctx: &Context<'_>) -> bool {
        self.0.status == FollowUpStatus::Open && self.0.due_at.is_some_and(|at| at < db(ctx).now())
    }

    /// Time at which it was reported overdue; null if it was not.
    async fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.0.overdue_at
    }

    /// The run in which it was created; for a reply, the run of the answered message.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The step within which it was created; for a reply, the step of the answered message.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.0.step_id).await?))
    }

    /// The record that it is about; null if it is about none.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// The reply that it was created for; null if it was created within a step.
    async fn reply(&self, ctx: &Context<'_>) -> Result<Option<Reply>> {
        of_follow_up(ctx, self.0.id).await
    }

    /// Time at which it was done or cancelled; null while it is open.
    async fn closed_at(&self) -> Option<DateTime<Utc>> {
        self.0.closed_at
    }

    /// The actor that completed or cancelled it; null while it is open.
    async fn closed_by(&self) -> Option<Actor> {
        self.0.closed_by.clone().map(Actor::from)
    }

    /// The actor that created it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// All actions on the follow-up: allowed now, or blocked with the reason.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, noun::check_allowed(&self.0, action)))
            .collect()
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// Returns one page of follow-ups.
pub(super) async fn follow_ups(ctx: &Context<'_>, filter: Filter, args: Args, alone: bool) -> Result<List<FollowUp>> {
    let page = nested_page(ctx, noun::window(db(ctx), viewer(ctx), &filter, args, db(ctx).now())?, alone).await?;
    Ok(list(page, Totals::FollowUps(filter), FollowUp))
}

/// Query fields for follow-ups.
#[derive(Default)]
pub struct FollowUpQuery;

#[Object]
impl FollowUpQuery {
    /// Returns the follow-up with this id; null if the org has none.
    async fn follow_up(&self, ctx: &Context<'_>, id: ID) -> Result<Option<FollowUp>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<FollowUpId>("id", &id)?).await?.map(FollowUp))
    }

    /// Follow-ups that match the filter, newest first. Page with `first` and `after`, or `last` and
    /// `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn follow_ups(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<FollowUp>> {
        Box::pin(follow_ups(ctx, filter.unwrap_or_default(), args(first, after, last, before), true)).await
    }
}

/// Identifies the follow-up to change.
#[derive(InputObject)]
pub struct FollowUpActInput {
    /// Id of the follow-up.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the follow-up has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed follow-up.
#[derive(SimpleObject)]
pub struct FollowUpPayload {
    /// The follow-up after the change.
    pub(super) follow_up: FollowUp,
}

async fn act(ctx: &Context<'_>, input: FollowUpActInput, action: Action) -> Result<FollowUpPayload> {
    let (id, expected) = (validate::id::<FollowUpId>("id", &input.id)?, input.expected_revision);
    let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::change_status(
        db,
        viewer(ctx),
        id,
        expected,
        action
    )));
    Ok(FollowUpPayload { follow_up: FollowUp(row) })
}

/// Mutations for follow-ups.
#[derive(Default)]
pub struct FollowUpMutation;

#[Object]
impl FollowUpMutation {
    /// Completes an open follow-up, also after its run has ended.
    async fn complete_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Complete).await
    }

    /// Cancels an open follow-up.
    async fn cancel_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Cancel).await
    }

    /// Reopens a completed or cancelled follow-up.
    async fn reopen_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Reopen).await
    }
}
