//! What people do with runs.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::run::RunAct;

use super::Run;
use crate::graphql::viewer;
use crate::input;
use crate::run as noun;

/// Which run is to take a step.
#[derive(InputObject)]
pub struct RunActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; kept where it is given.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// A scheduled run's new time.
#[derive(InputObject)]
pub struct RescheduleRunInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The new time, in the future.
    at: DateTime<Utc>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct RunPayload {
    /// As it is now.
    run: Run,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Moves a scheduled run to another time in the future.
    async fn reschedule_run(&self, ctx: &Context<'_>, input: RescheduleRunInput) -> Result<RunPayload> {
        let (id, at) = (input::id("id", &input.id)?, chrono::SubsecRound::trunc_subsecs(input.at, 6));
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::reschedule(db, viewer(ctx), id, expected, at));
        Ok(RunPayload { run: run.into() })
    }

    /// In progress → paused: nothing of it is claimed, started or sent; what is in hand settles.
    async fn pause_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::hold(db, viewer(ctx), id, expected, RunAct::Pause));
        Ok(RunPayload { run: run.into() })
    }

    /// Paused → in progress.
    async fn resume_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = once!(ctx, input.idempotency_key, |db| noun::hold(db, viewer(ctx), id, expected, RunAct::Resume));
        Ok(RunPayload { run: run.into() })
    }

    /// Failed → in progress: the failed steps of its failed phase are done again, what had gone through stays. Refused
    /// with CONFLICT for a run that failed before it began, or whose campaign has ended.
    async fn retry_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (input::id("id", &input.id)?, input.expected_revision);
        let run = once!(ctx, input.idempotency_key, |db| noun::retry::retry(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: run.into() })
    }

    /// Looks again at where a run stands: a scheduled one gets its preflight of now, one at work is derived anew from its
    /// steps and moved as far as it goes. What was right stays as it is.
    async fn refresh_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (input::id("id", &input.id)?, input.expected_revision);
        let run = once!(ctx, input.idempotency_key, |db| noun::refresh::refresh(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: run.into() })
    }

    /// Calls a run off: nothing of it starts from now on, and its open steps are skipped. Twice is once.
    async fn cancel_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = input::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run = once!(ctx, input.idempotency_key, |db| noun::cancel(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: run.into() })
    }
}
