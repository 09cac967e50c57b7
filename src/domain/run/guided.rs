//! Guided work: a person starts it from a template, goes through its steps, and says when it is done
//! (docs/reference/guided-runs.txt). It stands on the same kernel as the runs of campaigns; what differs is here.

pub mod active_step;
pub mod mail;
pub mod notes;
pub mod records;
pub mod stages;
pub mod start;
pub mod step_records;
pub mod suggestions;
pub mod summary;

use entity::id::*;
use entity::phase::PhaseTransition;
use entity::run::{Model, RunTransition};
use entity::step::{self, StepStatus};
use entity::{PhaseStatus, RunStatus, RunType, TaskStatus, record, run_record, task};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;

use super::{Action, check_allowed, must_lock, step_to, sweep};
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

pub use start::{GuidedStepDraft, Start, start};

/// What guided work is begun with, beside its structure; kept with what the run is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuidedSnapshot {
    /// The records that it is begun with.
    #[serde(default)]
    pub linked: Vec<RecordId>,
    /// Who is to do its steps, where they do not say so themselves.
    #[serde(default)]
    pub assignee: Option<MemberId>,
}

/// Whether nothing of guided work is open; the refusal says what is.
pub fn is_through(run: &Model, tasks: &[task::Model]) -> Result<()> {
    let open: i64 = tasks.iter().map(|task| task.counts().open()).sum();
    if open > 0 {
        return Err(Refusal::conflict(format!("{open} of its steps are open: complete or skip them")).into());
    }
    settled(run)
}

fn settled(run: &Model) -> Result<()> {
    if run.on_way == 0 {
        return Ok(());
    }
    let told = format!("{} of its messages are on their way, or their fate is unknown", run.on_way);
    Err(Refusal::conflict(told).with("messagesOnWay", json!(run.on_way)).into())
}

/// Says that guided work is done, with what came of it in a sentence. Errors: NOT_FOUND; CONFLICT while steps are open,
/// naming them, or messages on their way; INVALID_TRANSITION.
pub async fn complete(
    db: &Db,
    viewer: &Viewer,
    id: RunId,
    expected: Option<i32>,
    outcome: Option<&str>,
) -> Result<Model> {
    let outcome =
        outcome.map(|text| validate::text("outcome", text)).transpose()?.filter(|text| !text.trim().is_empty());
    transact!(db, |tx| {
        let run = must_lock(tx, viewer, id, expected).await?;
        let campaign = super::campaign_of(tx.db(), viewer, &run).await?;
        check_allowed(&run, campaign.map(|campaign| campaign.status), Action::Complete)?;
        none_open(tx, &run).await?;
        settled(&run)?;
        let tasks = super::task::of_runs(tx.db(), viewer, &[id]).await?;
        for phase in super::phase::of_runs(tx.db(), viewer, &[id]).await? {
            let mine = || tasks.iter().filter(|task| task.phase_id == phase.id);
            if phase.status != PhaseStatus::Active {
                return Err(Error::ours(format!("guided work {id} is at work, its phase is {}", phase.status)));
            }
            let act = if mine().all(|task| task.status == TaskStatus::Skipped) {
                PhaseTransition::Skip
            } else {
                PhaseTransition::Complete
            };
            let mut row = phase.into_active_model();
            row.person_act = Set(Some(viewer.actor()));
            let phase = row.update(tx.db()).await?;
            super::advance::step_phase(tx, viewer, &run, phase, act).await?;
        }
        sweep::close::all(tx, &run).await?;
        tx.set_result(id);
        let at = tx.now();
        step_to(tx, viewer, run, RunTransition::Complete, outcome.as_deref(), |row| {
            row.ended_at = Set(Some(at));
            row.outcome = Set(outcome.clone());
        })
        .await
    })
}

/// Refuses while steps are open, naming them.
async fn none_open(tx: &Tx, run: &Model) -> Result<()> {
    let open = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .order_by_asc(step::COLUMN.id)
        .all(tx.db())
        .await?;
    if open.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = open.iter().map(|step| format!("{} ({})", step.name, step.status)).collect();
    let told: Vec<_> = open
        .iter()
        .map(|step| json!({ "id": step.id, "key": step.key, "name": step.name, "status": step.status }))
        .collect();
    let message = format!("{} of its steps are open: {}", open.len(), names.join(", "));
    Err(Refusal::conflict(message).with("openSteps", json!(told)).into())
}

/// Whether somebody else did just that before: who, and when.
pub(crate) fn taken(run: &Model, step: &step::Model, action: super::step::Action) -> Result<()> {
    use super::step::Action;
    if run.run_type != RunType::Guided {
        return Ok(());
    }
    let (what, by, at) = match (action, step.status) {
        (Action::Start | Action::Complete | Action::Submit | Action::Skip, StepStatus::Completed) => {
            ("completed", &step.completed_by, step.completed_at)
        }
        (Action::Start | Action::Complete | Action::Submit | Action::Skip, StepStatus::Skipped) => {
            ("skipped", &step.completed_by, step.completed_at)
        }
        (Action::Start, StepStatus::InProgress) => ("started", &step.started_by, step.started_at),
        _ => return Ok(()),
    };
    let name = by.as_ref().map_or("somebody", |by| by.name.as_str());
    let when = at.map(|at| at.to_rfc3339()).unwrap_or_default();
    let who = by.as_ref().map(|by| json!({ "kind": by.kind, "memberId": by.member_id, "name": by.name }));
    let refusal = Refusal::conflict(format!("{name} {what} it at {when}"))
        .with("status", json!(step.status))
        .with("revision", json!(step.revision))
        .with(&format!("{what}By"), json!(who))
        .with(&format!("{what}At"), json!(at));
    Err(refusal.into())
}

/// The places of records in guided work; who comes in anew gets one. The run as it is then, which is locked.
pub(crate) async fn places(
    tx: &Tx,
    run: Model,
    records: &[record::Model],
    linked: bool,
) -> Result<(Model, HashMap<RecordId, run_record::Model>)> {
    let there = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().map(|record| record.id)))
        .all(tx.db())
        .await?;
    let mut all: HashMap<RecordId, run_record::Model> =
        there.into_iter().filter_map(|place| Some((place.record_id?, place))).collect();
    let fresh = records.iter().filter(|record| !all.contains_key(&record.id));
    let fresh: Vec<_> = fresh.map(|record| place(&run, Some(record.id), record.email.clone(), linked)).collect();
    let run = take_in(tx, run, &fresh).await?;
    all.extend(fresh.into_iter().filter_map(|place| Some((place.record_id?, place))));
    Ok((run, all))
}

/// The places of addresses that are no record's. The run as it is then, which is locked.
pub(crate) async fn places_of_addresses(
    tx: &Tx,
    run: Model,
    addresses: &[String],
) -> Result<(Model, HashMap<String, run_record::Model>)> {
    let there = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::Column::RecordId.is_null())
        .all(tx.db())
        .await?;
    let mut all: HashMap<String, run_record::Model> =
        there.into_iter().filter_map(|place| Some((place.address.clone()?, place))).collect();
    let fresh = addresses.iter().filter(|address| !all.contains_key(*address));
    let fresh: Vec<_> = fresh.map(|address| place(&run, None, Some(address.clone()), false)).collect();
    let run = take_in(tx, run, &fresh).await?;
    all.extend(fresh.into_iter().filter_map(|place| Some((place.address.clone()?, place))));
    Ok((run, all))
}

fn place(run: &Model, record_id: Option<RecordId>, address: Option<String>, linked: bool) -> run_record::Model {
    run_record::Model {
        id: RunRecordId::new(),
        org_id: run.org_id,
        run_id: run.id,
        record_id,
        address,
        // Somebody may be written to more than once here: the person who does it decides.
        address_key: None,
        outcome: None,
        reason: None,
        linked,
    }
}

async fn take_in(tx: &Tx, run: Model, fresh: &[run_record::Model]) -> Result<Model> {
    if fresh.is_empty() {
        return Ok(run);
    }
    insert_all(tx, fresh.iter().map(|place| place.clone().into_active_model().reset_all())).await?;
    let count = run.audience_count + i64::try_from(fresh.len()).map_err(Error::ours)?;
    let mut row = run.into_active_model();
    row.audience_count = Set(count);
    Ok(row.update(tx.db()).await?)
}

/// Takes in what guided work is begun with, as it begins.
pub(super) async fn begin(tx: &Tx, viewer: &Viewer, run: Model, told: &GuidedSnapshot) -> Result<Model> {
    // Records that were deleted since it was scheduled are none.
    let records = crate::domain::audience::record::find_all(tx.db(), viewer, &told.linked).await?;
    let (run, _) = places(tx, run, &records, true).await?;
    let mut row = run.into_active_model();
    row.audience_done = Set(true);
    Ok(row.update(tx.db()).await?)
}

/// Whether guided work is at work.
pub(crate) fn at_work(run: &Model) -> Result<()> {
    if run.run_type != RunType::Guided {
        return Err(Refusal::conflict("this step is of a campaign's run; the engine acts there").into());
    }
    if run.status != RunStatus::InProgress {
        return Err(Refusal::conflict(format!("its run is {}: nothing is done in it now", run.status)).into());
    }
    Ok(())
}
