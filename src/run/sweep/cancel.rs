//! What was open in a cancelled run is skipped: first the steps, then the messages, then the places of the audience.

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepStatus};
use entity::sweep::Model;
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ActiveEnum, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::Tx;
use crate::error::Result;
use crate::limits;
use crate::viewer::Viewer;

/// Skips what was open in a cancelled run. Work that a worker holds may still settle, and starts nothing.
pub(super) async fn chunk(tx: &Tx, viewer: &Viewer, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let open = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .filter(step::COLUMN.lease_owner.is_null())
        .order_by_asc(step::COLUMN.id)
        .limit(limits::CHUNK)
        .all(tx.db())
        .await?;
    if let Some(last) = open.last() {
        let key = last.id.0;
        super::skip(tx, viewer, run, open, sweep.reason.clone()).await?;
        return Ok(Some(key));
    }
    let unsent = communication::Entity::find()
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.status.is_in([CommunicationStatus::Draft, CommunicationStatus::Approved]))
        .order_by_asc(communication::COLUMN.id)
        .limit(limits::CHUNK)
        .all(tx.db())
        .await?;
    if let Some(last) = unsent.last() {
        let key = last.id.0;
        let places: Vec<RunRecordId> = unsent.iter().map(|row| row.run_record_id).collect();
        crate::communication::drop_of_places(tx, viewer, run, &places, "the run was cancelled").await?;
        return Ok(Some(key));
    }
    let mut held = Query::select();
    held.column(step::Column::RunRecordId)
        .from(step::Entity)
        .and_where(step::COLUMN.run_id.eq(run.id))
        .and_where(step::COLUMN.lease_owner.is_not_null())
        .and_where(step::COLUMN.run_record_id.is_not_null());
    let open: Vec<RunRecordId> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(run_record::COLUMN.id.not_in_subquery(held))
        .order_by_asc(run_record::COLUMN.id)
        .limit(limits::CHUNK)
        .into_tuple()
        .all(tx.db())
        .await?;
    let Some(last) = open.last().map(|id| id.0) else { return Ok(None) };
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value("RUN_CANCELLED"))
        .filter(run_record::COLUMN.id.is_in(open))
        .exec(tx.db())
        .await?;
    Ok(Some(last))
}
