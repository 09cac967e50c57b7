//! A scheduled run falls due: preflight once more, then into the queue, or failed with the report; and the next one.

use entity::id::RunId;
use entity::run::{COLUMN, Entity, Model, RunAct};
use entity::schedule::{self, ScheduleStatus};
use entity::{CampaignStatus, RunStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};
use serde_json::json;

use super::brief;
use crate::campaign::preflight::{self, LaunchAction, Terms};
use crate::db::{Db, Tx};
use crate::error::Result;
use crate::event::{self, Event};
use crate::instructions::{Instructions, Parts};
use crate::viewer::Viewer;
use crate::{failpoint, limits, schedule as schedules, transact};

/// The ids of scheduled runs whose time has come and whose campaign is not held, the earliest first.
pub async fn due(db: &Db) -> Result<Vec<(entity::id::OrgId, RunId)>> {
    Ok(Entity::find()
        .select_only()
        .column(entity::run::Column::OrgId)
        .column(entity::run::Column::Id)
        .filter(COLUMN.status.eq(RunStatus::Scheduled))
        .filter(COLUMN.scheduled_for.lte(db.now()))
        .filter(super::not_held())
        .order_by_asc(COLUMN.scheduled_for)
        .limit(100)
        .into_tuple()
        .all(db.read())
        .await?)
}

/// Fires one, as preflight decides at this moment. Among many who try, one wins; the others find it done.
pub async fn fire(db: &Db, viewer: &Viewer, id: RunId) -> Result<()> {
    loop {
        let Some(run) = super::find(db.read(), viewer, id).await? else { return Ok(()) };
        let Some(campaign_id) = run.campaign_id else { return fire_guided(db, viewer, id).await };
        let campaign = crate::campaign::must_find(db.read(), viewer, campaign_id).await?;
        let parts = Parts::of(db.read(), viewer, campaign).await?;
        let terms = Terms { input: None, any_status: false };
        let report = preflight::preflight(db, viewer, &parts, LaunchAction::Run, terms).await?;
        let seen = parts.revisions();
        let done = transact!(db, |tx| {
            let campaign = crate::campaign::must_lock(tx, viewer, campaign_id, None).await?;
            let parts = Parts::of(tx.db(), viewer, campaign).await?;
            if parts.revisions() != seen {
                return Ok(false);
            }
            let run = super::must_lock(tx, viewer, id, None).await?;
            let due = run.scheduled_for.is_some_and(|at| at <= tx.now());
            if run.status != RunStatus::Scheduled || !due || parts.campaign.status == CampaignStatus::Paused {
                return Ok(true);
            }
            let at = tx.now();
            let told = serde_json::to_value(&report)?;
            let run = if report.ready {
                let instructions = serde_json::to_value(Instructions::of(&parts))?;
                let version = parts.campaign.version;
                brief::tell(tx, id, told, Some((instructions, parts.resolved.definition.clone()))).await?;
                super::step_to(tx, viewer, run, RunAct::Due, None, |row| {
                    row.queued_at = Set(Some(at));
                    row.campaign_version = Set(version);
                })
                .await?
            } else {
                let why = format!("preflight failed when it fell due: {}", report.failures());
                brief::tell(tx, id, told, None).await?;
                super::step_to(tx, viewer, run, RunAct::Refuse, Some(&why), |row| {
                    row.ended_at = Set(Some(at));
                    row.failure = Set(Some(why.clone()));
                })
                .await?
            };
            let told = json!({ "scheduleId": run.schedule_id, "occurrenceAt": run.occurrence_at });
            event::append(tx, Event::new(run.org_id, "schedule.fired", &viewer.actor()).run(&run).payload(told));
            follow(tx, viewer, &run).await?;
            failpoint::reach("firing");
            Ok(true)
        })?;
        if done {
            return Ok(());
        }
    }
}

/// Fires guided work, as its template is at this moment: it waits for the person from then on.
async fn fire_guided(db: &Db, viewer: &Viewer, id: RunId) -> Result<()> {
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, id, None).await?;
        let due = run.scheduled_for.is_some_and(|at| at <= tx.now());
        if run.status != RunStatus::Scheduled || !due {
            return Ok(());
        }
        let run = super::guided::start::fire(tx, viewer, run).await?;
        let told = json!({ "scheduleId": run.schedule_id, "occurrenceAt": run.occurrence_at });
        event::append(tx, Event::new(run.org_id, "schedule.fired", &viewer.actor()).run(&run).payload(told));
        follow(tx, viewer, &run).await?;
        failpoint::reach("firing");
        Ok(())
    })
}

/// After an occurrence is through (fired or cancelled): the schedule's next one, or its end. Occurrences between that
/// are past already are recorded as missed.
pub(super) async fn follow(tx: &Tx, viewer: &Viewer, run: &Model) -> Result<()> {
    let (Some(id), Some(occurrence)) = (run.schedule_id, run.occurrence_at) else { return Ok(()) };
    let Some(schedule) = schedule::Entity::find_by_id(id)
        .filter(schedule::COLUMN.org_id.eq(viewer.org_id))
        .filter(schedule::COLUMN.status.eq(ScheduleStatus::Active))
        .lock_exclusive()
        .one(tx.db())
        .await?
    else {
        return Ok(());
    };
    if run.status == RunStatus::Cancelled {
        let told = json!({ "scheduleId": schedule.id, "occurrenceAt": occurrence, "reason": run.failure });
        event::append(tx, Event::new(run.org_id, "schedule.skipped", &viewer.actor()).run(run).payload(told));
    }
    let mut next = None;
    if let Some(pattern) = schedules::pattern(&schedule)? {
        let mut after = occurrence;
        let mut missed = 0;
        while let Some(found) = pattern.next(after) {
            for wall in &found.left_out {
                let told = json!({ "scheduleId": schedule.id, "localTime": wall, "reason": "no such local time" });
                let event = Event::new(run.org_id, "schedule.missed", &viewer.actor()).campaign(schedule.campaign_id);
                event::append(tx, event.payload(told));
            }
            if found.at > tx.now() || missed == limits::MISSED {
                next = Some(found.at);
                break;
            }
            missed += 1;
            after = found.at;
            let told = json!({ "scheduleId": schedule.id, "occurrenceAt": found.at, "reason": "its time passed before it could fire" });
            let event = Event::new(run.org_id, "schedule.missed", &viewer.actor()).campaign(schedule.campaign_id);
            event::append(tx, event.payload(told));
        }
    }
    let mut row = schedule.clone().into_active_model();
    row.next_at = Set(next);
    row.updated_at = Set(tx.now());
    if next.is_none() {
        row.status = Set(ScheduleStatus::Ended);
    }
    row.update(tx.db()).await?;
    let Some(at) = next else { return Ok(()) };
    match schedule.campaign_id {
        Some(id) => {
            let campaign = crate::campaign::must_find(tx.db(), viewer, id).await?;
            let parts = Parts::of(tx.db(), viewer, campaign).await?;
            super::launch::occurrence(tx, viewer, &parts, &schedule, at, Some(run.name.clone()), None).await?;
        }
        None => {
            super::guided::start::next(tx, viewer, &schedule, run, at).await?;
        }
    }
    Ok(())
}
