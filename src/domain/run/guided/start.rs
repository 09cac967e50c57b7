//! Guided work begins: from a template, or from steps that were put together; now, or by a schedule.

use std::collections::{HashMap, HashSet};

use entity::definition::{Definition, Overrides, StepDef};
use entity::id::*;
use entity::run::{ActiveModel, Model, RunTransition};
use entity::run_snapshot;
use entity::schedule;
use entity::{Channel, RunStatus, RunType, TemplateKind, run_template as template};
use sea_orm::{ActiveModelTrait, ConnectionTrait, Set};
use serde_json::json;

use super::GuidedSnapshot;
use crate::domain::plan::run_template::layer::Resolved;
use crate::domain::plan::run_template::{self, Chain, Executors, Problem, built_in, problems_of};
use crate::domain::plan::schedule::{SchedulePolicies, ScheduleTime};
use crate::domain::run::{self as runs, begin};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits, validate};
use crate::transact;

/// What is begun, and with what.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// From this template …
    pub template_id: Option<RunTemplateId>,
    /// … or the one with this key, the org's own before the platform's …
    pub template_key: Option<String>,
    /// … or from these steps.
    pub steps: Option<Vec<GuidedStepDraft>>,
    /// A name of its own; the template's, unless said.
    pub name: Option<String>,
    /// For its readers.
    pub description: Option<String>,
    /// The records that it is about.
    pub linked: Vec<RecordId>,
    /// Who is to do it.
    pub assignee: Option<MemberId>,
}

/// A step of guided work that is put together.
#[derive(Clone, Debug)]
pub enum GuidedStepDraft {
    /// One of a template's, by its key.
    Of(RunTemplateId, String),
    /// One that is told here.
    Own(Box<StepDef>),
}

/// What guided work is made of.
struct Made {
    template: Option<template::Model>,
    definition: Definition,
    name: String,
    description: String,
}

/// Begins guided work. Errors: NOT_FOUND; BAD_USER_INPUT, where `problems` tells all that is wrong with its steps.
pub async fn start(db: &Db, viewer: &Viewer, start: &Start) -> Result<Model> {
    before(db, viewer, start).await?;
    transact!(db, |tx| {
        let made = make(tx, viewer, start).await?;
        let told = told(tx, viewer, start).await?;
        let mut row = blank(tx, viewer, &made);
        row.status = Set(RunStatus::Queued);
        row.queued_at = Set(Some(tx.now()));
        let run = insert(tx, row, made.definition, &told).await?;
        runs::emit(tx, viewer, "run.created", &run, json!({ "runTemplateId": run.run_template_id }));
        runs::emit(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status }));
        tx.set_result(run.id);
        // A person waits for it: it begins with the answer.
        begin::begin(tx, viewer, run).await
    })
}

/// Has guided work begun by a schedule: its first occurrence waits. Errors: as for `start`; BAD_USER_INPUT for a time that
/// lies in the past, or a pattern that is none.
pub async fn schedule(
    db: &Db,
    viewer: &Viewer,
    start: &Start,
    when: &ScheduleTime,
    terms: &SchedulePolicies,
) -> Result<(schedule::Model, Model)> {
    if start.steps.is_some() {
        return Err(Refusal::input("templateId", "give a template: what repeats is kept in one").into());
    }
    before(db, viewer, start).await?;
    transact!(db, |tx| {
        let made = make(tx, viewer, start).await?;
        let told = told(tx, viewer, start).await?;
        let template = made.template.as_ref().ok_or_else(|| Error::ours("scheduled work has a template"))?;
        let (mut row, next) = crate::domain::plan::schedule::fresh(tx, viewer, when, terms)?;
        row.run_template_id = Set(Some(template.id));
        row.assignee_id = Set(told.assignee);
        row.linked = Set(Some(serde_json::to_value(&told.linked)?));
        let schedule = row.insert(tx.db()).await?;
        crate::domain::plan::schedule::emit_created(tx, viewer, &schedule);
        let run = waiting(tx, viewer, &schedule, made, next).await?;
        tx.set_result(run.id);
        Ok((schedule, run))
    })
}

/// The next occurrence of scheduled guided work, as its template is now.
pub(in crate::domain::run) async fn next(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    description: String,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Model> {
    let (resolved, template) = resolved(tx.db(), viewer, schedule.run_template_id).await?;
    let definition = resolved.definition;
    let name = schedule.name.clone().unwrap_or_else(|| template.name.clone());
    let made = Made { template: Some(template), definition, name, description };
    waiting(tx, viewer, schedule, made, at).await
}

/// Guided work falls due: let in, or failed, where its template does not allow it any more. The locked run as it is then.
pub(in crate::domain::run) async fn fire(tx: &Tx, viewer: &Viewer, run: Model) -> Result<Model> {
    let told = runs::snapshot::of_runs(tx.db(), viewer, &[run.id]).await?.pop();
    let told: GuidedSnapshot = told.and_then(|told| serde_json::from_value(told.instructions).ok()).unwrap_or_default();
    let (resolved, template) = resolved(tx.db(), viewer, run.run_template_id).await?;
    let drawn = PreparedStructure::of(tx.db(), viewer, "templateId", resolved).await?;
    let problems = drawn.problems();
    // Another time more of it is known.
    run_template::in_time("templateId", &problems)?;
    let definition = drawn.definition;
    let at = tx.now();
    if problems.is_empty() {
        let said = serde_json::to_value(&told)?;
        runs::snapshot::emit(tx, run.id, serde_json::Value::Null, Some((said, definition))).await?;
        return runs::step_to(tx, viewer, run, RunTransition::Due, None, |row| row.queued_at = Set(Some(at))).await;
    }
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let why = format!("{} could not begin when it fell due: {}", template.name, all.join("; "));
    runs::step_to(tx, viewer, run, RunTransition::Refuse, Some(&why), |row| {
        row.ended_at = Set(Some(at));
        row.failure = Set(Some(why.clone()));
    })
    .await
}

async fn waiting(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    made: Made,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Model> {
    let linked = schedule.linked.clone().map(serde_json::from_value).transpose()?.unwrap_or_default();
    let told = GuidedSnapshot { linked, assignee: schedule.assignee_id };
    let mut row = blank(tx, viewer, &made);
    row.status = Set(RunStatus::Scheduled);
    row.schedule_id = Set(Some(schedule.id));
    row.occurrence_at = Set(Some(at));
    row.scheduled_for = Set(Some(at));
    let run = insert(tx, row, made.definition, &told).await?;
    runs::emit(tx, viewer, "run.created", &run, json!({ "scheduleId": schedule.id }));
    let said = json!({ "from": null, "to": run.status, "scheduleId": schedule.id });
    runs::emit(tx, viewer, "run.scheduled", &run, said);
    Ok(run)
}

fn blank(tx: &Tx, viewer: &Viewer, made: &Made) -> ActiveModel {
    ActiveModel {
        id: Set(RunId::new()),
        org_id: Set(viewer.org_id),
        campaign_id: Set(None),
        run_template_id: Set(made.template.as_ref().map(|template| template.id)),
        campaign_version: Set(0),
        campaign_name: Set(String::new()),
        name: Set(made.name.clone()),
        description: Set(made.description.clone()),
        run_type: Set(RunType::Guided),
        // Its steps write mail.
        channel: Set(Channel::Email),
        created_by: Set(viewer.actor()),
        search: Set(crate::kernel::storable::folded(&made.name)),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        audience_count: Set(0),
        audience_done: Set(false),
        on_way: Set(0),
        by_model: Set(false),
        revision: Set(1),
        ..Default::default()
    }
}

async fn insert(tx: &Tx, row: ActiveModel, definition: Definition, told: &GuidedSnapshot) -> Result<Model> {
    let run = row.insert(tx.db()).await?;
    let snapshot = run_snapshot::ActiveModel {
        definition: Set(definition),
        instructions: Set(serde_json::to_value(told)?),
        test: Set(None),
        preflight: Set(None),
        ..Default::default()
    };
    runs::snapshot::insert(tx, &run, snapshot).await?;
    Ok(run)
}

/// A structure as it is to be begun, and what it is judged by.
#[derive(Clone)]
struct PreparedStructure {
    /// The input's field that it comes of.
    field: &'static str,
    definition: Definition,
    executors: Executors,
    /// The problems of its form.
    problems: Vec<Problem>,
}

impl PreparedStructure {
    async fn of(db: &impl ConnectionTrait, viewer: &Viewer, field: &'static str, resolved: Resolved) -> Result<Self> {
        let executors = Executors::of(db, viewer, &resolved.definition).await?;
        Ok(Self { field, definition: resolved.definition, executors, problems: resolved.problems })
    }

    /// All that is wrong with it.
    fn problems(&self) -> Vec<Problem> {
        let mut all = self.problems.clone();
        all.extend(problems_of(TemplateKind::Guided, &self.definition, Some(&self.executors)));
        all
    }
}

/// Judges what is to be begun, before the transaction in which it begins: there all of it is known.
async fn before(db: &Db, viewer: &Viewer, start: &Start) -> Result<()> {
    let (drawn, _) = draw(db.read(), viewer, start).await?;
    let judged = drawn.clone();
    let problems = budget::run_here(move |_| budget::judging(budget::JUDGING, || judged.problems())).await?;
    run_template::refuse(drawn.field, &problems)
}

/// What is begun, judged.
async fn make(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<Made> {
    let name = start.name.as_deref().map(|name| validate::name("name", name)).transpose()?;
    let description = validate::text("description", start.description.as_deref().unwrap_or_default())?;
    let (drawn, template) = draw(tx.db(), viewer, start).await?;
    run_template::refuse(drawn.field, &drawn.problems())?;
    let name = name.or_else(|| template.as_ref().map(|template| template.name.clone())).unwrap_or_default();
    Ok(Made { name, template, definition: drawn.definition, description })
}

/// The structure that is to be begun, and the template that it is of.
async fn draw(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    start: &Start,
) -> Result<(PreparedStructure, Option<template::Model>)> {
    let template = match (&start.template_id, &start.template_key, &start.steps) {
        (Some(id), None, None) => run_template::must_find(db, viewer, *id).await?,
        (None, Some(key), None) => {
            let found = run_template::by_key(db, viewer, key).await?;
            found.ok_or_else(|| Refusal::not_found("run template with the key", validate::shown(key)))?
        }
        (None, None, Some(steps)) => {
            let name = start
                .name
                .as_deref()
                .ok_or_else(|| Refusal::input("name", "is required where there is no template"))?;
            return Ok((put_together(db, viewer, &validate::name("name", name)?, steps).await?, None));
        }
        _ => return Err(Refusal::input("templateId", "give templateId, templateKey or steps, one of them").into()),
    };
    let (resolved, template) = resolved(db, viewer, Some(template.id)).await?;
    Ok((PreparedStructure::of(db, viewer, "templateId", resolved).await?, Some(template)))
}

/// A template's structure, and the template.
async fn resolved(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    id: Option<RunTemplateId>,
) -> Result<(Resolved, template::Model)> {
    let id = id.ok_or_else(|| Error::ours("scheduled work has a template"))?;
    let template = run_template::must_find(db, viewer, id).await?;
    if template.kind != TemplateKind::Guided {
        let told = "this template is of campaigns: launch a campaign that uses it";
        return Err(Refusal::input("templateId", told).into());
    }
    let chain = Chain::of(db, template).await?;
    Ok((chain.resolve(&Overrides::default()), chain.template))
}

/// A structure of steps of templates and of steps that are told; keys that come again get a number.
async fn put_together(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    name: &str,
    wanted: &[GuidedStepDraft],
) -> Result<PreparedStructure> {
    if wanted.is_empty() || wanted.len() > limits::DEFINITION_PARTS {
        return Err(Refusal::input("steps", format!("1 to {}", limits::DEFINITION_PARTS)).into());
    }
    let mut known: HashMap<RunTemplateId, Definition> = HashMap::new();
    let mut steps: Vec<StepDef> = Vec::new();
    let (mut keys, mut numbers) = (HashSet::new(), HashMap::<String, usize>::new());
    for (i, one) in wanted.iter().enumerate() {
        let mut step = match one {
            GuidedStepDraft::Own(step) => step.as_ref().clone(),
            GuidedStepDraft::Of(id, key) => {
                if !known.contains_key(id) {
                    if known.len() == limits::START_TEMPLATES {
                        let told = format!("of at most {} templates", limits::START_TEMPLATES);
                        return Err(Refusal::input("steps", told).into());
                    }
                    known.insert(*id, resolved(db, viewer, Some(*id)).await?.0.definition);
                }
                let found = runs::snapshot::step(&known[id], key).cloned();
                found.ok_or_else(|| {
                    Refusal::input(
                        &format!("steps[{i}].stepKey"),
                        format!("{id} has no step `{}`", validate::shown(key)),
                    )
                })?
            }
        };
        let plain = step.key.clone();
        let number = numbers.entry(plain.clone()).or_insert(1);
        while !keys.insert(step.key.clone()) {
            *number += 1;
            step.key = format!("{plain}_{number}");
        }
        steps.push(step);
    }
    let definition = built_in::guided::definition(name, steps);
    // As a written one is read: keys, names, bounds.
    let (read, problems) = run_template::written(&serde_json::to_value(&definition)?);
    let executors = Executors::of(db, viewer, &read).await?;
    let definition = Definition { template: String::new(), ..definition };
    Ok(PreparedStructure { field: "steps", definition, executors, problems })
}

async fn told(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<GuidedSnapshot> {
    if start.linked.len() > limits::PAGE_MAX {
        return Err(Refusal::too_much("linkedRecordIds", format!("at most {}", limits::PAGE_MAX)).into());
    }
    if let Some(id) = crate::domain::audience::record::missing(tx.db(), viewer, &start.linked).await?.first() {
        return Err(Refusal::not_found("record", id).into());
    }
    if let Some(id) = start.assignee {
        crate::domain::people::member::must_find(tx.db(), viewer, id).await?;
    }
    Ok(GuidedSnapshot { linked: start.linked.clone(), assignee: start.assignee })
}
