//! Renders the mails of the run template's own steps for a sample of the audience.

use entity::Executor;
use entity::definition::Definition;
use entity::record;
use serde_json::{Map, Value, json};

use super::sample;
use crate::domain::content::cel::Condition;
use crate::domain::content::templating::{self, StepMail};
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::plan::run_template::kind;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

/// The variable with the results of earlier steps, which do not exist before a run.
const RESULTS: &str = "results";

/// Returns the rendering errors of `email` steps for sample records; `None` without such a step or
/// without records. Mails that depend on results of earlier steps are skipped, as are records that
/// do not meet the step's conditions.
pub(super) async fn faults(db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<Option<Vec<String>>> {
    let mails_to_check = mails_to_check(&parts.resolved.definition);
    if mails_to_check.is_empty() {
        return Ok(None);
    }
    let records = sample(db, parts, 5).await?;
    if records.is_empty() {
        return Ok(None);
    }
    let each = mails_to_check.iter().flat_map(|mail| records.iter().map(move |record| (mail, record)));
    let (mut what, mut all) = (Vec::new(), Vec::new());
    for ((key, mail), record) in each {
        what.push(format!("step `{key}` for {}", validate::printable(&record.name)));
        all.push((mail.clone(), values_of(viewer, parts, record)));
    }
    let rendered = templating::render_mails(all).await?;
    let faults = what.iter().zip(rendered).filter_map(|(what, done)| Some(format!("{what}: {}", done.err()?)));
    Ok(Some(faults.collect()))
}

/// Returns the mails that can be rendered before a run, each with its step's key.
fn mails_to_check(definition: &Definition) -> Vec<(String, StepMail)> {
    let tasks = definition.phases.iter().flat_map(|phase| &phase.tasks);
    let steps = tasks.flat_map(|task| task.steps.iter().map(move |step| (task, step)));
    let mails = steps.filter(|(_, step)| step.kind == kind::EMAIL && step.assigned_to == Executor::Workflow);
    let mail = |(task, step): (&entity::definition::TaskDef, &entity::definition::StepDef)| {
        let text = |field: &str| step.settings()[field].as_str().map(str::to_owned);
        let when: Vec<String> = task.when.iter().chain(&step.when).cloned().collect();
        let is_known = |source: &String| Condition::parse(source).is_ok_and(|when| !when.mentions(RESULTS));
        let mail = StepMail { subject: text("subject")?, body: text("body")?, when };
        let known = mail.when.iter().all(is_known);
        let uses_results = templating::mentions(&mail.subject, RESULTS) || templating::mentions(&mail.body, RESULTS);
        (known && !uses_results).then(|| (step.key.clone(), mail))
    };
    mails.filter_map(mail).collect()
}

/// Returns the values that the run's steps will have for a record.
fn values_of(viewer: &Viewer, parts: &CampaignParts, record: &record::Model) -> Map<String, Value> {
    let campaign = &parts.campaign;
    let all = json!({
        "record": templating::record(record),
        "variables": CampaignSnapshot::of(parts).variables,
        "campaign": { "id": campaign.id, "name": campaign.name },
        "run": { "id": "", "name": campaign.name, "type": "RUN" },
        "sender": { "name": viewer.actor.name },
    });
    match all {
        Value::Object(all) => all,
        _ => Map::new(),
    }
}
