//! A run that repeats another one: from the same structure and the same instructions, whole or only what failed; and what it
//! takes over of the one that it repeats.

use entity::id::*;
use entity::run::Model;
use entity::run_record::{self, Outcome};
use entity::step::{self, StepStatus};
use entity::{CampaignStatus, PhaseStatus, RunStatus, RunType};
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::json;

use super::brief::{self, Brief};
use super::step::Change;
use super::{must_lock, task};
use crate::db::{Db, Tx};
use crate::error::{Error, Refusal, Result};
use crate::viewer::Viewer;
use crate::{input, transact};

/// What, besides its end, forbids a repeat.
pub(super) fn may(run: &Model, campaign: CampaignStatus) -> Result<()> {
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
pub struct How {
    /// Only over those who were not reached.
    pub only_failed: bool,
    /// Also while another run of the campaign is under way.
    pub even_if_open: bool,
}

/// Queues a run like one that has ended. From what failed: over the records whose place was not closed well, from the phase
/// on that did not complete; what single steps had brought before is taken over. Errors: NOT_FOUND, CONFLICT.
pub async fn repeat(db: &Db, viewer: &Viewer, id: RunId, name: Option<&str>, how: How) -> Result<Model> {
    let failed = how.only_failed;
    let name = name.map(|name| input::name("name", name)).transpose()?;
    transact!(db, |tx| {
        let found = super::must_find(tx.db(), viewer, id).await?;
        let Some(campaign_id) = found.campaign_id else {
            return super::may(&found, None, super::Action::Repeat).map(|()| found);
        };
        let campaign = crate::campaign::must_lock(tx, viewer, campaign_id, None).await?;
        let parent = must_lock(tx, viewer, id, None).await?;
        may(&parent, campaign.status)?;
        if !failed && !how.even_if_open && parent.run_type != RunType::TestRun {
            alone(tx, &campaign).await?;
        }
        if failed && parent.status == RunStatus::Completed {
            return Err(Refusal::conflict("nothing of it failed: it is COMPLETED").into());
        }
        let told = brief::of_runs(tx.db(), viewer, &[id]).await?.pop();
        let told = told.ok_or_else(|| Error::ours(format!("{id} was told nothing")))?;
        // An occurrence is its schedule's; what repeats it is a run of its own.
        let kind = if parent.run_type == RunType::Schedule { RunType::Run } else { parent.run_type };
        let mut row = super::launch::blank(tx, viewer, &campaign, kind);
        let name = name.clone().unwrap_or_else(|| parent.name.clone());
        row.search = Set(format!("{name} {}", campaign.name).to_lowercase());
        row.name = Set(name);
        row.channel = Set(parent.channel);
        row.campaign_version = Set(parent.campaign_version);
        row.parent_id = Set(Some(id));
        row.status = Set(RunStatus::Queued);
        row.queued_at = Set(Some(tx.now()));
        let run = row.insert(tx.db()).await?;
        let mut instructions = told.instructions.clone();
        instructions["onlyFailed"] = failed.into();
        let told = entity::brief::ActiveModel {
            definition: Set(told.definition),
            instructions: Set(instructions),
            test: Set(told.test),
            preflight: Set(told.preflight),
            ..Default::default()
        };
        brief::insert(tx, &run, told).await?;
        super::tell(tx, viewer, "run.created", &run, json!({ "parentId": id }));
        super::tell(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status, "parentId": id }));
        tx.made(run.id);
        Ok(run)
    })
}

/// Refuses where a run of the campaign is under way: whoever is in both would get both messages.
async fn alone(tx: &Tx, campaign: &entity::campaign::Model) -> Result<()> {
    let open = crate::campaign::preflight::open_runs(tx.db(), campaign).await?;
    let Some(first) = open.first() else { return Ok(()) };
    let told = format!(
        "the run {} ({}) of the campaign is {}: wait for it, cancel it, or say `evenIfOpen: true`",
        first.name, first.id, first.status
    );
    Err(Refusal::conflict(told).with("runId", json!(first.id)).into())
}

/// The records of a run whose place was not closed well: given up, or still open when it ended.
pub(super) fn unfinished(parent: RunId) -> SelectStatement {
    let called_off = Expr::col(run_record::Column::Outcome)
        .eq(Outcome::Skipped.to_value())
        .and(Expr::col(run_record::Column::Reason).eq("RUN_CANCELLED"));
    let mut records = Query::select();
    records
        .column(run_record::Column::RecordId)
        .from(run_record::Entity)
        .and_where(run_record::COLUMN.run_id.eq(parent))
        .and_where(
            Expr::col(run_record::Column::Outcome)
                .is_null()
                .or(Expr::col(run_record::Column::Outcome).eq(Outcome::Failed.to_value()))
                .or(called_off),
        );
    records
}

/// What was done in the run that this one repeats is taken over: single steps with what they brought, and the tasks of the
/// phases that were through.
pub(super) async fn carry_over(tx: &Tx, viewer: &Viewer, run: &Model, brief: &Brief) -> Result<()> {
    let only_failed = brief.instructions.as_ref().is_some_and(|told| told.only_failed);
    let Some(parent) = run.parent_id.filter(|_| only_failed) else { return Ok(()) };
    let theirs = super::phase::of_runs(tx.db(), viewer, &[parent]).await?;
    let through: Vec<&str> = theirs
        .iter()
        .take_while(|phase| matches!(phase.status, PhaseStatus::Completed | PhaseStatus::Skipped))
        .map(|phase| phase.key.as_str())
        .collect();
    let why = format!("done in {parent}");
    let mine = super::phase::of_runs(tx.db(), viewer, &[run.id]).await?;
    let tasks = task::of_runs(tx.db(), viewer, &[run.id]).await?;
    for of in &tasks {
        let done = mine.iter().any(|phase| phase.id == of.phase_id && through.contains(&phase.key.as_str()));
        if done && of.fan_out {
            let mut row = of.clone().into_active_model();
            row.left_out = Set(Some(why.clone()));
            row.update(tx.db()).await?;
        }
    }
    let before = task::of_runs(tx.db(), viewer, &[parent]).await?;
    let single = |all: &[entity::task::Model]| -> Vec<TaskId> {
        all.iter().filter(|task| !task.fan_out).map(|task| task.id).collect()
    };
    let done = step::Entity::find()
        .filter(step::COLUMN.task_id.is_in(single(&before)))
        .filter(step::COLUMN.status.is_in([StepStatus::Completed, StepStatus::Skipped]))
        .all(tx.db())
        .await?;
    let fresh = step::Entity::find().filter(step::COLUMN.task_id.is_in(single(&tasks))).all(tx.db()).await?;
    let mut changes = Vec::new();
    for step in fresh {
        let Some(before) = done.iter().find(|before| before.key == step.key) else { continue };
        // What was left out because another failed may be done now.
        let waited = before.error.as_deref().is_some_and(|why| why.starts_with(super::follow::WAITED));
        if before.status == StepStatus::Skipped && (before.result.is_none() && waited) {
            continue;
        }
        let revision = step.revision;
        let mut row = step.into_active_model();
        row.status = Set(StepStatus::Skipped);
        row.result = Set(match before.status {
            StepStatus::Completed => Some(before.result.clone().unwrap_or_else(|| json!({}))),
            _ => before.result.clone(),
        });
        row.error = Set(Some(why.clone()));
        row.completed_at = Set(Some(tx.now()));
        row.completed_by = Set(Some(entity::Actor::engine()));
        row.revision = Set(revision + 1);
        let step = row.update(tx.db()).await?;
        let reason = Some(why.clone());
        changes.push(Change { step, from: Some(StepStatus::Pending), kind: "step.skipped", reason });
    }
    super::step::note(tx, run, &entity::Actor::engine(), &changes).await?;
    Ok(())
}
