//! The condition that a step can be begun now, in SQL.
//!
//! It says what `permissions::check_allowed` says of a person's START, and `worker::claim` of a worker's
//! claim, without regard to the person and the worker. A task is BLOCKED exactly while a task that it
//! depends on is not finished.

use chrono::{DateTime, Utc};
use entity::step::{COLUMN, Column, Entity};
use entity::{CampaignStatus, PhaseStatus, RunStatus, TaskStatus, campaign, phase, run, task};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition};

use crate::domain::plan::run_template;

/// The condition of the index `step_to_begin`: workers claim queued steps, people also start pending ones.
const TO_BEGIN: &str =
    r#"("step"."status" = 'QUEUED' OR ("step"."status" = 'PENDING' AND "step"."assigned_to" = 'HUMAN'))"#;

/// SQL condition on a step and its task: a pending step does not wait for its trigger. In a fan-out, the
/// steps on an event are created when it has come.
const TRIGGERED: &str = r#"("step"."status" = 'QUEUED'
    OR substr("step"."trigger", 1, 6) NOT IN ('after:', 'delay:', 'event:')
    OR (substr("step"."trigger", 1, 6) = 'event:' AND "task"."fan_out"))"#;

/// The condition that a step can be begun at this time.
pub(super) fn can_begin(now: DateTime<Utc>) -> Condition {
    let mut paused = Query::select();
    paused
        .expr(Expr::val(1))
        .from(campaign::Entity)
        .and_where(Expr::col((campaign::Entity, campaign::Column::Id)).equals((run::Entity, run::Column::CampaignId)))
        .and_where(campaign::COLUMN.status.eq(CampaignStatus::Paused));
    let mut running = Query::select();
    running
        .expr(Expr::val(1))
        .from(run::Entity)
        .and_where(of_step((run::Entity, run::Column::Id), Column::RunId))
        .and_where(run::COLUMN.status.eq(RunStatus::InProgress))
        .and_where(Expr::exists(paused).not());
    Condition::all()
        .add(Expr::cust(TO_BEGIN))
        .add(COLUMN.available_at.lte(now))
        // The engine starts reviews.
        .add(Column::Kind.ne(run_template::REVIEW))
        .add(Expr::exists(running))
        .add(Expr::exists(in_active_phase()))
        .add(Expr::exists(in_task()))
}

fn in_active_phase() -> SelectStatement {
    let mut active = Query::select();
    active
        .expr(Expr::val(1))
        .from(phase::Entity)
        .and_where(of_step((phase::Entity, phase::Column::Id), Column::PhaseId))
        .and_where(phase::COLUMN.status.eq(PhaseStatus::Active));
    active
}

fn in_task() -> SelectStatement {
    let mut free = Query::select();
    free.expr(Expr::val(1))
        .from(task::Entity)
        .and_where(of_step((task::Entity, task::Column::Id), Column::TaskId))
        .and_where(task::COLUMN.status.ne(TaskStatus::Blocked))
        .and_where(Expr::cust(TRIGGERED));
    free
}

/// SQL condition: a column is the id that the step has in another one.
fn of_step(id: impl sea_orm::sea_query::IntoColumnRef, column: Column) -> Expr {
    Expr::col(id).equals((Entity, column))
}
