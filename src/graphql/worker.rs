//! External workers: mutations to claim, renew and settle steps, and the feed that announces queued
//! work.

pub mod claim;

use std::sync::Arc;
use std::time::Duration;

use claim::ClaimedStep;

use async_graphql::{Context, ID, InputObject, Json, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::StepStatus;
use entity::id::{RunId, StepId};
use futures_util::StreamExt;
use serde_json::Value;

use super::stream::payload_value;
use super::{db, viewer};
use crate::domain::worker::claim::{self as noun, ClaimRequest};
use crate::domain::worker::renew::{self, HeldStep};
use crate::domain::worker::settle::{self, Settled, WorkerOutcome};
use crate::kernel::error::Refusal;
use crate::kernel::{limits, validate};

/// Selects the steps to claim.
#[derive(InputObject)]
pub struct ClaimStepsInput {
    /// Name of the worker process, recorded with its leases.
    worker: String,
    /// Name of the agent to claim for. Null: the agent of the API key. Required without an agent's
    /// key, as in development mode.
    agent: Option<String>,
    /// Types of steps to claim; null for all.
    types: Option<Vec<String>>,
    /// Ids of the runs to claim from; null for all.
    run_ids: Option<Vec<ID>>,
    /// Maximum number of steps, 1 to 500.
    limit: i32,
    /// Duration of the lease, 1 to 3600 seconds.
    lease_seconds: i32,
}

/// The claimed steps.
#[derive(SimpleObject)]
pub struct ClaimPayload {
    /// The claimed steps, longest waiting first; empty if none is available. Fewer than `limit` if
    /// more would not fit in the response: claim again.
    steps: Vec<ClaimedStep>,
}

/// A claimed step, with the token of its claim.
#[derive(InputObject)]
pub struct HeldStepInput {
    /// Id of the step.
    id: ID,
    /// Token of its claim.
    token: String,
}

/// The leases to renew.
#[derive(InputObject)]
pub struct RenewStepsInput {
    /// Name of the agent that holds the steps. Null: the agent of the API key, or the one that
    /// claimed them.
    agent: Option<String>,
    /// The claimed steps, at most 500.
    steps: Vec<HeldStepInput>,
    /// Duration of the lease from now, 1 to 3600 seconds.
    lease_seconds: i32,
}

/// A lease that was renewed or is lost.
#[derive(SimpleObject)]
pub struct Renewed {
    /// Id of the step.
    id: ID,
    /// New expiry of the lease; null if it is lost.
    lease_expires_at: Option<DateTime<Utc>>,
    /// True if the lease is lost: another worker may have claimed the step.
    lost: bool,
}

/// The renewed and lost leases.
#[derive(SimpleObject)]
pub struct RenewPayload {
    /// One entry per requested step, in order.
    steps: Vec<Renewed>,
}

/// The outcome of a claimed step: a result or an error.
#[derive(InputObject)]
pub struct SettleStepInput {
    /// Id of the step.
    id: ID,
    /// Token of its claim.
    token: String,
    /// The result; give it if the step is done.
    result: Option<Json<Value>>,
    /// The error; give it if the step failed.
    error: Option<String>,
    /// True if a retry may succeed; true by default.
    retryable: Option<bool>,
}

/// The outcomes of claimed steps.
#[derive(InputObject)]
pub struct SettleStepsInput {
    /// Name of the agent that holds the steps. Null: the agent of the API key, or the one that
    /// claimed them.
    agent: Option<String>,
    /// One outcome per step, at most 500.
    steps: Vec<SettleStepInput>,
    /// Idempotency key, for steps of one run. Repeating the request with the same key within seven
    /// days changes nothing, and returns the same codes and the steps' current statuses. Without a
    /// key a token still settles only once, and a repetition returns CONFLICT.
    idempotency_key: Option<String>,
}

/// The result of settling one step.
#[derive(SimpleObject)]
pub struct SettledStep {
    /// Id of the step.
    id: ID,
    /// The step's new status; null if the outcome was rejected.
    status: Option<StepStatus>,
    /// Error code: CONFLICT if the lease is lost, BAD_USER_INPUT for a result that does not satisfy
    /// its schema (the step stays claimed), NOT_FOUND; null if the step was settled.
    code: Option<String>,
    /// Error message; null if the step was settled.
    message: Option<String>,
}

/// The results of settling.
#[derive(SimpleObject)]
pub struct SettlePayload {
    /// One entry per requested step, in order.
    steps: Vec<SettledStep>,
}

/// Mutations for workers.
#[derive(Default)]
pub struct WorkerMutation;

#[Object]
impl WorkerMutation {
    /// Claims steps that match the agent's filter, under a lease; a worker that neither settles nor
    /// renews them before it expires loses them. Rejected with BAD_USER_INPUT or LIMIT_EXCEEDED.
    async fn claim_steps(&self, ctx: &Context<'_>, input: ClaimStepsInput) -> Result<ClaimPayload> {
        let agent = noun::agent_of(db(ctx), viewer(ctx), input.agent.as_deref()).await?;
        let runs: Option<Vec<RunId>> = input.run_ids.map(|ids| validate::ids(&ids, "input", "runIds")).transpose()?;
        if input.types.as_ref().is_some_and(|types| types.len() > limits::PAGE_MAX) {
            return Err(Refusal::limit_for_field("types", format!("at most {}", limits::PAGE_MAX)).into());
        }
        let request = ClaimRequest {
            worker: input.worker,
            types: input.types,
            runs,
            limit: u64::try_from(input.limit).unwrap_or_default(),
            lease: lease(input.lease_seconds)?,
        };
        let audited = super::idempotent::keyed(ctx, None)?;
        let steps = Box::pin(claim::claim(ctx, &audited, &agent, &request)).await?;
        Ok(ClaimPayload { steps })
    }

    /// Extends leases. Lost leases are reported per step. Rejected with LIMIT_EXCEEDED.
    async fn renew_steps(&self, ctx: &Context<'_>, input: RenewStepsInput) -> Result<RenewPayload> {
        let ids: Vec<StepId> = held_ids(input.steps.iter().map(|one| &one.id))?;
        let agent = Box::pin(noun::lease_holder_of(db(ctx), viewer(ctx), input.agent.as_deref(), &ids)).await?;
        let held =
            input.steps.into_iter().map(|one| Ok(HeldStep { id: validate::id("id", &one.id)?, token: one.token }));
        let held = held.collect::<crate::kernel::error::Result<Vec<HeldStep>>>()?;
        let audited = super::idempotent::keyed(ctx, None)?;
        let renewed = Box::pin(renew::renew(&audited, agent.as_ref(), &held, lease(input.lease_seconds)?)).await?;
        let each = renewed.into_iter().map(|(id, until)| Renewed {
            id: id.to_string().into(),
            lease_expires_at: until,
            lost: until.is_none(),
        });
        Ok(RenewPayload { steps: each.collect() })
    }

    /// Settles several steps independently: a rejected one does not affect the others. The whole
    /// request is rejected with BAD_USER_INPUT or LIMIT_EXCEEDED.
    async fn settle_steps(&self, ctx: &Context<'_>, input: SettleStepsInput) -> Result<SettlePayload> {
        let ids: Vec<StepId> = held_ids(input.steps.iter().map(|one| &one.id))?;
        let mut ends = Vec::with_capacity(input.steps.len());
        for one in input.steps {
            let held = HeldStep { id: validate::id::<StepId>("id", &one.id)?, token: one.token };
            let end = match (one.result, one.error) {
                (Some(result), None) => WorkerOutcome::Done(result.0),
                (None, Some(why)) => WorkerOutcome::Failed(why, one.retryable.unwrap_or(true), None),
                _ => return Err(Refusal::input("result", "give either `result` or `error`").into()),
            };
            ends.push((held, end));
        }
        let (key, agent) = (input.idempotency_key, input.agent);
        // The agent is looked up after the key: a step that is settled is held by none.
        let steps = idempotent!(
            ctx,
            key,
            |db| async {
                let settled = match Box::pin(noun::lease_holder_of(db, viewer(ctx), agent.as_deref(), &ids)).await? {
                    Some(agent) => Box::pin(settle::settle(db, &agent, Some(viewer(ctx)), &ends)).await?,
                    None => {
                        // A concurrent request with the same key may have settled them meanwhile.
                        if let Some(request) = db.idempotency()
                            && request.lookup(db.read()).await?.is_some()
                        {
                            return Err(Refusal::conflict("the steps are settled").into());
                        }
                        settle::refuse_all(db, viewer(ctx), &ends).await?
                    }
                };
                let each = ids.iter().zip(settled).map(|(id, outcome)| SettledStep::new(*id, outcome));
                Ok::<_, crate::kernel::error::Error>(each.collect::<Vec<_>>())
            },
            |id| async {
                let _: StepId = id;
                let refused = super::idempotent::stored_detail(ctx, key.as_deref()).await?;
                replayed(ctx, &ids, &refused).await
            }
        );
        Ok(SettlePayload { steps })
    }
}

impl SettledStep {
    fn new(id: StepId, outcome: Settled) -> Self {
        let id = id.to_string().into();
        match outcome {
            Ok(step) => Self { id, status: Some(step.status), code: None, message: None },
            Err(refusal) => {
                let (code, message) = (Some(refusal.code.as_str().into()), Some(refusal.message));
                Self { id, status: None, code, message }
            }
        }
    }
}

/// The answer of a request that settled steps, for its repetition: settled steps as they are now,
/// refused ones as they were refused.
async fn replayed(ctx: &Context<'_>, ids: &[StepId], refused: &Value) -> Result<Vec<SettledStep>> {
    let now = crate::domain::run::step::find_all(db(ctx).read(), viewer(ctx), ids).await?;
    let each = ids.iter().map(|id| {
        let refusal = &refused[id.to_string()];
        if let (Some(code), message) = (refusal["code"].as_str(), refusal["message"].as_str()) {
            let (code, message) = (Some(code.to_owned()), message.map(str::to_owned));
            return SettledStep { id: id.to_string().into(), status: None, code, message };
        }
        let step = now.iter().find(|step| step.id == *id).cloned();
        SettledStep::new(*id, step.ok_or_else(|| Refusal::not_found("step", id)))
    });
    Ok(each.collect())
}

fn held_ids<'a>(ids: impl Iterator<Item = &'a ID>) -> crate::kernel::error::Result<Vec<StepId>> {
    ids.enumerate().map(|(i, id)| validate::id(&format!("steps[{i}].id"), id)).collect()
}

fn lease(seconds: i32) -> crate::kernel::error::Result<Duration> {
    if !limits::CLAIM_LEASE_SECONDS.contains(&seconds) {
        return Err(Refusal::input("leaseSeconds", "must be 1 to 3600 seconds").into());
    }
    Ok(Duration::from_secs(u64::from(seconds.unsigned_abs())))
}

/// Settles one step by its token: the workers' case of `completeStep` and `failStep`.
pub(super) async fn settle_one(
    ctx: &Context<'_>,
    db: &crate::kernel::db::WriteContext,
    held: HeldStep,
    end: WorkerOutcome,
) -> crate::kernel::error::Result<entity::step::Model> {
    let agent = Box::pin(noun::lease_holder_of(db, viewer(ctx), None, &[held.id])).await?;
    let ends = [(held, end)];
    let settled = match agent {
        Some(agent) => Box::pin(settle::settle(db, &agent, Some(viewer(ctx)), &ends)).await?,
        None => return Err(crate::domain::worker::lost("no agent holds it").into()),
    };
    match settled.into_iter().next() {
        Some(Ok(step)) => Ok(step),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(crate::kernel::error::Error::internal("settling a step returned no outcome")),
    }
}

/// A step was queued: there may be work to claim.
pub struct WorkQueued(Arc<entity::event::Model>);

/// A step was queued: there may be work to claim.
#[Object]
impl WorkQueued {
    /// Position in the log; pass it as `after` to resume after this item.
    async fn cursor(&self) -> String {
        crate::kernel::event::cursor(self.0.org_id, self.0.position)
    }

    /// Id of the queued step; always set.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// The step's key in the run's structure; always set.
    async fn key(&self) -> Option<String> {
        payload_value(&self.0, "key")
    }

    /// Type of work, as in `Step.type`; always set.
    #[graphql(name = "type")]
    async fn kind(&self) -> Option<String> {
        payload_value(&self.0, "type")
    }

    /// Time at which it was queued.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Streams the steps that are queued for the key's agent; without an agent's key, for any agent.
pub(super) async fn queued(
    ctx: &Context<'_>,
    after: Option<String>,
) -> Result<impl futures_util::Stream<Item = Result<WorkQueued>> + use<>> {
    let agent = match viewer(ctx).actor.agent_id {
        Some(_) => {
            let agent = noun::agent_of(db(ctx), viewer(ctx), None).await?;
            let filter = crate::domain::content::cel::Condition::parse(&agent.filter);
            Some((agent.kind, filter.map_err(|why| Refusal::input("filter", why))?))
        }
        None => None,
    };
    let matches = move |event: &entity::event::Model| noun::may_concern(agent.as_ref(), event);
    Ok(super::stream::feed(ctx, after, matches).await?.map(|event| event.map(WorkQueued)))
}
