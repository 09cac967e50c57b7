//! What people and workers do with a step.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use entity::id::StepId;

use super::Step;
use crate::domain::run::step::{self as noun, Action, ActionInput};
use crate::domain::worker::settle::{HeldStep, WorkerOutcome};
use crate::graphql::role::beyond;
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// What a person does with a step.
#[derive(InputObject)]
pub struct StepActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; needed to fail or reject, kept where it is given.
    reason: Option<String>,
    /// What came of it, as the step's `resultSchema` says, or a flat object; for completing and submitting.
    result: Option<Json<serde_json::Value>>,
    /// Of a worker, the token of its claim.
    token: Option<String>,
    /// Of a worker that fails a step: whether it may succeed later; true unless said.
    retryable: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Who is to do a step.
#[derive(InputObject)]
pub struct AssignStepInput {
    /// Which one.
    id: ID,
    /// The member; null for anybody who may. Must be given.
    member_id: MaybeUndefined<ID>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct StepPayload {
    /// As it is now.
    step: Step,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct StepMutation;

#[Object]
impl StepMutation {
    /// Begins a step that people do.
    async fn start_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Start).await
    }

    /// In progress → completed. Of a worker, with the token of its claim: who comes late is refused with CONFLICT and
    /// `reason: LEASE_LOST`.
    async fn complete_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Complete).await
    }

    /// In progress → awaiting approval, with its result: a step that has to be let out. Refused with CONFLICT for one that
    /// nobody has to let out.
    async fn submit_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Submit).await
    }

    /// Gives a person's step to a member, or to anybody who may. Refused with NOT_FOUND, CONFLICT.
    async fn assign_step(&self, ctx: &Context<'_>, input: AssignStepInput) -> Result<StepPayload> {
        let id = validate::id::<StepId>("id", &input.id)?;
        let member = match &input.member_id {
            MaybeUndefined::Value(id) => Some(validate::id("memberId", id)?),
            MaybeUndefined::Null => None,
            MaybeUndefined::Undefined => {
                return Err(Refusal::input("memberId", "is required; null for anybody who may").into());
            }
        };
        let expected = input.expected_revision;
        let step =
            idempotent!(ctx, input.idempotency_key, |db| noun::assign::assign(db, viewer(ctx), id, expected, member));
        Ok(StepPayload { step: Step(step) })
    }

    /// In progress → queued again, or failed when attempts are used up.
    async fn fail_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Fail).await
    }

    /// Leaves a step out. A skip is not a person's act in the sense of a phase's gate.
    async fn skip_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Skip).await
    }

    /// In progress or completed → pending.
    async fn reset_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Reset).await
    }

    /// Skipped → pending.
    async fn restart_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Restart).await
    }

    /// Failed → queued, with all its attempts, while its run is in progress and its phase at work; of a failed run, retry
    /// the run.
    async fn retry_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Retry).await
    }

    /// Awaiting approval → completed, once as many have approved it as it needs; of a review: lets out all messages that are not rejected.
    async fn approve_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Approve).await
    }

    /// Awaiting approval → queued, or failed when attempts are used up; of a review: has its messages drafted again.
    async fn reject_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Reject).await
    }
}

async fn act(ctx: &Context<'_>, input: StepActInput, action: Action) -> Result<StepPayload> {
    let id = validate::id::<StepId>("id", &input.id)?;
    if let Some(token) = input.token {
        let end = match action {
            Action::Complete => {
                WorkerOutcome::Done(input.result.map_or_else(|| serde_json::json!({}), |result| result.0))
            }
            Action::Fail => {
                WorkerOutcome::Failed(input.reason.unwrap_or_default(), input.retryable.unwrap_or(true), None)
            }
            _ => return Err(Refusal::input("token", "workers complete and fail, nothing else").into()),
        };
        let held = HeldStep { id, token };
        let step = idempotent!(ctx, input.idempotency_key, |db| crate::graphql::worker::settle_one(ctx, db, held, end));
        return Ok(StepPayload { step: Step(step) });
    }
    beyond(viewer(ctx))?;
    let said = ActionInput { result: input.result.map(|result| result.0), reason: input.reason, code: None };
    let expected = input.expected_revision;
    let step =
        idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::act(db, viewer(ctx), id, expected, action, &said)));
    Ok(StepPayload { step: Step(step) })
}
