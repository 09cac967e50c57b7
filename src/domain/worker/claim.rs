//! Claims queued steps for external workers, as their agent's filter admits.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, LazyLock, PoisonError};

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::id::*;
use entity::step;
use entity::{AgentKind, record, run, task};
use rand::Rng;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::domain::content::cel::Condition;
use crate::domain::plan::agent as agents;
use crate::domain::run::step::lease::{self, LeaseHolder};
use crate::kernel::budget::{self, EvaluationPool, Steps};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::fair::queue::Queue;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

/// A request to claim steps.
#[derive(Clone, Debug, Default)]
pub struct ClaimRequest {
    /// Name of the worker, unique within its agent.
    pub worker: String,
    /// Only steps of these types.
    pub types: Option<Vec<String>>,
    /// Only steps of these runs.
    pub runs: Option<Vec<RunId>>,
    /// Maximum number of steps.
    pub limit: u64,
    /// Duration of the lease.
    pub lease: std::time::Duration,
}

/// A claimed step.
#[derive(Clone, Debug)]
pub struct StepClaim {
    /// The step.
    pub step: step::Model,
    /// Its run.
    pub run: Arc<run::Model>,
    /// The claim's token, which the worker presents to renew and settle.
    pub token: String,
}

/// One lock per org: on a node its workers claim one after the other, because concurrent claims
/// would find the same steps.
static LOCKS: LazyLock<std::sync::Mutex<HashMap<OrgId, Arc<Mutex<()>>>>> = LazyLock::new(Default::default);

/// Acquires the org's claim lock. Errors: LIMIT_EXCEEDED if that takes too long.
async fn claim_lock(org_id: OrgId) -> Result<OwnedMutexGuard<()>> {
    let lock = {
        let mut all = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| Arc::strong_count(lock) > 1);
        all.entry(org_id).or_default().clone()
    };
    match tokio::time::timeout(limits::LANE_PATIENCE, lock.lock_owned()).await {
        Ok(guard) => Ok(guard),
        Err(_) => Err(crate::kernel::cost::busy("too many workers of this org are claiming steps".into()).into()),
    }
}

/// The agent that a viewer claims steps for: the one of its key, or else the named one.
pub async fn agent_of(db: &Db, viewer: &Viewer, named: Option<&str>) -> Result<Agent> {
    match (viewer.actor.agent_id, named) {
        (Some(id), None) => agents::must_find(db.read(), viewer, id).await,
        (Some(id), Some(name)) => {
            let own = agents::must_find(db.read(), viewer, id).await?;
            if own.name == name {
                Ok(own)
            } else {
                Err(Refusal::input("agent", "the API key belongs to another agent").into())
            }
        }
        (None, Some(name)) => agents::by_name(db.read(), viewer, name).await,
        (None, None) => {
            let names: Vec<String> =
                agents::all(db.read(), viewer).await?.into_iter().map(|agent| agent.name).collect();
            let example = names.first().map_or("email-drafter", String::as_str);
            let why = "is required, because the credential belongs to no agent";
            Err(Refusal::input("agent", format!("{why}. For example `agent: \"{example}\"`")).into())
        }
    }
}

/// The agent that holds some steps, for viewers whose credential has no agent and who name none:
/// the claim's token identifies them. None if no agent holds any. Errors: BAD_USER_INPUT if several
/// agents hold them.
pub async fn lease_holder_of(db: &Db, viewer: &Viewer, named: Option<&str>, held: &[StepId]) -> Result<Option<Agent>> {
    if viewer.actor.agent_id.is_some() || named.is_some() || held.is_empty() {
        return agent_of(db, viewer, named).await.map(Some);
    }
    let mut holders: Vec<AgentId> = Vec::new();
    for ids in held.chunks(limits::CLAIM_MAX as usize) {
        let steps = crate::domain::run::step::find_all(db.read(), viewer, ids).await?;
        let of = |owner: &str| owner.split_once('/')?.0.parse::<AgentId>().ok();
        holders.extend(steps.iter().filter_map(|step| step.lease_owner.as_deref().and_then(of)));
    }
    holders.sort_unstable();
    holders.dedup();
    match holders[..] {
        [id] => agents::must_find(db.read(), viewer, id).await.map(Some),
        [] => Ok(None),
        _ => Err(Refusal::input(
            "agent",
            "the steps are held by several agents: settle the steps of one agent per request",
        )
        .into()),
    }
}

/// Claims steps that the agent's filter admits, longest waiting first. Errors: BAD_USER_INPUT,
/// LIMIT_EXCEEDED.
pub async fn claim(db: &WriteContext, agent: &Agent, request: &ClaimRequest) -> Result<Vec<StepClaim>> {
    let worker = validate::name("worker", &request.worker)?;
    if request.limit == 0 || request.limit > limits::CLAIM_MAX {
        return Err(Refusal::limit_for_field("limit", format!("must be 1 to {}", limits::CLAIM_MAX)).into());
    }
    let filter = Condition::parse(&agent.filter).map_err(|why| Refusal::input("filter", why))?;
    let _guard = claim_lock(agent.org_id).await?;
    let mut taken = Vec::new();
    let mut search = Search { agent, request, filter, rejected: Vec::new(), groups: HashMap::new(), lost: Vec::new() };
    for _ in 0..limits::CLAIM_SCANS {
        let left = request.limit - taken.len() as u64;
        let Some(found) = search.candidates(db, left).await? else { break };
        if found.is_empty() {
            continue;
        }
        let token = token();
        let holder = |now: DateTime<Utc>| -> Result<LeaseHolder> {
            Ok(LeaseHolder {
                owner: owner(agent, &worker),
                token: Some(token.clone()),
                until: now + chrono::Duration::from_std(request.lease).map_err(Error::internal)?,
                actor: agents::actor(agent),
            })
        };
        let claimed = transact!(db, |tx| lease::claim(tx, &found, &holder(tx.now())?).await)?;
        // Another node was faster to claim the others.
        let got: Vec<StepId> = claimed.iter().map(|(step, _)| step.id).collect();
        search.lost.extend(found.iter().map(|(id, _)| *id).filter(|id| !got.contains(id)));
        metrics::counter!("sortie_steps_claimed_total", "kind" => "outside").increment(claimed.len() as u64);
        taken.extend(claimed.into_iter().map(|(step, run)| StepClaim { step, run, token: token.clone() }));
        if taken.len() as u64 >= request.limit {
            break;
        }
    }
    Ok(taken)
}

pub(crate) fn owner(agent: &Agent, worker: &str) -> String {
    format!("{}/{worker}", agent.id)
}

fn token() -> String {
    let mut bytes = [0u8; 16];
    rand::rng().fill_bytes(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A search through the queue. The filter is evaluated once per task and step key, unless it
/// mentions records.
struct Search<'a> {
    agent: &'a Agent,
    request: &'a ClaimRequest,
    filter: Arc<Condition>,
    /// Tasks and step keys that the filter does not admit.
    rejected: Vec<(TaskId, String)>,
    groups: HashMap<(TaskId, String), bool>,
    lost: Vec<StepId>,
}

impl Search<'_> {
    /// Returns admitted steps that seem claimable; `None` if the queue has no more.
    async fn candidates(&mut self, db: &Db, most: u64) -> Result<Option<Vec<(StepId, RunId)>>> {
        let per_record = self.filter.mentions("record");
        let does = agents::executor_of(self.agent.kind);
        let mut values: Vec<sea_orm::Value> = vec![db.now().into(), does.to_string().into(), self.agent.id.into()];
        let mut bind = |value: sea_orm::Value| {
            values.push(value);
            format!("${}", values.len())
        };
        let mut fit =
            "AND available_at <= $1 AND assigned_to = $2 AND (assignee_id IS NULL OR assignee_id = $3)".to_owned();
        for (task, key) in &self.rejected {
            fit += &format!(" AND NOT (task_id = {} AND key = {})", bind((*task).into()), bind(key.clone().into()));
        }
        let mut one_of = |column: &str, not: &str, all: Vec<sea_orm::Value>| {
            let all: Vec<String> = all.into_iter().map(&mut bind).collect();
            if all.is_empty() { String::new() } else { format!(" AND {column} {not}IN ({})", all.join(", ")) }
        };
        fit += &one_of("id", "NOT ", self.lost.iter().map(|id| (*id).into()).collect());
        let types: Vec<sea_orm::Value> = self.request.types.iter().flatten().map(|kind| kind.clone().into()).collect();
        let runs: Vec<sea_orm::Value> = self.request.runs.iter().flatten().map(|id| (*id).into()).collect();
        fit += &one_of("kind", "", types.clone());
        fit += &one_of("run_id", "", runs.clone());
        let mut admitted =
            "r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') AND p.status = 'ACTIVE'".to_owned();
        admitted += &one_of("q.kind", "", types);
        admitted += &one_of("q.run_id", "", runs);
        let page = if per_record { limits::CLAIM_MAX.max(most) } else { most };
        let queue = Queue {
            table: "step",
            id: "id",
            queued: "status = 'QUEUED' AND outside",
            // SQLite finds no column by its truth alone.
            grouped: "AND outside = TRUE",
            group: &["kind", "phase_id"],
            fit: &fit,
            columns: "id, org_id, run_id, phase_id, task_id, key, name, kind, assigned_to, record_id, attempt_count, available_at",
            joins: "JOIN run r ON r.id = q.run_id LEFT JOIN campaign c ON c.id = r.campaign_id JOIN phase p ON p.id = q.phase_id",
            admitted: &admitted,
            wanted: "q.id, q.run_id, q.task_id, q.key, q.name, q.kind, q.assigned_to, q.record_id, q.attempt_count, p.key AS phase_key, \
                     p.name AS phase_name, r.name AS run_name, r.type AS run_type, r.campaign_name, q.org_id AS org_id",
            latest_first: false,
            values,
        };
        let rows = queue.of_orgs(db.read(), &[self.agent.org_id], page).await?;
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
            let rows = task::Entity::find().filter(any_of(db.dialect(), task::COLUMN.id, ids)).all(db.read()).await?;
            rows.into_iter().map(|row| (row.id, row)).collect()
        } else {
            HashMap::new()
        };
        let mut records: HashMap<RecordId, Value> = HashMap::new();
        if per_record {
            let ids: Vec<RecordId> = found.iter().filter_map(|one| one.record_id).collect();
            let rows = record::Entity::find()
                .filter(record::COLUMN.org_id.eq(self.agent.org_id))
                .filter(any_of(db.dialect(), record::COLUMN.id, ids))
                .all(db.read())
                .await?;
            records.extend(rows.into_iter().map(|row| (row.id, crate::domain::content::templating::record(&row))));
        }
        let mut admitted = Vec::new();
        // One evaluation per task and step key, unless the filter mentions records.
        let mut fresh = HashSet::new();
        let first = |one: &Candidate| {
            let group = (one.task_id, one.key.clone());
            per_record || (!self.groups.contains_key(&group) && fresh.insert(group))
        };
        let pending: Vec<usize> =
            found.iter().map(first).enumerate().filter(|(_, first)| *first).map(|(i, _)| i).collect();
        let values = |i: &usize| {
            let one = &found[*i];
            one.values(tasks.get(&one.task_id), one.record_id.and_then(|id| records.get(&id)).cloned())
        };
        let verdicts = self.evaluate(pending.iter().map(values).collect()).await?;
        let verdicts: HashMap<usize, bool> = pending.into_iter().zip(verdicts).collect();
        for (i, one) in found.into_iter().enumerate() {
            let group = (one.task_id, one.key.clone());
            let known = if per_record { None } else { self.groups.get(&group).copied() };
            // When the evaluation time is used up, the rest is read again in the next round.
            let Some(admits) = known.or_else(|| verdicts.get(&i).copied()) else { break };
            if !per_record {
                self.groups.insert(group.clone(), admits);
            }
            if admits {
                if (admitted.len() as u64) < most {
                    admitted.push((one.id, one.run_id));
                }
            } else if per_record {
                self.lost.push(one.id);
            } else if !self.rejected.contains(&group) {
                self.rejected.push(group);
            }
        }
        Ok(admitted)
    }

    /// Evaluates the filter for each entry, in order, within a batch's budget, but at least the
    /// first. An entry on which the evaluation fails is not admitted.
    async fn evaluate(&self, entries: Vec<Map<String, Value>>) -> Result<Vec<bool>> {
        let filter = self.filter.clone();
        let evaluate = move || {
            let (steps, mut all) = (Steps::of_batch(), Vec::with_capacity(entries.len()));
            for values in &entries {
                let admits = filter.holds_within(values, &steps);
                if steps.are_spent() && !all.is_empty() {
                    break;
                }
                all.push(admits.unwrap_or(false));
            }
            all
        };
        // Without loops and patterns the evaluation takes time proportional to the values.
        if !self.filter.takes_steps() {
            return Ok(evaluate());
        }
        let is_request = crate::kernel::cost::current().is_some();
        let lane = if is_request { EvaluationPool::Request } else { EvaluationPool::Engine };
        budget::run_for(lane, Some(self.agent.org_id.uuid()), move |_| evaluate()).await
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
    /// The variables of the filter.
    fn values(&self, task: Option<&task::Model>, record: Option<Value>) -> Map<String, Value> {
        let mut all = Map::new();
        all.insert(
            "step".into(),
            agents::step_values(&self.key, &self.name, &self.kind, &self.assigned_to, self.attempt),
        );
        let task = task.map_or_else(|| json!({}), |task| json!({ "key": task.key, "name": task.name }));
        all.insert("task".into(), task);
        all.insert("phase".into(), self.phase.clone());
        all.insert("run".into(), self.run.clone());
        all.insert("record".into(), record.unwrap_or_else(|| json!({})));
        all
    }
}

/// True if an event announces possible work for an agent. Decided from the event alone, so that
/// there may be false positives.
pub fn may_concern(agent: Option<&(AgentKind, Arc<Condition>)>, event: &entity::event::Model) -> bool {
    if !matches!(event.kind.as_str(), "step.queued" | "step.retried" | "step.rejected") {
        return false;
    }
    let payload = event.payload.value();
    if payload["to"] != "QUEUED" {
        return false;
    }
    let text = |name: &str| payload[name].as_str().unwrap_or_default();
    let outside = match text("assignedTo") {
        "AGENT" => true,
        "WORKFLOW" => !crate::domain::plan::run_template::is_built_in(text("type")),
        _ => false,
    };
    let Some((kind, filter)) = agent.filter(|_| outside) else { return outside };
    let function = *kind == AgentKind::Function;
    if function != (text("assignedTo") == "WORKFLOW") {
        return false;
    }
    let attempt = payload["attempt"].as_i64().and_then(|attempt| i32::try_from(attempt).ok()).unwrap_or_default();
    let mut values = Map::new();
    values.insert(
        "step".into(),
        agents::step_values(text("key"), text("name"), text("type"), text("assignedTo"), attempt),
    );
    // If the filter needs values that the event does not have, assume a match.
    filter.holds_within(&values, &Steps::of_event()).unwrap_or(true)
}
