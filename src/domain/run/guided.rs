//! Guided work: a person starts a run from a template, works through its steps and completes it
//! (docs/reference/guided-runs.txt). Shares the core of campaign runs; the differences are here, and
//! the actions within a person's step, which campaign runs have, too.

pub mod active_step;
pub mod add_step;
pub mod mail;
pub mod notes;
pub mod outcome;
pub mod records;
pub mod reorder_steps;
pub mod stages;
pub mod start;
pub mod step_records;
pub mod structure;
pub mod suggestions;
pub mod summary;
pub mod work_action;

use entity::id::*;
use entity::phase::PhaseTransition;
use entity::run::{Model, RunTransition};
use entity::step::{self, StepStatus};
use entity::{PhaseStatus, RunStatus, RunType, TaskStatus, record, run_record};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use serde_json::json;
use std::collections::{HashMap, HashSet};

use super::permissions::{Action, CampaignFacts, RunContext, check_allowed};
use super::snapshot::GuidedSnapshot;
use super::sweep::close;
use super::{apply_transition, must_lock};
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Completes guided work, with its outcome as a sentence. Errors: NOT_FOUND; CONFLICT while steps
/// are open, naming them, or messages are in flight; INVALID_TRANSITION.
pub async fn complete(
    db: &WriteContext,
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
        let campaign = campaign.as_ref().map(CampaignFacts::of);
        let context = RunContext::read(tx.db(), viewer, &run, campaign, Action::Complete).await?;
        // The judge counts the open steps; here they are named.
        if context.open_steps > 0 && run.run_type == RunType::Guided && run.status == RunStatus::InProgress {
            return Err(open_steps(tx, &run).await?.into());
        }
        check_allowed(&run, &context, Action::Complete)?;
        let tasks = super::task::of_runs(tx.db(), viewer, &[id]).await?;
        for phase in super::phase::of_runs(tx.db(), viewer, &[id]).await? {
            let phase_tasks = || tasks.iter().filter(|task| task.phase_id == phase.id);
            if phase.status != PhaseStatus::Active {
                return Err(Error::internal(format!("guided work {id} is at work, its phase is {}", phase.status)));
            }
            let transition = if phase_tasks().all(|task| task.status == TaskStatus::Skipped) {
                PhaseTransition::Skip
            } else {
                PhaseTransition::Complete
            };
            let mut row = phase.into_active_model();
            row.advanced_by = Set(Some(viewer.actor()));
            let phase = row.update(tx.db()).await?;
            super::phase::apply_transition(tx, viewer, &run, phase, transition, None).await?;
        }
        close::all(tx, &run).await?;
        tx.set_result(id);
        let at = tx.now();
        apply_transition(tx, viewer, run, RunTransition::Complete, outcome.as_deref(), |row| {
            row.ended_at = Set(Some(at));
            row.outcome = Set(outcome.clone());
        })
        .await
    })
}

/// The rejection while steps are open, which names them.
async fn open_steps(tx: &Tx, run: &Model) -> Result<Refusal> {
    let open = step::Entity::find()
        .filter(step::COLUMN.run_id.eq(run.id))
        .filter(step::COLUMN.status.is_in(StepStatus::OPEN))
        .order_by_asc(step::COLUMN.id)
        .all(tx.db())
        .await?;
    let names: Vec<String> = open.iter().map(|step| format!("{} ({})", step.name, step.status)).collect();
    let details: Vec<_> = open
        .iter()
        .map(|step| json!({ "id": step.id, "key": step.key, "name": step.name, "status": step.status }))
        .collect();
    let message = format!("{} of its steps are open: {}", open.len(), names.join(", "));
    Ok(Refusal::conflict(message).with("openSteps", json!(details)))
}

/// Finds the recipients of records, and creates those that are missing in guided work; the audience
/// of a campaign's run is fixed. Returns the updated run, which is locked.
pub(crate) async fn recipients(
    tx: &Tx,
    run: Model,
    records: &[record::Model],
    linked: bool,
) -> Result<(Model, HashMap<RecordId, run_record::Model>)> {
    let existing = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().map(|record| record.id)))
        .all(tx.db())
        .await?;
    let mut all: HashMap<RecordId, run_record::Model> =
        existing.into_iter().filter_map(|recipient| Some((recipient.record_id?, recipient))).collect();
    if run.run_type != RunType::Guided {
        return Ok((run, all));
    }
    let fresh = records.iter().filter(|record| !all.contains_key(&record.id));
    let fresh: Vec<_> =
        fresh.map(|record| new_recipient(&run, Some(record.id), record.email.clone(), linked)).collect();
    let run = insert_recipients(tx, run, &fresh).await?;
    all.extend(fresh.into_iter().filter_map(|recipient| Some((recipient.record_id?, recipient))));
    Ok((run, all))
}

/// The records among these to which people may write from within the run: all in guided work, in a
/// campaign's run its audience.
pub(crate) async fn writable(
    db: &impl ConnectionTrait,
    run: &Model,
    records: impl IntoIterator<Item = RecordId>,
) -> Result<HashSet<RecordId>> {
    let records: HashSet<RecordId> = records.into_iter().collect();
    if run.run_type == RunType::Guided || records.is_empty() {
        return Ok(records);
    }
    let found: Vec<Option<RecordId>> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::RecordId)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(db.get_database_backend(), run_record::COLUMN.record_id, records))
        .into_tuple()
        .all(db)
        .await?;
    Ok(found.into_iter().flatten().collect())
}

/// The reason for which a record outside the audience of a campaign's run gets no mail from within it.
pub(crate) const NOT_IN_AUDIENCE: &str =
    "it is not in the audience of this campaign's run: write to it from guided work";

/// Finds or creates recipients for addresses without a record; guided work only. Returns the updated
/// run, which is locked.
pub(crate) async fn recipients_of_addresses(
    tx: &Tx,
    run: Model,
    addresses: &[String],
) -> Result<(Model, HashMap<String, run_record::Model>)> {
    if addresses.is_empty() {
        return Ok((run, HashMap::new()));
    }
    let existing = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::Column::RecordId.is_null())
        .all(tx.db())
        .await?;
    let mut all: HashMap<String, run_record::Model> =
        existing.into_iter().filter_map(|recipient| Some((recipient.address.clone()?, recipient))).collect();
    let fresh = addresses.iter().filter(|address| !all.contains_key(*address));
    let fresh: Vec<_> = fresh.map(|address| new_recipient(&run, None, Some(address.clone()), false)).collect();
    let run = insert_recipients(tx, run, &fresh).await?;
    all.extend(fresh.into_iter().filter_map(|recipient| Some((recipient.address.clone()?, recipient))));
    Ok((run, all))
}

fn new_recipient(run: &Model, record_id: Option<RecordId>, address: Option<String>, linked: bool) -> run_record::Model {
    run_record::Model {
        id: RunRecordId::new(),
        org_id: run.org_id,
        run_id: run.id,
        record_id,
        address,
        // Guided work may write to an address more than once: the person decides.
        address_key: None,
        outcome: None,
        reason: None,
        linked,
    }
}

async fn insert_recipients(tx: &Tx, run: Model, fresh: &[run_record::Model]) -> Result<Model> {
    if fresh.is_empty() {
        return Ok(run);
    }
    insert_all(tx, fresh.iter().map(|recipient| recipient.clone().into_active_model().reset_all())).await?;
    let count = run.audience_count + i64::try_from(fresh.len()).map_err(Error::internal)?;
    let mut row = run.into_active_model();
    row.audience_count = Set(count);
    Ok(row.update(tx.db()).await?)
}

/// Adds the linked records when guided work begins.
pub(super) async fn begin(tx: &Tx, viewer: &Viewer, run: Model, snapshot: &GuidedSnapshot) -> Result<Model> {
    // Ignores records deleted since the run was scheduled.
    let records = crate::domain::audience::record::find_all(tx.db(), viewer, &snapshot.linked).await?;
    let (run, _) = recipients(tx, run, &records, true).await?;
    let mut row = run.into_active_model();
    row.audience_done = Set(true);
    Ok(row.update(tx.db()).await?)
}

/// Checks that the run is in progress, and no test: a test run acts on no records.
pub(crate) fn at_work(run: &Model) -> Result<()> {
    if run.run_type == RunType::TestRun {
        return Err(Refusal::conflict("a test run does not act on records: launch a run").into());
    }
    if run.status != RunStatus::InProgress {
        return Err(
            Refusal::conflict(format!("its run is {}: actions need a run that is IN_PROGRESS", run.status)).into()
        );
    }
    Ok(())
}
