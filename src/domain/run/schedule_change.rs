//! Updates, pauses, resumes and ends schedules: for people, and along with their campaign.

use async_graphql::Enum;
use chrono::{DateTime, SubsecRound, Utc};
use entity::StateMachine;
use entity::id::{CampaignId, ScheduleId};
use entity::schedule::{CatchUpPolicy, EndReason, FoldPolicy, GapPolicy, Model, ScheduleStatus, ScheduleTransition};
use sea_orm::{IntoActiveModel, Set};
use serde_json::{Value, json};

use super::occurrence::{self, NextRun};
use super::schedule_end::{end_one, live_of, waiting};
use crate::domain::plan::schedule::catch_up::{CatchUp, window_of};
use crate::domain::plan::schedule::{ScheduleTime, emit, must_lock, save};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
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
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Update, Self::Pause, Self::Resume, Self::End];
}

/// Checks that an action is allowed now; the error gives the reason against it. The mutations use
/// the same check.
pub fn check_allowed(schedule: &Model, action: Action) -> Result<()> {
    let act = match action {
        // Ending is idempotent.
        Action::Update if schedule.status == ScheduleStatus::Ended => {
            return Err(Refusal::conflict("the schedule has ended: create a new one").into());
        }
        Action::Update | Action::End => return Ok(()),
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
}

impl ScheduleChanges {
    /// Returns the new time of a schedule; `None` if it is unchanged. Errors: BAD_USER_INPUT.
    fn when(&self, schedule: &Model) -> Result<Option<ScheduleTime>> {
        let zoned = self.time_zone.is_some() || self.gap.is_some() || self.fold.is_some();
        let cron = match (self.at, &self.cron) {
            (Some(_), Some(_)) => return Err(Refusal::input("cron", "give `at` or `cron`, not both").into()),
            (Some(at), None) if !zoned => return Ok(Some(ScheduleTime::At(at.trunc_subsecs(6)))),
            (Some(_), None) => {
                return Err(ScheduleTime::at_with_policies().into());
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
        let after = sea_orm::TryIntoModel::try_into_model(row.clone())?;
        let changes = changes(&before, &after);
        tx.set_result(before.id);
        if changes.is_empty() {
            return Ok(before);
        }
        let moved = (&after.at, &after.cron, &after.time_zone) != (&before.at, &before.cron, &before.time_zone)
            || (after.gap, after.fold) != (before.gap, before.fold);
        if moved {
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
            let held = occurrence::is_held(tx, viewer, &schedule).await?;
            let to_come = |at: DateTime<Utc>| held || at > tx.now();
            let head = scheduled
                .into_iter()
                .find(|run| run.occurrence_at == before.accounted_until && run.scheduled_for.is_some_and(to_come));
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
        ]
    };
    let pairs = shown(before).into_iter().zip(shown(after));
    let differ = pairs.filter(|((_, from), (_, to))| from != to);
    differ.map(|((field, from), (_, to))| json!({ "field": field, "from": from, "to": to })).collect()
}

/// Pauses or resumes a schedule. Occurrences due during the pause are skipped; a single time that
/// passed during it starts on resume, unless the catch-up policy is `NONE`. Errors: NOT_FOUND,
/// CONFLICT, INVALID_TRANSITION.
pub async fn pause_or_resume(
    db: &WriteContext,
    viewer: &Viewer,
    id: ScheduleId,
    expected: Option<i32>,
    act: ScheduleTransition,
    reason: Option<&str>,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        let to = next_status(&found, act)?;
        let (from, revision, pausing) = (found.status, found.revision, act == ScheduleTransition::Pause);
        let mut row = found.into_active_model();
        row.status = Set(to);
        row.paused_at = Set(pausing.then_some(tx.now()));
        if pausing {
            row.next_at = Set(None);
        }
        let mut schedule = save(tx, row, revision).await?;
        let kind = if pausing { "schedule.paused" } else { "schedule.resumed" };
        emit(tx, viewer, kind, &schedule, json!({ "from": from, "to": to, "reason": reason }));
        if !pausing {
            schedule = after_pause(tx, viewer, schedule).await?;
        }
        Ok(schedule)
    })
}

/// Skips occurrences that were due during a pause; a single time that passed starts now.
async fn after_pause(tx: &Tx, viewer: &Viewer, schedule: Model) -> Result<Model> {
    if schedule.cron.is_none() && schedule.catch_up != CatchUpPolicy::None {
        occurrence::start_now(tx, viewer, &schedule).await?;
        let terms = CatchUp::CatchUp { policy: CatchUpPolicy::Last, window: None };
        return occurrence::advance(tx, viewer, schedule, terms, NextRun::Found).await;
    }
    occurrence::advance(tx, viewer, schedule, CatchUp::Paused, NextRun::Found).await
}

/// Resumes the schedules of a resumed campaign; schedules that are paused themselves stay paused.
pub(crate) async fn resume_all_of(tx: &Tx, viewer: &Viewer, campaign: CampaignId) -> Result<()> {
    for schedule in live_of(tx, viewer, campaign).await? {
        if schedule.status == ScheduleStatus::Active {
            after_pause(tx, viewer, schedule).await?;
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
