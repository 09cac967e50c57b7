//! Starts guided work: from a template or from a list of steps, now or by a schedule.

use entity::definition::Definition;
use entity::id::*;
use entity::run::{ActiveModel, Model, RunTransition};
use entity::run_snapshot;
use entity::schedule;
use entity::{Channel, RunStatus, RunType, run_template as template};
use sea_orm::{ActiveModelTrait, ConnectionTrait, Set};
use serde_json::json;

use super::structure::{GuidedStepDraft, PreparedStructure, ad_hoc_structure, resolved};
use crate::domain::plan::run_template::{self, Problem};
use crate::domain::plan::schedule::{SchedulePolicies, ScheduleTime};
use crate::domain::run::launch::RunTimes;
use crate::domain::run::snapshot::GuidedSnapshot;
use crate::domain::run::{self as runs, begin};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits, validate};
use crate::transact;

/// Request to start guided work.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Template by id. Exactly one of `template_id`, `template_key` and `steps` is given.
    pub template_id: Option<RunTemplateId>,
    /// Template by key; the org's own takes precedence over the platform's.
    pub template_key: Option<String>,
    /// Steps of an ad hoc structure.
    pub steps: Option<Vec<GuidedStepDraft>>,
    /// Name; the template's if not given.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Linked records.
    pub linked: Vec<RecordId>,
    /// Assignee.
    pub assignee: Option<MemberId>,
}

/// Parts of a new run of guided work.
struct RunParts {
    template: Option<template::Model>,
    definition: Definition,
    name: String,
    description: String,
}

/// Starts guided work. Errors: NOT_FOUND; BAD_USER_INPUT, with all problems of its steps in
/// `problems`.
pub async fn start(db: &WriteContext, viewer: &Viewer, start: &Start) -> Result<Model> {
    check_start(db, viewer, start).await?;
    transact!(db, |tx| {
        let parts = build_parts(tx, viewer, start).await?;
        let guided = guided_snapshot(tx, viewer, start).await?;
        let mut row = blank(tx, viewer, &parts);
        row.status = Set(RunStatus::Queued);
        row.queued_at = Set(Some(tx.now()));
        let run = insert(tx, row, parts.definition, &guided).await?;
        runs::emit(tx, viewer, "run.created", &run, json!({ "runTemplateId": run.run_template_id }));
        runs::emit(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status }));
        tx.set_result(run.id);
        // Begins within the request, as a person waits for it.
        begin::begin(tx, viewer, run).await
    })
}

/// Schedules guided work and creates its first occurrence. Errors: as for `start`; BAD_USER_INPUT
/// for a time in the past, or an invalid pattern.
pub async fn schedule(
    db: &WriteContext,
    viewer: &Viewer,
    start: &Start,
    when: &ScheduleTime,
    terms: &SchedulePolicies,
) -> Result<(schedule::Model, Model)> {
    if start.steps.is_some() {
        return Err(Refusal::input("templateId", "a schedule needs a template: give templateId or templateKey").into());
    }
    check_start(db, viewer, start).await?;
    transact!(db, |tx| {
        let parts = build_parts(tx, viewer, start).await?;
        let guided = guided_snapshot(tx, viewer, start).await?;
        let template = parts.template.as_ref().ok_or_else(|| Error::internal("scheduled work has a template"))?;
        let (mut row, next) = crate::domain::plan::schedule::new_schedule(tx, viewer, when, terms).await?;
        row.run_template_id = Set(Some(template.id));
        row.assignee_id = Set(guided.assignee);
        row.linked = Set(Some(serde_json::to_value(&guided.linked)?));
        let schedule = row.insert(tx.db()).await?;
        crate::domain::plan::schedule::emit_created(tx, viewer, &schedule);
        let run = insert_scheduled(tx, viewer, &schedule, parts, &RunTimes::of(&next)).await?;
        tx.set_result(run.id);
        Ok((schedule, run))
    })
}

/// Creates the next occurrence of scheduled guided work, with its template as it is now.
pub(in crate::domain::run) async fn next(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    description: String,
    times: &RunTimes,
) -> Result<Model> {
    let (resolved, template) = resolved(tx.db(), viewer, schedule.run_template_id).await?;
    let definition = resolved.definition;
    let name = schedule.name.clone().unwrap_or_else(|| template.name.clone());
    let made = RunParts { template: Some(template), definition, name, description };
    insert_scheduled(tx, viewer, schedule, made, times).await
}

/// Queues guided work that is due, or fails it if its template no longer allows it. Returns the
/// updated run, which is locked.
pub(in crate::domain::run) async fn fire(tx: &Tx, viewer: &Viewer, run: Model) -> Result<Model> {
    let row = runs::snapshot::of_runs(tx.db(), viewer, &[run.id]).await?.pop();
    let guided: GuidedSnapshot = row.and_then(|row| serde_json::from_value(row.instructions).ok()).unwrap_or_default();
    let (resolved, template) = resolved(tx.db(), viewer, run.run_template_id).await?;
    let prepared = PreparedStructure::of(tx.db(), viewer, "templateId", resolved).await?;
    let problems = prepared.problems();
    // If the validation ran out of time, it is retried later.
    run_template::check_not_late("templateId", &problems)?;
    let definition = prepared.definition;
    let at = tx.now();
    if problems.is_empty() {
        let instructions = serde_json::to_value(&guided)?;
        runs::snapshot::emit(tx, &run, serde_json::Value::Null, Some((instructions, definition))).await?;
        return runs::apply_transition(tx, viewer, run, RunTransition::Enqueue, None, |row| {
            row.queued_at = Set(Some(at))
        })
        .await;
    }
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let why = format!("{} could not begin when it fell due: {}", template.name, all.join("; "));
    runs::apply_transition(tx, viewer, run, RunTransition::FailPreflight, Some(&why), |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(Some(why.clone()));
    })
    .await
}

async fn insert_scheduled(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    parts: RunParts,
    times: &RunTimes,
) -> Result<Model> {
    let linked = schedule.linked.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
    let guided = GuidedSnapshot { linked, assignee: schedule.assignee_id };
    let mut row = blank(tx, viewer, &parts);
    row.created_by = Set(schedule.created_by.clone());
    row.status = Set(RunStatus::Scheduled);
    row.schedule_id = Set(Some(schedule.id));
    times.set(&mut row);
    let run = insert(tx, row, parts.definition, &guided).await?;
    runs::emit(tx, viewer, "run.created", &run, json!({ "scheduleId": schedule.id }));
    let payload = json!({ "from": null, "to": run.status, "scheduleId": schedule.id });
    runs::emit(tx, viewer, "run.scheduled", &run, payload);
    Ok(run)
}

fn blank(tx: &Tx, viewer: &Viewer, parts: &RunParts) -> ActiveModel {
    ActiveModel {
        id: Set(RunId::new()),
        org_id: Set(viewer.org_id),
        campaign_id: Set(None),
        run_template_id: Set(parts.template.as_ref().map(|template| template.id)),
        campaign_version: Set(0),
        campaign_name: Set(String::new()),
        name: Set(parts.name.clone()),
        description: Set(parts.description.clone()),
        run_type: Set(RunType::Guided),
        // Its steps send mail.
        channel: Set(Channel::Email),
        created_by: Set(viewer.actor()),
        search: Set(crate::kernel::storable::folded(&parts.name)),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        audience_count: Set(0),
        audience_done: Set(false),
        in_flight: Set(0),
        by_model: Set(false),
        revision: Set(1),
        ..Default::default()
    }
}

async fn insert(tx: &Tx, row: ActiveModel, definition: Definition, guided: &GuidedSnapshot) -> Result<Model> {
    let run = row.insert(tx.db()).await?;
    let snapshot = run_snapshot::ActiveModel {
        definition: Set(definition),
        instructions: Set(serde_json::to_value(guided)?),
        test: Set(None),
        preflight: Set(None),
        ..Default::default()
    };
    runs::snapshot::insert(tx, &run, snapshot).await?;
    Ok(run)
}

/// Validates the structure before the transaction that starts it, and reports all problems.
async fn check_start(db: &Db, viewer: &Viewer, start: &Start) -> Result<()> {
    let (prepared, _) = load_structure(db.read(), viewer, start).await?;
    let structure = prepared.clone();
    let problems = budget::run_here(move |_| budget::judging(budget::JUDGING, || structure.problems())).await?;
    prepared.reject_if(&problems)
}

/// Builds and validates the parts of the new run.
async fn build_parts(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<RunParts> {
    let name = start.name.as_deref().map(|name| validate::name("name", name)).transpose()?;
    let description = validate::text("description", start.description.as_deref().unwrap_or_default())?;
    let (prepared, template) = load_structure(tx.db(), viewer, start).await?;
    prepared.reject_if(&prepared.problems())?;
    let name = name.or_else(|| template.as_ref().map(|template| template.name.clone())).unwrap_or_default();
    Ok(RunParts { name, template, definition: prepared.definition, description })
}

/// Loads the structure to be started, and its template.
async fn load_structure(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    start: &Start,
) -> Result<(PreparedStructure, Option<template::Model>)> {
    let template = match (&start.template_id, &start.template_key, &start.steps) {
        (Some(id), None, None) => run_template::must_find(db, viewer, *id).await?,
        (None, Some(key), None) => {
            let found = run_template::by_key(db, viewer, key).await?;
            found.ok_or_else(|| Refusal::not_found("run template with the key", validate::printable(key)))?
        }
        (None, None, Some(steps)) => {
            let name = start
                .name
                .as_deref()
                .ok_or_else(|| Refusal::input("name", "is required where there is no template"))?;
            return Ok((ad_hoc_structure(db, viewer, &validate::name("name", name)?, steps).await?, None));
        }
        _ => return Err(Refusal::input("templateId", "give templateId, templateKey or steps, one of them").into()),
    };
    let (resolved, template) = resolved(db, viewer, Some(template.id)).await?;
    Ok((PreparedStructure::of(db, viewer, "templateId", resolved).await?, Some(template)))
}

async fn guided_snapshot(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<GuidedSnapshot> {
    if start.linked.len() > limits::PAGE_MAX {
        return Err(Refusal::limit_for_field("linkedRecordIds", format!("at most {}", limits::PAGE_MAX)).into());
    }
    if let Some(id) = crate::domain::audience::record::missing(tx.db(), viewer, &start.linked).await?.first() {
        return Err(Refusal::not_found("record", id).into());
    }
    if let Some(id) = start.assignee {
        // Locked, so that the member can't be deleted meanwhile.
        crate::domain::people::member::must_lock(tx, viewer, id, None).await?;
    }
    Ok(GuidedSnapshot { linked: start.linked.clone(), assignee: start.assignee })
}
