//! Guided work begins: from a template, or from steps that were put together; now, or by a schedule.

use entity::brief;
use entity::definition::{Definition, Overrides, StepDef};
use entity::id::*;
use entity::run::{ActiveModel, Model, RunAct};
use entity::schedule;
use entity::{Channel, RunStatus, RunType, TemplateKind, run_template as template};
use sea_orm::{ActiveModelTrait, Set};
use serde_json::json;

use super::Told;
use crate::db::{Db, Tx};
use crate::error::{Error, Refusal, Result};
use crate::run::{self as runs, begin};
use crate::run_template::{self, Chain, Executors, Problem, built_in, problems_of};
use crate::schedule::{Terms, When};
use crate::viewer::Viewer;
use crate::{input, limits, transact};

/// What is begun, and with what.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// From this template …
    pub template_id: Option<RunTemplateId>,
    /// … or the one with this key, the org's own before the platform's …
    pub template_key: Option<String>,
    /// … or from these steps.
    pub steps: Option<Vec<Wanted>>,
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
pub enum Wanted {
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
    transact!(db, |tx| {
        let made = make(tx, viewer, start).await?;
        let told = told(tx, viewer, start).await?;
        let mut row = blank(tx, viewer, &made);
        row.status = Set(RunStatus::Queued);
        row.queued_at = Set(Some(tx.now()));
        let run = insert(tx, row, made.definition, &told).await?;
        runs::tell(tx, viewer, "run.created", &run, json!({ "runTemplateId": run.run_template_id }));
        runs::tell(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status }));
        tx.made(run.id);
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
    when: &When,
    terms: &Terms,
) -> Result<(schedule::Model, Model)> {
    transact!(db, |tx| {
        if start.steps.is_some() {
            return Err(Refusal::input("templateId", "give a template: what repeats is kept in one").into());
        }
        let made = make(tx, viewer, start).await?;
        let told = told(tx, viewer, start).await?;
        let template = made.template.as_ref().ok_or_else(|| Error::ours("scheduled work has a template"))?;
        let (mut row, next) = crate::schedule::fresh(tx, viewer, when, terms)?;
        row.run_template_id = Set(Some(template.id));
        row.assignee_id = Set(told.assignee);
        row.linked = Set(Some(serde_json::to_value(&told.linked)?));
        let schedule = row.insert(tx.db()).await?;
        crate::schedule::tell_created(tx, viewer, &schedule);
        let run = waiting(tx, viewer, &schedule, made, next).await?;
        tx.made(run.id);
        Ok((schedule, run))
    })
}

/// The next occurrence of scheduled guided work, as its template is now.
pub(in crate::run) async fn next(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    description: String,
    at: chrono::DateTime<chrono::Utc>,
) -> Result<Model> {
    let (definition, template, _) = resolved(tx, viewer, schedule.run_template_id).await?;
    let name = schedule.name.clone().unwrap_or_else(|| template.name.clone());
    let made = Made { template: Some(template), definition, name, description };
    waiting(tx, viewer, schedule, made, at).await
}

/// Guided work falls due: let in, or failed, where its template does not allow it any more. The locked run as it is then.
pub(in crate::run) async fn fire(tx: &Tx, viewer: &Viewer, run: Model) -> Result<Model> {
    let told = runs::brief::of_runs(tx.db(), viewer, &[run.id]).await?.pop();
    let told: Told = told.and_then(|told| serde_json::from_value(told.instructions).ok()).unwrap_or_default();
    let (definition, template, problems) = resolved(tx, viewer, run.run_template_id).await?;
    let at = tx.now();
    if problems.is_empty() {
        let said = serde_json::to_value(&told)?;
        runs::brief::tell(tx, run.id, serde_json::Value::Null, Some((said, definition))).await?;
        return runs::step_to(tx, viewer, run, RunAct::Due, None, |row| row.queued_at = Set(Some(at))).await;
    }
    let all: Vec<String> = problems.iter().map(Problem::to_string).collect();
    let why = format!("{} could not begin when it fell due: {}", template.name, all.join("; "));
    runs::step_to(tx, viewer, run, RunAct::Refuse, Some(&why), |row| {
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
    let told = Told { linked, assignee: schedule.assignee_id };
    let mut row = blank(tx, viewer, &made);
    row.status = Set(RunStatus::Scheduled);
    row.schedule_id = Set(Some(schedule.id));
    row.occurrence_at = Set(Some(at));
    row.scheduled_for = Set(Some(at));
    let run = insert(tx, row, made.definition, &told).await?;
    runs::tell(tx, viewer, "run.created", &run, json!({ "scheduleId": schedule.id }));
    let said = json!({ "from": null, "to": run.status, "scheduleId": schedule.id });
    runs::tell(tx, viewer, "run.scheduled", &run, said);
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
        search: Set(crate::gate::folded(&made.name)),
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

async fn insert(tx: &Tx, row: ActiveModel, definition: Definition, told: &Told) -> Result<Model> {
    let run = row.insert(tx.db()).await?;
    let brief = brief::ActiveModel {
        definition: Set(definition),
        instructions: Set(serde_json::to_value(told)?),
        test: Set(None),
        preflight: Set(None),
        ..Default::default()
    };
    runs::brief::insert(tx, &run, brief).await?;
    Ok(run)
}

/// What is begun, judged.
async fn make(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<Made> {
    let name = start.name.as_deref().map(|name| input::name("name", name)).transpose()?;
    let description = input::text("description", start.description.as_deref().unwrap_or_default())?;
    let template = match (&start.template_id, &start.template_key, &start.steps) {
        (Some(id), None, None) => run_template::must_find(tx.db(), viewer, *id).await?,
        (None, Some(key), None) => {
            let found = run_template::by_key(tx.db(), viewer, key).await?;
            found.ok_or_else(|| Refusal::not_found("run template with the key", input::shown(key)))?
        }
        (None, None, Some(steps)) => {
            let name = name.ok_or_else(|| Refusal::input("name", "is required where there is no template"))?;
            let definition = put_together(tx, viewer, &name, steps).await?;
            return Ok(Made { template: None, definition, name, description });
        }
        _ => return Err(Refusal::input("templateId", "give templateId, templateKey or steps, one of them").into()),
    };
    let (definition, template, problems) = resolved(tx, viewer, Some(template.id)).await?;
    run_template::refuse("templateId", &problems)?;
    Ok(Made { name: name.unwrap_or_else(|| template.name.clone()), template: Some(template), definition, description })
}

/// A template's structure, the template, and what is wrong with it.
async fn resolved(
    tx: &Tx,
    viewer: &Viewer,
    id: Option<RunTemplateId>,
) -> Result<(Definition, template::Model, Vec<Problem>)> {
    let id = id.ok_or_else(|| Error::ours("scheduled work has a template"))?;
    let template = run_template::must_find(tx.db(), viewer, id).await?;
    if template.kind != TemplateKind::Guided {
        let told = "this template is of campaigns: launch a campaign that uses it";
        return Err(Refusal::input("templateId", told).into());
    }
    let chain = Chain::of(tx.db(), template).await?;
    let resolved = chain.resolve(&Overrides::default());
    let executors = Executors::of(tx.db(), viewer, &resolved.definition).await?;
    let mut problems = resolved.problems;
    problems.extend(problems_of(TemplateKind::Guided, &resolved.definition, Some(&executors)));
    Ok((resolved.definition, chain.template, problems))
}

/// A structure of steps of templates and of steps that are told; keys that come again get a number.
async fn put_together(tx: &Tx, viewer: &Viewer, name: &str, wanted: &[Wanted]) -> Result<Definition> {
    if wanted.is_empty() || wanted.len() > limits::DEFINITION_PARTS {
        return Err(Refusal::input("steps", format!("1 to {}", limits::DEFINITION_PARTS)).into());
    }
    let mut known: std::collections::HashMap<RunTemplateId, Definition> = Default::default();
    let mut steps: Vec<StepDef> = Vec::new();
    for (i, one) in wanted.iter().enumerate() {
        let mut step = match one {
            Wanted::Own(step) => step.as_ref().clone(),
            Wanted::Of(id, key) => {
                if !known.contains_key(id) {
                    known.insert(*id, resolved(tx, viewer, Some(*id)).await?.0);
                }
                let found = runs::brief::step(&known[id], key).cloned();
                found.ok_or_else(|| {
                    Refusal::input(&format!("steps[{i}].stepKey"), format!("{id} has no step `{}`", input::shown(key)))
                })?
            }
        };
        let (plain, mut number) = (step.key.clone(), 1);
        while steps.iter().any(|other| other.key == step.key) {
            number += 1;
            step.key = format!("{plain}_{number}");
        }
        steps.push(step);
    }
    let definition = built_in::guided::definition(name, steps);
    // As a written one is read: keys, names, bounds.
    let (read, mut problems) = run_template::written(&serde_json::to_value(&definition)?);
    let executors = Executors::of(tx.db(), viewer, &read).await?;
    problems.extend(problems_of(TemplateKind::Guided, &definition, Some(&executors)));
    run_template::refuse("steps", &problems)?;
    Ok(Definition { template: String::new(), ..definition })
}

async fn told(tx: &Tx, viewer: &Viewer, start: &Start) -> Result<Told> {
    if start.linked.len() > limits::PAGE_MAX {
        return Err(Refusal::too_much("linkedRecordIds", format!("at most {}", limits::PAGE_MAX)).into());
    }
    if let Some(id) = crate::record::missing(tx.db(), viewer, &start.linked).await?.first() {
        return Err(Refusal::not_found("record", id).into());
    }
    if let Some(id) = start.assignee {
        crate::member::must_find(tx.db(), viewer, id).await?;
    }
    Ok(Told { linked: start.linked.clone(), assignee: start.assignee })
}
