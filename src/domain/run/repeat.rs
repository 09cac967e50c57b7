//! A run that repeats another one: from the same structure and the same instructions, whole or only what failed; and what it
//! takes over of the one that it repeats.

use std::collections::{HashMap, HashSet};

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run::Model;
use entity::run_record;
use entity::step::{self, StepReason, StepStatus};
use entity::{CampaignStatus, RunStatus, RunType};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};
use serde_json::json;

use super::dependents::DependencyEnd;
use super::snapshot::{self, RunSnapshot};
use super::step::Change;
use super::{must_lock, task, unreached};
use crate::domain::plan::run_template;
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// What, besides its end, forbids a repeat.
pub(super) fn check_allowed(run: &Model, campaign: CampaignStatus) -> Result<()> {
    let why = if run.status.is_open() {
        format!("it has not ended: it is {}", run.status)
    } else if run.started_at.is_none() {
        "it never began; launch it anew".to_owned()
    } else if campaign != CampaignStatus::Active {
        format!("its campaign is {campaign}")
    } else {
        return Ok(());
    };
    Err(Refusal::conflict(why).into())
}

/// How a run is repeated.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepeatOptions {
    /// Only over those who were not reached.
    pub only_failed: bool,
    /// Also while another run of the campaign is under way.
    pub even_if_open: bool,
}

/// Queues a run like one that has ended. From what failed: over the records whose place was not closed well, from the phase
/// on that did not complete; what single steps had brought before is taken over. Errors: NOT_FOUND, CONFLICT.
pub async fn repeat(db: &Db, viewer: &Viewer, id: RunId, name: Option<&str>, how: RepeatOptions) -> Result<Model> {
    let failed = how.only_failed;
    let name = name.map(|name| validate::name("name", name)).transpose()?;
    transact!(db, |tx| {
        let found = super::must_find(tx.db(), viewer, id).await?;
        let Some(campaign_id) = found.campaign_id else {
            return super::check_allowed(&found, None, super::Action::Repeat).map(|()| found);
        };
        let campaign = crate::domain::plan::campaign::must_lock(tx, viewer, campaign_id, None).await?;
        let parent = must_lock(tx, viewer, id, None).await?;
        check_allowed(&parent, campaign.status)?;
        if !failed && !how.even_if_open && parent.run_type != RunType::TestRun {
            alone(tx, &campaign).await?;
        }
        if failed {
            unreached::repeatable(tx.db(), viewer, &parent).await?;
        }
        let told = snapshot::of_runs(tx.db(), viewer, &[id]).await?.pop();
        let told = told.ok_or_else(|| Error::ours(format!("{id} was told nothing")))?;
        // An occurrence is its schedule's; what repeats it is a run of its own.
        let kind = if parent.run_type == RunType::Schedule { RunType::Run } else { parent.run_type };
        let mut row = super::launch::blank(tx, viewer, &campaign, kind);
        let name = name.clone().unwrap_or_else(|| parent.name.clone());
        row.search = Set(crate::kernel::storable::folded(&format!("{name} {}", campaign.name)));
        row.name = Set(name);
        row.channel = Set(parent.channel);
        row.campaign_version = Set(parent.campaign_version);
        row.parent_id = Set(Some(id));
        row.status = Set(RunStatus::Queued);
        row.queued_at = Set(Some(tx.now()));
        let run = row.insert(tx.db()).await?;
        let mut instructions = told.instructions.clone();
        instructions["onlyFailed"] = failed.into();
        let told = entity::run_snapshot::ActiveModel {
            definition: Set(told.definition),
            instructions: Set(instructions),
            test: Set(told.test),
            preflight: Set(told.preflight),
            ..Default::default()
        };
        snapshot::insert(tx, &run, told).await?;
        super::emit(tx, viewer, "run.created", &run, json!({ "parentId": id }));
        super::emit(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status, "parentId": id }));
        tx.set_result(run.id);
        Ok(run)
    })
}

/// Refuses where a run of the campaign is under way: whoever is in both would get both messages.
async fn alone(tx: &Tx, campaign: &entity::campaign::Model) -> Result<()> {
    let open = crate::domain::plan::campaign::preflight::open_runs(tx.db(), campaign).await?;
    let Some(first) = open.first() else { return Ok(()) };
    let told = format!(
        "the run {} ({}) of the campaign is {}: wait for it, cancel it, or say `evenIfOpen: true`",
        first.name, first.id, first.status
    );
    Err(Refusal::conflict(told).with("runId", json!(first.id)).into())
}

/// What single steps had brought in the run that this one repeats is taken over. What was done for single records is taken
/// over when their steps are made.
pub(super) async fn carry_over(tx: &Tx, viewer: &Viewer, run: &Model, snapshot: &RunSnapshot) -> Result<()> {
    let ancestors = ancestors(tx, run, snapshot).await?;
    if ancestors.is_empty() {
        return Ok(());
    }
    let tasks = task::of_runs(tx.db(), viewer, &[run.id]).await?;
    let before = task::of_runs(tx.db(), viewer, &ancestors).await?;
    let single = |all: &[entity::task::Model]| -> Vec<TaskId> {
        all.iter().filter(|task| !task.fan_out).map(|task| task.id).collect()
    };
    let done = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, single(&before)))
        .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
        .all(tx.db())
        .await?;
    let done = nearest_first(&ancestors, done.into_iter().filter(stands).collect());
    let fresh =
        step::Entity::find().filter(any_of(tx.dialect(), step::COLUMN.task_id, single(&tasks))).all(tx.db()).await?;
    let mut changes = Vec::new();
    for step in fresh {
        let Some(before) = done.iter().find(|before| before.key == step.key) else { continue };
        // Whether there is something to review, or to sum up, is another matter here.
        if [run_template::REVIEW, run_template::SUMMARISE].contains(&step.kind.as_str()) {
            continue;
        }
        let why = format!("done in {}", before.run_id);
        let revision = step.revision;
        let mut row = step.into_active_model();
        row.status = Set(StepStatus::Skipped);
        row.result = Set(match before.status {
            StepStatus::Completed => Some(before.result.clone().unwrap_or_else(|| json!({}))),
            _ => before.result.clone(),
        });
        row.error = Set(Some(why.clone()));
        row.reason = Set(Some(StepReason::CarriedOver));
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(entity::Actor::engine()));
        row.revision = Set(revision + 1);
        let step = row.update(tx.db()).await?;
        changes.push(Change { step, from: Some(StepStatus::Pending), kind: "step.skipped", reason: Some(why) });
    }
    super::step::note(tx, run, &entity::Actor::engine(), &changes).await?;
    Ok(())
}

/// Whether what a single step came to holds for a repeat. One that was left out because another failed, or with its run, may
/// be done now.
fn stands(step: &step::Model) -> bool {
    let by_another = |reason| reason == StepReason::RunCancelled || super::dependents::WAITED.contains(&reason);
    step.status == StepStatus::Completed || step.result.is_some() || !step.reason.is_some_and(by_another)
}

/// The runs whose work a run takes over, the nearest first: the run that it repeats, the one that this repeats in turn, and
/// so on, as long as only what failed is repeated. A run that ended early may have taken nothing over itself.
pub(super) async fn ancestors(tx: &Tx, run: &Model, snapshot: &RunSnapshot) -> Result<Vec<RunId>> {
    let only_failed = |snapshot: &RunSnapshot| snapshot.instructions.as_ref().is_some_and(|told| told.only_failed);
    let (mut all, mut parent) = (Vec::new(), run.parent_id.filter(|_| only_failed(snapshot)));
    while let Some(id) = parent {
        all.push(id);
        let found = super::must_find(tx.db(), &Viewer::engine(run.org_id), id).await?;
        parent = match found.parent_id {
            Some(next) if only_failed(&*snapshot::of(tx.db(), &found).await?) => Some(next),
            _ => None,
        };
    }
    Ok(all)
}

/// Steps of some runs in the order of the runs.
fn nearest_first(ancestors: &[RunId], mut steps: Vec<step::Model>) -> Vec<step::Model> {
    steps.sort_by_key(|step| ancestors.iter().position(|id| *id == step.run_id));
    steps
}

/// The steps of some records as they ended in the runs whose work is taken over, by record and key: those that are done, as
/// they are in the nearest run.
pub(super) async fn done_before(
    tx: &Tx,
    ancestors: &[RunId],
    keys: &[&str],
    records: &[RecordId],
) -> Result<HashMap<(RecordId, String), step::Model>> {
    if ancestors.is_empty() {
        return Ok(HashMap::new());
    }
    let done = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.run_id, ancestors.iter().copied()))
        .filter(any_of(tx.dialect(), step::Column::RecordId, records.iter().copied()))
        .filter(any_of(tx.dialect(), step::COLUMN.key, keys.iter().copied()))
        .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
        .all(tx.db())
        .await?;
    let mut found = HashMap::new();
    for step in nearest_first(ancestors, done) {
        if let Some(record) = step.record_id
            && DependencyEnd::of(step.status, step.result.is_some()) == Some(DependencyEnd::Completed)
        {
            found.entry((record, step.key.clone())).or_insert(step);
        }
    }
    Ok(found)
}

/// The messages that some steps had drafted in the runs whose work is taken over, by the step: those that may go now. What was
/// refused by the outside had been let out; what a reviewer held back, and what was closed, is none.
pub(super) async fn drafts_before(tx: &Tx, steps: &[StepId]) -> Result<HashMap<StepId, communication::Model>> {
    use CommunicationStatus::{Approved, Cancelled, Draft, Failed};
    if steps.is_empty() {
        return Ok(HashMap::new());
    }
    let found = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.step_id, steps.iter().copied()))
        .filter(communication::COLUMN.occasion.eq(0))
        .filter(communication::COLUMN.status.is_in([Draft, Approved, Failed, Cancelled]))
        .all(tx.db())
        .await?;
    Ok(found.into_iter().map(|message| (message.step_id, message)).collect())
}

/// Takes drafts over: the same text to the place's address of now, let out where it had been let out before, else to be
/// reviewed.
pub(super) async fn take_over(
    tx: &Tx,
    run: &Model,
    snapshot: &RunSnapshot,
    ancestors: &[RunId],
    drafts: &HashMap<StepId, communication::Model>,
    steps: &[(step::Model, step::Model)],
) -> Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let places = steps.iter().filter_map(|(step, _)| step.run_record_id);
    let places =
        run_record::Entity::find().filter(any_of(tx.dialect(), run_record::COLUMN.id, places)).all(tx.db()).await?;
    let addresses: HashMap<RunRecordId, Option<String>> =
        places.into_iter().map(|place| (place.id, place.address)).collect();
    let reviewed = reviewed(tx, ancestors).await?;
    // What a run had taken over itself was let out before it.
    let was_reviewed = |message: &communication::Model, drafting: &step::Model| {
        let mut from = ancestors.iter().skip_while(|id| **id != message.run_id);
        match drafting.status {
            StepStatus::Skipped => from.any(|id| reviewed.contains(id)),
            _ => reviewed.contains(&message.run_id),
        }
    };
    let unreviewed = !run_template::has_review(&snapshot.definition);
    let mut rows = Vec::new();
    for (step, before) in steps {
        let (Some(message), Some(place)) = (drafts.get(&before.id), step.run_record_id) else { continue };
        let Some(Some(address)) = addresses.get(&place) else { continue };
        let let_out = match message.status {
            CommunicationStatus::Approved | CommunicationStatus::Failed => true,
            CommunicationStatus::Cancelled => was_reviewed(message, before),
            _ => false,
        };
        let id = CommunicationId::new();
        let domain = message.message_id.rsplit('@').next().unwrap_or_default();
        let status = if let_out || unreviewed { CommunicationStatus::Approved } else { CommunicationStatus::Draft };
        rows.push(communication::Model {
            id,
            run_id: run.id,
            step_id: step.id,
            run_record_id: place,
            to_address: address.clone(),
            status,
            message_id: format!("{id}@{domain}"),
            error: None,
            refusals: 0,
            refused_since: None,
            reserved_at: None,
            sent_at: None,
            created_at: tx.now(),
            updated_at: tx.now(),
            revision: 1,
            ..message.clone()
        });
    }
    let engine = Viewer::engine(run.org_id);
    let fresh = rows.iter().map(|row| row.clone().into_active_model().reset_all());
    if !rows.is_empty() {
        insert_all(tx, fresh).await?;
    }
    let from = CommunicationStatus::Draft;
    for row in &rows {
        let draft = communication::Model { status: from, ..row.clone() };
        crate::domain::message::communication::emit(tx, &engine, run, "communication.drafted", &draft, from, None);
        if row.status == CommunicationStatus::Approved {
            let why = Some("let out before");
            crate::domain::message::communication::emit(tx, &engine, run, "communication.approved", row, from, why);
        }
    }
    Ok(())
}

/// Those of some runs whose review was approved.
async fn reviewed(tx: &Tx, runs: &[RunId]) -> Result<HashSet<RunId>> {
    let approved = step::Entity::find()
        .select_only()
        .column(step::Column::RunId)
        .filter(any_of(tx.dialect(), step::COLUMN.run_id, runs.iter().copied()))
        .filter(step::Column::Kind.eq(run_template::REVIEW))
        .filter(step::COLUMN.status.eq(StepStatus::Completed));
    let ids: Vec<RunId> = approved.into_tuple().all(tx.db()).await?;
    Ok(ids.into_iter().collect())
}
