//! Updates, pauses, resumes and ends schedules: for people, and along with their campaign.

use async_graphql::Enum;
use chrono::{DateTime, SubsecRound, Utc};
use entity::StateMachine;
use entity::id::{CampaignId, ScheduleId};
use entity::run;
use entity::schedule::{
    CatchUpPolicy, EndReason, FoldPolicy, GapPolicy, Model, OverlapPolicy, ScheduleStatus, ScheduleTransition,
};
use sea_orm::{IntoActiveModel, Set};
use serde_json::{Value, json};

use super::occurrence::{self, NextRun};
use super::schedule_end::{end_one, live_of, waiting};
use crate::domain::plan::schedule::catch_up::{CatchUp, window_of};
use crate::domain::plan::schedule::timing::{Bounds, Timing, check_timing};
use crate::domain::plan::schedule::{ScheduleTime, emit, must_lock, save};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{storable, validate};
use crate::transact;

/// An action on a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "ScheduleAction")]
pub enum Action {
    /// Update its time or its policies.
    Update,
    /// Pause it.
    Pause,
    /// Resume it.
    Resume,
    /// End it.
    End,
    /// Start one of its runs now.
    Trigger,
    /// Skip one of its occurrences.
    Skip,
    /// Start runs for past times of its pattern.
    Backfill,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 7] =
        [Self::Update, Self::Pause, Self::Resume, Self::End, Self::Trigger, Self::Skip, Self::Backfill];
}

/// Checks that an action is allowed now; the error gives the reason against it. The mutations use
/// the same check.
pub fn check_allowed(schedule: &Model, action: Action) -> Result<()> {
    let act = match action {
        // Ending is idempotent.
        Action::Update | Action::Trigger | Action::Skip | Action::Backfill
            if schedule.status == ScheduleStatus::Ended =>
        {
            return Err(Refusal::conflict("the schedule has ended: create a new one").into());
        }
        Action::Trigger | Action::Backfill if schedule.status == ScheduleStatus::Paused => {
            return Err(Refusal::conflict("the schedule is paused: resume it (`resumeSchedule`)").into());
        }
        Action::Backfill if schedule.cron.is_none() => {
            return Err(Refusal::conflict("the schedule has a single time, and no pattern to make up for").into());
        }
        Action::Update | Action::End | Action::Trigger | Action::Skip | Action::Backfill => return Ok(()),
        Action::Pause => ScheduleTransition::Pause,
        Action::Resume => ScheduleTransition::Resume,
    };
    next_status(schedule, act).map(|_| ())
}

fn next_status(schedule: &Model, act: ScheduleTransition) -> Result<ScheduleStatus> {
    Ok(schedule.status.next(act).ok_or_else(|| Refusal::transition("schedule", schedule.status, act))?)
}

/// Requested changes; `None` leaves a field unchanged.
#[derive(Clone, Debug, Default)]
pub struct ScheduleChanges {
    /// A single time.
    pub at: Option<DateTime<Utc>>,
    /// A cron pattern.
    pub cron: Option<String>,
    /// The zone of the pattern.
    pub time_zone: Option<String>,
    /// The policy for local times that do not exist.
    pub gap: Option<GapPolicy>,
    /// The policy for local times that occur twice.
    pub fold: Option<FoldPolicy>,
    /// The name of the runs; `Some(None)` means the campaign's or the template's.
    pub name: Option<Option<String>>,
    /// The catch-up policy.
    pub catch_up: Option<CatchUpPolicy>,
    /// The catch-up window; `Some(None)` means the policy's default.
    pub window_seconds: Option<Option<i64>>,
    /// The overlap policy.
    pub overlap: Option<OverlapPolicy>,
    /// The time before which nothing occurs; `Some(None)` means none.
    pub start_at: Option<Option<DateTime<Utc>>>,
    /// The time after which nothing occurs; `Some(None)` means none.
    pub end_at: Option<Option<DateTime<Utc>>>,
    /// The number of starts left; `Some(None)` means no limit.
    pub remaining: Option<Option<i32>>,
    /// The maximum delay of a start in seconds.
    pub jitter_seconds: Option<i32>,
}

impl ScheduleChanges {
    /// Sets the bounds of a schedule whose time is set; a single time has none. Errors:
    /// BAD_USER_INPUT.
    fn set_bounds(&self, schedule: &mut Model) -> Result<()> {
        let truncated = |time: DateTime<Utc>| time.trunc_subsecs(6);
        let given = Bounds {
            start_at: self.start_at.flatten().map(truncated),
            end_at: self.end_at.flatten().map(truncated),
            remaining: self.remaining.flatten(),
            jitter_seconds: self.jitter_seconds,
        };
        given.check()?;
        if schedule.at.is_some() {
            if let Some(field) = given.set_field() {
                return Err(ScheduleTime::at_with_bounds(field).into());
            }
            (schedule.start_at, schedule.end_at, schedule.remaining, schedule.jitter_seconds) = (None, None, None, 0);
            return Ok(());
        }
        if self.start_at.is_some() {
            schedule.start_at = given.start_at;
        }
        if self.end_at.is_some() {
            schedule.end_at = given.end_at;
        }
        if self.remaining.is_some() {
            schedule.remaining = given.remaining;
        }
        schedule.jitter_seconds = self.jitter_seconds.unwrap_or(schedule.jitter_seconds);
        Ok(Bounds { start_at: schedule.start_at, end_at: schedule.end_at, ..Bounds::default() }.check()?)
    }

    /// Returns the new time of a schedule; `None` if it is unchanged. Errors: BAD_USER_INPUT.
    fn when(&self, schedule: &Model) -> Result<Option<ScheduleTime>> {
        let zoned = self.time_zone.is_some() || self.gap.is_some() || self.fold.is_some();
        let cron = match (self.at, &self.cron) {
            (Some(_), Some(_)) => return Err(Refusal::input("cron", "give `at` or `cron`, not both").into()),
            (Some(at), None) => {
                let zone = ("timezone", self.time_zone.is_some());
                ScheduleTime::check_alone(&[zone, ("gap", self.gap.is_some()), ("fold", self.fold.is_some())])?;
                return Ok(Some(ScheduleTime::At(at.trunc_subsecs(6))));
            }
            (None, Some(cron)) => cron.clone(),
            (None, None) if !zoned => return Ok(None),
            (None, None) => schedule.cron.clone().ok_or_else(|| {
                Refusal::input("timezone", "the schedule has a single time: give `cron` to make it repeat")
            })?,
        };
        Ok(Some(ScheduleTime::Cron {
            cron,
            time_zone: self.time_zone.clone().unwrap_or_else(|| schedule.time_zone.clone()),
            gap: self.gap.unwrap_or(schedule.gap),
            fold: self.fold.unwrap_or(schedule.fold),
        }))
    }
}

/// Updates a schedule that has not ended. A change of its time moves the waiting run to the next
/// occurrence; runs moved by a person stay unchanged. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    request: &ScheduleChanges,
) -> Result<Model> {
    let name =
        request.name.clone().map(|name| name.map(|name| validate::name("name", &name)).transpose()).transpose()?;
    transact!(db, |tx| {
        let before = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&before, Action::Update)?;
        let before = resume_if_over(tx, before).await?;
        // Occurrences that are already due are started by the old pattern.
        let before = occurrence::catch_up(tx, viewer, before).await?;
        check_allowed(&before, Action::Update)?;
        let when = request.when(&before)?;
        if let Some(when) = &when {
            when.check(tx.now())?;
        }
        let mut row = before.clone().into_active_model();
        let (mut at, mut cron) = (before.at, before.cron.clone());
        match when {
            Some(ScheduleTime::At(given)) => (at, cron) = (Some(given), None),
            Some(ScheduleTime::Cron { cron: given, time_zone, gap, fold }) => {
                (at, cron) = (None, Some(given));
                row.time_zone = Set(time_zone);
                row.gap = Set(gap);
                row.fold = Set(fold);
            }
            None => {}
        }
        row.at = Set(at);
        row.cron = Set(cron);
        if let Some(name) = &name {
            row.name = Set(name.clone());
        }
        let policy = request.catch_up.unwrap_or(before.catch_up);
        if request.catch_up.is_some() || request.window_seconds.is_some() {
            row.catch_up = Set(policy);
            let unchanged = before.catch_up_window_seconds.filter(|_| policy == before.catch_up);
            row.catch_up_window_seconds = Set(window_of(policy, request.window_seconds.unwrap_or(unchanged))?);
        }
        row.overlap = Set(request.overlap.unwrap_or(before.overlap));
        let mut after = sea_orm::TryIntoModel::try_into_model(row.clone())?;
        request.set_bounds(&mut after)?;
        row.start_at = Set(after.start_at);
        row.end_at = Set(after.end_at);
        row.remaining = Set(after.remaining);
        row.jitter_seconds = Set(after.jitter_seconds);
        let changes = changes(&before, &after);
        tx.set_result(before.id);
        if changes.is_empty() {
            return Ok(before);
        }
        let times = |of: &Model| {
            let pattern = (of.at, of.cron.clone(), of.time_zone.clone(), of.gap, of.fold);
            (pattern, of.start_at, of.end_at, of.jitter_seconds)
        };
        let moved = times(&before) != times(&after);
        if moved {
            check_timing(&Timing::of(&after)?, tx.now())?;
            occurrence::insert_due(tx, viewer, &before).await?;
            row.pattern_since = Set(Some(tx.now()));
            row.accounted_until = Set(Some(tx.now()));
        }
        let mut schedule = save(tx, row, before.revision).await?;
        if let Some(Some(name)) = &name {
            occurrence::rename(tx, viewer, schedule.id, name).await?;
        }
        if moved {
            let scheduled = waiting(tx, schedule.id).await?;
            // A run that is due starts by the old pattern.
            let held = occurrence::held_until(tx, viewer, &schedule).await?.is_some();
            let timing = Timing::of(&before)?;
            let to_come = |run: &run::Model| {
                let is_future = run.scheduled_for.is_some_and(|at| at > tx.now());
                held || (is_future && !occurrence::waits_out_jitter(&timing, run, tx.now()))
            };
            let is_head = |run: &run::Model| run.occurrence_at == before.accounted_until && run.buffered_at.is_none();
            let head = scheduled.into_iter().find(|run| is_head(run) && to_come(run));
            let head = head.map_or(NextRun::Found, |run| NextRun::Given(Box::new(run)));
            schedule = occurrence::advance(tx, viewer, schedule, CatchUp::of(&after), head).await?;
        }
        let payload = json!({ "changes": changes, "nextAt": schedule.next_at });
        emit(tx, viewer, "schedule.updated", &schedule, payload);
        Ok(schedule)
    })
}

fn changes(before: &Model, after: &Model) -> Vec<Value> {
    let shown = |of: &Model| {
        [
            ("at", json!(of.at)),
            ("cron", json!(of.cron)),
            ("timezone", json!(of.time_zone)),
            ("gap", json!(of.gap)),
            ("fold", json!(of.fold)),
            ("name", json!(of.name)),
            ("catchUp", json!(of.catch_up)),
            ("catchUpWindowSeconds", json!(of.catch_up_window_seconds)),
            ("overlap", json!(of.overlap)),
            ("startAt", json!(of.start_at)),
            ("endAt", json!(of.end_at)),
            ("remaining", json!(of.remaining)),
            ("jitterSeconds", json!(of.jitter_seconds)),
        ]
    };
    let pairs = shown(before).into_iter().zip(shown(after));
    let differ = pairs.filter(|((_, from), (_, to))| from != to);
    differ.map(|((field, from), (_, to))| json!({ "field": field, "from": from, "to": to })).collect()
}

/// Pauses a schedule, until a time or until it is resumed. Occurrences due during the pause are
/// skipped. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT for a time in the past.
pub async fn pause(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    reason: Option<&str>,
    until: Option<DateTime<Utc>>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    let until = until.map(|until| storable::time(until).map_err(|unfit| unfit.of("until"))).transpose()?;
    let until = until.map(|until| until.trunc_subsecs(6));
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        let found = resume_if_over(tx, found).await?;
        let to = next_status(&found, ScheduleTransition::Pause)?;
        if until.is_some_and(|until| until <= tx.now()) {
            return Err(Refusal::input("until", "the time lies in the past: give a time in the future").into());
        }
        let (from, revision) = (found.status, found.revision);
        let mut row = found.into_active_model();
        row.status = Set(to);
        row.paused_at = Set(Some(tx.now()));
        row.paused_until = Set(until);
        row.next_at = Set(None);
        let schedule = save(tx, row, revision).await?;
        let payload = json!({ "from": from, "to": to, "reason": reason, "until": until });
        emit(tx, viewer, "schedule.paused", &schedule, payload);
        Ok(schedule)
    })
}

/// Resumes a schedule. A single time that passed during the pause starts, unless the catch-up policy
/// is `NONE`. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn resume(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        resume_locked(tx, viewer, found, reason.as_deref()).await
    })
}

/// Resumes a schedule whose pause has ended by the clock. Returns false if there was nothing to do.
pub(super) async fn resume_by_clock(db: &WriteContext, viewer: &Viewer, id: ScheduleId) -> Result<bool> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, None).await?;
        let revision = found.revision;
        Ok(resume_if_over(tx, found).await?.revision != revision)
    })
}

/// Resumes a locked schedule if its pause has ended by the clock.
pub(super) async fn resume_if_over(tx: &Tx, schedule: Model) -> Result<Model> {
    let is_over = schedule.paused_until.is_some_and(|until| until <= tx.now());
    if schedule.status != ScheduleStatus::Paused || !is_over {
        return Ok(schedule);
    }
    let engine = Viewer::engine(schedule.org_id);
    resume_locked(tx, &engine, schedule, Some("the time of its pause is over")).await
}

/// Resumes a locked schedule. What fell due up to the end of its pause is skipped; what fell due
/// after it, because nothing ran, is late.
async fn resume_locked(tx: &Tx, viewer: &Viewer, found: Model, reason: Option<&str>) -> Result<Model> {
    let to = next_status(&found, ScheduleTransition::Resume)?;
    let (from, revision) = (found.status, found.revision);
    let ended_at = found.paused_until.map_or(tx.now(), |until| until.min(tx.now()));
    let mut row = found.into_active_model();
    row.status = Set(to);
    row.paused_at = Set(None);
    row.paused_until = Set(None);
    let schedule = save(tx, row, revision).await?;
    emit(tx, viewer, "schedule.resumed", &schedule, json!({ "from": from, "to": to, "reason": reason }));
    after_pause(tx, viewer, schedule, ended_at).await
}

/// Skips occurrences that were due during a pause, until its end; a single time that passed starts
/// now.
async fn after_pause(tx: &Tx, viewer: &Viewer, schedule: Model, ended_at: DateTime<Utc>) -> Result<Model> {
    if schedule.cron.is_none() && schedule.catch_up != CatchUpPolicy::None {
        occurrence::start_now(tx, viewer, &schedule).await?;
        let terms = CatchUp::CatchUp { policy: CatchUpPolicy::Last, window: None };
        return occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await;
    }
    occurrence::advance(tx, viewer, schedule, CatchUp::Paused(ended_at), NextRun::Found).await
}

/// Resumes the schedules of a resumed campaign; schedules that are paused themselves stay paused.
pub(crate) async fn resume_all_of(tx: &Tx, viewer: &Viewer, campaign: CampaignId) -> Result<()> {
    for schedule in live_of(tx, viewer, campaign).await? {
        if schedule.status == ScheduleStatus::Active {
            after_pause(tx, viewer, schedule, tx.now()).await?;
        }
    }
    Ok(())
}

/// Ends a schedule and cancels its waiting runs. Idempotent. Errors: NOT_FOUND, CONFLICT.
pub async fn end(db: &WriteContext, viewer: &Viewer, id: ScheduleId, expected: Option<i32>) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        tx.set_result(found.id);
        end_one(tx, viewer, found, EndReason::EndedByPerson, None).await
    })
}
