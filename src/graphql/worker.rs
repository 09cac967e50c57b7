//! What workers outside do: claim, renew, settle; and the feed that tells them that there is work.

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

use super::{db, viewer};
use crate::domain::worker::claim::{self as noun, ClaimRequest};
use crate::domain::worker::settle::{self, HeldStep, WorkerOutcome};
use crate::kernel::error::Refusal;
use crate::kernel::{limits, validate};

/// What is to be claimed.
#[derive(InputObject)]
pub struct ClaimStepsInput {
    /// The worker's own name, by which its leases are known.
    worker: String,
    /// The name of the agent to claim for. Null: the agent of the key. Required for those who ask with no agent's key, as in
    /// development mode.
    agent: Option<String>,
    /// Of one of these types only.
    types: Option<Vec<String>>,
    /// Of one of these runs only.
    run_ids: Option<Vec<ID>>,
    /// At most so many, 1 to 500.
    limit: i32,
    /// For how long, 1 to 3600 seconds.
    lease_seconds: i32,
}

/// What was claimed.
#[derive(SimpleObject)]
pub struct ClaimPayload {
    /// The steps, the longest waiting first; empty where there is none. Fewer than asked for where they would not have room in
    /// the answer: claim again.
    steps: Vec<ClaimedStep>,
}

/// A step that is held, with the token of its claim.
#[derive(InputObject)]
pub struct HeldStepInput {
    /// Which step.
    id: ID,
    /// The token of its claim.
    token: String,
}

/// What is to be renewed.
#[derive(InputObject)]
pub struct RenewStepsInput {
    /// The name of the agent that holds them. Null: the agent of the key, or the one that claimed them.
    agent: Option<String>,
    /// What is held, at most 500.
    steps: Vec<HeldStepInput>,
    /// For how long from now, 1 to 3600 seconds.
    lease_seconds: i32,
}

/// A lease, renewed or lost.
#[derive(SimpleObject)]
pub struct Renewed {
    /// The step.
    id: ID,
    /// Until when it is held; null where it is lost.
    lease_expires_at: Option<DateTime<Utc>>,
    /// Whether it is lost: somebody else may have it.
    lost: bool,
}

/// What was renewed.
#[derive(SimpleObject)]
pub struct RenewPayload {
    /// One for each step, in order.
    steps: Vec<Renewed>,
}

/// How a step has ended: with a result, or with an error.
#[derive(InputObject)]
pub struct SettleStepInput {
    /// Which step.
    id: ID,
    /// The token of its claim.
    token: String,
    /// What came of it: it is done.
    result: Option<Json<Value>>,
    /// What went wrong: it failed.
    error: Option<String>,
    /// Whether it may succeed later; true unless said.
    retryable: Option<bool>,
}

/// What is to be settled.
#[derive(InputObject)]
pub struct SettleStepsInput {
    /// The name of the agent that holds them. Null: the agent of the key, or the one that claimed them.
    agent: Option<String>,
    /// How each has ended, at most 500.
    steps: Vec<SettleStepInput>,
    /// A key of your own, for steps of one run: asking again with it within seven days does nothing again. Without it a token
    /// settles once all the same, and who asks again is told CONFLICT.
    idempotency_key: Option<String>,
}

/// What came of one settle.
#[derive(SimpleObject)]
pub struct SettledStep {
    /// The step.
    id: ID,
    /// What it became; null where the settle was refused.
    status: Option<StepStatus>,
    /// The refusal's code: CONFLICT where the lease is lost, BAD_USER_INPUT for a result that does not meet its schema (the
    /// step stays held), NOT_FOUND; null where it was settled.
    code: Option<String>,
    /// Why it was refused; null where it was settled.
    message: Option<String>,
}

/// What came of it.
#[derive(SimpleObject)]
pub struct SettlePayload {
    /// One for each step, in order.
    steps: Vec<SettledStep>,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct WorkerMutation;

#[Object]
impl WorkerMutation {
    /// Takes steps that the agent's filter admits, under a lease: who does not settle or renew in time has lost them. Refused
    /// with BAD_USER_INPUT, LIMIT_EXCEEDED.
    async fn claim_steps(&self, ctx: &Context<'_>, input: ClaimStepsInput) -> Result<ClaimPayload> {
        let agent = noun::agent_of(db(ctx), viewer(ctx), input.agent.as_deref()).await?;
        let runs: Option<Vec<RunId>> = input.run_ids.map(|ids| validate::ids(&ids, "input", "runIds")).transpose()?;
        if input.types.as_ref().is_some_and(|types| types.len() > limits::PAGE_MAX) {
            return Err(Refusal::too_much("types", format!("at most {}", limits::PAGE_MAX)).into());
        }
        let wanted = ClaimRequest {
            worker: input.worker,
            types: input.types,
            runs,
            limit: u64::try_from(input.limit).unwrap_or_default(),
            lease: lease(input.lease_seconds)?,
        };
        let noted = super::idempotent::keyed(ctx, None)?;
        let steps = Box::pin(claim::claim(ctx, &noted, &agent, &wanted)).await?;
        Ok(ClaimPayload { steps })
    }

    /// Holds steps for longer. A lost lease is told, per step. Refused with LIMIT_EXCEEDED.
    async fn renew_steps(&self, ctx: &Context<'_>, input: RenewStepsInput) -> Result<RenewPayload> {
        let ids: Vec<StepId> = held_ids(input.steps.iter().map(|one| &one.id))?;
        let agent = noun::holder_of(db(ctx), viewer(ctx), input.agent.as_deref(), &ids).await?;
        let held =
            input.steps.into_iter().map(|one| Ok(HeldStep { id: validate::id("id", &one.id)?, token: one.token }));
        let held = held.collect::<crate::kernel::error::Result<Vec<HeldStep>>>()?;
        let noted = super::idempotent::keyed(ctx, None)?;
        let renewed = Box::pin(settle::renew(&noted, &agent, &held, lease(input.lease_seconds)?)).await?;
        let each = renewed.into_iter().map(|(id, until)| Renewed {
            id: id.to_string().into(),
            lease_expires_at: until,
            lost: until.is_none(),
        });
        Ok(RenewPayload { steps: each.collect() })
    }

    /// Settles many steps at once, each by itself: one that is refused does not hold up the others. Refused as a whole with
    /// BAD_USER_INPUT, LIMIT_EXCEEDED.
    async fn settle_steps(&self, ctx: &Context<'_>, input: SettleStepsInput) -> Result<SettlePayload> {
        let ids: Vec<StepId> = held_ids(input.steps.iter().map(|one| &one.id))?;
        let agent = noun::holder_of(db(ctx), viewer(ctx), input.agent.as_deref(), &ids).await?;
        let mut ends = Vec::with_capacity(input.steps.len());
        for one in input.steps {
            let held = HeldStep { id: validate::id::<StepId>("id", &one.id)?, token: one.token };
            let end = match (one.result, one.error) {
                (Some(result), None) => WorkerOutcome::Done(result.0),
                (None, Some(why)) => WorkerOutcome::Failed(why, one.retryable.unwrap_or(true), None),
                _ => return Err(Refusal::input("result", "give `result` or `error`, one of them").into()),
            };
            ends.push((held, end));
        }
        let settled = idempotent!(ctx, input.idempotency_key, |db| settle::settle(db, &agent, &ends), |id| async {
            let _: StepId = id;
            let now = crate::domain::run::step::find_all(super::db(ctx).read(), viewer(ctx), &ids).await?;
            let of = |id: &StepId| now.iter().find(|step| step.id == *id).cloned();
            let each = ids.iter().map(|id| of(id).ok_or_else(|| Refusal::not_found("step", id)));
            Ok::<_, crate::kernel::error::Error>(each.collect::<Vec<_>>())
        });
        let each = ids.into_iter().zip(settled).map(|(id, outcome)| match outcome {
            Ok(step) => SettledStep { id: id.to_string().into(), status: Some(step.status), code: None, message: None },
            Err(refusal) => SettledStep {
                id: id.to_string().into(),
                status: None,
                code: Some(refusal.code.as_str().into()),
                message: Some(refusal.message),
            },
        });
        Ok(SettlePayload { steps: each.collect() })
    }
}

fn held_ids<'a>(ids: impl Iterator<Item = &'a ID>) -> crate::kernel::error::Result<Vec<StepId>> {
    ids.enumerate().map(|(i, id)| validate::id(&format!("steps[{i}].id"), id)).collect()
}

fn lease(seconds: i32) -> crate::kernel::error::Result<Duration> {
    if !limits::TAKE_LEASE.contains(&seconds) {
        return Err(Refusal::input("leaseSeconds", "1 to 3600").into());
    }
    Ok(Duration::from_secs(u64::from(seconds.unsigned_abs())))
}

/// Ends one step with its token: what `completeStep` and `failStep` do for workers.
pub(super) async fn settle_one(
    ctx: &Context<'_>,
    db: &crate::kernel::db::Db,
    held: HeldStep,
    end: WorkerOutcome,
) -> crate::kernel::error::Result<entity::step::Model> {
    let agent = noun::holder_of(db, viewer(ctx), None, &[held.id]).await?;
    let settled = Box::pin(settle::settle(db, &agent, &[(held, end)])).await?;
    match settled.into_iter().next() {
        Some(Ok(step)) => Ok(step),
        Some(Err(refusal)) => Err(refusal.into()),
        None => Err(crate::kernel::error::Error::ours("a settle without an outcome")),
    }
}

/// There may be work: a step has come into the queue.
pub struct WorkQueued(Arc<entity::event::Model>);

/// There may be work: a step has come into the queue.
#[Object]
impl WorkQueued {
    /// Where it stands in the log; pass it as `after` to resume behind it.
    async fn cursor(&self) -> String {
        crate::kernel::event::cursor(self.0.org_id, self.0.position)
    }

    /// Which step.
    async fn step_id(&self) -> Option<ID> {
        self.0.step_id.map(|id| id.to_string().into())
    }

    /// Its key in the run's structure.
    async fn key(&self) -> Option<&str> {
        self.0.payload["key"].as_str()
    }

    /// Which work it is.
    #[graphql(name = "type")]
    async fn kind(&self) -> Option<&str> {
        self.0.payload["type"].as_str()
    }

    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Steps that come into the queue for an agent; for who asks with no agent's key, for any.
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
    let lets = move |event: &entity::event::Model| noun::is_for(agent.as_ref(), event);
    Ok(super::stream::feed(ctx, after, lets).await?.map(|event| event.map(WorkQueued)))
}
