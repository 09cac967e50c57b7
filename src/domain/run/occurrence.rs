//! Scheduled runs of a schedule that wait for their time.
//!
//! One of them, the head, represents the next occurrence of the pattern. A person may move a
//! scheduled run to another time: it keeps its occurrence, and the next occurrence gets a head of
//! its own. `advance` updates all of this after any change; it starts nothing. Lock order:
//! campaign, schedule, run.

use chrono::{DateTime, Duration, Utc};
use entity::CampaignStatus;
use entity::id::{RunId, ScheduleId};
use entity::missed_occurrence::UnfiredReason;
use entity::run::{COLUMN, Column, Entity, Model, RunTransition};
use entity::schedule::{self, CatchUpPolicy, EndReason, ScheduleStatus};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};

use super::run_source::RunSource;
use super::schedule_end::{cancel_scheduled, waiting};
use crate::domain::plan::schedule::catch_up::{self, CatchUp, CatchUpPlan, OccurrenceSpan, SkippedTimes};
use crate::domain::plan::schedule::timing::Timing;
use crate::domain::plan::schedule::{self as schedules, Occurrence, missed};
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
fn stands_for(run: &Model, at: DateTime<Utc>, starts_at: DateTime<Utc>) -> bool {
    run.occurrence_at == Some(at) && run.scheduled_for == Some(starts_at) && run.buffered_at.is_none()
}

/// True if the run represents the schedule's next occurrence, and was not moved.
pub(crate) fn is_head(schedule: &schedule::Model, run: &Model) -> bool {
    let start = |at| Timing::of(schedule).map_or(at, |timing| timing.start_of(at));
    schedule.accounted_until.is_some_and(|at| stands_for(run, at, start(at)))
}

/// True if the run waits out the jitter of its occurrence, which has passed.
pub(crate) fn waits_out_jitter(timing: &Timing, run: &Model, now: DateTime<Utc>) -> bool {
    run.occurrence_at.is_some_and(|at| at <= now && stands_for(run, at, timing.start_of(at)))
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
    // Those that wait for an earlier run have fallen due, and keep their place.
    runs.retain(|run| run.buffered_at.is_none());
    let timing = Timing::of(&schedule)?;
    let (head, is_current) = match head {
        NextRun::Found => {
            let current = schedule.accounted_until.map(|at| (at, timing.start_of(at)));
            let is_head = |run: &Model| current.is_some_and(|(at, starts_at)| stands_for(run, at, starts_at));
            let position = runs.iter().position(is_head);
            (position.map(|position| runs.remove(position)), true)
        }
        NextRun::Given(run) => {
            runs.retain(|other| other.id != run.id);
            (Some(*run), false)
        }
    };
    let plan = judge(tx, &schedule, &timing, terms, head.as_ref().filter(|_| is_current), head.as_ref()).await?;
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
            if !stands_for(&run, to.at, to.starts_at) {
                move_to(tx, viewer, run, to, terms).await?;
            }
        }
        (Some(run), None) => drop(cancel_missed(tx, viewer, run, terms).await?),
        (None, Some(to)) => {
            schedule.accounted_until = Some(to.at);
            RunSource::of(tx, viewer, &schedule).await?.insert_occurrence(tx, viewer, &schedule, to).await?;
        }
        (None, None) => {}
    }
    cancel_unadmitted(tx, viewer, &schedule, terms, runs, !plan.start.is_empty()).await?;
    settle(tx, viewer, schedule).await
}

/// Plans the occurrences from the current one on. Excludes those that already have a run other than
/// the head, and those that a person skipped.
async fn judge(
    tx: &Tx,
    schedule: &schedule::Model,
    timing: &Timing,
    terms: CatchUp,
    current: Option<&Model>,
    head: Option<&Model>,
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
    let current = current.and_then(|run| {
        let (at, starts_at) = (run.occurrence_at?, run.scheduled_for?);
        Some(Occurrence { starts_at, ..Occurrence::plain(at) })
    });
    // The current occurrence may be skipped, too.
    let since = current.as_ref().map_or(after, |current| current.at - Duration::microseconds(1)).min(after);
    let skipped = missed::skipped_after(tx, schedule.id, since).await?;
    let is_open = |found: &Occurrence| !taken.contains(&Some(found.at)) && !skipped.contains(&found.at);
    let occurrences = current.into_iter().chain(timing.after(after)).filter(is_open);
    Ok(catch_up::plan_catch_up(terms, terms.due_until(tx.now()), occurrences))
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
    let now = terms.due_until(tx.now());
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
        if let Some(occurrence) = run.occurrence_at {
            missed::record(tx, viewer, schedule, reason(terms), OccurrenceSpan::of(occurrence)).await?;
        }
        cancel_missed(tx, viewer, run, terms).await?;
    }
    Ok(())
}

fn reason(terms: CatchUp) -> UnfiredReason {
    match terms {
        CatchUp::CatchUp { .. } => UnfiredReason::Late,
        CatchUp::Paused(_) => UnfiredReason::Paused,
        CatchUp::Overlapping => UnfiredReason::Overlap,
    }
}

/// Points the scheduled run to another occurrence.
async fn move_to(tx: &Tx, viewer: &Viewer, run: Model, to: &Occurrence, terms: CatchUp) -> Result<Model> {
    let reason = match terms {
        CatchUp::CatchUp { .. } => "it stands for the schedule's next occurrence",
        CatchUp::Overlapping => "an earlier run is open: it stands for the schedule's next occurrence",
        CatchUp::Paused(_) => "the schedule was resumed: it stands for the next occurrence",
    };
    super::apply_transition(tx, viewer, run, RunTransition::Reschedule, Some(reason), |row| {
        row.occurrence_at = Set(Some(to.at));
        row.scheduled_for = Set(Some(to.starts_at));
    })
    .await
}

/// Cancels a scheduled run that can't start and has no further occurrence.
async fn cancel_missed(tx: &Tx, viewer: &Viewer, run: Model, terms: CatchUp) -> Result<Model> {
    let why = match terms {
        _ if run.scheduled_for.is_some_and(|at| at > tx.now()) => "the schedule has no further occurrence",
        CatchUp::CatchUp { .. } => "its time passed before it could start",
        CatchUp::Overlapping => "it fell due while an earlier run of the schedule was open",
        CatchUp::Paused(_) => "its time passed while the schedule or its campaign was paused",
    };
    cancel_scheduled(tx, viewer, run, why).await
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
    // A run outside of the pattern stands for none of its times.
    if let Some(at) = run.occurrence_at {
        missed::record(tx, viewer, &schedule, UnfiredReason::Cancelled, OccurrenceSpan::of(at)).await?;
    }
    follow(tx, viewer, schedule).await
}

/// Catches up on occurrences that are already due.
pub(crate) async fn catch_up(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<schedule::Model> {
    if let Some(until) = held_until(tx, viewer, &schedule).await? {
        return match schedule.cron {
            Some(_) => advance(tx, viewer, schedule, CatchUp::Paused(until), NextRun::Found).await,
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

/// Returns the time until which nothing fired because the schedule or its campaign is paused: now,
/// unless its pause has ended by the clock; `None` if neither is paused.
pub(crate) async fn held_until(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<Option<DateTime<Utc>>> {
    let campaign = match schedule.campaign_id {
        Some(id) => Some(crate::domain::plan::campaign::must_find(tx.db(), viewer, id).await?),
        None => None,
    };
    Ok(match schedule.status {
        _ if campaign.is_some_and(|campaign| campaign.status == CampaignStatus::Paused) => Some(tx.now()),
        ScheduleStatus::Paused => Some(schedule.paused_until.map_or(tx.now(), |until| until.min(tx.now()))),
        ScheduleStatus::Active | ScheduleStatus::Ended => None,
    })
}

/// Inserts runs for all due occurrences that may start, in addition to the head, which represents
/// the first of them: they follow the current pattern even if it is changed afterwards. The
/// schedule is caught up.
pub(crate) async fn insert_due(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    if schedule.status != ScheduleStatus::Active || held_until(tx, viewer, schedule).await?.is_some() {
        return Ok(());
    }
    let plan = judge(tx, schedule, &Timing::of(schedule)?, CatchUp::of(schedule), None, None).await?;
    if let Some(span) = plan.unfired {
        missed::record(tx, viewer, schedule, UnfiredReason::Late, span).await?;
    }
    let source = RunSource::of(tx, viewer, schedule).await?;
    // One that only its jitter delays follows the current pattern, too.
    let delayed = plan.next.filter(|found| found.at <= tx.now());
    for found in plan.start.into_iter().chain(delayed) {
        missed::record_skipped(tx, viewer, schedule, &SkippedTimes::of(&found.skipped), found.at).await?;
        source.insert_occurrence(tx, viewer, schedule, &found).await?;
    }
    Ok(())
}

/// Updates a schedule after one of its scheduled runs was cancelled or moved.
pub(crate) async fn follow(tx: &Tx, viewer: &Viewer, schedule: schedule::Model) -> Result<()> {
    let terms = match held_until(tx, viewer, &schedule).await? {
        Some(until) => CatchUp::Paused(until),
        None => CatchUp::of(&schedule),
    };
    advance(tx, viewer, schedule, terms, NextRun::Found).await?;
    Ok(())
}

/// Moves overdue scheduled runs to the current time.
pub(crate) async fn start_now(tx: &Tx, viewer: &Viewer, schedule: &schedule::Model) -> Result<()> {
    let now = tx.now();
    for run in waiting(tx, schedule.id).await? {
        if run.buffered_at.is_none() && run.scheduled_for.is_some_and(|at| at <= now) {
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

/// Stores the schedule according to its scheduled runs: the first one that waits for its time sets
/// `next_at`; without any, the schedule ends.
async fn settle(tx: &Tx, viewer: &Viewer, mut schedule: schedule::Model) -> Result<schedule::Model> {
    let runs = waiting(tx, schedule.id).await?;
    if runs.is_empty() {
        return schedules::mark_ended(tx, viewer, schedule, EndReason::Exhausted).await;
    }
    let first = runs.iter().filter(|run| run.buffered_at.is_none()).find_map(|run| run.scheduled_for);
    let accounted_until = schedule.accounted_until;
    let next_at = first.filter(|_| schedule.status == ScheduleStatus::Active);
    schedule.next_at = next_at;
    let mut row = schedule.into_active_model();
    row.next_at = Set(next_at);
    row.accounted_until = Set(accounted_until);
    row.updated_at = Set(tx.now());
    Ok(row.update(tx.db()).await?)
}
