//! What somebody did from within a step of guided work: page, write; each with its event, and counted on the step.

use async_graphql::{ID, InputObject};
use entity::activity::{COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::{ActivityKind, Actor, run, step};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Window};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

scoped!(activity, ActivityId, "activity");

/// Which; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "ActivityFilter")]
pub struct Filter {
    /// In one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// From within one of these steps.
    pub step_ids: Option<Vec<ID>>,
    /// To one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Of one of these kinds.
    pub kinds: Option<Vec<ActivityKind>>,
}

/// A window of those that the filter lets through, the newest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("activity", filter))?;
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(given, "filter", "runIds")?));
    }
    if let Some(given) = &filter.step_ids {
        select =
            select.filter(any_of(db.dialect(), COLUMN.step_id, validate::ids::<StepId>(given, "filter", "stepIds")?));
    }
    if let Some(given) = &filter.record_ids {
        select = select.filter(any_of(
            db.dialect(),
            Column::RecordId,
            validate::ids::<RecordId>(given, "filter", "recordIds")?,
        ));
    }
    if let Some(kinds) = &filter.kinds {
        select = select.filter(any_of(db.dialect(), COLUMN.kind, kinds.clone()));
    }
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args })
}

/// Something that was done, before it is written.
#[derive(Clone, Debug)]
pub(crate) struct NewActivity {
    /// The record that it was done to.
    pub(crate) record_id: Option<RecordId>,
    /// What was done.
    pub(crate) kind: ActivityKind,
    /// The same as a sentence.
    pub(crate) summary: String,
    /// What there is to know of it.
    pub(crate) details: Value,
}

/// Writes what was done from within a step, with its events, and counts it on the step. The run is locked. The rows as they
/// were written.
pub(crate) async fn write(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    step_id: StepId,
    done: Vec<NewActivity>,
    counted: &[(String, i64)],
) -> Result<Vec<Model>> {
    let step = step::Entity::find_by_id(step_id).one(tx.db()).await?;
    let step = step.ok_or_else(|| Error::ours(format!("{step_id} went away")))?;
    let rows: Vec<Model> = done
        .into_iter()
        .map(|done| Model {
            id: ActivityId::new(),
            org_id: run.org_id,
            run_id: run.id,
            step_id,
            record_id: done.record_id,
            kind: done.kind,
            summary: done.summary,
            details: done.details,
            actor: actor.clone(),
            at: tx.now(),
        })
        .collect();
    insert_all(tx, rows.iter().map(|row| row.clone().into_active_model().reset_all())).await?;
    for row in &rows {
        let told = json!({
            "activityId": row.id, "kind": row.kind, "summary": row.summary, "key": step.key, "name": step.name,
            "details": row.details,
        });
        let event = Event::new(run.org_id, "activity.recorded", actor).run(run).step(&step).record(row.record_id);
        event::append(tx, event.payload(told));
    }
    count(tx, step, counted).await?;
    Ok(rows)
}

/// Adds to what a step has brought: `emailsSent`, `partnershipsUpdated` … No change that a person would name: whoever is
/// about to complete the step still does.
async fn count(tx: &Tx, step: step::Model, counted: &[(String, i64)]) -> Result<()> {
    if counted.is_empty() {
        return Ok(());
    }
    let mut result = match &step.result {
        None => Map::new(),
        Some(Value::Object(result)) => result.clone(),
        // A result of another form is what whoever completed the step said.
        Some(_) => return Ok(()),
    };
    for (name, by) in counted {
        let before = result.get(name).and_then(Value::as_i64).unwrap_or_default();
        result.insert(name.clone(), json!(before + by));
    }
    let row = step::ActiveModel { id: Set(step.id), result: Set(Some(Value::Object(result))), ..Default::default() };
    row.update(tx.db()).await?;
    Ok(())
}

/// How a step counts records of a kind to which something was done: `partnershipsUpdated`.
pub(crate) fn counter(kind: &str, what: &str) -> String {
    format!("{}s{what}", crate::domain::content::yaml::camel(kind))
}
