//! Implements `addStepNote` and `createStepRecords`: notes and new records from within a step.

use entity::id::*;
use entity::{ActivityKind, activity as row, record};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::active_step;
use crate::domain::audience::record::erasure::hold_off;
use crate::domain::message::activity::{self, NewActivity};
use crate::domain::plan::run_template::guided::CUSTOM;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, quote, validate};
use crate::transact;

/// Adds a note about records, or about none. Errors: NOT_FOUND; CONFLICT if the step is not in
/// progress; BAD_USER_INPUT for an empty note.
pub async fn add(
    db: &WriteContext,
    viewer: &Viewer,
    step: StepId,
    records: &[RecordId],
    text: &str,
) -> Result<Vec<row::Model>> {
    let text = validate::text("text", text)?;
    if validate::is_blank(&text) {
        return Err(Refusal::input("text", "must not be blank").into());
    }
    let about = if records.is_empty() {
        Vec::new()
    } else {
        super::mail::records(db, viewer, ("recordIds", ""), records).await?
    };
    transact!(db, |tx| {
        let active = active_step::enter(tx, viewer, step).await?;
        hold_off(tx, viewer, records.iter().copied()).await?;
        let (run, _) = super::recipients(tx, active.run, &about, false).await?;
        let action = ActivityId::new();
        let note = |record: Option<&record::Model>| NewActivity {
            record_id: record.map(|record| record.id),
            kind: ActivityKind::Note,
            summary: quote::first_line(&text),
            details: json!({ "text": text, "action": action }),
        };
        let done: Vec<NewActivity> = match about.is_empty() {
            true => vec![note(None)],
            false => about.iter().map(|record| note(Some(record))).collect(),
        };
        let counted = [("notesAdded".to_owned(), 1)];
        let rows = activity::write(tx, &viewer.actor(), &run, active.step.id, done, &counted).await?;
        if let Some(first) = rows.first() {
            tx.set_result(first.id);
        }
        Ok(rows)
    })
}

/// Creates records from within a `custom` step. All or nothing. Errors: NOT_FOUND; CONFLICT if the
/// step is not in progress, or such a record exists; BAD_USER_INPUT naming record and field.
pub async fn create(
    db: &WriteContext,
    viewer: &Viewer,
    step: StepId,
    records: &[crate::domain::audience::record::Fields],
) -> Result<Vec<record::Model>> {
    if records.is_empty() || records.len() > limits::NODES {
        return Err(Refusal::input("records", format!("1 to {}", limits::NODES)).into());
    }
    transact!(db, |tx| {
        let active = active_step::enter(tx, viewer, step).await?;
        if active.step.kind != CUSTOM {
            let message =
                format!("records are created only in a step of the type custom; this one is {}", active.step.kind);
            return Err(Refusal::conflict(message).into());
        }
        let mut created = Vec::new();
        for (i, fields) in records.iter().enumerate() {
            let mut fields = fields.clone();
            fields.kind = fields.kind.or_else(|| active.guide.create.clone());
            created
                .push(crate::domain::audience::record::create_in(tx, viewer, &fields).await.map_err(|err| at(err, i))?);
        }
        let (run, _) = super::recipients(tx, active.run, &created, false).await?;
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        let action = ActivityId::new();
        let done = created.iter().map(|record| {
            *counted.entry(activity::counter(&record.kind, "Created")).or_default() += 1;
            NewActivity {
                record_id: Some(record.id),
                kind: ActivityKind::RecordCreated,
                summary: format!("Made the {} {}", record.kind, record.name),
                details: json!({ "kind": record.kind, "name": record.name, "action": action }),
            }
        });
        let done: Vec<NewActivity> = done.collect();
        let counted: Vec<(String, i64)> = counted.into_iter().collect();
        let rows = activity::write(tx, &viewer.actor(), &run, active.step.id, done, &counted).await?;
        // The first activity identifies the request's result: all records created with it share its
        // time.
        if let Some(first) = rows.first() {
            tx.set_result(first.id);
        }
        Ok(created)
    })
}

/// Reloads the records that an earlier request created, given the first of its activities.
pub async fn created(db: &Db, viewer: &Viewer, id: ActivityId) -> Result<Vec<record::Model>> {
    let rows = noted(db, viewer, id).await?;
    let ids: Vec<RecordId> = rows.iter().filter_map(|row| row.record_id).collect();
    let mut found = crate::domain::audience::record::find_all(db.read(), viewer, &ids).await?;
    found.sort_by_key(|record| record.id);
    Ok(found)
}

/// Reloads the activities that an earlier request wrote, given the first of them.
pub async fn noted(db: &Db, viewer: &Viewer, id: ActivityId) -> Result<Vec<row::Model>> {
    use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
    let first = activity::must_find(db.read(), viewer, id).await?;
    let mut all = row::Entity::find()
        .filter(row::COLUMN.org_id.eq(viewer.org_id))
        .filter(row::COLUMN.step_id.eq(first.step_id))
        .filter(row::COLUMN.kind.eq(first.kind))
        .filter(row::COLUMN.at.eq(first.at))
        .order_by_asc(row::COLUMN.id)
        .all(db.read())
        .await?;
    all.retain(|row| row.details["action"] == first.details["action"]);
    Ok(all)
}

/// Adds the index of the rejected item to its error.
fn at(err: crate::kernel::error::Error, i: usize) -> crate::kernel::error::Error {
    match err {
        crate::kernel::error::Error::Refused(mut refusal) => {
            if let Some(Value::String(field)) = refusal.details.get("field") {
                let field = format!("records[{i}].{field}");
                refusal.details.insert("field".into(), json!(field));
            }
            refusal.message = format!("records[{i}]: {}", refusal.message);
            refusal.into()
        }
        ours => ours,
    }
}
