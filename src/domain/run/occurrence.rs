//! Scheduled runs of a schedule that wait for their time.
//!
//! One of them, the head, represents the next occurrence of the pattern. A person may move a
//! scheduled run to another time: it keeps its occurrence, and the next occurrence gets a head of
//! its own. `advance` updates all of this after any change; it starts nothing. Lock order:
//! campaign, schedule, run.

use chrono::{DateTime, Utc};
use entity::id::{RunId, ScheduleId};
use entity::missed_occurrence::UnfiredReason;
use entity::run::{COLUMN, Column, Entity, Model, RunTransition};
use entity::schedule::{self, CatchUpPolicy, EndReason, ScheduleStatus};
use entity::{CampaignStatus, RunStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};

use super::schedule_end::{cancel_scheduled, waiting};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::domain::plan::schedule::catch_up::{self, CatchUp, CatchUpPlan, OccurrenceSpan, SkippedTimes};
use crate::domain::plan::schedule::{self as schedules, missed};
use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Run that represents the next occurrence.
#[derive(Debug)]
pub(crate) enum NextRun {
    /// The current head, if there is one.
    Found,
    /// This run, whatever it represented: the pattern was changed.
    Given(Box<Model>),
}

/// True if the run represents this occurrence and was not moved.
fn stands_for(run: &Model, at: Option<DateTime<Utc>>) -> bool {
    at.is_some() && run.occurrence_at == at && run.scheduled_for == at
}

/// Updates the scheduled runs and `next_at` of a locked schedule: records due occurrences that
/// can't start, points the head to the first one that can, and ends a schedule without scheduled
/// runs. Returns the updated schedule.
pub(crate) async fn advance(
    tx: &Tx,
    viewer: &Viewer,
    mut schedule: schedule::Model,
    terms: CatchUp,
    head: NextRun,
) -> Result<schedule::Model> {
    if schedule.status == ScheduleStatus::Ended {
        return Ok(schedule);
    }
    let mut runs = waiting(tx, schedule.id).await?;
    let (head, is_current) = match head {
        NextRun::Found => {
            let position = runs.iter().position(|run| stands_for(run, schedule.accounted_until));
            (position.map(|position| runs.remove(position)), true)
        }
        NextRun::Given(run) => {
            runs.retain(|other| other.id != run.id);
            (Some(*run), false)
        }
    };
    let plan = judge(tx, &schedule, terms, head.as_ref(), is_current).await?;
    if let Some(span) = plan.unfired {
        missed::record(tx, viewer, &schedule, reason(terms), span).await?;
        schedule.accounted_until = Some(span.last_at);
    }
    if let Some(before) = plan.head().map(|head| head.at).or(plan.unfired.map(|span| span.last_at)) {
        missed::record_skipped(tx, viewer, &schedule, &plan.skipped, before).await?;
    }
    match (head, plan.head()) {
        (Some(run), Some(to)) => {
            schedule.accounted_until = Some(to.at);
            if !stands_for(&run, Some(to.at)) {
                move_to(tx, viewer, run, to.at, terms).await?;
            }
        }
        (Some(run), None) => drop(cancel_missed(tx, viewer, run, terms).await?),
        (None, Some(to)) => {
            schedule.accounted_until = Some(to.at);
            insert(tx, viewer, &schedule, to.at).await?;
        }
        (None, None) => {}
    }
    cancel_unadmitted(tx, viewer, &schedule, terms, runs, !plan.start.is_empty()).await?;
    settle(tx, viewer, schedule).await
}

/// Plans the occurrences from the head on. Excludes those that already have a run.
async fn judge(
    tx: &Tx,
    schedule: &schedule::Model,
    terms: CatchUp,
    head: Option<&Model>,
    is_current: bool,
) -> Result<CatchUpPlan> {
    let after = schedule.accounted_until.unwrap_or(schedule.created_at);
    let taken: Vec<Option<DateTime<Utc>>> = Entity::find()
        .select_only()
        .column(Column::OccurrenceAt)
        .filter(COLUMN.schedule_id.eq(schedule.id))
        .filter(COLUMN.occurrence_at.gt(after))
        .filter(COLUMN.id.ne(head.map_or_else(uuid::Uuid::nil, |head| head.id.0)))
        .into_tuple()
        .all(tx.db())
        .await?;
    let current = head.filter(|_| is_current).and_then(|head| head.occurrence_at).map(schedules::Occurrence::plain);
    let single = schedule.at.filter(|at| *at > after).map(schedules::Occurrence::plain);
    let pattern = schedules::pattern(schedule)?;
    let pattern = pattern.iter().flat_map(|pattern| pattern.after(after));
    let occurrences = current.into_iter().chain(single).chain(pattern).filter(|found| !taken.contains(&Some(found.at)));
    Ok(catch_up::plan_catch_up(terms, tx.now(), occurrences))
}

/// Cancels due runs that a person had moved and that the catch-up policy does not admit; under
/// `LAST`, at most one late run starts.
async fn cancel_unadmitted(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    terms: CatchUp,
    moved: Vec<Model>,
    others_start: bool,
) -> Result<()> {
    let now = tx.now();
    let due: Vec<Model> = moved.into_iter().filter(|run| run.scheduled_for.is_some_and(|at| at <= now)).collect();
    let last = due.iter().rev().find(|run| run.scheduled_for.is_some_and(|at| catch_up::is_late(at, now)));
    let last = last.filter(|_| !others_start).map(|run| run.id);
    let only_last = matches!(terms, CatchUp::CatchUp { policy: CatchUpPolicy::Last, .. });
    for run in due {
        let at = run.scheduled_for.unwrap_or(now);
        let late = catch_up::is_late(at, now);
        if terms.admits(at, now) && !(late && only_last && Some(run.id) != last) {
            continue;
        }
        let occurrence = run.occurrence_at.unwrap_or(at);
        missed::record(tx, viewer, schedule, reason(terms), OccurrenceSpan::of(occurrence)).await?;
        cancel_missed(tx, viewer, run, terms).await?;
    }
    Ok(())
}

fn reason(terms: CatchUp) -> UnfiredReason {
    match terms {
        CatchUp::CatchUp { .. } => UnfiredReason::Late,
        CatchUp::Paused => UnfiredReason::Paused,
    }
}

/// Points the scheduled run to another occurrence.
async fn move_to(tx: &Tx, viewer: &Viewer, run: Model, at: DateTime<Utc>, terms: CatchUp) -> Result<Model> {
    let reason = match terms {
        CatchUp::CatchUp { .. } => "it stands for the schedule's next occurrence",
        CatchUp::Paused => "the schedule was resumed: it stands for the next occurrence",
    };
    super::apply_transition(tx, viewer, run, RunTransition::Reschedule, Some(reason), |row| {
        row.occurrence_at = Set(Some(at));
        row.scheduled_for = Set(Some(at));
    })
    .await
}

/// Cancels a scheduled run that can't start and has no further occurrence.
async fn cancel_missed(tx: &Tx, viewer: &Viewer, run: Model, terms: CatchUp) -> Result<Model> {
    let why = match terms {
        CatchUp::CatchUp { .. } => "its time passed before it could start",
        CatchUp::Paused => "its time passed while the schedule or its campaign was paused",
    };
    cancel_scheduled(tx, viewer, run, why).await
}

/// Inserts the run of an occurrence.
async fn insert(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, at: DateTime<Utc>) -> Result<()> {
    RunSource::of(tx, viewer, schedule).await?.insert(tx, viewer, schedule, at).await
}

/// Source of a schedule's runs.
enum RunSource {
    /// Campaign.
    Planned(Box<CampaignParts>),
    /// Template of guided work, with the previous run's description.
    Guided(String),
}

impl RunSource {
    async fn of(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<Self> {
        if let Some(id) = schedule.campaign_id {
            let campaign = crate::domain::plan::campaign::must_find(tx.db(), viewer, id).await?;
            return Ok(Self::Planned(Box::new(CampaignParts::of(tx.db(), viewer, campaign).await?)));
        }
        let previous = Entity::find()
            .filter(COLUMN.schedule_id.eq(schedule.id))
            .order_by_desc(Column::OccurrenceAt)
            .limit(1)
            .one(tx.db())
            .await?;
        Ok(Self::Guided(previous.map(|previous| previous.description).unwrap_or_default()))
    }

    async fn insert(&self, tx: &Tx, viewer: &Viewer, schedule: &schedule::Model, at: DateTime<Utc>) -> Result<()> {
        match self {
            Self::Planned(parts) => drop(super::launch::occurrence(tx, viewer, parts, schedule, at, None).await?),
            Self::Guided(description) => {
                super::guided::start::next(tx, viewer, schedule, description.clone(), at).await?;
            }
        }
        Ok(())
    }
}

/// Locks the schedule of a run before the run itself. None for a run without a schedule, or with
/// one that has ended.
pub(crate) async fn lock_schedule(tx: &Tx, viewer: &Viewer, id: RunId) -> Result<Option<schedule::Model>> {
    let found = super::must_find(tx.db(), viewer, id).await?;
    let Some(id) = found.schedule_id else { return Ok(None) };
    let schedule = schedules::must_lock(tx, viewer, id, None).await?;
    Ok((schedule.status != ScheduleStatus::Ended).then_some(schedule))
}

/// Skips the occurrence of a scheduled run that a person cancelled, and schedules the next one.
pub(crate) async fn skip(tx: &Tx, viewer: &Viewer, schedule: schedule::Model, run: &Model) -> Result<()> {
    if let Some(at) = run.occurrence_at.or(run.scheduled_for) {
        missed::record(tx, viewer, &schedule, UnfiredReason::Cancelled, OccurrenceSpan::of(at)).await?;
    }
    follow(tx, viewer, schedule).await
}

/// Catches up on occurrences that are already due.
pub(crate) async fn catch_up(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<schedule::Model> {
    if is_held(tx, viewer, &schedule).await? {
        return match schedule.cron {
            Some(_) => advance(tx, viewer, schedule, CatchUp::Paused, NextRun::Found).await,
            // A single time that has passed is handled on resume.
            None => Ok(schedule),
        };
    }
    match schedule.status {
        ScheduleStatus::Active if schedule.next_at.is_some_and(|at| at <= tx.now()) => {
            let terms = CatchUp::of(&schedule);
            advance(tx, viewer, schedule, terms, NextRun::Found).await
        }
        ScheduleStatus::Active | ScheduleStatus::Paused | ScheduleStatus::Ended => Ok(schedule),
    }
}

/// True if the schedule or its campaign is paused: nothing fires until it is resumed.
pub(crate) async fn is_held(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<bool> {
    match schedule.campaign_id {
        _ if schedule.status == ScheduleStatus::Paused => Ok(true),
        Some(id) => {
            let campaign = crate::domain::plan::campaign::must_find(tx.db(), viewer, id).await?;
            Ok(campaign.status == CampaignStatus::Paused)
        }
        None => Ok(false),
    }
}

/// Inserts runs for all due occurrences that may start, in addition to the head, which represents
/// the first of them: they follow the current pattern even if it is changed afterwards. The
/// schedule is caught up.
pub(crate) async fn insert_due(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    if schedule.status != ScheduleStatus::Active || is_held(tx, viewer, schedule).await? {
        return Ok(());
    }
    let plan = judge(tx, schedule, CatchUp::of(schedule), None, false).await?;
    if let Some(span) = plan.unfired {
        missed::record(tx, viewer, schedule, UnfiredReason::Late, span).await?;
    }
    let source = RunSource::of(tx, viewer, schedule).await?;
    for found in plan.start {
        missed::record_skipped(tx, viewer, schedule, &SkippedTimes::of(&found.skipped), found.at).await?;
        source.insert(tx, viewer, schedule, found.at).await?;
    }
    Ok(())
}

/// Updates a schedule after one of its scheduled runs was cancelled or moved.
pub(crate) async fn follow(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<()> {
    let terms = if is_held(tx, viewer, &schedule).await? { CatchUp::Paused } else { CatchUp::of(&schedule) };
    advance(tx, viewer, schedule, terms, NextRun::Found).await?;
    Ok(())
}

/// Moves overdue scheduled runs to the current time.
pub(crate) async fn start_now(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    let now = tx.now();
    for run in waiting(tx, schedule.id).await? {
        if run.scheduled_for.is_some_and(|at| at <= now) {
            let why = "its time passed while the schedule or its campaign was paused";
            super::apply_transition(tx, viewer, run, RunTransition::Reschedule, Some(why), |row| {
                row.scheduled_for = Set(Some(now))
            })
            .await?;
        }
    }
    Ok(())
}

/// Renames the scheduled runs.
pub(crate) async fn rename(tx: &Tx, viewer: &Viewer, id: ScheduleId, name: &str) -> Result<()> {
    for run in waiting(tx, id).await? {
        let (revision, search) =
            (run.revision, crate::kernel::storable::folded(&format!("{name} {}", run.campaign_name)));
        let mut row = run.into_active_model();
        row.name = Set(name.to_owned());
        row.search = Set(search);
        row.updated_at = Set(tx.now());
        row.revision = Set(revision + 1);
        let run = row.update(tx.db()).await?;
        super::emit(tx, viewer, "run.updated", &run, serde_json::json!({}));
    }
    Ok(())
}

/// Stores the schedule according to its scheduled runs: the first one sets `next_at`; without any,
/// the schedule ends.
async fn settle(tx: &Tx, viewer: &Viewer, mut schedule: schedule::Model) -> Result<schedule::Model> {
    let first: Option<Option<DateTime<Utc>>> = Entity::find()
        .select_only()
        .column(Column::ScheduledFor)
        .filter(COLUMN.schedule_id.eq(schedule.id))
        .filter(COLUMN.status.eq(RunStatus::Scheduled))
        .order_by_asc(Column::ScheduledFor)
        .into_tuple()
        .one(tx.db())
        .await?;
    let Some(first) = first else {
        return schedules::mark_ended(tx, viewer, schedule, EndReason::Exhausted).await;
    };
    let accounted_until = schedule.accounted_until;
    let next_at = first.filter(|_| schedule.status == ScheduleStatus::Active);
    schedule.next_at = next_at;
    let mut row = schedule.into_active_model();
    row.next_at = Set(next_at);
    row.accounted_until = Set(accounted_until);
    row.updated_at = Set(tx.now());
    Ok(row.update(tx.db()).await?)
}
