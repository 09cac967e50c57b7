//! Implements `addStepNote` and `createStepRecords`: notes and new records from within a step.

use entity::id::*;
use entity::{ActivityKind, RunType, activity as row, record, run_record, step};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::active_step::{self, ActiveStep};
use crate::domain::audience;
use crate::domain::audience::record::erasure::hold_off;
use crate::domain::audience::record::{Fields, link};
use crate::domain::message::activity::{self, NewActivity};
use crate::domain::plan::run_template::guided::CUSTOM;
use crate::kernel::db::{Db, Tx, WriteContext};
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

/// A record to create within a step.
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    /// Fields of the record.
    pub fields: Fields,
    /// The records that it comes from; `None`: the step's own record, or the one that the run was
    /// started with.
    pub from: Option<BTreeSet<RecordId>>,
}

/// Creates records from within a `custom` step, each linked from those that it comes from, with the
/// given role or the step's. All or nothing. Errors: NOT_FOUND; CONFLICT if the step is not in
/// progress, such a record exists, or one that it comes from was erased; LIMIT_EXCEEDED;
/// BAD_USER_INPUT naming record and field.
pub async fn create(
    db: &WriteContext,
    viewer: &Viewer,
    step: StepId,
    records: &[NewRecord],
    link_role: Option<&str>,
) -> Result<Vec<record::Model>> {
    if records.is_empty() || records.len() > limits::NODES {
        return Err(Refusal::input("records", format!("1 to {}", limits::NODES)).into());
    }
    let most = limits::STEP_LINKS;
    if records.iter().map(|record| record.from.as_ref().map_or(0, BTreeSet::len)).sum::<usize>() > most {
        return Err(Refusal::limit_for_field("records", format!("at most {most} `fromIds` in all records")).into());
    }
    transact!(db, |tx| {
        let active = active_step::enter(tx, viewer, step).await?;
        check_creates(&active.step)?;
        let role = link_role.or(active.guide.link_role.as_deref());
        let role = role.map(|role| link::check_role("linkRole", role)).transpose()?;
        let sources = sources(tx, viewer, &active, records, role.is_some()).await?;
        // Records are locked before those of the new records' addresses.
        link::hold(tx, viewer, &sources.iter().flatten().copied().collect()).await?;
        let mut created = Vec::new();
        for (i, (new, from)) in records.iter().zip(&sources).enumerate() {
            let mut fields = new.fields.clone();
            fields.kind = fields.kind.or_else(|| active.guide.create.clone());
            let record = audience::record::create_in(tx, viewer, &fields).await.map_err(|err| at(err, i))?;
            if let Some(role) = role.as_ref().filter(|_| !from.is_empty()) {
                let fields = ("fromIds", "fromIds");
                link::insert(tx, viewer, from, record.id, role, fields).await.map_err(|err| at(err, i))?;
            }
            created.push(record);
        }
        let (run, _) = super::recipients(tx, active.run, &created, false).await?;
        let mut counted: BTreeMap<String, i64> = BTreeMap::new();
        let action = ActivityId::new();
        let done = created.iter().zip(&sources).map(|(record, from)| {
            *counted.entry(activity::counter(&record.kind, "Created")).or_default() += 1;
            let mut details = json!({ "kind": record.kind, "name": record.name, "action": action });
            if !from.is_empty() {
                details["linkedFrom"] = json!(from);
            }
            NewActivity {
                record_id: Some(record.id),
                kind: ActivityKind::RecordCreated,
                summary: format!("Made the {} {}", record.kind, record.name),
                details,
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

/// Checks that records may be created within the step. Errors: CONFLICT.
pub(super) fn check_creates(step: &step::Model) -> Result<()> {
    if step.kind == CUSTOM {
        return Ok(());
    }
    let message = format!("records are created only in a step of the type custom; this one is {}", step.kind);
    Err(Refusal::conflict(message).into())
}

/// The records that each new record is linked from; none without a role. Errors: BAD_USER_INPUT if some
/// are given without a role.
async fn sources(
    tx: &Tx,
    viewer: &Viewer,
    active: &ActiveStep,
    records: &[NewRecord],
    has_role: bool,
) -> Result<Vec<BTreeSet<RecordId>>> {
    if !has_role {
        if records.iter().any(|record| record.from.as_ref().is_some_and(|from| !from.is_empty())) {
            let message = "is required with `fromIds`: the step's config has no `linkRole`";
            return Err(Refusal::input("linkRole", message).into());
        }
        return Ok(vec![BTreeSet::new(); records.len()]);
    }
    let usual = match records.iter().any(|record| record.from.is_none()) {
        true => usual_source(tx, viewer, active).await?,
        false => None,
    };
    let from = |record: &NewRecord| record.from.clone().unwrap_or_else(|| usual.into_iter().collect());
    Ok(records.iter().map(from).collect())
}

/// The step's own record, or the only one that guided work was started with, unless it was erased.
async fn usual_source(tx: &Tx, viewer: &Viewer, active: &ActiveStep) -> Result<Option<RecordId>> {
    let found = match active.step.record_id {
        Some(id) => vec![id],
        None if active.run.run_type == RunType::Guided => {
            let linked = run_record::Entity::find()
                .filter(run_record::COLUMN.run_id.eq(active.run.id))
                .filter(run_record::COLUMN.linked.eq(true));
            let linked = linked.limit(2).all(tx.db()).await?;
            linked.into_iter().filter_map(|recipient| recipient.record_id).collect()
        }
        None => Vec::new(),
    };
    let [id] = found[..] else { return Ok(None) };
    let record = audience::record::find(tx.db(), viewer, id).await?;
    Ok(record.filter(|record| record.erased_at.is_none()).map(|record| record.id))
}

/// Reloads the records that an earlier request created, given the first of its activities.
pub async fn created(db: &Db, viewer: &Viewer, id: ActivityId) -> Result<Vec<record::Model>> {
    let rows = noted(db, viewer, id).await?;
    let ids: Vec<RecordId> = rows.iter().filter_map(|row| row.record_id).collect();
    let mut found = audience::record::find_all(db.read(), viewer, &ids).await?;
    found.sort_by_key(|record| record.id);
    Ok(found)
}

/// Reloads the activities that an earlier request wrote, given the first of them.
pub async fn noted(db: &Db, viewer: &Viewer, id: ActivityId) -> Result<Vec<row::Model>> {
    use sea_orm::QueryOrder;
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
