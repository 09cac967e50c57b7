//! What conditions and templates of a run's steps speak of: the record, the variables, what earlier steps brought.

use std::collections::HashMap;

use entity::id::*;
use entity::step::{self, StepStatus};
use entity::{Channel, record, run, run_record};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Map, Value, json};

use super::snapshot::RunSnapshot;
use crate::domain::content::templating;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Of some steps of a run: what each of them may speak of.
#[derive(Debug, Default)]
pub struct Values {
    base: Map<String, Value>,
    records: HashMap<RecordId, Value>,
    single: Map<String, Value>,
    of_place: HashMap<RunRecordId, Map<String, Value>>,
    /// Of a test run: the field of its channel's address, and the test address of each place.
    rehearsed: Option<(&'static str, HashMap<RunRecordId, Option<String>>)>,
}

impl Values {
    /// Reads what steps of these places and records may speak of: two statements, however many there are.
    pub async fn read(
        db: &impl ConnectionTrait,
        run: &run::Model,
        snapshot: &RunSnapshot,
        places: &[RunRecordId],
        records: &[RecordId],
    ) -> Result<Self> {
        let told = snapshot.instructions.as_ref();
        let variables = told.map(|told| told.variables.clone()).unwrap_or_default();
        let mut values = Self::default();
        values.base.insert("variables".into(), Value::Object(variables));
        values.base.insert("run".into(), json!({ "id": run.id, "name": run.name, "type": run.run_type }));
        values.base.insert("campaign".into(), json!({ "id": run.campaign_id, "name": run.campaign_name }));
        values.base.insert("sender".into(), json!({ "name": run.created_by.name }));
        if !records.is_empty() {
            let rows = record::Entity::find().filter(record::COLUMN.org_id.eq(run.org_id)).filter(any_of(
                db.get_database_backend(),
                record::COLUMN.id,
                records.iter().copied(),
            ));
            values.records = rows.all(db).await?.into_iter().map(|row| (row.id, shown(&row))).collect();
        }
        if snapshot.test.is_some() && !places.is_empty() {
            let field = if run.channel == Channel::Email { "email" } else { "phone" };
            let there = run_record::Entity::find().filter(any_of(
                db.get_database_backend(),
                run_record::COLUMN.id,
                places.iter().copied(),
            ));
            let there = there.all(db).await?.into_iter().map(|place| (place.id, place.address)).collect();
            values.rehearsed = Some((field, there));
        }
        // By the places' own index, and by the few tasks that do not fan out: never all steps of a run.
        let tasks = super::task::of_runs(db, &Viewer::engine(run.org_id), &[run.id]).await?;
        let mut theirs = Condition::any();
        theirs = theirs.add(any_of(
            db.get_database_backend(),
            step::COLUMN.task_id,
            tasks.iter().filter(|task| !task.fan_out).map(|task| task.id),
        ));
        if !places.is_empty() {
            theirs = theirs.add(any_of(db.get_database_backend(), step::COLUMN.run_record_id, places.iter().copied()));
        }
        let closed = step::Entity::find()
            .filter(theirs)
            .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
            .filter(step::Column::Result.is_not_null());
        for row in closed.all(db).await? {
            let Some(result) = row.result else { continue };
            match row.run_record_id.filter(|_| snapshot.graph.fans.contains(&row.key)) {
                Some(place) => values.of_place.entry(place).or_default().insert(row.key, result),
                None => values.single.insert(row.key, result),
            };
        }
        Ok(values)
    }

    /// Those of one step.
    pub fn of(&self, place: Option<RunRecordId>, record: Option<RecordId>) -> Map<String, Value> {
        let mut all = self.base.clone();
        let mut record = record.and_then(|id| self.records.get(&id)).cloned().unwrap_or_else(|| json!({}));
        // A test shows its own address: what takes the step must not reach the real one.
        if let (Some((field, addresses)), Some(place)) = (&self.rehearsed, place)
            && let Some(address) = addresses.get(&place)
        {
            record[*field] = json!(address);
        }
        all.insert("record".into(), record);
        let mut results = self.single.clone();
        if let Some(own) = place.and_then(|place| self.of_place.get(&place)) {
            results.extend(own.clone());
        }
        all.insert("results".into(), Value::Object(results));
        all
    }
}

/// A record as conditions and templates see it: its own fields, its attributes beside them and below `attributes`.
pub(crate) fn shown(record: &record::Model) -> Value {
    let mut all = templating::values(Some(record));
    all.insert("id".into(), json!(record.id));
    all.insert("attributes".into(), record.attributes.clone());
    all.insert("unsubscribed".into(), json!(record.unsubscribed_at.is_some()));
    all.insert("last_contacted_at".into(), json!(record.last_contacted_at));
    Value::Object(all)
}
