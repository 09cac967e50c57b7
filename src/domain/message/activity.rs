//! Lists and writes activities: actions that people took within steps, and calls of campaigns.
//! Each has an event and is counted on its step.

use async_graphql::{ID, InputObject};
use entity::activity::{COLUMN, Column, Entity, Model};
use entity::id::*;
use entity::step::Executor;
use entity::{ActivityKind, Actor, RunType, run, step};
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

/// A filter over activities; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "ActivityFilter")]
pub struct Filter {
    /// Activities in one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Activities within one of these steps.
    pub step_ids: Option<Vec<ID>>,
    /// Activities about one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Activities of one of these kinds.
    pub kinds: Option<Vec<ActivityKind>>,
}

/// A window of the matching activities, newest first.
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
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// An activity to be written.
#[derive(Clone, Debug)]
pub(crate) struct NewActivity {
    /// The record that it is about.
    pub(crate) record_id: Option<RecordId>,
    /// The kind of activity.
    pub(crate) kind: ActivityKind,
    /// A sentence for people.
    pub(crate) summary: String,
    /// Details for programs, depending on the kind.
    pub(crate) details: Value,
}

/// Writes activities of a step with their events, and counts them on the step. The run must be
/// locked. Returns the written rows.
pub(crate) async fn write(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    step_id: StepId,
    done: Vec<NewActivity>,
    counted: &[(String, i64)],
) -> Result<Vec<Model>> {
    let step = step::Entity::find_by_id(step_id).one(tx.db()).await?;
    let step = step.ok_or_else(|| Error::internal(format!("step {step_id} is missing")))?;
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
        let payload = json!({
            "activityId": row.id, "kind": row.kind, "summary": row.summary, "key": step.key, "name": step.name,
            "details": row.details,
        });
        let event = Event::new(run.org_id, "activity.recorded", actor).run(run).step(&step).record(row.record_id);
        event::append(tx, event.payload(payload));
    }
    count(tx, run, step, counted).await?;
    Ok(rows)
}

/// Adds to the counters in a step's result, but of a person's step in a campaign's run: `emailsSent`,
/// `partnershipsUpdated` … Doesn't increment the step's revision, so that a person who is about to
/// complete it meets no conflict.
async fn count(tx: &Tx, run: &run::Model, step: step::Model, counted: &[(String, i64)]) -> Result<()> {
    if counted.is_empty() {
        return Ok(());
    }
    // The result of a person's step in a campaign's run is what the person gives; its activities count.
    if run.run_type != RunType::Guided && step.assigned_to == Executor::Human {
        return Ok(());
    }
    let mut result = match &step.result {
        None => Map::new(),
        Some(Value::Object(result)) => result.clone(),
        // A result of another form was given by the person who completed the step.
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

/// The name of a counter of records of a kind: `partnershipsUpdated`.
pub(crate) fn counter(kind: &str, what: &str) -> String {
    format!("{}s{what}", crate::domain::content::yaml::camel(kind))
}
