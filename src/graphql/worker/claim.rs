//! Claims steps for a worker and describes them, as many as fit into the response. Steps that do
//! not fit are released, so that no lease is held without a worker.

use async_graphql::{Context, ID, Json, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use serde_json::Value;

use crate::domain::worker::claim::{self as noun, ClaimRequest, StepClaim};
use crate::domain::worker::renew::HeldStep;
use crate::domain::worker::settle;
use crate::graphql::{agent_context, db, viewer};
use crate::kernel::db::WriteContext;
use crate::kernel::{budget, cost, limits};

/// A claimed step with everything that its worker needs.
#[derive(SimpleObject)]
pub struct ClaimedStep {
    /// Id of the step.
    id: ID,
    /// Token for renewing and settling this claim; each claim has its own.
    token: String,
    /// Expiry of the lease; renew it before. Always set.
    lease_expires_at: Option<DateTime<Utc>>,
    /// Key in the run's structure.
    key: String,
    /// Name of the step.
    name: String,
    /// Type of work, as in `Step.type`.
    #[graphql(name = "type")]
    kind: String,
    /// Number of this claim of the step, starting at 1.
    attempt: i32,
    /// Id of the run.
    run_id: ID,
    /// Name of the run.
    run_name: String,
    /// Name of the campaign.
    campaign_name: String,
    /// Id of the record that it is about; null if there is none.
    record_id: Option<ID>,
    /// Config of the work, from the run's structure; an empty object if there is none.
    config: Json<Value>,
    /// JSON Schema of the result: the step's, or the agent's if the step has none; null: any flat
    /// object. If both have one, the result must satisfy both.
    result_schema: Option<Json<Value>>,
    /// Data selected by the agent's context query; null if the agent has none, or if it could not
    /// be read.
    context: Option<Json<Value>>,
    /// Reason why the context could not be read; null if there was no error.
    context_error: Option<String>,
}

/// Claims steps in portions until the limit, the last step, or the response's capacity is reached.
pub(super) async fn claim(
    ctx: &Context<'_>,
    noted: &WriteContext,
    agent: &Agent,
    claim_request: &ClaimRequest,
) -> Result<Vec<ClaimedStep>> {
    let capacity = cost::current().map_or(usize::MAX, |request| request.answer_bytes() / limits::CLAIM_PER_ANSWER);
    let (mut steps, mut used, mut largest) = (Vec::new(), 0_usize, 0_usize);
    let mut portion = limits::CLAIM_PORTION;
    loop {
        let limit = portion.min(claim_request.limit.saturating_sub(steps.len() as u64));
        // A limit above the maximum is rejected as a whole.
        let limit = if claim_request.limit > limits::CLAIM_MAX { claim_request.limit } else { limit };
        let taken = Box::pin(noun::claim(noted, agent, &ClaimRequest { limit, ..claim_request.clone() })).await?;
        let (count, mut rest) = (taken.len() as u64, taken.into_iter());
        let held: Vec<HeldStep> = rest.as_slice().iter().map(held_step).collect();
        if let Some(request) = cost::current() {
            let (db, agent) = (noted.clone(), agent.clone());
            request.on_undelivered(Box::pin(async move { settle::give_back(&db, &agent, held).await }));
        }
        let mut is_full = false;
        while let Some(one) = rest.as_slice().first() {
            let described = claimed_step(ctx, agent, one).await;
            match described {
                Ok(Some((step, bytes))) if used + bytes <= capacity || steps.is_empty() => {
                    (used, largest) = (used + bytes, largest.max(bytes));
                    steps.push(step);
                    rest.next();
                }
                Ok(None) if steps.is_empty() => {
                    return Err(cost::busy("there is not enough memory to read a step".into()).into());
                }
                Ok(_) => {
                    is_full = true;
                    break;
                }
                // The response is an error: all steps are released.
                Err(err) => return Err(err),
            }
        }
        settle::give_back(noted, agent, rest.as_slice().iter().map(held_step).collect()).await;
        if is_full || count < limit || steps.len() as u64 >= claim_request.limit {
            return Ok(steps);
        }
        portion = capacity.saturating_sub(used).checked_div(largest).unwrap_or_default() as u64;
        if portion == 0 {
            return Ok(steps);
        }
    }
}

fn held_step(one: &StepClaim) -> HeldStep {
    HeldStep { id: one.step.id, token: one.token.clone() }
}

/// Describes a claimed step for its worker and returns its size in bytes; none if the requests in
/// flight leave no memory to read it.
async fn claimed_step(ctx: &Context<'_>, agent: &Agent, one: &StepClaim) -> Result<Option<(ClaimedStep, usize)>> {
    let snapshot = crate::domain::run::snapshot::of(db(ctx).read(), &one.run).await?;
    let declared = crate::domain::run::snapshot::step(&snapshot.definition, &one.step.key);
    let (mut context, mut context_error) = (None, None);
    if !agent.context.is_empty() {
        let reader = crate::kernel::viewer::Viewer { role: entity::member::Role::Viewer, ..viewer(ctx).clone() };
        let read = agent_context::read(ctx, &reader, &agent.context, one.step.id);
        let shown = match cost::current() {
            // The context has its own bounds: one that is too large is reported for its step only.
            Some(request) => {
                let part = request.part(limits::CONTEXT_ANSWER_BYTES);
                let shown = cost::within(part.clone(), read).await;
                let shown = shown.and_then(|shown| match cost::answer::write(&part, &shown) {
                    Ok(_) => Ok(shown),
                    Err(refusal) => Err(refusal.message),
                });
                match part.refusal() {
                    Some(refusal) if refusal.details.contains_key("retryAfterSeconds") => return Ok(None),
                    Some(refusal) => Err(refusal.message.clone()),
                    None => shown,
                }
            }
            None => read.await,
        };
        match shown {
            Ok(shown) => context = Some(Json(shown)),
            Err(message) => context_error = Some(message),
        }
    }
    let own = declared.and_then(|declared| declared.result_schema.clone());
    let config = declared.map(|declared| declared.settings().clone()).filter(|config| !config.is_null());
    let (step, run) = (&one.step, &one.run);
    let claimed = ClaimedStep {
        id: step.id.to_string().into(),
        token: one.token.clone(),
        lease_expires_at: step.lease_expires_at,
        key: step.key.clone(),
        name: step.name.clone(),
        kind: step.kind.clone(),
        attempt: step.attempt_count,
        run_id: run.id.to_string().into(),
        run_name: run.name.clone(),
        campaign_name: run.campaign_name.clone(),
        record_id: step.record_id.map(|id| id.to_string().into()),
        config: Json(config.unwrap_or_else(|| serde_json::json!({}))),
        result_schema: own.or_else(|| agent.output_schema.clone().map(Json)),
        context,
        context_error,
    };
    let parts = [
        Some(&claimed.config.0),
        claimed.result_schema.as_ref().map(|all| &all.0),
        claimed.context.as_ref().map(|all| &all.0),
    ];
    let bytes = parts.into_iter().flatten().map(budget::bytes).sum::<usize>() + STEP_BYTES;
    Ok(Some((claimed, bytes)))
}

/// Approximate size of the remaining fields of a step, in bytes.
const STEP_BYTES: usize = 2_048;
