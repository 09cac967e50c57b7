//! Implements `updateStepStage`: moves one or more records to another stage, from within a step.

use entity::id::*;
use entity::{ActivityKind, record};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;
use std::collections::BTreeMap;

use super::active_step;
use crate::domain::audience::stage;
use crate::domain::message::activity::{self, NewActivity};
use crate::domain::run::record_change;
use crate::kernel::db::WriteContext;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Moves records to new stages; those already there stay unchanged. All or nothing. Errors:
/// NOT_FOUND; CONFLICT if the step is not in progress; BAD_USER_INPUT for a stage that is not in
/// the pipeline of the record's kind.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    step: StepId,
    moves: &[(RecordId, String)],
) -> Result<Vec<record::Model>> {
    let ids: Vec<RecordId> = moves.iter().map(|(id, _)| *id).collect();
    // Existence is checked again under the locks.
    super::mail::records(db, viewer, ("changes", ".recordId"), &ids).await?;
    let mut new_stages = BTreeMap::new();
    for (i, (id, stage)) in moves.iter().enumerate() {
        new_stages.insert(*id, validate::name(&format!("changes[{i}].stage"), stage)?);
    }
    transact!(db, |tx| {
        // Runs are locked before records, always in the order of their ids.
        let own = crate::domain::run::step::must_find(tx.db(), viewer, step).await?.run_id;
        record_change::lock_runs(tx, viewer, &ids, &[], Some(own)).await?;
        let active = active_step::enter(tx, viewer, step).await?;
        let before = record::Entity::find()
            .filter(record::COLUMN.org_id.eq(viewer.org_id))
            .filter(any_of(tx.dialect(), record::COLUMN.id, ids.iter().copied()))
            .order_by_asc(record::COLUMN.id)
            .lock_exclusive()
            .all(tx.db())
            .await?;
        let pipelines = stage::all(tx.db(), viewer).await?;
        for record in &before {
            crate::domain::audience::record::erasure::check_not_erased(record)?;
            let stage = &new_stages[&record.id];
            if record.stage.as_ref() != Some(stage) {
                let at = ids.iter().position(|id| *id == record.id).unwrap_or_default();
                stage::check(&pipelines, &format!("changes[{at}].stage"), &record.kind, stage)?;
            }
        }
        let (run, _) = super::recipients(tx, active.run, &before, false).await?;
        let mut by_stage: BTreeMap<&str, Vec<RecordId>> = BTreeMap::new();
        let moved = || before.iter().filter(|record| record.stage.as_ref() != Some(&new_stages[&record.id]));
        for record in moved() {
            by_stage.entry(&new_stages[&record.id]).or_default().push(record.id);
        }
        // One statement per stage, however many records.
        for (stage, ids) in &by_stage {
            record::Entity::update_many()
                .col_expr(record::Column::Stage, Expr::value(*stage))
                .col_expr(record::Column::UpdatedAt, Expr::value(tx.now()))
                .col_expr(
                    record::Column::Revision,
                    sea_orm::sea_query::ExprTrait::add(Expr::col(record::Column::Revision), 1),
                )
                .filter(any_of(tx.dialect(), record::COLUMN.id, ids.iter().copied()))
                .exec(tx.db())
                .await?;
        }
        let after = crate::domain::audience::record::find_all(tx.db(), viewer, &ids).await?;
        let (mut changes, mut done) = (Vec::new(), Vec::new());
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        for old in moved() {
            let Some(new) = after.iter().find(|new| new.id == old.id) else { continue };
            changes.push((old, new));
            let from = old.stage.as_deref().unwrap_or("no stage");
            done.push(NewActivity {
                record_id: Some(old.id),
                kind: ActivityKind::StageChanged,
                summary: format!("Moved {} from {from} to {}", old.name, new_stages[&old.id]),
                details: json!({ "from": old.stage, "to": new.stage }),
            });
            *counted.entry(activity::counter(&old.kind, "Updated")).or_default() += 1;
        }
        record_change::announce(tx, viewer, &changes, Some(own)).await?;
        let counted: Vec<(String, i64)> = counted.into_iter().collect();
        activity::write(tx, &viewer.actor(), &run, active.step.id, done, &counted).await?;
        tx.set_result(active.step.id);
        let mut after = after;
        after.sort_by_key(|record| ids.iter().position(|id| *id == record.id));
        Ok(after)
    })
}
