//! Loads what the steps of runs wait for, for many runs at once: a fixed number of statements,
//! however many runs and steps.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::definition::Trigger;
use entity::id::*;
use entity::member::Role;
use entity::step::{Executor, StepStatus};
use entity::sweep::SweepKind;
use entity::{Actor, ActorKind, Channel, agent, channel_pause, channel_rate, run, stuck_work, task};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryResult, Statement, Value};
use serde_json::{Map, json};

use crate::domain::content::cel::Condition;
use crate::domain::message::communication::IS_OWN;
use crate::domain::plan::agent::{self as agents, step_values};
use crate::kernel::budget::Steps;
use crate::kernel::db::Db;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Open steps of a task that share key, status and assignee.
#[derive(Clone, Debug)]
pub struct Group {
    /// Task.
    pub task_id: TaskId,
    /// Step key in the structure.
    pub key: String,
    /// Display name.
    pub name: String,
    /// Step type.
    pub kind: String,
    /// Status.
    pub status: StepStatus,
    /// Kind of executor.
    pub assigned_to: Executor,
    /// True if an external worker or an agent claims the steps.
    pub outside: bool,
    /// Trigger.
    pub trigger: Trigger,
    /// Assigned member or agent.
    pub assignee: Option<Actor>,
    /// Required role.
    pub role: Option<Role>,
    /// Number of steps.
    pub count: i64,
    /// Number of steps that are not available before a time in the future.
    pub later: i64,
    /// Earliest of those times.
    pub next_at: Option<DateTime<Utc>>,
    /// Number of the later steps that wait for the time given by their trigger.
    pub planned: i64,
    /// Earliest of those times.
    pub planned_at: Option<DateTime<Utc>>,
    /// Number of the later steps that have failed before.
    pub retried: i64,
    /// Earliest of their times.
    pub retried_at: Option<DateTime<Utc>>,
    /// Highest failure count among the steps.
    pub failures: i32,
    /// Maximum number of attempts.
    pub max_attempts: i32,
    /// Number of steps in progress for longer than usual.
    pub held: i64,
    /// Earliest start of those.
    pub held_since: Option<DateTime<Utc>>,
    /// First step of the group.
    pub first: StepId,
}

/// A large change of a run that is being applied.
#[derive(Clone, Debug)]
pub struct OpenSweep {
    /// Kind of change.
    pub kind: SweepKind,
    /// Task, if it is about one.
    pub task_id: Option<TaskId>,
    /// Start time.
    pub since: DateTime<Utc>,
    /// Number of drafts that it has not reached, of a review's decision.
    pub drafts: i64,
}

/// Findings for one run.
#[derive(Clone, Debug, Default)]
pub struct StepWaits {
    /// Open steps of the active phase.
    pub groups: Vec<Group>,
    /// Work of the run that fails repeatedly.
    pub stuck: Vec<stuck_work::Model>,
    /// Number of messages that the channel deferred, and the time of the next attempt.
    pub refused: Option<(i64, Option<DateTime<Utc>>)>,
    /// Number of messages that people sent from within steps whose outcome is unknown.
    pub unknown: i64,
    /// Sweeps in progress, oldest first.
    pub sweeps: Vec<OpenSweep>,
    /// Agents of the org; loaded only if steps wait for one.
    agents: Arc<Vec<Agent>>,
    /// True if a language model is configured for built-in agents.
    has_model: bool,
}

/// Reasons why a channel is held up.
#[derive(Clone, Debug, Default)]
pub struct ChannelState {
    /// Time of the next message, if the channel's rate is exhausted.
    pub rate_until: Option<DateTime<Utc>>,
    /// Start of the channel's pause, time of the next probe message, and the error.
    pub paused: Option<(DateTime<Utc>, DateTime<Utc>, String)>,
}

/// Loads the channels that are held up.
pub async fn channels(db: &Db) -> Result<HashMap<Channel, ChannelState>> {
    let mut all: HashMap<Channel, ChannelState> = HashMap::new();
    let rates = channel_rate::Entity::find().filter(channel_rate::COLUMN.org_id.eq(entity::org::PLATFORM));
    for row in rates.filter(channel_rate::COLUMN.next_at.gt(db.now())).all(db.read()).await? {
        all.entry(row.channel).or_default().rate_until = Some(row.next_at);
    }
    let pauses = channel_pause::Entity::find().filter(channel_pause::COLUMN.org_id.eq(entity::org::PLATFORM));
    for row in pauses.all(db.read()).await? {
        if let (Some(since), Some(next)) = (row.since, row.next_try_at) {
            // A probe that is due goes with the next message that may be sent.
            all.entry(row.channel).or_default().paused = Some((since, next.max(db.now()), row.error));
        }
    }
    Ok(all)
}

impl StepWaits {
    /// Loads the findings for some runs.
    pub async fn of(db: &Db, viewer: &Viewer, runs: &[RunId]) -> Result<HashMap<RunId, Self>> {
        let mut all: HashMap<RunId, Self> = runs.iter().map(|id| (*id, Self::default())).collect();
        let rows = load_groups(db, viewer, runs).await?;
        let outside = rows.iter().any(|(_, group)| group.outside && group.status == StepStatus::Queued);
        let mine = agent::Entity::find().filter(agent::COLUMN.org_id.eq(viewer.org_id));
        let agents = Arc::new(if outside { mine.all(db.read()).await? } else { Vec::new() });
        for (run_id, group) in rows {
            all.entry(run_id).or_default().groups.push(group);
        }
        for row in crate::kernel::stuck::of_runs(db.read(), viewer.org_id, runs).await? {
            if let Some(run_id) = row.run_id {
                all.entry(run_id).or_default().stuck.push(row);
            }
        }
        let (refused, mut values) = with_run_filter(
            &format!(
                "SELECT c.run_id, COUNT(DISTINCT c.id), MIN(CASE WHEN s.status = 'QUEUED' THEN s.available_at END), \
             MIN(p.available_at) FROM communication c LEFT JOIN posting p ON p.communication_id = c.id \
             LEFT JOIN step s ON c.occasion = 0 AND s.run_record_id = c.run_record_id AND s.kind IN ('send_message', 'email') \
             AND (s.kind <> 'email' OR s.id = c.step_id) AND s.status = 'QUEUED' \
             WHERE c.refusals > 0 AND c.status = 'APPROVED' AND {IS_OWN}"
            ),
            "c.run_id",
            runs,
            Vec::new(),
        );
        for row in query(db, &format!("{refused} GROUP BY c.run_id"), std::mem::take(&mut values)).await? {
            let (step, posting): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
                (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            let next = [step, posting].into_iter().flatten().min();
            all.entry(row.try_get_by_index(0)?).or_default().refused = Some((row.try_get_by_index(1)?, next));
        }
        for (run_id, sweep) in load_sweeps(db, runs).await? {
            all.entry(run_id).or_default().sweeps.push(sweep);
        }
        let (unknown, values) = with_run_filter(
            "SELECT r.id, COUNT(*) FROM run r JOIN communication c ON c.run_id = r.id \
             WHERE r.on_way > 0 AND c.occasion > 0 AND c.status = 'UNKNOWN'",
            "r.id",
            runs,
            Vec::new(),
        );
        for row in query(db, &format!("{unknown} GROUP BY r.id"), values).await? {
            all.entry(row.try_get_by_index(0)?).or_default().unknown = row.try_get_by_index(1)?;
        }
        for found in all.values_mut() {
            (found.agents, found.has_model) = (agents.clone(), db.has_model());
        }
        Ok(all)
    }

    /// True if something progresses without a person: a built-in step that is due or in progress,
    /// an external worker's step in progress, or a sweep.
    pub fn moves(&self, channel: Option<&ChannelState>) -> bool {
        let held = channel.is_some_and(|channel| channel.paused.is_some() || channel.rate_until.is_some());
        let group = |group: &Group| match group.status {
            StepStatus::InProgress => group.assigned_to != Executor::Human,
            StepStatus::Queued => {
                let sends = super::is_sending(group) && held;
                group.assigned_to == Executor::Workflow && !group.outside && !sends && group.count > group.later
            }
            _ => false,
        };
        (!self.sweeps.is_empty() && self.stuck.is_empty()) || self.groups.iter().any(group)
    }

    /// True if some agent or function claims steps like these, as far as can be known without their
    /// records.
    pub fn takes(&self, group: &Group, task: &task::Model, run: &run::Model) -> bool {
        let mut values = Map::new();
        let does = group.assigned_to.to_string();
        values.insert("step".into(), step_values(&group.key, &group.name, &group.kind, &does, 0));
        values.insert("task".into(), json!({ "key": task.key, "name": task.name }));
        values.insert("run".into(), json!({ "name": run.name, "type": run.run_type, "campaign": run.campaign_name }));
        let named = group.assignee.as_ref().and_then(|who| who.agent_id);
        self.agents.iter().any(|agent| {
            let works = agents::takes(agent.kind, group.assigned_to, self.has_model);
            let admits = |filter: &Condition| {
                let open = filter.mentions("record") || filter.mentions("phase");
                open || filter.holds_within(&values, &Steps::of_event()).unwrap_or(false)
            };
            works
                && named.is_none_or(|id| id == agent.id)
                && Condition::parse(&agent.filter).is_ok_and(|filter| admits(&filter))
        })
    }
}

/// Appends to a statement the condition that a column is one of these run ids.
fn with_run_filter(sql: &str, column: &str, runs: &[RunId], mut values: Vec<Value>) -> (String, Vec<Value>) {
    let first = values.len() + 1;
    values.extend(runs.iter().map(|id| Value::from(*id)));
    let placeholders: Vec<String> = (first..=values.len()).map(|number| format!("${number}")).collect();
    let placeholders = if placeholders.is_empty() { "NULL".to_owned() } else { placeholders.join(", ") };
    (format!("{sql} AND {column} IN ({placeholders})"), values)
}

async fn query(db: &Db, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>> {
    let backend = db.read().get_database_backend();
    Ok(db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?)
}

async fn load_sweeps(db: &Db, runs: &[RunId]) -> Result<Vec<(RunId, OpenSweep)>> {
    let (sql, values) = with_run_filter(
        "SELECT w.run_id, w.kind, w.task_id, w.created_at, CASE WHEN w.kind IN ('APPROVE', 'REDRAFT') THEN \
         (SELECT COUNT(*) FROM communication c WHERE c.run_id = w.run_id AND c.status = 'DRAFT' \
         AND (w.last_key IS NULL OR c.id > w.last_key)) ELSE 0 END FROM sweep w WHERE w.run_id IS NOT NULL",
        "w.run_id",
        runs,
        Vec::new(),
    );
    let read = |row: &QueryResult| {
        let sweep = OpenSweep {
            kind: row.try_get_by_index(1)?,
            task_id: row.try_get_by_index(2)?,
            since: row.try_get_by_index(3)?,
            drafts: row.try_get_by_index(4)?,
        };
        Ok((row.try_get_by_index(0)?, sweep))
    };
    query(db, &format!("{sql} ORDER BY w.id"), values).await?.iter().map(read).collect()
}

async fn load_groups(db: &Db, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<(RunId, Group)>> {
    // Compares ids as text: Postgres has no MIN for UUIDs.
    let first = match db.dialect() {
        Dialect::Postgres => "MIN(CAST(s.id AS text))",
        Dialect::Sqlite => "MIN(LOWER(HEX(s.id)))",
    };
    let later = "s.status = 'QUEUED' AND s.available_at > $2";
    let planned = format!("{later} AND s.failure_count = 0 AND s.reason IS NULL");
    let held = "s.status = 'IN_PROGRESS' AND s.started_at <= $3";
    let sql = format!(
        "SELECT t.run_id, s.task_id, s.key, s.name, s.kind, s.status, s.assigned_to, s.outside, s.\"trigger\", \
         m.id, m.name, a.id, a.name, s.assignee_role, COUNT(*), \
         COUNT(CASE WHEN {later} THEN 1 END), MIN(CASE WHEN {later} THEN s.available_at END), \
         COUNT(CASE WHEN {later} AND s.failure_count > 0 THEN 1 END), \
         MIN(CASE WHEN {later} AND s.failure_count > 0 THEN s.available_at END), \
         MAX(s.failure_count), MAX(s.max_attempts), {first}, COUNT(CASE WHEN {planned} THEN 1 END), \
         MIN(CASE WHEN {planned} THEN s.available_at END), \
         COUNT(CASE WHEN {held} THEN 1 END), MIN(CASE WHEN {held} THEN s.started_at END) \
         FROM task t JOIN phase p ON p.id = t.phase_id JOIN step s ON s.task_id = t.id \
         LEFT JOIN member m ON m.id = s.assignee_id LEFT JOIN agent a ON a.id = s.assignee_id \
         WHERE t.org_id = $1 AND p.status = 'ACTIVE' \
         AND s.status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')"
    );
    let (sql, values) = with_run_filter(
        &sql,
        "t.run_id",
        runs,
        vec![viewer.org_id.into(), db.now().into(), (db.now() - limits::IN_HAND).into()],
    );
    let sql = format!(
        "{sql} GROUP BY t.run_id, s.task_id, s.key, s.name, s.kind, s.status, s.assigned_to, s.outside, s.\"trigger\", \
         m.id, m.name, a.id, a.name, s.assignee_role ORDER BY t.run_id, s.task_id, s.key, s.status, m.id, a.id"
    );
    query(db, &sql, values).await?.iter().map(read_group).collect()
}

fn read_group(row: &QueryResult) -> Result<(RunId, Group)> {
    let (member, agent): (Option<MemberId>, Option<AgentId>) = (row.try_get_by_index(9)?, row.try_get_by_index(11)?);
    let kind = match (member, agent) {
        (Some(_), _) => Some((ActorKind::Member, row.try_get_by_index::<Option<String>>(10)?)),
        (None, Some(_)) => Some((ActorKind::Agent, row.try_get_by_index::<Option<String>>(12)?)),
        (None, None) => None,
    };
    let assignee =
        kind.map(|(kind, name)| Actor { kind, member_id: member, agent_id: agent, name: name.unwrap_or_default() });
    let first: String = row.try_get_by_index(21)?;
    let first = uuid::Uuid::parse_str(&first).map_err(crate::kernel::error::Error::internal)?;
    let group = Group {
        task_id: row.try_get_by_index(1)?,
        key: row.try_get_by_index(2)?,
        name: row.try_get_by_index(3)?,
        kind: row.try_get_by_index(4)?,
        status: row.try_get_by_index(5)?,
        assigned_to: row.try_get_by_index(6)?,
        outside: row.try_get_by_index(7)?,
        trigger: row.try_get_by_index::<String>(8)?.parse().unwrap_or(Trigger::Manual),
        assignee,
        role: row.try_get_by_index(13)?,
        count: row.try_get_by_index(14)?,
        later: row.try_get_by_index(15)?,
        next_at: row.try_get_by_index(16)?,
        planned: row.try_get_by_index(22)?,
        planned_at: row.try_get_by_index(23)?,
        retried: row.try_get_by_index(17)?,
        retried_at: row.try_get_by_index(18)?,
        failures: row.try_get_by_index(19)?,
        max_attempts: row.try_get_by_index(20)?,
        held: row.try_get_by_index(24)?,
        held_since: row.try_get_by_index(25)?,
        first: StepId(first),
    };
    Ok((row.try_get_by_index(0)?, group))
}
