//! Fires due schedules: records occurrences that are too late, and starts one run, as decided by a
//! preflight at that moment; starts runs that waited for an earlier one; resumes schedules whose
//! pause ends by the clock.
//!
//! Each transaction starts at most one run and inserts the next one, so that a crash in between
//! neither loses a run nor starts one twice. If several nodes compete, one wins; the others find
//! the work done.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use entity::id::{CampaignId, OrgId, ScheduleId};
use entity::run::{Model, RunTransition};
use entity::schedule::{self, COLUMN, Column, EndReason, Entity, ScheduleStatus};
use entity::{CampaignStatus, RunStatus};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::json;

use super::occurrence::{self, NextRun};
use super::overlap::{self, Turn};
use super::{schedule_change, schedule_end, snapshot};
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

/// Schedules with something to do, a few per org: due ones, earliest first; those with a run whose
/// predecessors have ended; and those whose pause ends.
pub async fn due(db: &Db) -> Result<Vec<(OrgId, ScheduleId)>> {
    let has_no_campaign = || Expr::col((Entity, Column::CampaignId)).is_null();
    let is_free = || stuck::is_free(Expr::col((Entity, Column::Id)), &[StuckWork::Fire], db.now());
    let active = || {
        Entity::find()
            // A literal, so that the partial index applies.
            .filter(Expr::cust("schedule.status = 'ACTIVE'"))
            .filter(has_no_campaign().or(COLUMN.campaign_id.not_in_subquery(super::paused_campaigns())))
            .filter(is_free())
    };
    // Old rows may have times before the year 1 or after 9999, which don't sort as text.
    let due = active().filter(COLUMN.next_at.between(first_of_all(), db.now()));
    let waiting = active().filter(COLUMN.id.in_subquery(overlap::with_waiting())).filter(overlap::is_free());
    let paused = Entity::find()
        .filter(Expr::cust("schedule.status = 'PAUSED' AND schedule.paused_until IS NOT NULL"))
        .filter(COLUMN.paused_until.lte(db.now()))
        .filter(is_free());
    let mut found: Vec<(OrgId, ScheduleId)> = Vec::new();
    for (select, order) in [(paused, "paused_until"), (waiting, "id"), (due, "next_at")] {
        for one in fair::in_turn(db.read(), select, &[order, "id"], limits::CHUNK).await? {
            if !found.contains(&one) {
                found.push(one);
            }
        }
    }
    Ok(found)
}

fn first_of_all() -> DateTime<Utc> {
    NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default().and_time(NaiveTime::MIN).and_utc()
}

/// Preflight of a campaign's run, with the revisions that it saw.
pub(super) struct Seen {
    campaign_id: CampaignId,
    revisions: Vec<Option<i32>>,
    pub(super) report: Preflight,
}

/// A campaign's parts with their preflight.
pub(super) type Parts<'a> = (CampaignParts, &'a Preflight);

impl Seen {
    /// Runs the preflight of a schedule's campaign; `None` for guided work.
    pub(super) async fn of(db: &Db, viewer: &Viewer, schedule: &schedule::Model) -> Result<Option<Self>> {
        let Some(campaign_id) = schedule.campaign_id else { return Ok(None) };
        let campaign = crate::domain::plan::campaign::must_find(db.read(), viewer, campaign_id).await?;
        let parts = CampaignParts::of(db.read(), viewer, campaign).await?;
        let terms = PreflightContext { input: None, any_status: false };
        let report = preflight::preflight(db, viewer, &parts, LaunchAction::Run, terms).await?;
        Ok(Some(Self { campaign_id, revisions: parts.revisions(), report }))
    }

    /// Locks the campaign and returns its parts; `None` if they have changed since the preflight.
    pub(super) async fn lock(&self, tx: &Tx, viewer: &Viewer) -> Result<Option<Parts<'_>>> {
        let campaign = crate::domain::plan::campaign::must_lock(tx, viewer, self.campaign_id, None).await?;
        let now = CampaignParts::of(tx.db(), viewer, campaign).await?;
        Ok((now.revisions() == self.revisions).then_some((now, &self.report)))
    }
}

/// Advances a due schedule by one step. Returns false if there was nothing to do: another node was
/// first, or it is paused.
pub async fn fire(db: &WriteContext, viewer: &Viewer, id: ScheduleId) -> Result<bool> {
    loop {
        let Some(schedule) = schedules::find(db.read(), viewer, id).await? else { return Ok(false) };
        if schedule.status == ScheduleStatus::Paused {
            return schedule_change::resume_by_clock(db, viewer, id).await;
        }
        let seen = Seen::of(db, viewer, &schedule).await?;
        let done = transact!(db, |tx| {
            let mut parts = None;
            if let Some(seen) = &seen {
                let Some(now) = seen.lock(tx, viewer).await? else {
                    tx.discard();
                    return Ok(None);
                };
                if now.0.campaign.status == CampaignStatus::Paused {
                    return Ok(Some(false));
                }
                parts = Some(now);
            }
            let schedule = schedules::must_lock(tx, viewer, id, None).await?;
            if schedule.status != ScheduleStatus::Active || !step(tx, viewer, schedule, parts).await? {
                return Ok(Some(false));
            }
            failpoint::reach("firing");
            Ok(Some(true))
        })?;
        if let Some(done) = done {
            return Ok(done);
        }
    }
}

/// Starts, buffers or skips one run of an active, locked schedule. Returns false if there is nothing
/// to do.
async fn step(tx: &Tx, viewer: &Viewer, schedule: schedule::Model, parts: Option<Parts<'_>>) -> Result<bool> {
    let now = tx.now();
    let is_due = schedule.next_at.is_some_and(|at| at <= now);
    let terms = catch_up::CatchUp::of(&schedule);
    let schedule = match is_due {
        true => occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await?,
        false => schedule,
    };
    let waiting = schedule_end::waiting(tx, schedule.id).await?;
    let open = overlap::open_runs(tx, &schedule, &waiting).await?;
    if let Some(run) = overlap::first_free(&schedule, &open, &waiting) {
        start(tx, viewer, schedule, run, parts).await?;
        return Ok(true);
    }
    let of_pattern = |run: &&Model| run.buffered_at.is_none() && run.scheduled_for.is_some_and(|at| at <= now);
    let Some(run) = waiting.iter().find(of_pattern).cloned() else { return Ok(is_due) };
    match overlap::decide(&schedule, &open, &waiting) {
        Turn::Start => drop(start(tx, viewer, schedule, run, parts).await?),
        Turn::CancelOthers => {
            let schedule = overlap::cancel_open(tx, viewer, &schedule, open).await?;
            if schedule.status == ScheduleStatus::Active {
                start(tx, viewer, schedule, run, parts).await?;
            }
        }
        Turn::Buffer => {
            overlap::buffer(tx, viewer, &schedule, run).await?;
            occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await?;
        }
        Turn::Skip => {
            occurrence::advance(tx, viewer, schedule, catch_up::CatchUp::Overlapping, NextRun::Found).await?;
        }
    }
    Ok(true)
}

/// Starts a waiting run of a schedule, and prepares the next occurrence; a schedule without starts
/// left ends. Returns the run.
pub(super) async fn start(
    tx: &Tx,
    viewer: &Viewer,
    mut schedule: schedule::Model,
    run: Model,
    parts: Option<Parts<'_>>,
) -> Result<Model> {
    let run = enqueue(tx, viewer, &schedule, run, parts).await?;
    let counts = run.occurrence_at.is_some() && run.status == RunStatus::Queued;
    if let Some(remaining) = schedule.remaining.filter(|_| counts) {
        let mut row = schedule.into_active_model();
        row.remaining = Set(Some(remaining.saturating_sub(1)));
        schedule = row.update(tx.db()).await?;
        if remaining <= 1 {
            schedule_end::end_one(tx, viewer, schedule, EndReason::Exhausted, Some("no starts remain")).await?;
            return Ok(run);
        }
    }
    let terms = catch_up::CatchUp::of(&schedule);
    occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await?;
    Ok(run)
}

/// Queues a scheduled run, or fails it with the preflight's report.
async fn enqueue(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    run: Model,
    parts: Option<Parts<'_>>,
) -> Result<Model> {
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
        "id": run.schedule_id, "scheduleId": run.schedule_id,
        "occurrenceAt": run.occurrence_at.or(run.backfill_for), "backfill": run.backfill_for.is_some(),
        "scheduledFor": run.scheduled_for, "late": late, "started": run.status == RunStatus::Queued,
    });
    event::append(tx, Event::new(run.org_id, "schedule.fired", &viewer.actor()).run(&run).payload(payload));
    Ok(run)
}
