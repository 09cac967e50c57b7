//! Overdue work: reports overdue steps once, and ends phases whose time for events is over.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, PhaseStatus, RunStatus, phase, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::advance;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::event::{self, Event};
use crate::kernel::limits;
use crate::kernel::stuck::{self, StuckWork};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Overdue rows that were not reported yet: run and row ids.
pub type OverdueRows<I> = Vec<((OrgId, RunId), Vec<I>)>;

/// Groups rows by their run.
pub(crate) fn by_run<I>(rows: Vec<(OrgId, RunId, I)>) -> OverdueRows<I> {
    let mut all: BTreeMap<(OrgId, RunId), Vec<I>> = BTreeMap::new();
    for (org_id, run_id, id) in rows {
        all.entry((org_id, run_id)).or_default().push(id);
    }
    all.into_iter().collect()
}

/// Open steps that are overdue and not reported, in runs whose reporting is not suspended as stuck
/// work.
pub async fn late(db: &Db) -> Result<OverdueRows<StepId>> {
    let late = step::Entity::find()
        .select_only()
        .column(step::Column::OrgId)
        .column(step::Column::RunId)
        .column(step::Column::Id)
        // A literal, so that the partial index applies.
        .filter(Expr::cust(
            "step.overdue_at IS NULL AND step.due_at IS NOT NULL \
             AND step.status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')",
        ))
        .filter(step::COLUMN.due_at.lt(db.now()))
        .filter(stuck::is_free(Expr::col((step::Entity, step::Column::RunId)), &[StuckWork::Tell], db.now()))
        .order_by_asc(step::COLUMN.due_at)
        .limit(limits::CHUNK)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(by_run(late))
}

/// Emits `step.overdue` for overdue open steps of a run, once each.
pub async fn emit(db: &WriteContext, org_id: OrgId, run_id: RunId, ids: &[StepId]) -> Result<()> {
    transact!(db, |tx| {
        let run = super::must_lock(tx, &Viewer::engine(org_id), run_id, None).await?;
        let overdue = step::Entity::update_many()
            .col_expr(step::Column::OverdueAt, Expr::value(tx.now()))
            .filter(any_of(tx.dialect(), step::COLUMN.id, ids.iter().copied()))
            .filter(step::COLUMN.overdue_at.is_null())
            .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
            .exec_with_returning(tx.db())
            .await?;
        for step in &overdue {
            let payload = json!({ "key": step.key, "name": step.name, "type": step.kind, "dueAt": step.due_at });
            let event = Event::new(org_id, "step.overdue", &Actor::engine()).run(&run).step(step);
            event::append(tx, event.payload(payload));
        }
        Ok(())
    })
}

/// Runs with a phase whose time for events is over, and whose closing is not suspended as stuck
/// work.
pub async fn expired_phases(db: &Db) -> Result<Vec<(OrgId, RunId, PhaseId)>> {
    Ok(phase::Entity::find()
        .select_only()
        .column(phase::Column::OrgId)
        .column(phase::Column::RunId)
        .column(phase::Column::Id)
        .filter(Expr::cust("phase.open_until IS NOT NULL AND phase.status = 'ACTIVE'"))
        .filter(phase::COLUMN.open_until.lte(db.now()))
        // Phases of paused runs stay open: excluded, so that they don't crowd out those that can be
        // closed.
        .filter(Expr::exists(at_work()))
        .filter(stuck::is_free(Expr::col((phase::Entity, phase::Column::RunId)), &[StuckWork::Close], db.now()))
        .order_by_asc(phase::COLUMN.open_until)
        .order_by_asc(phase::COLUMN.id)
        .limit(limits::CHUNK)
        .into_tuple()
        .all(db.read())
        .await?)
}

/// Subquery: the phase's run is in progress.
fn at_work() -> SelectStatement {
    let mut run = Query::select();
    run.expr(Expr::val(1))
        .from(run::Entity)
        .and_where(Expr::col((run::Entity, run::Column::Id)).equals((phase::Entity, phase::Column::RunId)))
        .and_where(run::COLUMN.status.eq(RunStatus::InProgress))
        .and_where(super::campaign_is_not_paused());
    run
}

/// Advances a run with a phase whose time for events is over. Returns true if it did.
pub async fn close(db: &WriteContext, org_id: OrgId, run_id: RunId, phase_id: PhaseId) -> Result<bool> {
    let engine = Viewer::engine(org_id);
    transact!(db, |tx| {
        let run = super::must_lock(tx, &engine, run_id, None).await?;
        // A paused run is handled when it is resumed.
        if run.status != RunStatus::InProgress {
            return Ok(false);
        }
        let done = phase::Entity::update_many()
            .col_expr(phase::Column::OpenUntil, Expr::value(Option::<DateTime<Utc>>::None))
            .filter(phase::COLUMN.id.eq(phase_id))
            .filter(phase::COLUMN.open_until.lte(tx.now()))
            .filter(phase::COLUMN.status.eq(PhaseStatus::Active))
            .exec(tx.db())
            .await?;
        if done.rows_affected > 0 {
            advance::advance(tx, &engine, run).await?;
        }
        Ok(true)
    })
}
