//! What workers outside do: claim steps that their agent's filter admits, renew, and settle what they hold.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::id::*;
use entity::step::{self, Executor, StepStatus};
use entity::{AgentKind, record, run, task};
use rand::Rng;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Statement};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::condition::Condition;
use crate::db::Db;
use crate::error::{Error, Refusal, Result};
use crate::run::step::hold::{self, Ended, Holder};
use crate::run::step::{Change, act};
use crate::run::{self as runs, advance, brief, follow};
use crate::viewer::Viewer;
use crate::{input, limits, transact};

/// What is to be claimed.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The worker's own name, beside its agent's.
    pub worker: String,
    /// Of these types only.
    pub types: Option<Vec<String>>,
    /// Of these runs only.
    pub runs: Option<Vec<RunId>>,
    /// At most so many.
    pub limit: u64,
    /// For so long.
    pub lease: std::time::Duration,
}

/// A step that was claimed.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The step.
    pub step: step::Model,
    /// Its run.
    pub run: Arc<run::Model>,
    /// What the worker shows when it settles.
    pub token: String,
}

/// Those who claim at one node do it one after the other: they would find the same steps.
static TURN: LazyLock<Mutex<()>> = LazyLock::new(|| Mutex::new(()));

/// The agent as whom a viewer takes steps: its own, or one that is named by somebody who may work steps.
pub async fn agent_of(db: &Db, viewer: &Viewer, named: Option<&str>) -> Result<Agent> {
    match (viewer.actor.agent_id, named) {
        (Some(id), None) => super::must_find(db.read(), viewer, id).await,
        (Some(id), Some(name)) => {
            let own = super::must_find(db.read(), viewer, id).await?;
            if own.name == name { Ok(own) } else { Err(Refusal::input("agent", "your key is another agent's").into()) }
        }
        (None, Some(name)) => super::by_name(db.read(), viewer, name).await,
        (None, None) => Err(Refusal::input("agent", "say as which agent; an agent's key does").into()),
    }
}

/// Claims steps that the agent's filter admits, the longest waiting first. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
pub async fn claim(db: &Db, agent: &Agent, wanted: &Wanted) -> Result<Vec<Taken>> {
    let worker = input::name("worker", &wanted.worker)?;
    if wanted.limit == 0 || wanted.limit > limits::TAKE {
        return Err(Refusal::limit(format!("limit: 1 to {}", limits::TAKE)).into());
    }
    let filter = Condition::parse(&agent.filter).map_err(|why| Refusal::input("filter", why))?;
    let _mine = TURN.lock().await;
    let mut taken = Vec::new();
    let mut look = Look { agent, wanted, filter: &filter, not: Vec::new(), groups: HashMap::new(), lost: Vec::new() };
    for _ in 0..limits::TAKE_LOOKS {
        let left = wanted.limit - taken.len() as u64;
        let Some(found) = look.candidates(db, left).await? else { break };
        if found.is_empty() {
            continue;
        }
        let token = token();
        let holder = |now: DateTime<Utc>| -> Result<Holder> {
            Ok(Holder {
                owner: owner(agent, &worker),
                token: Some(token.clone()),
                until: now + chrono::Duration::from_std(wanted.lease).map_err(Error::ours)?,
                actor: super::actor(agent),
            })
        };
        let claimed = transact!(db, |tx| hold::claim(tx, &found, &holder(tx.now())?).await)?;
        // Who was faster elsewhere has the others.
        let got: Vec<StepId> = claimed.iter().map(|(step, _)| step.id).collect();
        look.lost.extend(found.iter().map(|(id, _)| *id).filter(|id| !got.contains(id)));
        metrics::counter!("sortie_steps_claimed_total", "kind" => "outside").increment(claimed.len() as u64);
        taken.extend(claimed.into_iter().map(|(step, run)| Taken { step, run, token: token.clone() }));
        if taken.len() as u64 >= wanted.limit {
            break;
        }
    }
    Ok(taken)
}

fn owner(agent: &Agent, worker: &str) -> String {
    format!("{}/{worker}", agent.id)
}

fn token() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A look through the queue. What steps of one task and key have in common is judged once.
struct Look<'a> {
    agent: &'a Agent,
    wanted: &'a Wanted,
    filter: &'a Condition,
    /// Tasks and keys that the filter does not admit.
    not: Vec<(TaskId, String)>,
    groups: HashMap<(TaskId, String), bool>,
    lost: Vec<StepId>,
}

impl Look<'_> {
    /// Steps that look claimable and that the filter admits; none where there are no more.
    async fn candidates(&mut self, db: &Db, most: u64) -> Result<Option<Vec<(StepId, RunId)>>> {
        let per_record = self.filter.mentions("record");
        let mut sql =
            "SELECT s.id, s.run_id, s.task_id, s.key, s.name, s.kind, s.assigned_to, s.record_id, s.attempt_count, \
             p.key, p.name, r.name, r.type, r.campaign_name FROM step s JOIN run r ON r.id = s.run_id \
             JOIN campaign c ON c.id = r.campaign_id JOIN phase p ON p.id = s.phase_id \
             WHERE s.org_id = $1 AND s.status = 'QUEUED' AND s.outside AND s.available_at <= $2 AND s.assigned_to = $3 \
             AND (s.assignee_id IS NULL OR s.assignee_id = $4) AND r.status = 'IN_PROGRESS' AND c.status <> 'PAUSED' \
             AND p.status = 'ACTIVE'"
                .to_owned();
        let does = if self.agent.kind == AgentKind::Function { Executor::Workflow } else { Executor::Agent };
        let mut values: Vec<sea_orm::Value> =
            vec![self.agent.org_id.into(), db.now().into(), does.to_string().into(), self.agent.id.into()];
        let mut bind = |value: sea_orm::Value| {
            values.push(value);
            format!("${}", values.len())
        };
        for (task, key) in &self.not {
            sql += &format!(" AND NOT (s.task_id = {} AND s.key = {})", bind((*task).into()), bind(key.clone().into()));
        }
        let mut one_of = |column: &str, not: &str, all: Vec<sea_orm::Value>| {
            let all: Vec<String> = all.into_iter().map(&mut bind).collect();
            if all.is_empty() { String::new() } else { format!(" AND {column} {not}IN ({})", all.join(", ")) }
        };
        let types = self.wanted.types.iter().flatten().map(|kind| kind.clone().into()).collect();
        sql += &one_of("s.kind", "", types);
        sql += &one_of("s.run_id", "", self.wanted.runs.iter().flatten().map(|id| (*id).into()).collect());
        sql += &one_of("s.id", "NOT ", self.lost.iter().map(|id| (*id).into()).collect());
        let page = if per_record { limits::TAKE.max(most) } else { most };
        sql += &format!(" ORDER BY s.available_at, s.id LIMIT {page}");
        let backend = db.read().get_database_backend();
        let rows = db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            found.push(Candidate {
                id: row.try_get_by_index(0)?,
                run_id: row.try_get_by_index(1)?,
                task_id: row.try_get_by_index(2)?,
                key: row.try_get_by_index(3)?,
                name: row.try_get_by_index(4)?,
                kind: row.try_get_by_index(5)?,
                assigned_to: row.try_get_by_index(6)?,
                record_id: row.try_get_by_index(7)?,
                attempt: row.try_get_by_index(8)?,
                phase: json!({ "key": row.try_get_by_index::<String>(9)?, "name": row.try_get_by_index::<String>(10)? }),
                run: json!({
                    "name": row.try_get_by_index::<String>(11)?,
                    "type": row.try_get_by_index::<String>(12)?,
                    "campaign": row.try_get_by_index::<String>(13)?,
                }),
            });
        }
        Ok(Some(self.admitted(db, found, per_record, most).await?))
    }

    async fn admitted(
        &mut self,
        db: &Db,
        found: Vec<Candidate>,
        per_record: bool,
        most: u64,
    ) -> Result<Vec<(StepId, RunId)>> {
        let ids: Vec<TaskId> = found.iter().map(|one| one.task_id).collect();
        let tasks: HashMap<TaskId, task::Model> = if self.filter.mentions("task") {
            let rows = task::Entity::find().filter(task::COLUMN.id.is_in(ids)).all(db.read()).await?;
            rows.into_iter().map(|row| (row.id, row)).collect()
        } else {
            HashMap::new()
        };
        let mut records: HashMap<RecordId, Value> = HashMap::new();
        if per_record {
            let ids: Vec<RecordId> = found.iter().filter_map(|one| one.record_id).collect();
            let rows = record::Entity::find()
                .filter(record::COLUMN.org_id.eq(self.agent.org_id))
                .filter(record::COLUMN.id.is_in(ids))
                .all(db.read())
                .await?;
            records.extend(rows.into_iter().map(|row| (row.id, Value::Object(crate::content::values(Some(&row))))));
        }
        let mut admitted = Vec::new();
        for one in found {
            let group = (one.task_id, one.key.clone());
            let known = if per_record { None } else { self.groups.get(&group).copied() };
            let admits = known.unwrap_or_else(|| {
                let record = one.record_id.and_then(|id| records.get(&id)).cloned();
                let values = one.values(tasks.get(&one.task_id), record);
                // One that can't be judged is not admitted.
                self.filter.holds(&values).unwrap_or(false)
            });
            if !per_record {
                self.groups.insert(group.clone(), admits);
            }
            if admits {
                if (admitted.len() as u64) < most {
                    admitted.push((one.id, one.run_id));
                }
            } else if per_record {
                self.lost.push(one.id);
            } else if !self.not.contains(&group) {
                self.not.push(group);
            }
        }
        Ok(admitted)
    }
}

struct Candidate {
    id: StepId,
    run_id: RunId,
    task_id: TaskId,
    key: String,
    name: String,
    kind: String,
    assigned_to: String,
    record_id: Option<RecordId>,
    attempt: i32,
    phase: Value,
    run: Value,
}

impl Candidate {
    /// What a filter may speak of.
    fn values(&self, task: Option<&task::Model>, record: Option<Value>) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert("step".into(), step_values(&self.key, &self.name, &self.kind, &self.assigned_to, self.attempt));
        let task = task.map_or_else(|| json!({}), |task| json!({ "key": task.key, "name": task.name }));
        all.insert("task".into(), task);
        all.insert("phase".into(), self.phase.clone());
        all.insert("run".into(), self.run.clone());
        all.insert("record".into(), record.unwrap_or_else(|| json!({})));
        all
    }
}

/// What a filter may speak of in a step. Who does it, as the hierarchy's own texts write it: `agent`, `workflow`.
pub fn step_values(key: &str, name: &str, kind: &str, assigned_to: &str, attempt: i32) -> Value {
    let does = assigned_to.to_lowercase();
    json!({ "key": key, "name": name, "type": kind, "assigned_to": does, "assignedTo": does, "attempt": attempt })
}

/// Something that a worker holds, as it names it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The step.
    pub id: StepId,
    /// The token of the claim.
    pub token: String,
}

/// Renews leases: each step with its new end, or none where it is not held any more.
pub async fn renew(
    db: &Db,
    agent: &Agent,
    held: &[Held],
    lease: std::time::Duration,
) -> Result<Vec<(StepId, Option<DateTime<Utc>>)>> {
    check_count(held.len())?;
    let renewed: Vec<(StepId, Option<DateTime<Utc>>)> = transact!(db, |tx| {
        let until = tx.now() + chrono::Duration::from_std(lease).map_err(Error::ours)?;
        let rows = step::Entity::update_many()
            .col_expr(step::Column::LeaseExpiresAt, Expr::value(until))
            .filter(step::COLUMN.org_id.eq(agent.org_id))
            .filter(step::COLUMN.id.is_in(held.iter().map(|one| one.id)))
            .filter(step::COLUMN.lease_token.is_in(held.iter().map(|one| one.token.clone())))
            .filter(step::COLUMN.lease_owner.starts_with(owner(agent, "")))
            .filter(step::COLUMN.lease_expires_at.gte(tx.now()))
            .filter(step::COLUMN.status.eq(StepStatus::InProgress))
            .exec_with_returning(tx.db())
            .await?;
        let fits = |one: &Held| rows.iter().any(|row| row.id == one.id && row.lease_token.as_ref() == Some(&one.token));
        Ok(held.iter().map(|one| (one.id, fits(one).then_some(until))).collect())
    })?;
    Ok(renewed)
}

fn check_count(count: usize) -> Result<()> {
    if count == 0 || count as u64 > limits::TAKE {
        return Err(Refusal::limit(format!("steps: 1 to {}", limits::TAKE)).into());
    }
    Ok(())
}

/// How a worker ended with a step.
#[derive(Clone, Debug)]
pub enum End {
    /// Done, with a result.
    Done(Value),
    /// It failed; whether it may succeed later.
    Failed(String, bool),
}

/// What came of a settle: the step as it is now, or why it was refused.
pub type Settled = std::result::Result<step::Model, Refusal>;

/// Settles what a worker holds, each run's steps in one transaction. Who comes late, or holds something else, is refused:
/// CONFLICT with `reason: LEASE_LOST`; a result that does not meet its schema with BAD_USER_INPUT, and it stays held.
pub async fn settle(db: &Db, agent: &Agent, ends: &[(Held, End)]) -> Result<Vec<Settled>> {
    check_count(ends.len())?;
    let viewer = &Viewer { actor: super::actor(agent), ..Viewer::engine(agent.org_id) };
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
    for (run_id, mine) in by_run {
        let settled = transact!(db, |tx| {
            let run = runs::must_lock(tx, viewer, run_id, None).await?;
            let brief = brief::of(tx.db(), &run).await?;
            let ids: Vec<StepId> = mine.iter().map(|i| ends[*i].0.id).collect();
            let steps = runs::step::find_all(tx.db(), viewer, &ids).await?;
            let mut refused: Vec<(usize, Refusal)> = Vec::new();
            let mut by_owner: BTreeMap<String, Vec<(usize, Value)>> = BTreeMap::new();
            for i in mine.iter().copied() {
                let (held, end) = &ends[i];
                let step = steps.iter().find(|step| step.id == held.id);
                let step = step.ok_or_else(|| Error::ours("a step went away"))?;
                match judge(tx.now(), agent, &brief, step, held, end) {
                    Err(refusal) => refused.push((i, refusal)),
                    Ok(owner) => {
                        let ended = match end {
                            End::Done(result) => Ended::Done(result),
                            End::Failed(why, again) => Ended::Failed(why, *again, None),
                        };
                        let how = brief.step(&step.key).and_then(|(_, declared)| declared.retry);
                        let row = hold::row(tx, &run, step, ended, how, &viewer.actor());
                        by_owner.entry(owner).or_default().push((i, row));
                    }
                }
            }
            let mut done: Vec<(usize, step::Model)> = Vec::new();
            for (owner, rows) in by_owner {
                let places: Vec<usize> = rows.iter().map(|(i, _)| *i).collect();
                let rows = hold::update(tx, &owner, rows.into_iter().map(|(_, row)| row).collect()).await?;
                done.extend(
                    rows.into_iter()
                        .filter_map(|row| Some((places.iter().copied().find(|i| ends[*i].0.id == row.id)?, row))),
                );
            }
            let changes: Vec<Change> = done.iter().map(|(_, step)| hold::settled(step)).collect();
            if !changes.is_empty() {
                runs::step::note(tx, &run, &viewer.actor(), &changes).await?;
                follow::follow(tx, &run, &brief, &changes).await?;
                if run.status == entity::RunStatus::Cancelled {
                    let places: Vec<RunRecordId> = done.iter().filter_map(|(_, step)| step.run_record_id).collect();
                    runs::sweep::cancel::settled(tx, viewer, &run, &places).await?;
                }
                advance::advance(tx, &Viewer::engine(agent.org_id), run).await?;
            }
            if let Some((_, step)) = done.first() {
                tx.made(step.id);
            }
            crate::failpoint::reach("settling");
            Ok((done, refused))
        })?;
        let (done, refused) = settled;
        for i in mine {
            outcomes[i] = Err(lost("somebody else has it"));
        }
        for (i, step) in done {
            let outcome = if step.status == StepStatus::Completed { "done" } else { "failed" };
            metrics::counter!("sortie_steps_settled_total", "kind" => "outside", "outcome" => outcome).increment(1);
            outcomes[i] = Ok(step);
        }
        for (i, refusal) in refused {
            outcomes[i] = Err(refusal);
        }
    }
    Ok(outcomes)
}

fn lost(why: &str) -> Refusal {
    Refusal::conflict(format!("this step is not yours any more: {why}")).with("reason", json!("LEASE_LOST"))
}

/// Whether a worker holds a step, and its result is what it must be. The lease's owner comes back.
fn judge(
    now: DateTime<Utc>,
    agent: &Agent,
    brief: &brief::Brief,
    step: &step::Model,
    held: &Held,
    end: &End,
) -> std::result::Result<String, Refusal> {
    let owned = step.lease_owner.clone().filter(|name| name.starts_with(&owner(agent, "")));
    let owned =
        owned.filter(|_| step.status == StepStatus::InProgress && step.lease_token.as_ref() == Some(&held.token));
    let Some(owned) = owned else { return Err(lost(&format!("it is {}", step.status))) };
    if step.lease_expires_at.is_none_or(|at| at < now) {
        return Err(lost("its lease has run out"));
    }
    match end {
        End::Done(result) => {
            let declared = brief.step(&step.key).map(|(_, declared)| declared);
            act::check_result(declared, agent.output_schema.as_ref(), result).map_err(|err| match err {
                Error::Refused(refusal) => refusal,
                other => Refusal::input("result", other.to_string()),
            })?;
        }
        End::Failed(why, _) => {
            if why.trim().is_empty() || why.chars().count() > limits::TEXT_CHARS {
                return Err(Refusal::input("error", "say why, within bounds"));
            }
        }
    }
    Ok(owned)
}

/// Whether an event tells that there may be work for an agent: judged on the event alone, so that it may be too much.
pub fn is_for(agent: Option<&(AgentKind, Condition)>, event: &entity::event::Model) -> bool {
    if !matches!(event.kind.as_str(), "step.queued" | "step.retried") || event.payload["to"] != "QUEUED" {
        return false;
    }
    let text = |name: &str| event.payload[name].as_str().unwrap_or_default();
    let outside = match text("assignedTo") {
        "AGENT" => true,
        "WORKFLOW" => !crate::run_template::is_built_in(text("type")),
        _ => false,
    };
    let Some((kind, filter)) = agent.filter(|_| outside) else { return outside };
    let function = *kind == AgentKind::Function;
    if function != (text("assignedTo") == "WORKFLOW") {
        return false;
    }
    if ["record", "task", "phase", "run"].iter().any(|name| filter.mentions(name)) {
        return true;
    }
    let attempt = event.payload["attempt"].as_i64().and_then(|attempt| i32::try_from(attempt).ok()).unwrap_or_default();
    let mut values = Map::new();
    values.insert("step".into(), step_values(text("key"), text("name"), text("type"), text("assignedTo"), attempt));
    filter.holds(&values).unwrap_or(true)
}
