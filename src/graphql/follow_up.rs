//! Follow-ups.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::FollowUpStatus;
use entity::id::FollowUpId;

use super::list::{List, Totals, args, list};
use super::loader::{below, load, must_load};
use super::member::Member;
use super::record::Record;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::follow_up::{self as noun, Action, Filter};
use crate::kernel::page::Args;
use crate::kernel::validate;

/// Something that is to be done later, set from within a step of guided work.
pub struct FollowUp(pub entity::follow_up::Model);

/// Something that is to be done later, set from within a step of guided work.
#[Object]
impl FollowUp {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What is to be done.
    async fn title(&self) -> &str {
        &self.0.title
    }

    /// More about it; empty where nothing was said.
    async fn note(&self) -> &str {
        &self.0.note
    }

    /// By when; null: at some time.
    async fn due_at(&self) -> Option<DateTime<Utc>> {
        self.0.due_at
    }

    /// Who is to do it; null: anybody.
    async fn assignee(&self, ctx: &Context<'_>) -> Result<Option<Member>> {
        Ok(load(ctx, self.0.assignee_id).await?.map(Member))
    }

    /// Where it stands.
    async fn status(&self) -> FollowUpStatus {
        self.0.status
    }

    /// Whether it is open and past its time.
    async fn overdue(&self, ctx: &Context<'_>) -> bool {
        self.0.status == FollowUpStatus::Open && self.0.due_at.is_some_and(|at| at < db(ctx).now())
    }

    /// When it was told that it is overdue; null where it was not.
    async fn overdue_at(&self) -> Option<DateTime<Utc>> {
        self.0.overdue_at
    }

    /// The run that it was set in.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The step that it was set from.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.0.step_id).await?))
    }

    /// The record that it is about; null where it is about none.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }

    /// When it was done or cancelled; null while it is open.
    async fn closed_at(&self) -> Option<DateTime<Utc>> {
        self.0.closed_at
    }

    /// Who did or cancelled it; null while it is open.
    async fn closed_by(&self) -> Option<Actor> {
        self.0.closed_by.clone().map(Actor::from)
    }

    /// Who set it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was set.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::judged(action, noun::check_allowed(&self.0, action)))
            .collect()
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// One page of them.
pub(super) async fn follow_ups(ctx: &Context<'_>, filter: Filter, args: Args, alone: bool) -> Result<List<FollowUp>> {
    let page = below(ctx, noun::window(db(ctx), viewer(ctx), &filter, args, db(ctx).now())?, alone).await?;
    Ok(list(page, Totals::FollowUps(filter), FollowUp))
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct FollowUpQuery;

#[Object]
impl FollowUpQuery {
    /// One by its id; null where the org has none with it.
    async fn follow_up(&self, ctx: &Context<'_>, id: ID) -> Result<Option<FollowUp>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<FollowUpId>("id", &id)?).await?.map(FollowUp))
    }

    /// Follow-ups by filter, the newest first. `first` after a cursor, or `last` before one; 50 unless said, at most 500.
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

/// Which follow-up something is done with.
#[derive(InputObject)]
pub struct FollowUpActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct FollowUpPayload {
    /// As it is now.
    pub(super) follow_up: FollowUp,
}

async fn act(ctx: &Context<'_>, input: FollowUpActInput, action: Action) -> Result<FollowUpPayload> {
    let (id, expected) = (validate::id::<FollowUpId>("id", &input.id)?, input.expected_revision);
    let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::act(db, viewer(ctx), id, expected, action)));
    Ok(FollowUpPayload { follow_up: FollowUp(row) })
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct FollowUpMutation;

#[Object]
impl FollowUpMutation {
    /// Open → done; also when its run has ended.
    async fn complete_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Complete).await
    }

    /// Open → cancelled.
    async fn cancel_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Cancel).await
    }

    /// Done or cancelled → open.
    async fn reopen_follow_up(&self, ctx: &Context<'_>, input: FollowUpActInput) -> Result<FollowUpPayload> {
        act(ctx, input, Action::Reopen).await
    }
}
