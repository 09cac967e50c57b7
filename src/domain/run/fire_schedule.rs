//! Fires due schedules: records occurrences that are too late, and starts one run, as decided by a
//! preflight at that moment.
//!
//! Each transaction starts at most one run and inserts the next one, so that a crash in between
//! neither loses a run nor starts one twice. If several nodes compete, one wins; the others find
//! the work done.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use entity::id::{CampaignId, OrgId, ScheduleId};
use entity::run::{Model, RunTransition};
use entity::schedule::{self, COLUMN, Column, Entity, ScheduleStatus};
use entity::{CampaignStatus, RunStatus};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};
use serde_json::json;

use super::occurrence::{self, NextRun};
use super::{schedule_end, snapshot};
use crate::domain::plan::campaign::preflight::{self, LaunchAction, Preflight, PreflightContext};
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::plan::schedule as schedules;
use crate::domain::plan::schedule::catch_up;
use crate::kernel::db::{Db, Tx, WriteContext, fair};
use crate::kernel::error::Result;
use crate::kernel::event::{self, Event};
use crate::kernel::stuck::{self, StuckWork};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits, storable};
use crate::transact;

/// Due schedules that are not paused: a few per org, earliest first.
pub async fn due(db: &Db) -> Result<Vec<(OrgId, ScheduleId)>> {
    let has_no_campaign = Expr::col((Entity, Column::CampaignId)).is_null();
    let due = Entity::find()
        // A literal, so that the partial index applies.
        .filter(Expr::cust("schedule.status = 'ACTIVE'"))
        // Old rows may have times before the year 1 or after 9999, which don't sort as text.
        .filter(COLUMN.next_at.between(first_of_all(), db.now()))
        .filter(has_no_campaign.or(COLUMN.campaign_id.not_in_subquery(super::paused_campaigns())))
        .filter(stuck::is_free(Expr::col((Entity, Column::Id)), &[StuckWork::Fire], db.now()));
    fair::in_turn(db.read(), due, &["next_at", "id"], limits::CHUNK).await
}

fn first_of_all() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN).and_utc()
}

/// Preflight of a campaign's run, with the revisions that it saw.
struct Seen {
    campaign_id: CampaignId,
    revisions: Vec<Option<i32>>,
    report: Preflight,
}

/// Advances a due schedule by one step. Returns false if there was nothing to do: another node was
/// first, or it is paused.
pub async fn fire(db: &WriteContext, viewer: &Viewer, id: ScheduleId) -> Result<bool> {
    loop {
        let Some(schedule) = schedules::find(db.read(), viewer, id).await? else { return Ok(false) };
        let seen = match schedule.campaign_id {
            Some(id) => Some(run_preflight(db, viewer, id).await?),
            None => None,
        };
        let done = transact!(db, |tx| {
            let mut parts = None;
            if let Some(seen) = &seen {
                let campaign = crate::domain::plan::campaign::must_lock(tx, viewer, seen.campaign_id, None).await?;
                let now = CampaignParts::of(tx.db(), viewer, campaign).await?;
                if now.revisions() != seen.revisions {
                    tx.discard();
                    return Ok(None);
                }
                if now.campaign.status == CampaignStatus::Paused {
                    return Ok(Some(false));
                }
                parts = Some((now, &seen.report));
            }
            let schedule = schedules::must_lock(tx, viewer, id, None).await?;
            let now = tx.now();
            if schedule.status != ScheduleStatus::Active || schedule.next_at.is_none_or(|at| at > now) {
                return Ok(Some(false));
            }
            let terms = catch_up::CatchUp::of(&schedule);
            let schedule = occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await?;
            let waiting = schedule_end::waiting(tx, schedule.id).await?;
            if let Some(run) = waiting.into_iter().find(|run| run.scheduled_for.is_some_and(|at| at <= now)) {
                start(tx, viewer, &schedule, run, parts).await?;
                occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await?;
            }
            failpoint::reach("firing");
            Ok(Some(true))
        })?;
        if let Some(done) = done {
            return Ok(done);
        }
    }
}

async fn run_preflight(db: &Db, viewer: &Viewer, campaign_id: CampaignId) -> Result<Seen> {
    let campaign = crate::domain::plan::campaign::must_find(db.read(), viewer, campaign_id).await?;
    let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
    let terms = PreflightContext { input: None, any_status: false };
    let report = preflight::preflight(db, viewer, &parts, LaunchAction::Run, terms).await?;
    Ok(Seen { campaign_id, revisions: parts.revisions(), report })
}

/// Queues a scheduled run, or fails it with the preflight's report.
async fn start(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    run: Model,
    parts: Option<(CampaignParts, &Preflight)>,
) -> Result<()> {
    let at = tx.now();
    let late = run.scheduled_for.is_some_and(|due| catch_up::is_late(due, at));
    let run = match parts {
        None => super::guided::start::fire(tx, viewer, run).await?,
        Some((parts, report)) if report.ready => {
            let instructions = serde_json::to_value(CampaignSnapshot::of(&parts))?;
            let campaign = parts.campaign.clone();
            let name = schedule.name.clone().unwrap_or_else(|| campaign.name.clone());
            let payload = serde_json::to_value(report)?;
            snapshot::emit(tx, &run, payload, Some((instructions, parts.resolved.definition.clone()))).await?;
            super::apply_transition(tx, viewer, run, RunTransition::Enqueue, None, |row| {
                row.queued_at = Set(Some(at));
                // The campaign may have changed since the occurrence was planned.
                row.campaign_version = Set(campaign.version);
                row.channel = Set(campaign.channel);
                row.search = Set(storable::folded(&format!("{name} {}", campaign.name)));
                row.campaign_name = Set(campaign.name);
                row.name = Set(name);
            })
            .await?
        }
        Some((_, report)) => {
            let why = format!("preflight failed when it fell due: {}", report.failures());
            snapshot::emit(tx, &run, serde_json::to_value(report)?, None).await?;
            super::apply_transition(tx, viewer, run, RunTransition::FailPreflight, Some(&why), |row| {
                row.ended_at = Set(Some(at));
                row.failure = Set(Some(why.clone()));
            })
            .await?
        }
    };
    let payload = json!({
        "id": run.schedule_id, "scheduleId": run.schedule_id, "occurrenceAt": run.occurrence_at,
        "scheduledFor": run.scheduled_for, "late": late, "started": run.status == RunStatus::Queued,
    });
    event::append(tx, Event::new(run.org_id, "schedule.fired", &viewer.actor()).run(&run).payload(payload));
    Ok(())
}
