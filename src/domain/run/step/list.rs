//! Steps list, the work list: filter, order, keyset pages.

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::member::Role;
use entity::run;
use entity::step::{COLUMN, Column, Entity, Executor, StepStatus};
use sea_orm::sea_query::{Expr, Func, Query, SimpleExpr};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, Select};
use serde::Serialize;

use super::NEWEST_FIRST;
use super::ready::can_begin;
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::page::{self, Args, Key, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable, validate};

/// Filter for steps. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "StepFilter")]
pub struct StepFilter {
    /// Only these steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ID>>,
    /// Only steps of runs of these campaigns; steps of guided work never match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_ids: Option<Vec<ID>>,
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
    /// True: only steps that can be begun now, by a person (the action START) or by a worker, no
    /// matter which: PENDING or QUEUED, with nothing left to wait for, in an active phase of a run
    /// that is in progress and whose campaign is not paused. False: all other steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// True: only open steps past their due time. False: all other steps.
    pub overdue: Option<bool>,
    /// Only steps whose due time is in this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTimeRange>,
    /// Only steps created in this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTimeRange>,
    /// Part of the step's name, at most 1,000 characters; ignores case and Unicode normalization
    /// forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

/// Sort field of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "StepOrderField")]
pub enum SortBy {
    /// Time of creation.
    #[default]
    CreatedAt,
    /// Due time; steps without one come last.
    DueAt,
}

/// Order of steps; by default the oldest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    /// The field to sort by.
    pub by: SortBy,
    /// True for descending order.
    pub descending: bool,
}

/// Returns a window of the steps that match the filter.
pub fn window(
    db: &Db,
    viewer: &Viewer,
    filter: &StepFilter,
    sort: Sort,
    args: Args,
    now: DateTime<Utc>,
) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = sort.descending;
    let mut select = select(db, viewer, filter, now, "filter")?;
    let fingerprint = match sort {
        Sort { by: SortBy::CreatedAt, descending: false } => page::fingerprint(&("step", filter))?,
        Sort { by, descending } => page::fingerprint(&("step", by, descending, filter))?,
    };
    match sort.by {
        // Ids are in the order of creation; a period is read from an index of the times.
        SortBy::CreatedAt if filter.created_at.is_some() => {
            order.by = Some((Column::CreatedAt, |row| Key::Time(row.created_at), false));
        }
        SortBy::CreatedAt => {}
        SortBy::DueAt => {
            let may_lack_it = filter.overdue != Some(true) && filter.due_at.is_none();
            order.by = Some((Column::DueAt, |row| row.due_at.into(), may_lack_it));
            order.nulls_apart = may_lack_it;
            let are_open = |statuses: &Vec<StepStatus>| statuses.iter().all(|one| StepStatus::OPEN.contains(one));
            if filter.ready == Some(true) || filter.statuses.as_ref().is_some_and(are_open) {
                select = select.filter(Expr::cust(OPEN));
            }
        }
    }
    Ok(Window { select, order, fingerprint, args, part: None })
}

/// Returns a window of the steps that match the filter, in display order; for the steps of one task
/// without a fan-out: those are so few that they are sorted without an index.
pub fn window_in_order(
    db: &Db,
    viewer: &Viewer,
    filter: &StepFilter,
    args: Args,
    now: DateTime<Utc>,
) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    order.by = Some((Column::Sequence, |row| Key::Count(row.sequence), false));
    let fingerprint = page::fingerprint(&("step in order", filter))?;
    Ok(Window { select: select(db, viewer, filter, now, "filter")?, order, fingerprint, args, part: None })
}

/// The steps that match a filter; errors name its fields below `path`.
pub(crate) fn select(
    db: &Db,
    viewer: &Viewer,
    filter: &StepFilter,
    now: DateTime<Utc>,
    path: &str,
) -> Result<Select<Entity>> {
    Ok(Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(condition(db, viewer, filter, now, path)?))
}

fn condition(db: &Db, viewer: &Viewer, filter: &StepFilter, now: DateTime<Utc>, path: &str) -> Result<Condition> {
    let dialect = db.dialect();
    let mut all = objects(db, viewer, filter, path)?;
    if let Some(statuses) = &filter.statuses {
        all = all.add(any_of(dialect, COLUMN.status, statuses.clone()));
    }
    if let Some(types) = &filter.types {
        all = all.add(any_of(dialect, Column::Kind, types.clone()));
    }
    if let Some(executors) = &filter.assigned_to {
        all = all.add(any_of(dialect, COLUMN.assigned_to, executors.clone()));
        if !executors.contains(&Executor::Workflow) {
            all = all.add(Expr::cust(NOT_BY_WORKFLOW));
        }
    }
    if let Some(roles) = &filter.roles {
        all = all.add(any_of(dialect, Column::AssigneeRole, roles.clone()));
    }
    match filter.ready {
        Some(true) => all = all.add(can_begin(now)),
        Some(false) => all = all.add(dialect::unmet(can_begin(now))),
        None => {}
    }
    if let Some(overdue) = filter.overdue {
        let late = Condition::all().add(COLUMN.due_at.lt(now)).add(Expr::cust(OPEN));
        all = all.add(if overdue { late } else { late.add(COLUMN.due_at.is_not_null()).not() });
    }
    if let Some(range) = &filter.due_at {
        all = range.narrow(all, Column::DueAt, &format!("{path}.dueAt"))?;
    }
    if let Some(range) = &filter.created_at {
        all = range.narrow(all, Column::CreatedAt, &format!("{path}.createdAt"))?;
    }
    if let Some(text) = &filter.search {
        all = all.add(dialect::search(searched(), &format!("{path}.search"), text)?);
    }
    Ok(all)
}

/// The conditions on the step's own id and on the objects that it belongs to.
fn objects(db: &Db, viewer: &Viewer, filter: &StepFilter, path: &str) -> Result<Condition> {
    let dialect = db.dialect();
    let mut all = Condition::all();
    if let Some(ids) = &filter.ids {
        all = all.add(any_of(dialect, COLUMN.id, validate::ids::<StepId>(ids, path, "ids")?));
    }
    if let Some(ids) = &filter.campaign_ids {
        let ids = validate::ids::<CampaignId>(ids, path, "campaignIds")?;
        let mut runs = Query::select();
        runs.column(run::Column::Id)
            .from(run::Entity)
            .and_where(run::COLUMN.org_id.eq(viewer.org_id))
            .and_where(any_of(dialect, run::COLUMN.campaign_id, ids));
        all = all.add(COLUMN.run_id.in_subquery(runs));
    }
    if let Some(ids) = &filter.run_ids {
        all = all.add(any_of(dialect, COLUMN.run_id, validate::ids::<RunId>(ids, path, "runIds")?));
    }
    if let Some(ids) = &filter.task_ids {
        all = all.add(any_of(dialect, COLUMN.task_id, validate::ids::<TaskId>(ids, path, "taskIds")?));
    }
    if let Some(ids) = &filter.assignee_ids {
        all = all.add(any_of(dialect, Column::AssigneeId, assignees(ids, path)?));
    }
    if filter.mine == Some(true) {
        let me = viewer.actor.agent_id.map(|id| id.0).or(viewer.member_id().map(|id| id.0));
        all = all.add(Column::AssigneeId.eq(me.unwrap_or_default()));
    }
    if let Some(ids) = &filter.record_ids {
        all = all.add(any_of(dialect, COLUMN.record_id, validate::ids::<RecordId>(ids, path, "recordIds")?));
    }
    Ok(all)
}

/// The condition of the index `step_by_executor`, and a part of that of `step_to_begin_by_others`.
/// Planners use an index of some rows only where they see its condition in the text.
const NOT_BY_WORKFLOW: &str = r#""step"."assigned_to" <> 'WORKFLOW'"#;
/// The condition of the indexes `step_open_due` and `step_open_by_due`: `StepStatus::OPEN`.
const OPEN: &str = r#""step"."status" IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')"#;

/// The text that searches compare: lower case folds ASCII alike on both databases.
fn searched() -> SimpleExpr {
    let column = |column: Column| Expr::col((Entity, column));
    Func::coalesce([column(Column::Search), Func::lower(column(Column::Name)).into()]).into()
}

/// The value of the column `search`: the folded name, or null where lower case alone folds it.
pub(in crate::domain::run) fn folded(name: &str) -> Option<String> {
    (!name.is_ascii()).then(|| storable::folded(name))
}

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

impl StepFilter {
    /// Rejects a filter that selects steps for a change if it has no condition, or a range without an
    /// end. Errors: BAD_USER_INPUT.
    pub(crate) fn require(&self, path: &str) -> Result<()> {
        for (name, range) in [("dueAt", &self.due_at), ("createdAt", &self.created_at)] {
            if let Some(range) = range {
                range.require_end(&format!("{path}.{name}"))?;
            }
        }
        let ids = [&self.ids, &self.campaign_ids, &self.run_ids, &self.task_ids, &self.assignee_ids, &self.record_ids];
        let has_condition = ids.into_iter().any(Option::is_some)
            || self.statuses.is_some()
            || self.types.is_some()
            || self.assigned_to.is_some()
            || self.roles.is_some()
            || self.mine == Some(true)
            || self.ready.is_some()
            || self.overdue.is_some()
            || self.due_at.is_some()
            || self.created_at.is_some()
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty());
        if has_condition {
            return Ok(());
        }
        Err(Refusal::input(path, "has no condition and would match everything: give at least one").into())
    }

    /// True if steps may match it, or match it no more, by the passing of time alone.
    pub fn depends_on_time(&self) -> bool {
        self.ready.is_some() || self.overdue.is_some()
    }
}
