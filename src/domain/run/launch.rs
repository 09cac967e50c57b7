//! Launches campaigns: creates a run that is queued at once, or a schedule with its first
//! occurrence.

use chrono::{DateTime, Utc};
use entity::campaign;
use entity::id::*;
use entity::run::{ActiveModel, Model};
use entity::schedule;
use entity::{Definition, RunStatus, RunType};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};
use serde_json::{Value, json};

use super::snapshot::{self, Test};
use crate::domain::people::member;
use crate::domain::plan::campaign::preflight::{self, LaunchAction, LaunchInput, Preflight, PreflightContext};
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::plan::schedule::Occurrence;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits, row_limit, validate};
use crate::transact;

/// Launch request.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Campaign.
    pub campaign_id: CampaignId,
    /// Revision that the client saw.
    pub expected_revision: Option<i32>,
    /// Name of the run; the campaign's name if not given.
    pub name: Option<String>,
    /// Kind of launch.
    pub action: LaunchAction,
    /// Recipients, sample, time.
    pub input: LaunchInput,
    /// True if a test run is reviewed.
    pub review: bool,
    /// True to return the preflight only.
    pub dry_run: bool,
}

/// Result of a launch: no run after a failed preflight or a dry run.
#[derive(Clone, Debug)]
pub struct LaunchResult {
    /// Run; for a schedule, its first occurrence.
    pub run: Option<Model>,
    /// Schedule.
    pub schedule: Option<schedule::Model>,
    /// Preflight, with every reason.
    pub preflight: Preflight,
}

/// Runs the preflight and launches. The short transaction compares the revisions that the preflight
/// saw, and starts over if one has changed. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn launch(db: &WriteContext, viewer: &Viewer, launch: &Launch) -> Result<LaunchResult> {
    let name = launch.name.as_deref().map(|name| validate::name("name", name)).transpose()?;
    loop {
        let campaign = crate::domain::plan::campaign::must_find(db.read(), viewer, launch.campaign_id).await?;
        validate::expect("campaign", campaign.revision, launch.expected_revision)?;
        let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
        let terms = PreflightContext { input: Some(&launch.input), any_status: false };
        let preflight = preflight::preflight(db, viewer, &parts, launch.action, terms).await?;
        if launch.dry_run || !preflight.ready {
            if let Some(key) = db.idempotency() {
                key.check_unused(db.read()).await?;
            }
            return Ok(LaunchResult { run: None, schedule: None, preflight });
        }
        let test = match launch.action {
            LaunchAction::TestRun => Some(test_parameters(db, viewer, &parts, launch).await?),
            LaunchAction::Run | LaunchAction::Schedule => None,
        };
        let seen = parts.revisions();
        let created = transact!(db, |tx| {
            let campaign =
                crate::domain::plan::campaign::must_lock(tx, viewer, launch.campaign_id, launch.expected_revision)
                    .await?;
            let parts = CampaignParts::of(tx.db(), viewer, campaign).await?;
            if parts.revisions() != seen {
                tx.discard();
                return Ok(None);
            }
            // Checked under the campaign's lock: of two concurrent launches, the second sees the
            // first one's run.
            let may_overlap = launch.action != LaunchAction::Run || launch.input.even_if_open;
            if !may_overlap && !preflight::open_runs(tx.db(), &parts.campaign).await?.is_empty() {
                tx.discard();
                return Ok(None);
            }
            let draft =
                Draft { name: name.clone(), test: test.clone(), preflight: Some(serde_json::to_value(&preflight)?) };
            let created = match launch.action {
                LaunchAction::TestRun => (Some(insert(tx, viewer, &parts, RunType::TestRun, draft).await?), None),
                LaunchAction::Run => (Some(insert(tx, viewer, &parts, RunType::Run, draft).await?), None),
                LaunchAction::Schedule => {
                    let (schedule, run) = schedule(tx, viewer, &parts, draft, &launch.input).await?;
                    (Some(run), Some(schedule))
                }
            };
            failpoint::reach("launching");
            if let (Some(run), _) = &created {
                tx.set_result(run.id);
            }
            Ok(Some(created))
        })?;
        if let Some((run, schedule)) = created {
            return Ok(LaunchResult { run, schedule, preflight });
        }
    }
}

/// Reloads the result of an earlier launch, for a repeated request: run, schedule and preflight.
pub async fn replay(db: &Db, viewer: &Viewer, id: RunId) -> Result<LaunchResult> {
    let run = super::must_find(db.read(), viewer, id).await?;
    let schedule = match run.schedule_id {
        Some(id) => crate::domain::plan::schedule::find(db.read(), viewer, id).await?,
        None => None,
    };
    let snapshot_row = snapshot::of_runs(db.read(), viewer, &[id]).await?.pop();
    let preflight =
        snapshot_row.and_then(|snapshot_row| snapshot_row.preflight).map(serde_json::from_value).transpose()?;
    let preflight = preflight.ok_or_else(|| Error::internal(format!("{id} was launched without a preflight")))?;
    Ok(LaunchResult { run: Some(run), schedule, preflight })
}

async fn test_parameters(db: &Db, viewer: &Viewer, parts: &CampaignParts, launch: &Launch) -> Result<Test> {
    let mut recipients = launch.input.recipients.clone();
    if recipients.is_empty()
        && let Some(id) = viewer.member_id()
    {
        recipients.push(member::must_find(db.read(), viewer, id).await?.email);
    }
    let recipients = preflight::test_recipients(parts.campaign.channel, &recipients)?;
    let count = u64::try_from(launch.input.sample.unwrap_or(1)).unwrap_or(1).max(1);
    let sample = preflight::sample(db, parts, count).await?;
    Ok(Test { recipients, sample: sample.iter().map(|record| record.id).collect(), review: launch.review })
}

struct Draft {
    name: Option<String>,
    test: Option<Test>,
    preflight: Option<Value>,
}

/// Refuses a run more than may wait to be begun. Errors: LIMIT_EXCEEDED.
pub(super) async fn room_to_queue(tx: &Tx, viewer: &Viewer) -> Result<()> {
    let queued = entity::run::Entity::find()
        .filter(entity::run::COLUMN.org_id.eq(viewer.org_id))
        .filter(entity::run::COLUMN.status.eq(RunStatus::Queued));
    row_limit::check_below(tx, viewer.org_id, queued, limits::QUEUED_RUNS_OF_ORG, "status", "runs that are QUEUED")
        .await
}

async fn insert(tx: &Tx, viewer: &Viewer, parts: &CampaignParts, run_type: RunType, draft: Draft) -> Result<Model> {
    room_to_queue(tx, viewer).await?;
    let mut row = blank(tx, viewer, &parts.campaign, run_type);
    row.status = Set(RunStatus::Queued);
    row.queued_at = Set(Some(tx.now()));
    if let Some(name) = draft.name {
        row.search = Set(crate::kernel::storable::folded(&format!("{name} {}", parts.campaign.name)));
        row.name = Set(name);
    }
    let run = row.insert(tx.db()).await?;
    let mut snapshot_row = structure_only(&parts.resolved.definition);
    snapshot_row.test = Set(draft.test.map(serde_json::to_value).transpose()?);
    snapshot_row.preflight = Set(draft.preflight);
    snapshot_row.instructions = Set(serde_json::to_value(CampaignSnapshot::of(parts))?);
    snapshot::insert(tx, &run, snapshot_row).await?;
    super::emit(tx, viewer, "run.created", &run, json!({}));
    super::emit(tx, viewer, "run.queued", &run, json!({ "from": null, "to": run.status }));
    Ok(run)
}

async fn schedule(
    tx: &Tx,
    viewer: &Viewer,
    parts: &CampaignParts,
    draft: Draft,
    input: &LaunchInput,
) -> Result<(schedule::Model, Model)> {
    let when = input.when.as_ref().ok_or_else(|| Refusal::input("at", "say when"))?;
    let terms = crate::domain::plan::schedule::SchedulePolicies { name: draft.name, ..input.terms.clone() };
    let (mut row, next) = crate::domain::plan::schedule::new_schedule(tx, viewer, when, &terms).await?;
    row.campaign_id = Set(Some(parts.campaign.id));
    let schedule = row.insert(tx.db()).await?;
    crate::domain::plan::schedule::emit_created(tx, viewer, &schedule);
    let run = occurrence(tx, viewer, parts, &schedule, &RunTimes::of(&next), draft.preflight).await?;
    Ok((schedule, run))
}

/// Times of a scheduled run.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunTimes {
    /// The occurrence of the pattern that the run stands for; none outside of the pattern.
    pub occurrence_at: Option<DateTime<Utc>>,
    /// Its start.
    pub scheduled_for: DateTime<Utc>,
    /// Time since which it waits for an earlier run; none if it does not.
    pub buffered_at: Option<DateTime<Utc>>,
    /// The past time of the pattern that it makes up for.
    pub backfill_for: Option<DateTime<Utc>>,
}

impl RunTimes {
    /// The times of an occurrence's run.
    pub(super) fn of(found: &Occurrence) -> Self {
        Self { occurrence_at: Some(found.at), scheduled_for: found.starts_at, buffered_at: None, backfill_for: None }
    }

    /// Sets the columns of a new run.
    pub(super) fn set(&self, row: &mut ActiveModel) {
        row.occurrence_at = Set(self.occurrence_at);
        row.scheduled_for = Set(Some(self.scheduled_for));
        row.buffered_at = Set(self.buffered_at);
        row.backfill_for = Set(self.backfill_for);
    }
}

/// Creates the scheduled run of one occurrence.
pub(super) async fn occurrence(
    tx: &Tx,
    viewer: &Viewer,
    parts: &CampaignParts,
    schedule: &schedule::Model,
    times: &RunTimes,
    preflight: Option<Value>,
) -> Result<Model> {
    let (campaign, definition) = (&parts.campaign, &parts.resolved.definition);
    let mut row = blank(tx, viewer, campaign, RunType::Schedule);
    // Each occurrence is launched by whoever made the schedule, whoever plans it.
    row.created_by = Set(schedule.created_by.clone());
    row.status = Set(RunStatus::Scheduled);
    row.schedule_id = Set(Some(schedule.id));
    times.set(&mut row);
    if let Some(name) = schedule.name.clone() {
        row.search = Set(crate::kernel::storable::folded(&format!("{name} {}", campaign.name)));
        row.name = Set(name);
    }
    let run = row.insert(tx.db()).await?;
    let mut snapshot_row = structure_only(definition);
    snapshot_row.preflight = Set(preflight);
    snapshot::insert(tx, &run, snapshot_row).await?;
    super::emit(tx, viewer, "run.created", &run, json!({ "scheduleId": schedule.id }));
    super::emit(
        tx,
        viewer,
        "run.scheduled",
        &run,
        json!({ "from": null, "to": run.status, "scheduleId": schedule.id }),
    );
    Ok(run)
}

pub(super) fn blank(tx: &Tx, viewer: &Viewer, campaign: &campaign::Model, run_type: RunType) -> ActiveModel {
    ActiveModel {
        id: Set(RunId::new()),
        org_id: Set(viewer.org_id),
        campaign_id: Set(Some(campaign.id)),
        goal_id: Set(campaign.goal_id),
        run_template_id: Set(None),
        description: Set(String::new()),
        in_flight: Set(0),
        by_model: Set(false),
        campaign_version: Set(campaign.version),
        campaign_name: Set(campaign.name.clone()),
        name: Set(campaign.name.clone()),
        run_type: Set(run_type),
        status: Set(RunStatus::Queued),
        channel: Set(campaign.channel),
        schedule_id: Set(None),
        parent_id: Set(None),
        occurrence_at: Set(None),
        scheduled_for: Set(None),
        buffered_at: Set(None),
        backfill_for: Set(None),
        queued_at: Set(None),
        started_at: Set(None),
        ended_at: Set(None),
        audience_count: Set(0),
        audience_done: Set(false),
        outcome: Set(None),
        failure: Set(None),
        created_by: Set(viewer.actor()),
        search: Set(crate::kernel::storable::folded(&format!("{} {}", campaign.name, campaign.name))),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    }
}

/// Builds a snapshot row with the structure only.
fn structure_only(definition: &Definition) -> entity::run_snapshot::ActiveModel {
    entity::run_snapshot::ActiveModel {
        definition: Set(definition.clone()),
        instructions: Set(json!({})),
        test: Set(None),
        preflight: Set(None),
        ..Default::default()
    }
}
