//! What the steps of runs wait for, read for many runs at once: a handful of statements, however many runs and steps.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::agent::Model as Agent;
use entity::definition::Trigger;
use entity::id::*;
use entity::member::Role;
use entity::step::{Executor, StepStatus};
use entity::{Actor, ActorKind, AgentKind, Channel, agent, channel_pause, channel_rate, run, stuck_work, task};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryResult, Statement, Value};
use serde_json::{Map, json};

use crate::domain::content::cel::Condition;
use crate::domain::plan::agent::step_values;
use crate::kernel::budget::Steps;
use crate::kernel::db::Db;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Open steps of a task that are alike: of one key, in one status, for one assignee.
#[derive(Clone, Debug)]
pub struct Group {
    /// The task.
    pub task_id: TaskId,
    /// The key in the structure.
    pub key: String,
    /// The name, as it is shown.
    pub name: String,
    /// The type.
    pub kind: String,
    /// The status.
    pub status: StepStatus,
    /// Who does it.
    pub assigned_to: Executor,
    /// Whether a program outside, or an agent, takes it.
    pub outside: bool,
    /// When it starts.
    pub trigger: Trigger,
    /// The member or the agent by name.
    pub assignee: Option<Actor>,
    /// The role that it needs.
    pub role: Option<Role>,
    /// How many there are.
    pub count: i64,
    /// How many of them can't begin before a time that is still to come.
    pub later: i64,
    /// The earliest of those times.
    pub next_at: Option<DateTime<Utc>>,
    /// How many of the later ones wait for the time that their trigger gave them.
    pub planned: i64,
    /// The earliest of those times.
    pub planned_at: Option<DateTime<Utc>>,
    /// How many of the later ones have failed before.
    pub retried: i64,
    /// The earliest time of those.
    pub retried_at: Option<DateTime<Utc>>,
    /// The most failures of one.
    pub failures: i32,
    /// How many failures are one too many.
    pub max_attempts: i32,
    /// The number in hand for longer than usual.
    pub held: i64,
    /// The earliest start of those.
    pub held_since: Option<DateTime<Utc>>,
    /// The first of them.
    pub first: StepId,
}

/// What was found of one run.
#[derive(Clone, Debug, Default)]
pub struct StepWaits {
    /// Its open steps, of the active phase.
    pub groups: Vec<Group>,
    /// What of it fails again and again.
    pub stuck: Vec<stuck_work::Model>,
    /// How many of its messages were refused for now, and when the next goes.
    pub refused: Option<(i64, Option<DateTime<Utc>>)>,
    /// The number of messages of guided work whose fate is unknown.
    pub unknown: i64,
    /// How many sweeps go through its rows.
    pub sweeps: i64,
    /// The agents of the org, where steps wait for any.
    agents: Arc<Vec<Agent>>,
    /// Whether there is a language model for the built-in ones.
    has_model: bool,
}

/// What holds a channel up.
#[derive(Clone, Debug, Default)]
pub struct ChannelState {
    /// When the next message goes, where the rate is used up.
    pub rate_until: Option<DateTime<Utc>>,
    /// Since when it is paused, when one message finds out, and why.
    pub paused: Option<(DateTime<Utc>, DateTime<Utc>, String)>,
}

/// The channels that are held up.
pub async fn channels(db: &Db) -> Result<HashMap<Channel, ChannelState>> {
    let mut all: HashMap<Channel, ChannelState> = HashMap::new();
    let rates = channel_rate::Entity::find().filter(channel_rate::COLUMN.org_id.eq(entity::org::PLATFORM));
    for row in rates.filter(channel_rate::COLUMN.next_at.gt(db.now())).all(db.read()).await? {
        all.entry(row.channel).or_default().rate_until = Some(row.next_at);
    }
    let pauses = channel_pause::Entity::find().filter(channel_pause::COLUMN.org_id.eq(entity::org::PLATFORM));
    for row in pauses.all(db.read()).await? {
        if let (Some(since), Some(next)) = (row.since, row.next_try_at) {
            all.entry(row.channel).or_default().paused = Some((since, next, row.error));
        }
    }
    Ok(all)
}

impl StepWaits {
    /// Reads it for some runs.
    pub async fn of(db: &Db, viewer: &Viewer, runs: &[RunId]) -> Result<HashMap<RunId, Self>> {
        let mut all: HashMap<RunId, Self> = runs.iter().map(|id| (*id, Self::default())).collect();
        let rows = groups(db, viewer, runs).await?;
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
        let (refused, mut values) = in_runs(
            "SELECT c.run_id, COUNT(DISTINCT c.id), MIN(CASE WHEN s.status = 'QUEUED' THEN s.available_at END), \
             MIN(p.available_at) FROM communication c LEFT JOIN posting p ON p.communication_id = c.id \
             LEFT JOIN step s ON s.run_record_id = c.run_record_id AND s.kind IN ('send_message', 'email') \
             AND (s.kind <> 'email' OR s.id = c.step_id) AND s.status = 'QUEUED' \
             WHERE c.refusals > 0 AND c.status = 'APPROVED'",
            "c.run_id",
            runs,
            Vec::new(),
        );
        for row in ask(db, &format!("{refused} GROUP BY c.run_id"), std::mem::take(&mut values)).await? {
            let (step, posting): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
                (row.try_get_by_index(2)?, row.try_get_by_index(3)?);
            let next = [step, posting].into_iter().flatten().min();
            all.entry(row.try_get_by_index(0)?).or_default().refused = Some((row.try_get_by_index(1)?, next));
        }
        let (sweeps, values) =
            in_runs("SELECT w.run_id, COUNT(*) FROM sweep w WHERE w.run_id IS NOT NULL", "w.run_id", runs, Vec::new());
        for row in ask(db, &format!("{sweeps} GROUP BY w.run_id"), values).await? {
            all.entry(row.try_get_by_index(0)?).or_default().sweeps = row.try_get_by_index(1)?;
        }
        let (unknown, values) = in_runs(
            "SELECT r.id, COUNT(*) FROM run r JOIN communication c ON c.run_id = r.id \
             WHERE r.on_way > 0 AND c.status = 'UNKNOWN'",
            "r.id",
            runs,
            Vec::new(),
        );
        for row in ask(db, &format!("{unknown} GROUP BY r.id"), values).await? {
            all.entry(row.try_get_by_index(0)?).or_default().unknown = row.try_get_by_index(1)?;
        }
        for found in all.values_mut() {
            (found.agents, found.has_model) = (agents.clone(), db.has_model());
        }
        Ok(all)
    }

    /// Whether something goes on by itself: a built-in step that is due or in hand, a worker's in hand, a sweep.
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
        (self.sweeps > 0 && self.stuck.is_empty()) || self.groups.iter().any(group)
    }

    /// Whether there is an agent or a function that takes steps like these, as far as can be told without their records.
    pub fn takes(&self, group: &Group, task: &task::Model, run: &run::Model) -> bool {
        let mut values = Map::new();
        let does = group.assigned_to.to_string();
        values.insert("step".into(), step_values(&group.key, &group.name, &group.kind, &does, 0));
        values.insert("task".into(), json!({ "key": task.key, "name": task.name }));
        values.insert("run".into(), json!({ "name": run.name, "type": run.run_type, "campaign": run.campaign_name }));
        let named = group.assignee.as_ref().and_then(|who| who.agent_id);
        self.agents.iter().any(|agent| {
            let works = match agent.kind {
                AgentKind::Function => group.assigned_to == Executor::Workflow,
                AgentKind::Outside => group.assigned_to == Executor::Agent,
                AgentKind::BuiltIn => group.assigned_to == Executor::Agent && self.has_model,
            };
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

/// A statement with the condition that a column is one of some runs.
fn in_runs(sql: &str, column: &str, runs: &[RunId], mut values: Vec<Value>) -> (String, Vec<Value>) {
    let first = values.len() + 1;
    values.extend(runs.iter().map(|id| Value::from(*id)));
    let places: Vec<String> = (first..=values.len()).map(|number| format!("${number}")).collect();
    let places = if places.is_empty() { "NULL".to_owned() } else { places.join(", ") };
    (format!("{sql} AND {column} IN ({places})"), values)
}

async fn ask(db: &Db, sql: &str, values: Vec<Value>) -> Result<Vec<QueryResult>> {
    let backend = db.read().get_database_backend();
    Ok(db.read().query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?)
}

async fn groups(db: &Db, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<(RunId, Group)>> {
    // An id as text: Postgres has no least of UUIDs.
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
    let (sql, values) = in_runs(
        &sql,
        "t.run_id",
        runs,
        vec![viewer.org_id.into(), db.now().into(), (db.now() - limits::IN_HAND).into()],
    );
    let sql = format!(
        "{sql} GROUP BY t.run_id, s.task_id, s.key, s.name, s.kind, s.status, s.assigned_to, s.outside, s.\"trigger\", \
         m.id, m.name, a.id, a.name, s.assignee_role ORDER BY t.run_id, s.task_id, s.key, s.status, m.id, a.id"
    );
    ask(db, &sql, values).await?.iter().map(group).collect()
}

fn group(row: &QueryResult) -> Result<(RunId, Group)> {
    let (member, agent): (Option<MemberId>, Option<AgentId>) = (row.try_get_by_index(9)?, row.try_get_by_index(11)?);
    let kind = match (member, agent) {
        (Some(_), _) => Some((ActorKind::Member, row.try_get_by_index::<Option<String>>(10)?)),
        (None, Some(_)) => Some((ActorKind::Agent, row.try_get_by_index::<Option<String>>(12)?)),
        (None, None) => None,
    };
    let assignee =
        kind.map(|(kind, name)| Actor { kind, member_id: member, agent_id: agent, name: name.unwrap_or_default() });
    let first: String = row.try_get_by_index(21)?;
    let first = uuid::Uuid::parse_str(&first).map_err(crate::kernel::error::Error::ours)?;
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
