//! Settles the steps that external workers hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::definition::StepDef;
use entity::id::*;
use entity::step::{self, StepStatus};
use serde_json::{Map, Value, json};

use super::claim::owner;
use super::renew::{HeldStep, check};
use super::{lost, member_of};
use crate::domain::run::step::lease::{self, LeaseEnd, Settler};
use crate::domain::run::step::{Change, judge};
use crate::domain::run::{self as runs, advance, dependents, snapshot};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::stuck::{self, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits, storable, validate};
use crate::transact;

/// The outcome of a step, reported by its worker.
#[derive(Clone, Debug)]
pub enum WorkerOutcome {
    /// Done, with a result.
    Done(Value),
    /// Done, with a result, and its usage (tokens, cost).
    Generated(Value, Value),
    /// Failed: the error, true if it may be retried, and the minimum delay before that.
    Failed(String, bool, Option<std::time::Duration>),
    /// Returned to the queue unchanged: the claim's response did not reach the worker.
    GivenBack,
}

/// The reason of a step that was returned to the queue.
const UNDELIVERED: &str = "the response to the claim had no room for it, or did not arrive";

/// Returns claimed steps to the queue that could not be delivered to their worker: the next claim
/// gets them at once.
pub async fn give_back(db: &Db, agent: &Agent, held: Vec<HeldStep>) {
    // Not under the request's idempotency key: this undoes the request's failure.
    let plain = db.write();
    let mut ends = held.into_iter().map(|held| (held, WorkerOutcome::GivenBack)).collect::<Vec<_>>();
    while !ends.is_empty() {
        let rest = ends.split_off(ends.len().min(limits::CLAIM_MAX as usize));
        if let Err(err) = settle(&plain, agent, None, &ends).await {
            tracing::warn!(error = %err, steps = ends.len(), "returning claimed steps to the queue failed; their leases will expire");
        }
        ends = rest;
    }
}

/// The result of a settle: the step's new state, or the reason for its rejection.
pub type Settled = std::result::Result<step::Model, Refusal>;

/// Refuses to settle steps that no agent holds.
pub async fn refuse_all(db: &Db, viewer: &Viewer, ends: &[(HeldStep, WorkerOutcome)]) -> Result<Vec<Settled>> {
    check(ends.iter().map(|(held, _)| held))?;
    let ids: Vec<StepId> = ends.iter().map(|(held, _)| held.id).collect();
    let known = runs::step::find_all(db.read(), viewer, &ids).await?;
    let refuse = |id: &StepId| match known.iter().any(|step| step.id == *id) {
        true => lost("no agent holds it"),
        false => Refusal::not_found("step", id),
    };
    Ok(ids.iter().map(|id| Err(refuse(id))).collect())
}

/// Settles steps that a worker holds, each run's steps in one transaction. A step that the worker
/// no longer holds is rejected with CONFLICT and `reason: LEASE_LOST`; a result that violates its
/// schema with BAD_USER_INPUT, and the worker keeps the lease. `by` is the worker's credential; none
/// for Sortie's own workers.
pub async fn settle(
    db: &WriteContext,
    agent: &Agent,
    by: Option<&Viewer>,
    ends: &[(HeldStep, WorkerOutcome)],
) -> Result<Vec<Settled>> {
    check(ends.iter().map(|(held, _)| held))?;
    let viewer = &Viewer { actor: crate::domain::plan::agent::actor(agent), ..Viewer::engine(agent.org_id) };
    let ids: Vec<StepId> = ends.iter().map(|(held, _)| held.id).collect();
    let known: HashMap<StepId, step::Model> =
        runs::step::find_all(db.read(), viewer, &ids).await?.into_iter().map(|step| (step.id, step)).collect();
    let verdicts = verdicts(db, agent, viewer, &known, ends).await?;
    let mut by_run: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
    let mut outcomes: Vec<Settled> = Vec::with_capacity(ends.len());
    for (i, (held, _)) in ends.iter().enumerate() {
        outcomes.push(Err(Refusal::not_found("step", held.id)));
        if let Some(step) = known.get(&held.id) {
            by_run.entry(step.run_id).or_default().push(i);
        }
    }
    if by_run.len() > 1 && db.idempotency().is_some() {
        let why = "can't be used with steps of several runs, which are settled one run after the other. Leave it out: a token settles only once";
        return Err(Refusal::input("idempotencyKey", why).into());
    }
    // The record of a failure is not an effect of the request: it carries no idempotency key, and
    // no audit entry, which would say that the request was done.
    let plain = db.without_request();
    let mut over: Vec<StepId> = Vec::new();
    for (run_id, mine) in by_run {
        let mut is_recorded = false;
        let mut open: Vec<&[usize]> = vec![&mine];
        while let Some(part) = open.pop() {
            let (done, refused) = match settle_of_run(db, agent, (viewer, by), run_id, (ends, &verdicts), part).await {
                Ok(settled) => settled,
                // Bisect, so that one failing step does not prevent the others from being settled.
                Err(err @ Error::Internal(_))
                    if !err.is_transient() && part.len() > 1 && db.idempotency().is_none() =>
                {
                    log_failure!(warn, err, steps = part.len(), "settling a worker's steps failed; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                    continue;
                }
                Err(err @ Error::Internal(_)) if !err.is_transient() => {
                    // One entry per run is enough.
                    if !is_recorded {
                        let step = ends[part[0]].0.id;
                        stuck::failed(&plain, WorkItem::of_step(agent.org_id, run_id, step), &err).await;
                        is_recorded = true;
                    }
                    if db.idempotency().is_some() {
                        return Err(err);
                    }
                    let refusal =
                        Refusal::conflict(format!("settling failed, the lease is unchanged: {}", err.public_message()));
                    outcomes[part[0]] = Err(refusal);
                    continue;
                }
                Err(err) => return Err(err),
            };
            for (i, step) in done {
                let outcome = match (&ends[i].1, step.status) {
                    (WorkerOutcome::GivenBack, _) => "given back",
                    (_, StepStatus::Completed | StepStatus::AwaitingApproval) => "done",
                    _ => "failed",
                };
                metrics::counter!("sortie_steps_settled_total", "kind" => "outside", "outcome" => outcome).increment(1);
                over.push(step.id);
                outcomes[i] = Ok(step);
            }
            for (i, refusal) in refused {
                outcomes[i] = Err(refusal);
            }
        }
    }
    if let Err(err) = stuck::settled(&plain, &over).await {
        log_failure!(warn, err, "clearing the stuck entries of settled steps failed");
    }
    Ok(outcomes)
}

/// The settled and the rejected steps of one run, by their index in the request.
type OfRun = (Vec<(usize, step::Model)>, Vec<(usize, Refusal)>);

/// Settles steps of one run in one transaction.
async fn settle_of_run(
    db: &WriteContext,
    agent: &Agent,
    (viewer, by): (&Viewer, Option<&Viewer>),
    run_id: RunId,
    (ends, verdicts): (&[(HeldStep, WorkerOutcome)], &[Verdict]),
    mine: &[usize],
) -> Result<OfRun> {
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let snapshot = snapshot::of(tx.db(), &run).await?;
        let ids: Vec<StepId> = mine.iter().map(|i| ends[*i].0.id).collect();
        let steps = runs::step::find_all(tx.db(), viewer, &ids).await?;
        let mut refused: Vec<(usize, Refusal)> = Vec::new();
        let mut by_owner: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        let approved = |step: &step::Model| snapshot.step(&step.key).is_some_and(|(_, of)| of.approval.is_some());
        let by = by.filter(|_| steps.iter().any(approved));
        let settler = Settler { actor: viewer.actor(), member_id: member_of(tx.db(), by).await? };
        for i in mine.iter().copied() {
            let (held, end) = &ends[i];
            let step = steps.iter().find(|step| step.id == held.id);
            let step = step.ok_or_else(|| Error::internal("a step is missing"))?;
            match check_end(tx.now(), agent, step, held, end, &verdicts[i]) {
                Err(refusal) => refused.push((i, refusal)),
                Ok(owner) => {
                    let costed;
                    let ended = match end {
                        WorkerOutcome::Done(result) => LeaseEnd::Done(result),
                        WorkerOutcome::Generated(result, usage) => {
                            costed = with_usage(result, usage);
                            LeaseEnd::Done(&costed)
                        }
                        WorkerOutcome::Failed(why, again, after) => LeaseEnd::Failed(why, *again, *after),
                        WorkerOutcome::GivenBack => LeaseEnd::Later(tx.now(), UNDELIVERED),
                    };
                    let declared = snapshot.step(&step.key).map(|(_, declared)| declared);
                    let row = lease::row(tx, &run, step, ended, declared, &settler);
                    by_owner.entry(owner).or_default().push((i, row));
                }
            }
        }
        let mut done: Vec<(usize, step::Model)> = Vec::new();
        for (owner, rows) in by_owner {
            let indexes: Vec<usize> = rows.iter().map(|(i, _)| *i).collect();
            let rows = lease::update(tx, &owner, rows.into_iter().map(|(_, row)| row).collect()).await?;
            done.extend(
                rows.into_iter()
                    .filter_map(|row| Some((indexes.iter().copied().find(|i| ends[*i].0.id == row.id)?, row))),
            );
        }
        let changes: Vec<Change> = done.iter().map(|(_, step)| lease::settled(step)).collect();
        if !changes.is_empty() {
            runs::step::record_changes(tx, &run, &viewer.actor(), &changes).await?;
            dependents::advance(tx, &run, &snapshot, &changes).await?;
            runs::interrupt::settled(tx, viewer, &run, done.iter().map(|(_, step)| step)).await?;
            if run.status == entity::RunStatus::Cancelled {
                let recipients: Vec<RunRecordId> = done.iter().filter_map(|(_, step)| step.run_record_id).collect();
                runs::sweep::cancel::settled(tx, viewer, &run, &recipients).await?;
                runs::unhandled_replies::follow_up(tx, viewer, &run, done.iter().map(|(_, step)| step)).await?;
            }
            advance::advance(tx, &Viewer::engine(agent.org_id), run).await?;
        }
        for i in mine.iter().copied() {
            if !done.iter().any(|(of, _)| *of == i) && !refused.iter().any(|(of, _)| *of == i) {
                refused.push((i, lost("another worker has claimed it")));
            }
        }
        if let Some((_, step)) = done.first() {
            tx.set_result(step.id);
            tx.set_result_detail(refusals(refused.iter().map(|(i, refusal)| (ends[*i].0.id, refusal))));
        }
        crate::kernel::failpoint::reach("settling");
        Ok((done, refused))
    })
}

/// The refusals of a request, by step: what a repeated request returns for steps that the first one
/// did not settle.
fn refusals<'a>(refused: impl Iterator<Item = (StepId, &'a Refusal)>) -> Value {
    let shown = |refusal: &Refusal| json!({ "code": refusal.code.as_str(), "message": refusal.message });
    refused.map(|(id, refusal)| (id.to_string(), shown(refusal))).collect::<Map<String, Value>>().into()
}

/// Adds the usage to a result.
fn with_usage(result: &Value, usage: &Value) -> Value {
    let mut all = result.clone();
    if let Some(fields) = all.as_object_mut() {
        fields.insert("usage".into(), usage.clone());
    }
    all
}

/// Outcome of checking a result; none if the step was not held by that token.
type Verdict = Option<std::result::Result<(), Refusal>>;

/// Checks results against their schemas, before any transaction: neither the snapshot of a run that
/// has started nor the step of a lease token changes. All results share the time limit of one evaluation.
async fn verdicts(
    db: &Db,
    agent: &Agent,
    viewer: &Viewer,
    known: &HashMap<StepId, step::Model>,
    ends: &[(HeldStep, WorkerOutcome)],
) -> Result<Vec<Verdict>> {
    let runs: BTreeSet<RunId> = known.values().map(|step| step.run_id).collect();
    let snapshots = snapshot::of_begun(db.read(), viewer, &Vec::from_iter(runs)).await?;
    let mut verdicts: Vec<Verdict> = ends.iter().map(|_| None).collect();
    let mut judged = Vec::new();
    for (i, (held, end)) in ends.iter().enumerate() {
        let step = known.get(&held.id).filter(|step| step.lease_token.as_ref() == Some(&held.token));
        let Some((step, snapshot)) = step.and_then(|step| Some((step, snapshots.get(&step.run_id)?))) else { continue };
        match end {
            WorkerOutcome::Done(result) | WorkerOutcome::Generated(result, _) => {
                let declared = snapshot.step(&step.key).map(|(_, declared)| declared);
                let by_schema = agent.output_schema.is_some() || declared.is_some_and(|of| of.result_schema.is_some());
                match by_schema {
                    true => judged.push((i, snapshot.clone(), step.key.clone(), result.clone())),
                    false => verdicts[i] = Some(check(declared, None, result)),
                }
            }
            WorkerOutcome::Failed(..) | WorkerOutcome::GivenBack => verdicts[i] = Some(Ok(())),
        }
    }
    if judged.is_empty() {
        return Ok(verdicts);
    }
    let schema = agent.output_schema.clone();
    let judge = move |until: Instant| {
        let each = judged.into_iter().map(|(i, snapshot, key, result)| {
            if Instant::now() > until {
                let message = "the results take too long to judge by their schemas: settle fewer at once";
                return (i, Err(Refusal::limit_for_field("steps", message)));
            }
            (i, check(snapshot.step(&key).map(|(_, declared)| declared), schema.as_ref(), &result))
        });
        each.collect::<Vec<_>>()
    };
    for (i, verdict) in budget::run_here(judge).await? {
        verdicts[i] = Some(verdict);
    }
    return Ok(verdicts);

    fn check(declared: Option<&StepDef>, agents: Option<&Value>, result: &Value) -> std::result::Result<(), Refusal> {
        storable::json(result).map_err(|unfit| unfit.of("result"))?;
        judge::check_result(declared, agents, result).map_err(|err| match err {
            Error::Refused(refusal) => refusal,
            other => Refusal::input("result", other.to_string()),
        })
    }
}

/// Checks that the worker holds the step and that its outcome is valid. Returns the lease's owner.
fn check_end(
    now: DateTime<Utc>,
    agent: &Agent,
    step: &step::Model,
    held: &HeldStep,
    end: &WorkerOutcome,
    verdict: &Verdict,
) -> std::result::Result<String, Refusal> {
    let owned = step.lease_owner.clone().filter(|name| name.starts_with(&owner(agent, "")));
    let owned =
        owned.filter(|_| step.status == StepStatus::InProgress && step.lease_token.as_ref() == Some(&held.token));
    let Some(owned) = owned else { return Err(lost(&format!("it is {}", step.status))) };
    if step.lease_expires_at.is_none_or(|at| at < now) {
        return Err(lost("its lease has expired"));
    }
    match end {
        WorkerOutcome::Done(_) | WorkerOutcome::Generated(..) => match verdict {
            Some(verdict) => verdict.clone()?,
            None => return Err(lost("it was claimed again meanwhile")),
        },
        WorkerOutcome::GivenBack => {}
        WorkerOutcome::Failed(why, ..) => {
            if validate::is_blank(why) || why.chars().count() > limits::TEXT_CHARS {
                let message = format!("must have 1 to {} characters", limits::TEXT_CHARS);
                return Err(Refusal::input("error", message));
            }
            storable::text(why).map_err(|unfit| unfit.of("error"))?;
        }
    }
    Ok(owned)
}
