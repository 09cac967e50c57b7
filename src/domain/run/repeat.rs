//! Repeats runs: a new run from the same structure and instructions, for the whole audience or only
//! for failed work, which carries over the results of the repeated run.

use std::collections::{HashMap, HashSet};

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run::Model;
use entity::run_record;
use entity::step::{self, StepReason, StepStatus};
use entity::{RunStatus, RunType};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};
use serde_json::json;

use super::dependents::DependencyEnd;
use super::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use super::snapshot::{self, RunSnapshot};
use super::step::Change;
use super::unreached::Family;
use super::{must_lock, task};
use crate::domain::plan::run_template;
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Options of a repeat.
#[derive(Clone, Copy, Debug, Default)]
pub struct RepeatOptions {
    /// True to repeat only for recipients that were not reached.
    pub only_failed: bool,
    /// True to repeat even if another run of the campaign is open.
    pub even_if_open: bool,
}

/// Queues a repeat of an ended run. With `only_failed`: for recipients that failed or were left
/// open, from the first phase that did not complete; results of single steps are carried over.
/// Errors: NOT_FOUND, CONFLICT.
pub async fn repeat(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunId,
    name: Option<&str>,
    options: RepeatOptions,
) -> Result<Model> {
    let failed = options.only_failed;
    let name = name.map(|name| validate::name("name", name)).transpose()?;
    transact!(db, |tx| {
        let found = super::must_find(tx.db(), viewer, id).await?;
        let Some(campaign_id) = found.campaign_id else {
            return check_allowed(&found, &RunContext::default(), Action::Repeat).map(|()| found);
        };
        let campaign = crate::domain::plan::campaign::must_lock(tx, viewer, campaign_id, None).await?;
        if failed {
            Family::of(tx.db(), viewer, &found).await?.lock(tx).await?;
        }
        let parent = must_lock(tx, viewer, id, None).await?;
        let action = if failed { Action::RepeatFailed } else { Action::Repeat };
        let context = RunContext::read(tx.db(), viewer, &parent, Some(CampaignFacts::of(&campaign)), action).await?;
        check_allowed(&parent, &context, action)?;
        if !failed && !options.even_if_open && parent.run_type != RunType::TestRun {
            check_none_open(tx, &campaign).await?;
        }
        let original = snapshot::of_runs(tx.db(), viewer, &[id]).await?.pop();
        let original = original.ok_or_else(|| Error::internal(format!("{id} has no snapshot")))?;
        // Only a schedule creates occurrences; their repeat is an ordinary run.
        let kind = if parent.run_type == RunType::Schedule { RunType::Run } else { parent.run_type };
        super::launch::room_to_queue(tx, viewer).await?;
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
        let mut instructions = original.instructions.clone();
        instructions["onlyFailed"] = failed.into();
        let copy = entity::run_snapshot::ActiveModel {
            definition: Set(original.definition),
            instructions: Set(instructions),
            test: Set(original.test),
            preflight: Set(original.preflight),
            executors: Set(original.executors),
            ..Default::default()
        };
        snapshot::insert(tx, &run, copy).await?;
        super::emit(tx, viewer, "run.created", &run, json!({ "parentId": id }));
        super::emit(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status, "parentId": id }));
        tx.set_result(run.id);
        Ok(run)
    })
}

/// Rejects if a run of the campaign is open: a record in both would get both messages.
async fn check_none_open(tx: &Tx, campaign: &entity::campaign::Model) -> Result<()> {
    let open = crate::domain::plan::campaign::preflight::open_runs(tx.db(), campaign).await?;
    let Some(first) = open.first() else { return Ok(()) };
    let message = format!(
        "the run {} ({}) of the campaign is {}: wait for it, cancel it, or set `evenIfOpen: true`",
        first.name, first.id, first.status
    );
    Err(Refusal::conflict(message).with("runId", json!(first.id)).into())
}

/// Carries over results of single steps from the repeated run. Results for single records are
/// carried over when their steps are created.
pub(super) async fn carry_over(tx: &Tx, viewer: &Viewer, run: &Model, snapshot: &RunSnapshot) -> Result<()> {
    let ancestors = ancestors(tx, run, snapshot).await?;
    if ancestors.is_empty() {
        return Ok(());
    }
    let tasks = task::of_runs(tx.db(), viewer, &[run.id]).await?;
    let earlier = task::of_runs(tx.db(), viewer, &ancestors).await?;
    let single = |all: &[entity::task::Model]| -> Vec<TaskId> {
        all.iter().filter(|task| !task.fan_out).map(|task| task.id).collect()
    };
    let done = step::Entity::find()
        .filter(any_of(tx.dialect(), step::COLUMN.task_id, single(&earlier)))
        .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
        .all(tx.db())
        .await?;
    let done = nearest_first(&ancestors, done.into_iter().filter(is_still_valid).collect());
    let fresh =
        step::Entity::find().filter(any_of(tx.dialect(), step::COLUMN.task_id, single(&tasks))).all(tx.db()).await?;
    let mut changes = Vec::new();
    for step in fresh {
        let Some(earlier) = done.iter().find(|earlier| earlier.key == step.key) else { continue };
        // Reviews and summaries depend on this run's own messages.
        if [run_template::REVIEW, run_template::SUMMARISE].contains(&step.kind.as_str()) {
            continue;
        }
        let why = format!("done in {}", earlier.run_id);
        let revision = step.revision;
        let mut row = step.into_active_model();
        row.status = Set(StepStatus::Skipped);
        row.result = Set(match earlier.status {
            StepStatus::Completed => Some(earlier.result.clone().unwrap_or_else(|| json!({}))),
            _ => earlier.result.clone(),
        });
        row.error = Set(Some(why.clone()));
        row.reason = Set(Some(StepReason::CarriedOver));
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(entity::Actor::engine()));
        row.revision = Set(revision + 1);
        let step = row.update(tx.db()).await?;
        changes.push(Change { step, from: Some(StepStatus::Pending), kind: "step.skipped", reason: Some(why) });
    }
    super::step::record_changes(tx, run, &entity::Actor::engine(), &changes).await?;
    Ok(())
}

/// True if a single step's outcome is valid for a repeat. A step skipped because another failed, or
/// because its run was cancelled, may be done now.
fn is_still_valid(step: &step::Model) -> bool {
    let not_final = |reason| reason == StepReason::RunCancelled || super::dependents::WAITED.contains(&reason);
    step.status == StepStatus::Completed || step.result.is_some() || !step.reason.is_some_and(not_final)
}

/// Runs whose work is carried over, nearest first: the repeated run, the one it repeats, and so on,
/// as long as each repeats only failed work. A run that ended early may not have carried over
/// anything itself.
pub(super) async fn ancestors(tx: &Tx, run: &Model, snapshot: &RunSnapshot) -> Result<Vec<RunId>> {
    let only_failed =
        |snapshot: &RunSnapshot| snapshot.instructions.as_ref().is_some_and(|instructions| instructions.only_failed);
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

/// Sorts steps in the order of their runs.
fn nearest_first(ancestors: &[RunId], mut steps: Vec<step::Model>) -> Vec<step::Model> {
    steps.sort_by_key(|step| ancestors.iter().position(|id| *id == step.run_id));
    steps
}

/// Completed steps of some records in the ancestor runs, by record and key, from the nearest run.
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

/// Drafts of some steps of the ancestor runs that may be sent now, by step. A message refused by
/// its channel had been approved; rejected and suppressed ones are excluded.
pub(super) async fn drafts_before(tx: &Tx, steps: &[StepId]) -> Result<HashMap<StepId, communication::Model>> {
    use CommunicationStatus::{Approved, Cancelled, Draft, Failed};
    if steps.is_empty() {
        return Ok(HashMap::new());
    }
    let found = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.step_id, steps.iter().copied()))
        .filter(communication::COLUMN.action_number.eq(0))
        .filter(communication::COLUMN.status.is_in([Draft, Approved, Failed, Cancelled]))
        .all(tx.db())
        .await?;
    Ok(found.into_iter().map(|message| (message.step_id, message)).collect())
}

/// Carries over drafts: the same text to the recipient's current address, approved if it had been
/// approved before, otherwise as a draft for review.
pub(super) async fn carry_over_drafts(
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
    let recipients = steps.iter().filter_map(|(step, _)| step.run_record_id);
    let recipients =
        run_record::Entity::find().filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients)).all(tx.db()).await?;
    let addresses: HashMap<RunRecordId, Option<String>> =
        recipients.into_iter().map(|recipient| (recipient.id, recipient.address)).collect();
    let reviewed = reviewed(tx, ancestors).await?;
    // A message that a run had carried over itself was approved in an earlier run.
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
        let (Some(message), Some(recipient)) = (drafts.get(&before.id), step.run_record_id) else { continue };
        let Some(Some(address)) = addresses.get(&recipient) else { continue };
        let was_approved = match message.status {
            CommunicationStatus::Approved | CommunicationStatus::Failed => true,
            CommunicationStatus::Cancelled => was_reviewed(message, before),
            _ => false,
        };
        let id = CommunicationId::new();
        let domain = message.message_id.rsplit('@').next().unwrap_or_default();
        let status =
            if was_approved || unreviewed { CommunicationStatus::Approved } else { CommunicationStatus::Draft };
        rows.push(communication::Model {
            id,
            run_id: run.id,
            step_id: step.id,
            run_record_id: recipient,
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
            let why = Some("approved before");
            crate::domain::message::communication::emit(tx, &engine, run, "communication.approved", row, from, why);
        }
    }
    Ok(())
}

/// Returns those runs whose review was approved.
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
