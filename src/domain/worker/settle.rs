//! What workers outside do with the steps that they hold: renew their leases, and settle.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::id::*;
use entity::step::{self, StepStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::claim::owner;
use crate::domain::run::step::lease::{self, LeaseEnd};
use crate::domain::run::step::{Change, transition};
use crate::domain::run::{self as runs, advance, dependents, snapshot};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::stuck::{self, WorkItem};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};
use crate::transact;

/// Something that a worker holds, as it names it.
#[derive(Clone, Debug)]
pub struct HeldStep {
    /// The step.
    pub id: StepId,
    /// The token of the claim.
    pub token: String,
}

/// Renews leases: each step with its new end, or none where it is not held any more.
pub async fn renew(
    db: &Db,
    agent: &Agent,
    held: &[HeldStep],
    lease: std::time::Duration,
) -> Result<Vec<(StepId, Option<DateTime<Utc>>)>> {
    check(held.iter())?;
    let renewed: Vec<(StepId, Option<DateTime<Utc>>)> = transact!(db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(lease).map_err(Error::ours)?;
        let rows = step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(until))
            .filter(step::COLUMN.org_id.eq(agent.org_id))
            .filter(any_of(tx.dialect(), step::COLUMN.id, held.iter().map(|one| one.id)))
            .filter(any_of(tx.dialect(), step::COLUMN.lease_token, held.iter().map(|one| one.token.clone())))
            .filter(step::COLUMN.lease_owner.starts_with(owner(agent, "")))
            .filter(step::COLUMN.lease_expires_at.gte(tx.now()))
            .filter(step::COLUMN.status.eq(StepStatus::InProgress))
            .exec_with_returning(tx.db())
            .await?;
        let fits =
            |one: &HeldStep| rows.iter().any(|row| row.id == one.id && row.lease_token.as_ref() == Some(&one.token));
        Ok(held.iter().map(|one| (one.id, fits(one).then_some(until))).collect())
    })?;
    Ok(renewed)
}

/// How many there are, and that none comes twice: of two ends of one step it would not be clear which is meant.
fn check<'a>(steps: impl ExactSizeIterator<Item = &'a HeldStep>) -> Result<()> {
    if steps.len() == 0 || steps.len() as u64 > limits::TAKE {
        return Err(Refusal::too_much("steps", format!("1 to {}", limits::TAKE)).into());
    }
    let mut seen = HashSet::new();
    for (i, held) in steps.enumerate() {
        if !seen.insert(held.id) {
            return Err(Refusal::input(&format!("steps[{i}].id"), format!("{} comes twice", held.id)).into());
        }
    }
    Ok(())
}

/// How a worker ended with a step.
#[derive(Clone, Debug)]
pub enum WorkerOutcome {
    /// Done, with a result.
    Done(Value),
    /// Done, with a result, and beside it what that cost.
    Generated(Value, Value),
    /// It failed; whether it may succeed later, and not before so long.
    Failed(String, bool, Option<std::time::Duration>),
    /// Given back as it was: whoever claimed it was never told.
    GivenBack,
}

/// Why a step went back into the queue that was claimed for nobody.
const UNTOLD: &str = "the answer that it was claimed in did not have room for it, or did not arrive";

/// Gives claimed steps back that their worker can't be told of: the next claim gets them at once.
pub async fn give_back(db: &Db, agent: &Agent, held: Vec<HeldStep>) {
    // Not in the name of what was asked: it is its failure that is undone.
    let plain = db.once(None).noted(None);
    let mut ends = held.into_iter().map(|held| (held, WorkerOutcome::GivenBack)).collect::<Vec<_>>();
    while !ends.is_empty() {
        let rest = ends.split_off(ends.len().min(limits::TAKE as usize));
        if let Err(err) = settle(&plain, agent, &ends).await {
            tracing::warn!(error = %err, steps = ends.len(), "claimed steps could not be given back; their leases lapse");
        }
        ends = rest;
    }
}

/// What came of a settle: the step as it is now, or why it was refused.
pub type Settled = std::result::Result<step::Model, Refusal>;

/// Settles what a worker holds, each run's steps in one transaction. Who comes late, or holds something else, is refused:
/// CONFLICT with `reason: LEASE_LOST`; a result that does not meet its schema with BAD_USER_INPUT, and it stays held.
pub async fn settle(db: &Db, agent: &Agent, ends: &[(HeldStep, WorkerOutcome)]) -> Result<Vec<Settled>> {
    check(ends.iter().map(|(held, _)| held))?;
    let viewer = &Viewer { actor: crate::domain::plan::agent::actor(agent), ..Viewer::engine(agent.org_id) };
    let ids: Vec<StepId> = ends.iter().map(|(held, _)| held.id).collect();
    let known: HashMap<StepId, step::Model> =
        runs::step::find_all(db.read(), viewer, &ids).await?.into_iter().map(|step| (step.id, step)).collect();
    let mut by_run: BTreeMap<RunId, Vec<usize>> = BTreeMap::new();
    let mut outcomes: Vec<Settled> = Vec::with_capacity(ends.len());
    for (i, (held, _)) in ends.iter().enumerate() {
        outcomes.push(Err(Refusal::not_found("step", held.id)));
        if let Some(step) = known.get(&held.id) {
            by_run.entry(step.run_id).or_default().push(i);
        }
    }
    if by_run.len() > 1 && db.idempotency().is_some() {
        let why = "is for steps of one run: those of several are settled one run after the other. Leave it out: a token settles once";
        return Err(Refusal::input("idempotencyKey", why).into());
    }
    // What is kept of failures is no effect of what is asked: it carries no key.
    let plain = db.once(None);
    let mut over: Vec<StepId> = Vec::new();
    for (run_id, mine) in by_run {
        let mut is_kept = false;
        let mut open: Vec<&[usize]> = vec![&mine];
        while let Some(part) = open.pop() {
            let (done, refused) = match settle_of_run(db, agent, viewer, run_id, ends, part).await {
                Ok(settled) => settled,
                // One that can't be settled stays alone: the others are.
                Err(err @ Error::Ours(_)) if !err.passes() && part.len() > 1 && db.idempotency().is_none() => {
                    log_failure!(warn, err, steps = part.len(), "a worker's steps could not be settled; trying halves");
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                    continue;
                }
                Err(err @ Error::Ours(_)) if !err.passes() => {
                    // One of each run is enough to show it.
                    if !is_kept {
                        let step = ends[part[0]].0.id;
                        stuck::failed(&plain, WorkItem::of_step(agent.org_id, run_id, step), &err).await;
                        is_kept = true;
                    }
                    if db.idempotency().is_some() {
                        return Err(err);
                    }
                    let told = Refusal::conflict(format!("it could not be settled, and stays yours: {}", err.told()));
                    outcomes[part[0]] = Err(told);
                    continue;
                }
                Err(err) => return Err(err),
            };
            for i in part {
                outcomes[*i] = Err(lost("somebody else has it"));
            }
            for (i, step) in done {
                let outcome = match (&ends[i].1, step.status) {
                    (WorkerOutcome::GivenBack, _) => "given back",
                    (_, StepStatus::Completed) => "done",
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
        log_failure!(warn, err, "settles that pass again are still kept as stuck");
    }
    Ok(outcomes)
}

/// What came of some of a run's steps: those that are settled, and those that are refused, by their places in the list.
type OfRun = (Vec<(usize, step::Model)>, Vec<(usize, Refusal)>);

/// Settles steps of one run in one transaction.
async fn settle_of_run(
    db: &Db,
    agent: &Agent,
    viewer: &Viewer,
    run_id: RunId,
    ends: &[(HeldStep, WorkerOutcome)],
    mine: &[usize],
) -> Result<OfRun> {
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let snapshot = snapshot::of(tx.db(), &run).await?;
        let ids: Vec<StepId> = mine.iter().map(|i| ends[*i].0.id).collect();
        let steps = runs::step::find_all(tx.db(), viewer, &ids).await?;
        let mut refused: Vec<(usize, Refusal)> = Vec::new();
        let mut by_owner: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
        for i in mine.iter().copied() {
            let (held, end) = &ends[i];
            let step = steps.iter().find(|step| step.id == held.id);
            let step = step.ok_or_else(|| Error::ours("a step went away"))?;
            match judge(tx.now(), agent, &snapshot, step, held, end) {
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
                        WorkerOutcome::GivenBack => LeaseEnd::Later(tx.now(), UNTOLD),
                    };
                    let how = snapshot.step(&step.key).and_then(|(_, declared)| declared.retry);
                    let row = lease::row(tx, &run, step, ended, how, &viewer.actor());
                    by_owner.entry(owner).or_default().push((i, row));
                }
            }
        }
        let mut done: Vec<(usize, step::Model)> = Vec::new();
        for (owner, rows) in by_owner {
            let places: Vec<usize> = rows.iter().map(|(i, _)| *i).collect();
            let rows = lease::update(tx, &owner, rows.into_iter().map(|(_, row)| row).collect()).await?;
            done.extend(
                rows.into_iter()
                    .filter_map(|row| Some((places.iter().copied().find(|i| ends[*i].0.id == row.id)?, row))),
            );
        }
        let changes: Vec<Change> = done.iter().map(|(_, step)| lease::settled(step)).collect();
        if !changes.is_empty() {
            runs::step::note(tx, &run, &viewer.actor(), &changes).await?;
            dependents::advance(tx, &run, &snapshot, &changes).await?;
            runs::interrupt::settled(tx, viewer, &run, done.iter().map(|(_, step)| step)).await?;
            if run.status == entity::RunStatus::Cancelled {
                let places: Vec<RunRecordId> = done.iter().filter_map(|(_, step)| step.run_record_id).collect();
                runs::sweep::cancel::settled(tx, viewer, &run, &places).await?;
                runs::sweep::replies::follow_up(tx, viewer, &run, done.iter().map(|(_, step)| step)).await?;
            }
            advance::advance(tx, &Viewer::engine(agent.org_id), run).await?;
        }
        if let Some((_, step)) = done.first() {
            tx.set_result(step.id);
        }
        crate::kernel::failpoint::reach("settling");
        Ok((done, refused))
    })
}

/// A result with its cost beside it.
fn with_usage(result: &Value, usage: &Value) -> Value {
    let mut all = result.clone();
    if let Some(fields) = all.as_object_mut() {
        fields.insert("usage".into(), usage.clone());
    }
    all
}

pub(super) fn lost(why: &str) -> Refusal {
    Refusal::conflict(format!("this step is not yours any more: {why}")).with("reason", json!("LEASE_LOST"))
}

/// Whether a worker holds a step, and its result is what it must be. The lease's owner comes back.
fn judge(
    now: DateTime<Utc>,
    agent: &Agent,
    snapshot: &snapshot::RunSnapshot,
    step: &step::Model,
    held: &HeldStep,
    end: &WorkerOutcome,
) -> std::result::Result<String, Refusal> {
    let owned = step.lease_owner.clone().filter(|name| name.starts_with(&owner(agent, "")));
    let owned =
        owned.filter(|_| step.status == StepStatus::InProgress && step.lease_token.as_ref() == Some(&held.token));
    let Some(owned) = owned else { return Err(lost(&format!("it is {}", step.status))) };
    if step.lease_expires_at.is_none_or(|at| at < now) {
        return Err(lost("its lease has run out"));
    }
    match end {
        WorkerOutcome::Done(result) | WorkerOutcome::Generated(result, _) => {
            storable::json(result).map_err(|unfit| unfit.of("result"))?;
            let declared = snapshot.step(&step.key).map(|(_, declared)| declared);
            transition::check_result(declared, agent.output_schema.as_ref(), result).map_err(|err| match err {
                Error::Refused(refusal) => refusal,
                other => Refusal::input("result", other.to_string()),
            })?;
        }
        WorkerOutcome::GivenBack => {}
        WorkerOutcome::Failed(why, ..) => {
            if why.trim().is_empty() || why.chars().count() > limits::TEXT_CHARS {
                let told = format!("say why, in 1 to {} characters", limits::TEXT_CHARS);
                return Err(Refusal::input("error", told));
            }
            storable::text(why).map_err(|unfit| unfit.of("error"))?;
        }
    }
    Ok(owned)
}
