//! Steps that a worker claims, as it is told of them: as many as have room in the answer. What it can't be told of is given
//! back, so that nothing is held by nobody.

use async_graphql::{Context, ID, Json, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use serde_json::Value;

use crate::domain::worker::claim::{self as noun, ClaimRequest, StepClaim};
use crate::domain::worker::settle::{self, HeldStep};
use crate::graphql::{agent_context, db, viewer};
use crate::kernel::db::Db;
use crate::kernel::{budget, cost, limits};

/// A step that was claimed, with all that its worker needs.
#[derive(SimpleObject)]
pub struct ClaimedStep {
    /// The step.
    id: ID,
    /// What to show when it is renewed or settled; another claim has another.
    token: String,
    /// Until when it is held; renew before.
    lease_expires_at: Option<DateTime<Utc>>,
    /// Its key in the run's structure.
    key: String,
    /// Its name.
    name: String,
    /// Which work it is.
    #[graphql(name = "type")]
    kind: String,
    /// Which claim of it this is, from 1.
    attempt: i32,
    /// The run that it is of.
    run_id: ID,
    /// The run's name.
    run_name: String,
    /// The campaign's name.
    campaign_name: String,
    /// The record that it is about; null where it is about none.
    record_id: Option<ID>,
    /// What its work needs, as its structure says; an empty object where that says nothing.
    config: Json<Value>,
    /// The JSON Schema that its result must meet; null: any flat object.
    result_schema: Option<Json<Value>>,
    /// What the agent's context shows of it; null where the agent has none, or it could not be read.
    context: Option<Json<Value>>,
    /// Why the context could not be read; null where it could.
    context_error: Option<String>,
}

/// Claims steps in portions, until there are as many as are wanted, no more, or no more room.
pub(super) async fn claim(
    ctx: &Context<'_>,
    noted: &Db,
    agent: &Agent,
    wanted: &ClaimRequest,
) -> Result<Vec<ClaimedStep>> {
    let room = cost::current().map_or(usize::MAX, |request| request.answer_bytes() / limits::CLAIM_PER_ANSWER);
    let (mut steps, mut used, mut largest) = (Vec::new(), 0_usize, 0_usize);
    let mut portion = limits::CLAIM_PORTION;
    loop {
        let limit = portion.min(wanted.limit.saturating_sub(steps.len() as u64));
        // More than there may be is refused as a whole.
        let limit = if wanted.limit > limits::TAKE { wanted.limit } else { limit };
        let taken = Box::pin(noun::claim(noted, agent, &ClaimRequest { limit, ..wanted.clone() })).await?;
        let (count, mut rest) = (taken.len() as u64, taken.into_iter());
        let held: Vec<HeldStep> = rest.as_slice().iter().map(held).collect();
        if let Some(request) = cost::current() {
            let (db, agent) = (noted.clone(), agent.clone());
            request.undone_by(Box::pin(async move { settle::give_back(&db, &agent, held).await }));
        }
        let mut is_full = false;
        while let Some(one) = rest.as_slice().first() {
            let told = told(ctx, agent, one).await;
            match told {
                Ok(Some((step, bytes))) if used + bytes <= room || steps.is_empty() => {
                    (used, largest) = (used + bytes, largest.max(bytes));
                    steps.push(step);
                    rest.next();
                }
                Ok(None) if steps.is_empty() => return Err(cost::busy("there is no room to read a step".into()).into()),
                Ok(_) => {
                    is_full = true;
                    break;
                }
                // The answer is an error: all go back.
                Err(err) => return Err(err),
            }
        }
        settle::give_back(noted, agent, rest.as_slice().iter().map(self::held).collect()).await;
        if is_full || count < limit || steps.len() as u64 >= wanted.limit {
            return Ok(steps);
        }
        portion = room.saturating_sub(used).checked_div(largest).unwrap_or_default() as u64;
        if portion == 0 {
            return Ok(steps);
        }
    }
}

fn held(one: &StepClaim) -> HeldStep {
    HeldStep { id: one.step.id, token: one.token.clone() }
}

/// Returns a step as its worker is told of it, and its size; none where the requests under way leave no room to read it.
async fn told(ctx: &Context<'_>, agent: &Agent, one: &StepClaim) -> Result<Option<(ClaimedStep, usize)>> {
    let snapshot = crate::domain::run::snapshot::of(db(ctx).read(), &one.run).await?;
    let declared = crate::domain::run::snapshot::step(&snapshot.definition, &one.step.key);
    let (mut context, mut context_error) = (None, None);
    if !agent.context.is_empty() {
        let reader = crate::kernel::viewer::Viewer { role: entity::member::Role::Viewer, ..viewer(ctx).clone() };
        let read = agent_context::read(ctx, &reader, &agent.context, one.step.id);
        let shown = match cost::current() {
            // Within bounds of its own: one that is too large is told so, and the others are shown.
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
            Err(why) => context_error = Some(why),
        }
    }
    let own = declared.and_then(|declared| declared.result_schema.clone());
    let config = declared.map(|declared| declared.settings().clone()).filter(|config| !config.is_null());
    let (step, run) = (&one.step, &one.run);
    let told = ClaimedStep {
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
    let parts =
        [Some(&told.config.0), told.result_schema.as_ref().map(|all| &all.0), told.context.as_ref().map(|all| &all.0)];
    let bytes = parts.into_iter().flatten().map(budget::bytes).sum::<usize>() + STEP_BYTES;
    Ok(Some((told, bytes)))
}

/// The rest of a step, in bytes, about.
const STEP_BYTES: usize = 2_048;
