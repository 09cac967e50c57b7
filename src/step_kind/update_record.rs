//! `update_record`: updates the step's record from the step's settings. A test changes nothing.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use entity::id::{OrgId, RecordId};
use entity::step::StepStatus;
use entity::{record, run, step};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use serde_json::{Map, Value, json};

use super::{Claimed, Outcome, Work, batch_context};
use crate::domain::audience::stage::{self, Pipeline};
use crate::domain::content::templating;
use crate::domain::plan::run_template::kind;
use crate::domain::run::record_change;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Type};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// The kind `update_record`.
#[derive(Debug)]
pub struct UpdateRecord;

/// The changes to a record.
#[derive(Clone, Debug)]
pub struct Changes {
    stage: Option<String>,
    attributes: Map<String, Value>,
    contacted: bool,
}

impl Work for UpdateRecord {
    type Outcome = Option<Changes>;
    const KIND: &'static str = kind::UPDATE_RECORD;

    fn batch(&self) -> u64 {
        limits::WORK_BATCH
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        let batch = batch_context::of_batch(db, claimed).await?;
        let kinds = kinds(db, claimed).await?;
        let mut pipelines: HashMap<OrgId, Vec<Pipeline>> = HashMap::new();
        for org in claimed.iter().map(|claim| claim.run.org_id).collect::<HashSet<_>>() {
            pipelines.insert(org, stage::all(db.read(), &Viewer::engine(org)).await?);
        }
        let evaluated = batch_context::evaluated(&batch, claimed, changes).await?;
        let outcomes = claimed.iter().zip(batch.iter()).zip(evaluated).map(|((claim, context), evaluated)| {
            let failed = |why: String| Outcome::Failed { why, retryable: false, after: None, data: None };
            let Some(evaluated) = evaluated else { return batch_context::not_yet(db) };
            let Some(id) = claim.step.record_id else { return failed("the step has no record".into()) };
            let stages = pipelines.get(&claim.run.org_id).map(Vec::as_slice).unwrap_or_default();
            let checked = evaluated.and_then(|changes| {
                let (kind, current) = kinds.get(&id).ok_or("its record was deleted")?;
                if let Some(stage) = changes.stage.as_ref().filter(|stage| current.as_ref() != Some(stage)) {
                    stage::check(stages, "stage", kind, stage).map_err(|err| err.to_string())?;
                }
                Ok(changes)
            });
            match checked {
                Ok(changes) => {
                    let mut result = json!({ "stage": changes.stage, "attributes": changes.attributes.len() });
                    if context.snapshot.test.is_some() {
                        result["rehearsed"] = true.into();
                        return Outcome::Done { result, data: None };
                    }
                    Outcome::Done { result, data: Some(changes) }
                }
                Err(why) => failed(why),
            }
        });
        Ok(outcomes.collect())
    }

    fn changed_records(&self, performed: &[(&step::Model, &Outcome<Self::Outcome>)]) -> Vec<RecordId> {
        let changing = performed.iter().filter(|(_, outcome)| matches!(outcome.data(), Some(Some(_))));
        changing.filter_map(|(step, _)| step.record_id).collect()
    }

    /// Updates all records of the batch in one statement, with an event for each that has changed,
    /// to which other runs react.
    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        let mut by_record: HashMap<RecordId, &Changes> = HashMap::new();
        for (step, outcome) in settled.iter().filter(|(step, _)| step.status == StepStatus::Completed) {
            if let (Some(id), Some(Some(changes))) = (step.record_id, outcome.data()) {
                by_record.insert(id, changes);
            }
        }
        if by_record.is_empty() {
            return Ok(());
        }
        let before = record::Entity::find()
            .filter(record::COLUMN.org_id.eq(run.org_id))
            .filter(any_of(tx.dialect(), record::COLUMN.id, by_record.keys().copied()))
            // One that was erased meanwhile stays empty.
            .filter(record::COLUMN.erased_at.is_null())
            .order_by_asc(record::COLUMN.id)
            .lock_exclusive()
            .all(tx.db())
            .await?;
        let mut after = Vec::new();
        for row in &before {
            let changes = by_record[&row.id];
            let mut new = row.clone();
            new.stage = changes.stage.clone().or(new.stage);
            let mut attributes = row.attributes.as_object().cloned().unwrap_or_default();
            attributes.extend(changes.attributes.clone());
            attributes.retain(|_, value| !value.is_null());
            new.attributes = crate::domain::audience::record::normalized(Value::Object(attributes));
            if changes.contacted {
                new.last_contacted_at = Some(tx.now());
            }
            if new != *row {
                after.push(new);
            }
        }
        write(tx, &after).await?;
        let pairs = after.iter().filter_map(|new| Some((before.iter().find(|old| old.id == new.id)?, new)));
        record_change::announce(tx, &Viewer::engine(run.org_id), &pairs.collect::<Vec<_>>(), Some(run.id)).await
    }
}

/// The kind and the stage of each of the batch's records.
async fn kinds(db: &Db, claimed: &[Claimed]) -> Result<HashMap<RecordId, (String, Option<String>)>> {
    let ids = claimed.iter().filter_map(|claim| claim.step.record_id);
    let rows: Vec<(RecordId, String, Option<String>)> = record::Entity::find()
        .select_only()
        .columns([record::Column::Id, record::Column::Kind, record::Column::Stage])
        .filter(any_of(db.dialect(), record::COLUMN.id, ids))
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows.into_iter().map(|(id, kind, stage)| (id, (kind, stage))).collect())
}

async fn write(tx: &Tx, rows: &[record::Model]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let each: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "of_id": row.id.0.simple().to_string(),
                "to_stage": row.stage,
                "to_attributes": row.attributes,
                "to_priority": crate::domain::audience::record::priority(&row.attributes),
                "to_contacted": row.last_contacted_at.map(dialect::time),
            })
        })
        .collect();
    let columns = [
        ("of_id", Type::Uuid),
        ("to_stage", Type::Text),
        ("to_attributes", Type::Json),
        ("to_priority", Type::Int),
        ("to_contacted", Type::Time),
    ];
    let sql = format!(
        "UPDATE record SET stage = v.to_stage, attributes = v.to_attributes, priority = v.to_priority, last_contacted_at = v.to_contacted, \
         updated_at = $2, revision = revision + 1 FROM {} WHERE record.id = v.of_id",
        tx.dialect().rows("$1", "v", &columns)
    );
    let values = [json!(each).into(), tx.now().into()];
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values)).await?;
    Ok(())
}

fn changes(settings: &Value, values: &Map<String, Value>, until: Instant) -> std::result::Result<Changes, String> {
    let stage =
        settings["stage"].as_str().map(|source| templating::text("stage", source, values, until)).transpose()?;
    let stage =
        stage.map(|stage| crate::kernel::validate::name("stage", &stage).map_err(|err| err.to_string())).transpose()?;
    let attributes = templating::filled("attributes", &settings["attributes"], values, until)?;
    Ok(Changes {
        stage,
        attributes: attributes.as_object().cloned().unwrap_or_default(),
        contacted: settings["lastContacted"].as_bool().unwrap_or(false),
    })
}
