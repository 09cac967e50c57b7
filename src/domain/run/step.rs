//! Steps of a run: lookups, paging, and the transitions of their state machine, each with its event
//! and its task's counters.

pub mod act;
pub mod assign;
mod call;
pub(crate) mod judge;
pub(crate) mod lease;
mod neighbours;
mod outcome;
pub mod permissions;
pub mod transition;

use async_graphql::{ID, InputObject};
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::member::Role;
use entity::step::{COLUMN, Column, Entity, Executor, Model, StepReason, StepStatus};
use entity::{Actor, run};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};
use serde::Serialize;
use serde_json::json;

use super::task::Counting;
use crate::domain::message::reply::{self, ON_REPLY};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

scoped!(step, StepId, "step");

pub use permissions::{Action, StepContext, StepRows, check_allowed};
pub use transition::ActionInput;
pub(crate) use transition::apply;
pub(crate) use transition::set::{SetTransition, skip_open};

/// Filter for steps. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "StepFilter")]
pub struct StepFilter {
    /// Only steps of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Only steps of these tasks.
    pub task_ids: Option<Vec<ID>>,
    /// Only steps in one of these statuses.
    pub statuses: Option<Vec<StepStatus>>,
    /// Only steps of these types, e.g. `draft_message`, `send_message`, `call`; any type is
    /// accepted.
    pub types: Option<Vec<String>>,
    /// Only steps for these kinds of executor.
    pub assigned_to: Option<Vec<Executor>>,
    /// Only steps assigned to one of these members or agents.
    pub assignee_ids: Option<Vec<ID>>,
    /// True: only steps assigned to the viewer; with an agent's key, to that agent.
    pub mine: Option<bool>,
    /// Only steps whose `assigneeRole` is one of these; a step with the default role, whose
    /// `assigneeRole` is null, never matches.
    pub roles: Option<Vec<Role>>,
    /// Only steps about one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// True: only open steps past their due time. False: all other steps.
    pub overdue: Option<bool>,
}

/// Returns a window of the steps that match the filter, oldest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &StepFilter, args: Args, now: DateTime<Utc>) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    let fingerprint = page::fingerprint(&("step", filter))?;
    Ok(Window { select: select(db, viewer, filter, now, "filter")?, order, fingerprint, args, part: None })
}

impl StepFilter {
    /// Rejects a filter that selects steps for a change if it has no condition. Errors: BAD_USER_INPUT.
    pub(crate) fn require(&self, path: &str) -> Result<()> {
        let ids = [&self.run_ids, &self.task_ids, &self.assignee_ids, &self.record_ids];
        let has_condition = ids.into_iter().any(Option::is_some)
            || self.statuses.is_some()
            || self.types.is_some()
            || self.assigned_to.is_some()
            || self.roles.is_some()
            || self.mine == Some(true)
            || self.overdue.is_some();
        if has_condition {
            return Ok(());
        }
        Err(Refusal::input(path, "has no condition and would match everything: give at least one").into())
    }
}

/// The steps that match a filter; errors name its fields below `path`.
pub(crate) fn select(
    db: &Db,
    viewer: &Viewer,
    filter: &StepFilter,
    now: DateTime<Utc>,
    path: &str,
) -> Result<sea_orm::Select<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(ids) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(ids, path, "runIds")?));
    }
    if let Some(ids) = &filter.task_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.task_id, validate::ids::<TaskId>(ids, path, "taskIds")?));
    }
    if let Some(statuses) = &filter.statuses {
        select = select.filter(any_of(db.dialect(), COLUMN.status, statuses.clone()));
    }
    if let Some(types) = &filter.types {
        select = select.filter(any_of(db.dialect(), Column::Kind, types.clone()));
    }
    if let Some(executors) = &filter.assigned_to {
        select = select.filter(any_of(db.dialect(), COLUMN.assigned_to, executors.clone()));
        if !executors.contains(&Executor::Workflow) {
            select = select.filter(Expr::cust(NOT_BY_WORKFLOW));
        }
    }
    if let Some(ids) = &filter.assignee_ids {
        select = select.filter(any_of(db.dialect(), Column::AssigneeId, assignees(ids, path)?));
    }
    if filter.mine == Some(true) {
        let me = viewer.actor.agent_id.map(|id| id.0).or(viewer.member_id().map(|id| id.0));
        select = select.filter(Column::AssigneeId.eq(me.unwrap_or_default()));
    }
    if let Some(roles) = &filter.roles {
        select = select.filter(any_of(db.dialect(), Column::AssigneeRole, roles.clone()));
    }
    if let Some(ids) = &filter.record_ids {
        select =
            select.filter(any_of(db.dialect(), COLUMN.record_id, validate::ids::<RecordId>(ids, path, "recordIds")?));
    }
    if let Some(overdue) = filter.overdue {
        let late = Condition::all().add(COLUMN.due_at.lt(now)).add(Expr::cust(OPEN));
        let late = if overdue { late } else { late.add(COLUMN.due_at.is_not_null()).not() };
        select = select.filter(late);
    }
    Ok(select)
}

/// The condition of the index `step_by_executor`. Planners use an index of some rows only where they
/// see its condition in the text.
const NOT_BY_WORKFLOW: &str = r#""step"."assigned_to" <> 'WORKFLOW'"#;
/// The condition of the index `step_open_due`: `StepStatus::OPEN`.
const OPEN: &str = r#""step"."status" IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')"#;

/// Parses ids of members and agents.
fn assignees(ids: &[ID], path: &str) -> Result<Vec<uuid::Uuid>> {
    let field = format!("{path}.assigneeIds");
    if ids.len() > limits::PAGE_MAX {
        return Err(Refusal::limit_for_field(&field, format!("at most {}", limits::PAGE_MAX)).into());
    }
    let each = ids.iter().map(|given| match given.parse::<MemberId>() {
        Ok(id) => Ok(id.0),
        Err(_) => validate::id::<AgentId>(&field, given).map(|id| id.0),
    });
    each.collect()
}

/// Reason for a step's status: a code for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReasonText {
    /// The code.
    pub code: StepReason,
    /// The sentence.
    pub text: String,
}

impl ReasonText {
    /// Builds a reason from both.
    pub fn new(code: StepReason, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// A step whose status has changed.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The step after the change.
    pub(crate) step: Model,
    /// The previous status; none for a step that has just been created.
    pub(crate) from: Option<StepStatus>,
    /// Event kind.
    pub(crate) kind: &'static str,
    /// Sentence for people.
    pub(crate) reason: Option<String>,
}

/// Appends the events and updates the counters for changes made in this transaction, all in one
/// run, and marks the replies that completed steps handle as handled. Returns the tasks whose counters
/// changed.
pub(crate) async fn record_changes(
    tx: &Tx,
    run: &run::Model,
    actor: &Actor,
    changes: &[Change],
) -> Result<Vec<entity::task::Model>> {
    let mut counting = Counting::default();
    for change in changes {
        let step = &change.step;
        counting.moved(step.task_id, change.from, step.status);
        let from = change.from.unwrap_or(StepStatus::Pending);
        if change.from.is_none() && step.status == StepStatus::Pending {
            continue;
        }
        let closed_badly = matches!(step.status, StepStatus::Skipped | StepStatus::Failed);
        let has_reason = change.reason.is_some() || closed_badly;
        let mut payload = json!({
            "from": from,
            "to": step.status,
            "reason": change.reason,
            "reasonCode": step.reason.filter(|_| has_reason),
            "key": step.key,
            "name": step.name,
            "type": step.kind,
            "assignedTo": step.assigned_to,
            "attempt": step.attempt_count,
            "campaignName": run.campaign_name,
        });
        match step.status {
            // Only a small result goes into the event; the step holds the full one.
            StepStatus::Completed => {
                let small = |result: &&serde_json::Value| result.to_string().len() <= limits::EVENT_RESULT_BYTES;
                if let Some(result) = step.result.as_ref().filter(small) {
                    payload["result"] = result.clone();
                }
            }
            StepStatus::Failed => payload["error"] = json!(step.error),
            StepStatus::Pending if change.kind == "step.reset" => payload["formerResult"] = json!(step.result),
            _ => {}
        }
        event::append(tx, Event::new(run.org_id, change.kind, actor).run(run).step(step).payload(payload));
    }
    let done = |change: &&Change| change.step.status == StepStatus::Completed && change.step.trigger == ON_REPLY;
    let done: Vec<StepId> = changes.iter().filter(done).map(|change| change.step.id).collect();
    if !done.is_empty() {
        reply::status::handled_by_steps(tx, actor, run, done.into_iter()).await?;
    }
    counting.write(tx).await
}
