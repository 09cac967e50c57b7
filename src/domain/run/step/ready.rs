//! The condition that a step can be begun now, in SQL.
//!
//! The condition agrees with `permissions::check_allowed` for a person's START and with
//! `worker::claim` for a worker's claim, without regard to the person and the worker. A task is BLOCKED exactly while a
//! task that it depends on is not finished.

use chrono::{DateTime, Utc};
use entity::step::{COLUMN, Column, Entity};
use entity::{CampaignStatus, PhaseStatus, RunStatus, TaskStatus, campaign, phase, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, IntoColumnRef, Query, SelectStatement, SubQueryStatement};
use sea_orm::{ColumnTrait, Condition};

use crate::domain::plan::run_template;

/// The condition of the indexes `step_to_begin` and `step_to_begin_by_others`: workers claim queued
/// steps, people also start pending ones.
const TO_BEGIN: &str =
    r#"("step"."status" = 'QUEUED' OR ("step"."status" = 'PENDING' AND "step"."assigned_to" = 'HUMAN'))"#;

/// SQL condition on a step and its task: a pending step does not wait for its trigger. In a fan-out,
/// the steps on an event are created when it has come.
const TRIGGERED: &str = r#"("step"."status" = 'QUEUED'
    OR substr("step"."trigger", 1, 6) NOT IN ('after:', 'delay:', 'event:')
    OR (substr("step"."trigger", 1, 6) = 'event:' AND "task"."fan_out"))"#;

/// The condition that a step can be begun at this time.
pub(super) fn can_begin(now: DateTime<Utc>) -> Condition {
    Condition::all()
        .add(Expr::cust(TO_BEGIN))
        .add(COLUMN.available_at.lte(now))
        // The engine starts reviews.
        .add(Column::Kind.ne(run_template::REVIEW))
        .add(holds(in_running_run()))
        .add(holds(in_active_phase()))
        .add(holds(in_free_task()))
}

fn in_running_run() -> SelectStatement {
    let mut paused = Query::select();
    paused
        .expr(Expr::val(1))
        .from(campaign::Entity)
        .and_where(Expr::col((campaign::Entity, campaign::Column::Id)).equals((run::Entity, run::Column::CampaignId)))
        .and_where(campaign::COLUMN.status.eq(CampaignStatus::Paused));
    let running = run::COLUMN.status.eq(RunStatus::InProgress).and(Expr::exists(paused).not());
    let mut select = verdict(running);
    select.from(run::Entity).and_where(of_step((run::Entity, run::Column::Id), Column::RunId));
    select
}

fn in_active_phase() -> SelectStatement {
    let mut select = verdict(phase::COLUMN.status.eq(PhaseStatus::Active));
    select.from(phase::Entity).and_where(of_step((phase::Entity, phase::Column::Id), Column::PhaseId));
    select
}

fn in_free_task() -> SelectStatement {
    let free = task::COLUMN.status.ne(TaskStatus::Blocked).and(Expr::cust(TRIGGERED));
    let mut select = verdict(free);
    select.from(task::Entity).and_where(of_step((task::Entity, task::Column::Id), Column::TaskId));
    select
}

/// SQL condition: a column is the id that the step has in another one.
fn of_step(id: impl IntoColumnRef, column: Column) -> Expr {
    Expr::col(id).equals((Entity, column))
}

/// A statement that selects 1 where a condition is met, else 0.
fn verdict(condition: Expr) -> SelectStatement {
    let verdict: Expr = Expr::case(condition, 1).finally(0).into();
    Query::select().expr(verdict).take()
}

/// The condition that a verdict is not 0. Planners assume that of most rows, so they read the list in
/// its order and look up few rows; with EXISTS they would expect hardly any to match, and look at all.
fn holds(verdict: SelectStatement) -> Expr {
    Expr::SubQuery(None, Box::new(SubQueryStatement::SelectStatement(verdict))).ne(0)
}
