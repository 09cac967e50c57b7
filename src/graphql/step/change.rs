//! Step mutations for people and workers: transitions and assignment.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use entity::id::StepId;

use super::Step;
use crate::domain::run::step::{self as noun, Action, ActionInput};
use crate::domain::worker::renew::HeldStep;
use crate::domain::worker::settle::WorkerOutcome;
use crate::graphql::role::reject_workers;
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// Parameters of a step transition.
#[derive(InputObject)]
pub struct StepActInput {
    /// Id of the step.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the step has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Reason, required to fail or reject. Stored in `Step.error` by failStep, rejectStep and
    /// skipStep, and in the event of every step mutation but completeStep with a `token`.
    reason: Option<String>,
    /// Result, matching the step's `resultSchema`, or any flat object if it has none; for
    /// completing and submitting.
    result: Option<Json<serde_json::Value>>,
    /// Token of the claim, required from workers.
    token: Option<String>,
    /// Set to false by a worker that fails a step which no retry can complete; true by default.
    retryable: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Assignment of a step.
#[derive(InputObject)]
pub struct AssignStepInput {
    /// Id of the step.
    id: ID,
    /// Id of the member; null: anybody who may. Required.
    member_id: MaybeUndefined<ID>,
    /// Expected revision: rejected with CONFLICT if the step has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The changed step.
#[derive(SimpleObject)]
pub struct StepPayload {
    /// The step after the change.
    pub(in crate::graphql) step: Step,
}

/// Mutations for steps.
#[derive(Default)]
pub struct StepMutation;

#[Object]
impl StepMutation {
    /// Starts a step that a person does.
    async fn start_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Start).await
    }

    /// Completes a step in progress. Workers pass the token of their claim; if the lease is lost,
    /// the request is rejected with CONFLICT and `reason: LEASE_LOST`. A worker's step that requires
    /// approval then awaits it.
    async fn complete_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Complete).await
    }

    /// Submits a step in progress for approval, with its result. Rejected with CONFLICT if the
    /// step requires no approval.
    async fn submit_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Submit).await
    }

    /// Assigns a person's step to a member, or to anybody who may. Rejected with NOT_FOUND or
    /// CONFLICT.
    async fn assign_step(&self, ctx: &Context<'_>, input: AssignStepInput) -> Result<StepPayload> {
        let id = validate::id::<StepId>("id", &input.id)?;
        let member = match &input.member_id {
            MaybeUndefined::Value(id) => Some(validate::id("memberId", id)?),
            MaybeUndefined::Null => None,
            MaybeUndefined::Undefined => {
                return Err(
                    Refusal::input("memberId", "is required; pass null to assign the step to anybody who may").into()
                );
            }
        };
        let expected = input.expected_revision;
        let step =
            idempotent!(ctx, input.idempotency_key, |db| noun::assign::assign(db, viewer(ctx), id, expected, member));
        Ok(StepPayload { step: Step(step) })
    }

    /// Fails an attempt of a step in progress: it is queued again, or failed if no attempts are
    /// left. Rejected with CONFLICT for steps of guided work, which are completed, skipped or
    /// reset.
    async fn fail_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Fail).await
    }

    /// Skips a step. A skip does not count as the person's act that releases a phase.
    async fn skip_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Skip).await
    }

    /// Resets a step in progress or completed to pending.
    async fn reset_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Reset).await
    }

    /// Restarts a skipped step, which is pending again.
    async fn restart_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Restart).await
    }

    /// Failed → queued, with all its attempts, while its run and its phase are in progress. For a
    /// failed run, use `retryRun`. Ignores `reason`.
    async fn retry_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Retry).await
    }

    /// Awaiting approval → completed, once it has the required number of approvals. Approving a
    /// review releases all messages that are not rejected.
    async fn approve_step(&self, ctx: &Context<'_>, input: StepActInput) -> Result<StepPayload> {
        act(ctx, input, Action::Approve).await
    }

    /// Awaiting approval → queued, or failed if no attempts are left. Rejecting a review has its
    /// messages that are still DRAFT drafted again; messages approved one by one stay APPROVED.
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
            _ => return Err(Refusal::input("token", "is accepted only by completeStep and failStep").into()),
        };
        let held = HeldStep { id, token };
        let step = idempotent!(ctx, input.idempotency_key, |db| crate::graphql::worker::settle_one(ctx, db, held, end));
        return Ok(StepPayload { step: Step(step) });
    }
    reject_workers(viewer(ctx))?;
    let action_input = ActionInput { result: input.result.map(|result| result.0), reason: input.reason, code: None };
    let expected = input.expected_revision;
    let step = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::act::apply_action(
        db,
        viewer(ctx),
        id,
        expected,
        action,
        &action_input
    )));
    Ok(StepPayload { step: Step(step) })
}
