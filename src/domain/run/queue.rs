//! Queue metrics: work that waits for a worker, across all orgs. Used only for the operator's
//! metrics.

use chrono::{DateTime, Utc};
use entity::step;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, Statement};

use crate::kernel::db::Db;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::fair::queue::{next_head, row_of};
use crate::kernel::error::Result;

/// Queue metrics.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Number of due steps.
    pub steps: u64,
    /// Time for which the oldest step has been due, among the first of each phase and type.
    pub age: chrono::Duration,
    /// Number of committed events without a position.
    pub unnumbered: u64,
}

/// Counts due steps in running runs, and events without a position.
pub async fn queue(db: &Db) -> Result<Queue> {
    let due = step::COLUMN.status.eq(step::StepStatus::Queued).and(step::COLUMN.available_at.lte(db.now()));
    // The first step of each phase and kind: the steps of paused runs are not walked.
    let backend = db.read().get_database_backend();
    let next = next_head("step", "id", "t.status = 'QUEUED'", &["org_id", "outside", "kind", "phase_id"]);
    let (next, of_head) = (row_of(backend, "step", "id", "s", &next), row_of(backend, "step", "id", "s", "h.id"));
    let running = format!(
        "WITH RECURSIVE head (id, org_id, outside, kind, phase_id) AS (SELECT * FROM (SELECT id, org_id, outside, kind, phase_id \
         FROM step WHERE status = 'QUEUED' ORDER BY org_id, outside, kind, phase_id, available_at, id LIMIT 1) AS first_head \
         UNION ALL SELECT s.id, s.org_id, s.outside, s.kind, s.phase_id FROM head h {next}) \
         SELECT s.available_at FROM head h {of_head} JOIN run r ON r.id = s.run_id \
         WHERE s.available_at <= $1 AND s.assigned_to = 'WORKFLOW' AND r.status = 'IN_PROGRESS' ORDER BY s.available_at LIMIT 1"
    );
    let statement = Statement::from_sql_and_values(backend, running, [db.now().into()]);
    let oldest = db.read().query_one_raw(statement).await?;
    let oldest = oldest.map(|row| row.try_get_by_index::<DateTime<Utc>>(0)).transpose()?;
    let unnumbered = match db.dialect() {
        Dialect::Sqlite => 0,
        Dialect::Postgres => {
            let sql = "SELECT COUNT(*) FROM event WHERE position IS NULL";
            let row = db.read().query_one_raw(Statement::from_string(backend, sql)).await?;
            let count = row.map(|row| row.try_get_by_index::<i64>(0)).transpose()?.unwrap_or_default();
            u64::try_from(count).unwrap_or_default()
        }
    };
    Ok(Queue {
        steps: step::Entity::find().filter(due).count(db.read()).await?,
        age: oldest.map_or_else(chrono::Duration::zero, |at| db.now() - at),
        unnumbered,
    })
}
