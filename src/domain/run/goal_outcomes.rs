//! Outcomes of goals: their runs by status, and the runs' recipients by outcome. Runs count towards
//! the goal that they were launched for. Test runs do not count.

use std::collections::HashMap;

use entity::id::GoalId;
use entity::run::{COLUMN, Column, Entity};
use entity::run_record::{self, Outcome};
use entity::{RunStatus, RunType};
use sea_orm::sea_query::{Asterisk, Condition, Expr, ExprTrait, Func, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QuerySelect};

use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Counts the runs of several goals by their status, in one statement. Statuses without runs are
/// left out. Answered from the index `run_of_goal_by_status` alone.
pub async fn runs_by_status(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    goals: &[GoalId],
) -> Result<HashMap<GoalId, HashMap<String, u64>>> {
    let rows: Vec<(GoalId, RunStatus, i64)> = Entity::find()
        .select_only()
        .columns([Column::GoalId, Column::Status])
        .column_as(Column::Id.count(), "count")
        .filter(counted(db.get_database_backend(), viewer, goals))
        .group_by(Column::GoalId)
        .group_by(Column::Status)
        .into_tuple()
        .all(db)
        .await?;
    let mut counts: HashMap<_, HashMap<_, _>> = goals.iter().map(|goal| (*goal, HashMap::new())).collect();
    for (goal, status, count) in rows {
        counts.entry(goal).or_default().insert(status.to_string(), u64::try_from(count).unwrap_or_default());
    }
    Ok(counts)
}

/// Counts the recipients of the runs of several goals by their outcome, in one statement; none is
/// the outcome of those that are open. Reads each recipient.
pub async fn recipients_by_outcome(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    goals: &[GoalId],
) -> Result<HashMap<GoalId, HashMap<Option<Outcome>, u64>>> {
    let backend = db.get_database_backend();
    let (goal, outcome) = ((Entity, Column::GoalId), (run_record::Entity, run_record::Column::Outcome));
    let of_run = Expr::col((Entity, Column::Id)).equals((run_record::Entity, run_record::Column::RunId));
    let mut select = Query::select();
    select
        .column(goal)
        .column(outcome)
        .expr_as(Func::count(Expr::col(Asterisk)), "count")
        .from(Entity)
        .inner_join(run_record::Entity, of_run)
        .cond_where(counted(backend, viewer, goals))
        .group_by_col(goal)
        .group_by_col(outcome);
    let mut counts: HashMap<_, HashMap<_, _>> = goals.iter().map(|goal| (*goal, HashMap::new())).collect();
    for row in db.query_all_raw(backend.build(&select)).await? {
        let count: i64 = row.try_get("", "count")?;
        let counts = counts.entry(row.try_get::<GoalId>("", "goal_id")?).or_default();
        counts.insert(row.try_get::<Option<Outcome>>("", "outcome")?, u64::try_from(count).unwrap_or_default());
    }
    Ok(counts)
}

/// The condition for the runs of some goals that count.
fn counted(backend: DbBackend, viewer: &Viewer, goals: &[GoalId]) -> Condition {
    Condition::all()
        .add(COLUMN.org_id.eq(viewer.org_id))
        .add(any_of(backend, Column::GoalId, goals.iter().copied()))
        .add(COLUMN.run_type.ne(RunType::TestRun))
}
