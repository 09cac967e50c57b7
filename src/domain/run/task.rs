//! Tasks of a run: lookups, and the counters of their steps by status.

use std::collections::{BTreeMap, HashMap};

use entity::id::*;
use entity::step::{self, Executor, StepStatus};
use entity::task::{COLUMN, Column, Entity, Model, StepCounts};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};

use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

scoped!(task, TaskId, "task");

/// Tasks of some runs, in display order.
pub async fn of_runs(db: &impl ConnectionTrait, viewer: &Viewer, runs: &[RunId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), COLUMN.run_id, runs.iter().copied()))
        .order_by_asc(COLUMN.sequence)
        .all(db)
        .await?)
}

/// The members to whom all steps of these tasks are assigned; tasks without such a member are left out.
pub async fn assignees(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    tasks: &[TaskId],
) -> Result<HashMap<TaskId, MemberId>> {
    let found: Vec<(TaskId, Executor, Option<uuid::Uuid>)> = step::Entity::find()
        .select_only()
        .columns([step::Column::TaskId, step::Column::AssignedTo, step::Column::AssigneeId])
        .distinct()
        .filter(step::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), step::COLUMN.task_id, tasks.iter().copied()))
        .into_tuple()
        .all(db)
        .await?;
    let mut all: HashMap<TaskId, Vec<Option<MemberId>>> = HashMap::new();
    for (task, executor, assignee) in found {
        let member = assignee.map(MemberId).filter(|_| executor == Executor::Human);
        all.entry(task).or_default().push(member);
    }
    let alone = |(task, members): (TaskId, Vec<Option<MemberId>>)| match members.as_slice() {
        [Some(member)] => Some((task, *member)),
        _ => None,
    };
    Ok(all.into_iter().filter_map(alone).collect())
}

/// Counter changes of a transaction: steps added or removed per status.
#[derive(Debug, Default)]
pub(crate) struct Counting(BTreeMap<TaskId, StepCounts>);

impl Counting {
    /// Records a step's change of status; `from` is `None` for a new step.
    pub(crate) fn moved(&mut self, task: TaskId, from: Option<StepStatus>, to: StepStatus) {
        let counts = self.0.entry(task).or_default();
        if let Some(from) = from {
            *counts.of(from) -= 1;
        }
        *counts.of(to) += 1;
    }

    /// Writes the changes, one statement per task. Returns the updated tasks.
    pub(crate) async fn write(self, tx: &Tx) -> Result<Vec<Model>> {
        let mut counted = Vec::new();
        for (id, delta) in self.0 {
            let mut update = Entity::update_many().filter(COLUMN.id.eq(id));
            for (column, by) in [
                (Column::Pending, delta.pending),
                (Column::Queued, delta.queued),
                (Column::InProgress, delta.in_progress),
                (Column::AwaitingApproval, delta.awaiting_approval),
                (Column::Completed, delta.completed),
                (Column::Skipped, delta.skipped),
                (Column::Failed, delta.failed),
            ] {
                if by != 0 {
                    update = update.col_expr(column, Expr::col(column).add(by));
                }
            }
            if delta != StepCounts::default() {
                counted.extend(update.exec_with_returning(tx.db()).await?);
            }
        }
        Ok(counted)
    }
}

/// Keeps a task open while a sweep processes its rows.
pub(crate) async fn hold_open(tx: &Tx, id: TaskId) -> Result<()> {
    fan_out_done(tx, id, false).await
}

/// Sets whether all steps of a task have been created, with no sweep in progress on them.
pub(crate) async fn fan_out_done(tx: &Tx, id: TaskId, done: bool) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::FanOutDone, Expr::value(done))
        .filter(COLUMN.id.eq(id))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Sets whether the failed steps of a task are being enqueued again.
pub(crate) async fn retrying(tx: &Tx, id: TaskId, is: bool) -> Result<()> {
    Entity::update_many().col_expr(Column::Retrying, Expr::value(is)).filter(COLUMN.id.eq(id)).exec(tx.db()).await?;
    Ok(())
}

/// Recounts the steps of a run's tasks.
pub(crate) async fn recount(tx: &Tx, run: RunId) -> Result<()> {
    let counts: Vec<String> = StepStatus::all()
        .iter()
        .map(|status| {
            let column = status.to_string().to_lowercase();
            format!("{column} = (SELECT COUNT(*) FROM step WHERE step.task_id = task.id AND step.status = '{status}')")
        })
        .collect();
    let sql = format!("UPDATE task SET {} WHERE run_id = $1", counts.join(", "));
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, [run.into()])).await?;
    Ok(())
}
