//! Variables available to conditions and templates of a run's steps: the record, the campaign's
//! variables, results of earlier steps.

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

/// Variables for some steps of a run.
#[derive(Debug, Default)]
pub struct Values {
    base: Map<String, Value>,
    records: HashMap<RecordId, Value>,
    single: Map<String, Value>,
    results_by_recipient: HashMap<RunRecordId, Map<String, Value>>,
    /// Test runs only: the field of the channel's address, and each recipient's test address.
    test_addresses: Option<(&'static str, HashMap<RunRecordId, Option<String>>)>,
}

impl Values {
    /// Loads the variables for these recipients and records; the number of statements does not
    /// depend on how many there are.
    pub async fn read(
        db: &impl ConnectionTrait,
        run: &run::Model,
        snapshot: &RunSnapshot,
        recipients: &[RunRecordId],
        records: &[RecordId],
    ) -> Result<Self> {
        let instructions = snapshot.instructions.as_ref();
        let variables = instructions.map(|instructions| instructions.variables.clone()).unwrap_or_default();
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
            values.records = rows.all(db).await?.into_iter().map(|row| (row.id, templating::record(&row))).collect();
        }
        if snapshot.test.is_some() && !recipients.is_empty() {
            let field = if run.channel == Channel::Email { "email" } else { "phone" };
            let addresses = run_record::Entity::find().filter(any_of(
                db.get_database_backend(),
                run_record::COLUMN.id,
                recipients.iter().copied(),
            ));
            let addresses =
                addresses.all(db).await?.into_iter().map(|recipient| (recipient.id, recipient.address)).collect();
            values.test_addresses = Some((field, addresses));
        }
        // Uses the index on recipients and the few tasks that are not fan-outs: never scans all
        // steps of a run.
        let tasks = super::task::of_runs(db, &Viewer::engine(run.org_id), &[run.id]).await?;
        let mut scope = Condition::any();
        scope = scope.add(any_of(
            db.get_database_backend(),
            step::COLUMN.task_id,
            tasks.iter().filter(|task| !task.fan_out).map(|task| task.id),
        ));
        if !recipients.is_empty() {
            scope =
                scope.add(any_of(db.get_database_backend(), step::COLUMN.run_record_id, recipients.iter().copied()));
        }
        let closed = step::Entity::find()
            .filter(scope)
            .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
            .filter(step::Column::Result.is_not_null());
        for row in closed.all(db).await? {
            let Some(result) = row.result else { continue };
            match row.run_record_id.filter(|_| snapshot.graph.fan_out_keys.contains(&row.key)) {
                Some(recipient) => values.results_by_recipient.entry(recipient).or_default().insert(row.key, result),
                None => values.single.insert(row.key, result),
            };
        }
        Ok(values)
    }

    /// Variables of one step.
    pub fn of(&self, recipient: Option<RunRecordId>, record: Option<RecordId>) -> Map<String, Value> {
        let mut all = self.base.clone();
        let mut record = record.and_then(|id| self.records.get(&id)).cloned().unwrap_or_else(|| json!({}));
        // A test run exposes its own address: a worker must not reach the real one.
        if let (Some((field, addresses)), Some(recipient)) = (&self.test_addresses, recipient)
            && let Some(address) = addresses.get(&recipient)
        {
            record[*field] = json!(address);
        }
        all.insert("record".into(), record);
        let mut results = self.single.clone();
        if let Some(own) = recipient.and_then(|recipient| self.results_by_recipient.get(&recipient)) {
            results.extend(own.clone());
        }
        all.insert("results".into(), Value::Object(results));
        all
    }
}
