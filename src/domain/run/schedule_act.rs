//! Verbs of people on the runs of a schedule: start one now, skip an occurrence, make up for past
//! ones.

use chrono::{DateTime, Duration, Utc};
use entity::CampaignStatus;
use entity::id::{RunId, ScheduleId};
use entity::missed_occurrence::{self, UnfiredReason};
use entity::run::{self, Model};
use entity::schedule::{self, ScheduleStatus};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::fire_schedule::{self, Parts, Seen};
use super::occurrence;
use super::overlap::{self, Turn};
use super::run_source::RunSource;
use super::schedule_change::{Action, check_allowed, resume_if_over};
use super::schedule_end::{cancel_scheduled, waiting};
use super::upcoming::{KnownFuture, UpcomingOccurrence, known_future, upcoming};
use crate::domain::plan::schedule::catch_up::OccurrenceSpan;
use crate::domain::plan::schedule::timing::Timing;
use crate::domain::plan::schedule::{self as schedules, missed};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};
use crate::transact;

/// Starts a run now, outside of the pattern. If an earlier run is open, the overlap policy decides:
/// it starts, waits, or is refused. Returns the run. Errors: NOT_FOUND, CONFLICT.
pub async fn trigger(db: &WriteContext, viewer: &Viewer, id: ScheduleId, expected: Option<i32>) -> Result<Model> {
    loop {
        let found = schedules::must_find(db.read(), viewer, id).await?;
        check_allowed(&found, Action::Trigger).or_else(|refusal| match over(&found, db.now()) {
            true => Ok(()),
            false => Err(refusal),
        })?;
        let seen = Seen::of(db, viewer, &found).await?;
        let run = transact!(db, |tx| {
            let parts = match &seen {
                Some(seen) => match seen.lock(tx, viewer).await? {
                    Some(parts) => Some(parts),
                    None => {
                        tx.discard();
                        return Ok(None);
                    }
                },
                None => None,
            };
            check_campaign(parts.as_ref())?;
            let schedule = schedules::must_lock(tx, viewer, id, expected).await?;
            let schedule = resume_if_over(tx, schedule).await?;
            check_allowed(&schedule, Action::Trigger)?;
            let run = trigger_locked(tx, viewer, schedule, parts).await?;
            tx.set_result(run.id);
            Ok(Some(run))
        })?;
        if let Some(run) = run {
            return Ok(run);
        }
    }
}

/// True if a pause has ended by the clock, and the engine has not noticed yet.
fn over(schedule: &schedule::Model, now: DateTime<Utc>) -> bool {
    schedule.status == ScheduleStatus::Paused && schedule.paused_until.is_some_and(|until| until <= now)
}

fn check_campaign(parts: Option<&Parts<'_>>) -> Result<()> {
    match parts {
        Some((parts, _)) if parts.campaign.status == CampaignStatus::Paused => {
            Err(Refusal::conflict("the campaign is paused: resume it (`resumeCampaign`)").into())
        }
        Some((_, report)) if !report.ready => {
            Err(Refusal::conflict(format!("the preflight of the campaign failed: {}", report.failures())).into())
        }
        _ => Ok(()),
    }
}

async fn trigger_locked(
    tx: &Tx,
    viewer: &Viewer,
    schedule: schedule::Model,
    parts: Option<Parts<'_>>,
) -> Result<Model> {
    let waiting = waiting(tx, schedule.id).await?;
    let open = overlap::open_runs(tx, &schedule, &waiting).await?;
    let source = RunSource::of(tx, viewer, &schedule).await?;
    let schedule = match overlap::decide(&schedule, &open, &waiting) {
        Turn::Start => schedule,
        Turn::CancelOthers => {
            let schedule = overlap::cancel_open(tx, viewer, &schedule, open).await?;
            check_allowed(&schedule, Action::Trigger)?;
            schedule
        }
        Turn::Buffer => {
            let run = source.insert_extra(tx, viewer, &schedule, Some(tx.now()), None).await?;
            overlap::emit_buffered(tx, viewer, &schedule, &run);
            return Ok(run);
        }
        Turn::Skip => {
            let open = open.first().or_else(|| waiting.iter().find(|run| run.buffered_at.is_some()));
            let open = open.map_or_else(|| "a run".to_owned(), |run| format!("{} ({})", run.name, run.id));
            let message = format!(
                "an earlier run of the schedule is open, {open}, and its overlap policy is {}: wait for it, or cancel it",
                schedule.overlap
            );
            return Err(Refusal::conflict(message).into());
        }
    };
    super::launch::room_to_queue(tx, viewer).await?;
    let run = source.insert_extra(tx, viewer, &schedule, None, None).await?;
    fire_schedule::start(tx, viewer, schedule, run, parts).await
}

/// Skips an occurrence that has not started: the next one, or the one at this time. Returns the
/// schedule. Errors: NOT_FOUND, CONFLICT, LIMIT_EXCEEDED; BAD_USER_INPUT for a time that is not an
/// upcoming occurrence, naming the next ones.
pub async fn skip(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    at: Option<DateTime<Utc>>,
) -> Result<schedule::Model> {
    let at = at.map(|at| storable::time(at).map_err(|unfit| unfit.of("at"))).transpose()?;
    transact!(db, |tx| {
        let schedule = schedules::must_lock(tx, viewer, id, expected).await?;
        let schedule = resume_if_over(tx, schedule).await?;
        check_allowed(&schedule, Action::Skip)?;
        // What is due already starts or is missed: it can't be skipped any more.
        let schedule = occurrence::catch_up(tx, viewer, schedule).await?;
        check_allowed(&schedule, Action::Skip)?;
        let found = skippable(tx, viewer, &schedule, at).await?;
        let skipped = missed_occurrence::Entity::find()
            .filter(missed_occurrence::COLUMN.schedule_id.eq(schedule.id))
            .filter(missed_occurrence::COLUMN.reason.eq(UnfiredReason::Skipped))
            .filter(missed_occurrence::COLUMN.last_at.gt(tx.now()));
        let most = limits::SKIPPED_OCCURRENCES;
        // The schedule is locked.
        if skipped.count(tx.db()).await? >= most {
            let message = format!("at most {most} skipped occurrences to come of one schedule");
            return Err(Refusal::limit_for_field("at", message).into());
        }
        missed::record(tx, viewer, &schedule, UnfiredReason::Skipped, OccurrenceSpan::of(found.at)).await?;
        tx.set_result(schedule.id);
        // The run of the next occurrence moves on; one that a person moved has nothing else to do.
        if let Some(run) = found.run.filter(|run| !occurrence::is_head(&schedule, run)) {
            cancel_scheduled(tx, viewer, run, "its occurrence was skipped").await?;
        }
        occurrence::follow(tx, viewer, schedule).await?;
        schedules::must_find(tx.db(), viewer, id).await
    })
}

/// Finds the upcoming occurrence to skip. Errors: BAD_USER_INPUT, naming the next ones.
async fn skippable(
    tx: &Tx,
    viewer: &Viewer,
    schedule: &schedule::Model,
    at: Option<DateTime<Utc>>,
) -> Result<UpcomingOccurrence> {
    let known = known_future(tx.db(), viewer, &[schedule.id], tx.now()).await?.remove(&schedule.id).unwrap_or_default();
    let next = upcoming(schedule, &known, tx.now(), usize::try_from(limits::SKIPPED_OCCURRENCES).unwrap_or_default())?;
    let found = match at {
        None => next.iter().find(|one| !one.skipped).cloned(),
        Some(at) => match next.iter().find(|one| one.at == at) {
            Some(one) => Some(one.clone()).filter(|one| !one.skipped),
            None => later(schedule, &known, at, &next)?,
        },
    };
    found.ok_or_else(|| {
        let times: Vec<String> =
            next.iter().filter(|one| !one.skipped).take(3).map(|one| one.at.to_rfc3339()).collect();
        let message = match (times.is_empty(), at.and_then(|at| next.iter().find(|one| one.at == at))) {
            (true, _) => "there is no upcoming occurrence to skip".to_owned(),
            (false, Some(_)) => format!("is skipped already; the next ones are {}", times.join(", ")),
            (false, None) => format!("is not an upcoming occurrence; the next ones are {}", times.join(", ")),
        };
        Refusal::input("at", message).into()
    })
}

/// An occurrence of the pattern behind those that were listed.
fn later(
    schedule: &schedule::Model,
    known: &KnownFuture,
    at: DateTime<Utc>,
    listed: &[UpcomingOccurrence],
) -> Result<Option<UpcomingOccurrence>> {
    let is_later = listed.last().is_some_and(|last| at > last.at) && schedule.remaining.is_none();
    if !is_later || known.mentions(at) {
        return Ok(None);
    }
    let found = Timing::of(schedule)?.at(at);
    Ok(found.map(|one| UpcomingOccurrence { at: one.at, starts_at: one.starts_at, run: None, skipped: false }))
}

/// Past occurrences to start runs for.
#[derive(Clone, Copy, Debug)]
pub struct BackfillRange {
    /// Start of the range, inclusive.
    pub from: DateTime<Utc>,
    /// End of the range, inclusive.
    pub to: DateTime<Utc>,
    /// True to list the occurrences only.
    pub dry_run: bool,
}

/// Past occurrences and the runs that make up for them.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// The schedule.
    pub schedule: schedule::Model,
    /// The occurrences, in order.
    pub occurrences: Vec<DateTime<Utc>>,
    /// Their runs, in the same order; none for a dry run.
    pub runs: Vec<Model>,
}

/// Starts a run for each time of the present pattern within a past range, also if it had a run
/// before. They wait for each other, and start in order. Errors: NOT_FOUND, CONFLICT,
/// BAD_USER_INPUT for a range that is not past or contains no occurrence, LIMIT_EXCEEDED.
pub async fn backfill(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    range: BackfillRange,
) -> Result<Backfill> {
    let range = BackfillRange {
        from: storable::time(range.from).map_err(|unfit| unfit.of("from"))?,
        to: storable::time(range.to).map_err(|unfit| unfit.of("to"))?,
        dry_run: range.dry_run,
    };
    if range.dry_run {
        if let Some(key) = db.idempotency() {
            key.check_unused(db.read()).await?;
        }
        let schedule = schedules::must_find(db.read(), viewer, id).await?;
        crate::kernel::validate::expect("schedule", schedule.revision, expected)?;
        check_allowed(&schedule, Action::Backfill)?;
        let occurrences = past_occurrences(&schedule, range, db.now())?;
        return Ok(Backfill { schedule, occurrences, runs: Vec::new() });
    }
    transact!(db, |tx| {
        let schedule = schedules::must_lock(tx, viewer, id, expected).await?;
        let schedule = resume_if_over(tx, schedule).await?;
        check_allowed(&schedule, Action::Backfill)?;
        let occurrences = past_occurrences(&schedule, range, tx.now())?;
        let waiting = waiting(tx, schedule.id).await?.iter().filter(|run| run.buffered_at.is_some()).count();
        if waiting + occurrences.len() > limits::BUFFERED_RUNS {
            let message = format!("{waiting} runs of the schedule wait already, at most {}", limits::BUFFERED_RUNS);
            return Err(Refusal::limit_for_field("from", message).into());
        }
        let source = RunSource::of(tx, viewer, &schedule).await?;
        let mut runs = Vec::new();
        for at in &occurrences {
            let run = source.insert_extra(tx, viewer, &schedule, Some(tx.now()), Some(*at)).await?;
            overlap::emit_buffered(tx, viewer, &schedule, &run);
            runs.push(run);
        }
        if let Some(first) = runs.first() {
            tx.set_result(first.id);
        }
        Ok(Backfill { schedule, occurrences, runs })
    })
}

/// Reloads the result of an earlier backfill from its first run, for a repeated request.
pub async fn replay_backfill(db: &Db, viewer: &Viewer, first: RunId, range: BackfillRange) -> Result<Backfill> {
    let first = super::must_find(db.read(), viewer, first).await?;
    let id = first.schedule_id.ok_or_else(|| Error::internal("a backfilled run has no schedule"))?;
    let runs = run::Entity::find()
        .filter(run::COLUMN.org_id.eq(viewer.org_id))
        .filter(run::COLUMN.schedule_id.eq(id))
        .filter(run::COLUMN.backfill_for.between(range.from, range.to))
        .filter(run::COLUMN.created_at.eq(first.created_at))
        .filter(run::COLUMN.id.gte(first.id))
        .order_by_asc(run::COLUMN.backfill_for)
        .all(db.read())
        .await?;
    let schedule = schedules::must_find(db.read(), viewer, id).await?;
    Ok(Backfill { schedule, occurrences: runs.iter().filter_map(|run| run.backfill_for).collect(), runs })
}

fn past_occurrences(
    schedule: &schedule::Model,
    range: BackfillRange,
    now: DateTime<Utc>,
) -> Result<Vec<DateTime<Utc>>> {
    if range.to < range.from {
        return Err(Refusal::input("to", "lies before `from`: give a later time").into());
    }
    if range.to > now {
        let message = format!("lies in the future: give a time up to {}", now.to_rfc3339());
        return Err(Refusal::input("to", message).into());
    }
    let before = range.from - Duration::microseconds(1);
    let timing = Timing::of(schedule)?;
    let most = limits::BACKFILL_OCCURRENCES;
    let within = timing.after(before).map(|found| found.at).take_while(|at| *at <= range.to);
    let found: Vec<_> = within.take(most + 1).collect();
    match found.len() {
        0 => Err(Refusal::input("from", "the pattern has no occurrence in this range").into()),
        count if count > most => {
            let message = format!("more than {most} occurrences: give a range up to {}", found[most - 1].to_rfc3339());
            Err(Refusal::limit_for_field("to", message).into())
        }
        _ => Ok(found),
    }
}
