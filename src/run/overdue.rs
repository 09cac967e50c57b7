//! What its time has come for while nobody acted: steps that are overdue, told once; phases that waited for events.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Actor, PhaseStatus, RunStatus, phase};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use super::advance;
use crate::db::Db;
use crate::error::Result;
use crate::event::{self, Event};
use crate::viewer::Viewer;
use crate::{limits, transact};

/// Raises `step.overdue` for open steps whose time has passed, once each. Says how many.
pub async fn tell(db: &Db) -> Result<usize> {
    let late = step::Entity::find()
        .select_only()
        .column(step::Column::OrgId)
        .column(step::Column::RunId)
        .column(step::Column::Id)
        // As a literal: their index is of them alone.
        .filter(Expr::cust(
            "step.overdue_at IS NULL AND step.due_at IS NOT NULL \
             AND step.status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL')",
        ))
        .filter(step::COLUMN.due_at.lt(db.now()))
        .order_by_asc(step::COLUMN.due_at)
        .limit(limits::CHUNK)
        .into_tuple::<(OrgId, RunId, StepId)>()
        .all(db.read())
        .await?;
    let mut by_run: BTreeMap<(OrgId, RunId), Vec<StepId>> = BTreeMap::new();
    for (org_id, run_id, id) in &late {
        by_run.entry((*org_id, *run_id)).or_default().push(*id);
    }
    for ((org_id, run_id), ids) in by_run {
        transact!(db, |tx| {
            let run = super::must_lock(tx, &Viewer::engine(org_id), run_id, None).await?;
            let told = step::Entity::update_many()
                .col_expr(step::Column::OverdueAt, Expr::value(tx.now()))
                .filter(step::COLUMN.id.is_in(ids.iter().copied()))
                .filter(step::COLUMN.overdue_at.is_null())
                .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
                .exec_with_returning(tx.db())
                .await?;
            for step in &told {
                let payload = json!({ "key": step.key, "name": step.name, "type": step.kind, "dueAt": step.due_at });
                let event = Event::new(org_id, "step.overdue", &Actor::engine()).run(&run).step(step);
                event::append(tx, event.payload(payload));
            }
            Ok(())
        })?;
    }
    Ok(late.len())
}

/// Moves the runs on whose phase has waited for events as long as it was to. Says how many.
pub async fn close(db: &Db) -> Result<usize> {
    let over: Vec<(OrgId, RunId, PhaseId)> = phase::Entity::find()
        .select_only()
        .column(phase::Column::OrgId)
        .column(phase::Column::RunId)
        .column(phase::Column::Id)
        .filter(Expr::cust("phase.open_until IS NOT NULL AND phase.status = 'ACTIVE'"))
        .filter(phase::COLUMN.open_until.lte(db.now()))
        .limit(limits::CHUNK)
        .into_tuple()
        .all(db.read())
        .await?;
    let mut moved = 0;
    for (org_id, run_id, phase_id) in over {
        let engine = Viewer::engine(org_id);
        moved += transact!(db, |tx| {
            let run = super::must_lock(tx, &engine, run_id, None).await?;
            // Of a run that is held it stays as it is until it goes on.
            if run.status != RunStatus::InProgress {
                return Ok(0);
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
            Ok(1)
        })?;
    }
    Ok(moved)
}
