//! The mails of the run template's own steps: do they render for a sample of the audience?

use entity::Executor;
use entity::definition::Definition;
use entity::record;
use serde_json::{Map, Value, json};

use super::sample;
use crate::domain::content::cel::Condition;
use crate::domain::content::templating::{self, StepMail};
use crate::domain::plan::campaign_snapshot::{CampaignParts, Instructions};
use crate::domain::plan::run_template::kind;
use crate::domain::run::values;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

/// The name of what earlier steps bring, which is not there before a run.
const RESULTS: &str = "results";

/// The faults of `email` steps for a sample; none where there is no such step, or nobody to write to. What depends on the
/// results of earlier steps is left out, as is a record for which the step's conditions do not hold.
pub(super) async fn faults(db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<Option<Vec<String>>> {
    let letters = letters(&parts.resolved.definition);
    if letters.is_empty() {
        return Ok(None);
    }
    let records = sample(db, parts, 5).await?;
    if records.is_empty() {
        return Ok(None);
    }
    let each = letters.iter().flat_map(|letter| records.iter().map(move |record| (letter, record)));
    let (mut what, mut all) = (Vec::new(), Vec::new());
    for ((key, letter), record) in each {
        what.push(format!("step `{key}` for {}", validate::shown(&record.name)));
        all.push((letter.clone(), of_record(viewer, parts, record)));
    }
    let rendered = templating::render_letters(all).await?;
    let faults = what.iter().zip(rendered).filter_map(|(what, done)| Some(format!("{what}: {}", done.err()?)));
    Ok(Some(faults.collect()))
}

/// The mails that can be tried before a run, each with its step's key.
fn letters(definition: &Definition) -> Vec<(String, StepMail)> {
    let tasks = definition.phases.iter().flat_map(|phase| &phase.tasks);
    let steps = tasks.flat_map(|task| task.steps.iter().map(move |step| (task, step)));
    let mails = steps.filter(|(_, step)| step.kind == kind::EMAIL && step.assigned_to == Executor::Workflow);
    let letter = |(task, step): (&entity::definition::TaskDef, &entity::definition::StepDef)| {
        let text = |field: &str| step.settings()[field].as_str().map(str::to_owned);
        let when: Vec<String> = task.when.iter().chain(&step.when).cloned().collect();
        let is_known = |source: &String| Condition::parse(source).is_ok_and(|when| !when.mentions(RESULTS));
        let letter = StepMail { subject: text("subject")?, body: text("body")?, when };
        let known = letter.when.iter().all(is_known);
        let speaks = templating::mentions(&letter.subject, RESULTS) || templating::mentions(&letter.body, RESULTS);
        (known && !speaks).then(|| (step.key.clone(), letter))
    };
    mails.filter_map(letter).collect()
}

/// The values that the run's steps will have for a record.
fn of_record(viewer: &Viewer, parts: &CampaignParts, record: &record::Model) -> Map<String, Value> {
    let campaign = &parts.campaign;
    let all = json!({
        "record": values::shown(record),
        "variables": Instructions::of(parts).variables,
        "campaign": { "id": campaign.id, "name": campaign.name },
        "run": { "id": "", "name": campaign.name, "type": "RUN" },
        "sender": { "name": viewer.actor.name },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}
