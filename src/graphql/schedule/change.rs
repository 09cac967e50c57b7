//! Schedule mutations: update, pause, resume, end.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy};

use super::Schedule;
use crate::domain::plan::schedule as noun;
use crate::domain::run::schedule_change::{self, ScheduleChanges};
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// Changes to a schedule. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateScheduleInput {
    /// Id of the schedule.
    id: ID,
    /// Start time of a single run; a repeating schedule becomes a single one. Not together with
    /// `cron`.
    at: MaybeUndefined<DateTime<Utc>>,
    /// Cron pattern; a single schedule becomes a repeating one. Not together with `at`.
    cron: MaybeUndefined<String>,
    /// IANA time zone in which the pattern is evaluated.
    timezone: MaybeUndefined<String>,
    /// Policy for local times that do not exist.
    gap: MaybeUndefined<GapPolicy>,
    /// Policy for local times that occur twice.
    fold: MaybeUndefined<FoldPolicy>,
    /// Name of its runs, including those not yet started; null: future runs use the name of the
    /// campaign or template.
    name: MaybeUndefined<String>,
    /// Policy for occurrences missed while the server was down.
    catch_up: MaybeUndefined<CatchUpPolicy>,
    /// Maximum age of a missed occurrence to catch up, 1 to 31536000 seconds; null: unlimited for
    /// LAST, one day for ALL.
    catch_up_window_seconds: MaybeUndefined<i64>,
    /// Time before which nothing occurs, in UTC; null: no bound. Of repeating schedules only.
    start_at: MaybeUndefined<DateTime<Utc>>,
    /// Time after which nothing occurs, in UTC; null: no bound. Of repeating schedules only.
    end_at: MaybeUndefined<DateTime<Utc>>,
    /// Number of starts left, 1 to 1000000, after which the schedule ends; null: no limit. Of
    /// repeating schedules only.
    remaining: MaybeUndefined<i32>,
    /// Maximum delay of a start behind its occurrence, 0 to 86400 seconds. Of repeating schedules
    /// only.
    jitter_seconds: MaybeUndefined<i32>,
    /// Policy for an occurrence that falls due while an earlier run is open. Runs that wait already
    /// keep waiting, unless it becomes ALLOW_ALL.
    overlap: MaybeUndefined<OverlapPolicy>,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the schedule to pause or resume.
#[derive(InputObject)]
pub struct ScheduleActInput {
    /// Id of the schedule.
    id: ID,
    /// Reason, stored in the event of the transition; at most 10,000 characters.
    reason: Option<String>,
    /// Time at which the schedule resumes by itself, in the future. Null: it stays paused until
    /// `resumeSchedule`. Of `pauseSchedule` only.
    until: Option<DateTime<Utc>>,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// A schedule after a change.
#[derive(SimpleObject)]
pub struct ScheduleChangePayload {
    /// The schedule after the change.
    schedule: Schedule,
}

/// Identifies the schedule to end.
#[derive(InputObject)]
pub struct EndScheduleInput {
    /// Id of the schedule.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The ended schedule.
#[derive(SimpleObject)]
pub struct EndSchedulePayload {
    /// The schedule after the change.
    schedule: Schedule,
}

/// Mutations for schedules.
#[derive(Default)]
pub struct ScheduleMutation;

#[Object]
impl ScheduleMutation {
    /// Updates a schedule that has not ended. A new time moves the waiting run to the next
    /// occurrence; runs that were moved by `rescheduleRun` keep their time.
    async fn update_schedule(&self, ctx: &Context<'_>, input: UpdateScheduleInput) -> Result<ScheduleChangePayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let changes = ScheduleChanges {
            at: given("at", input.at)?,
            cron: given("cron", input.cron)?,
            time_zone: given("timezone", input.timezone)?,
            gap: given("gap", input.gap)?,
            fold: given("fold", input.fold)?,
            name: nullable(input.name),
            catch_up: given("catchUp", input.catch_up)?,
            window_seconds: nullable(input.catch_up_window_seconds),
            overlap: given("overlap", input.overlap)?,
            start_at: nullable(input.start_at),
            end_at: nullable(input.end_at),
            remaining: nullable(input.remaining),
            jitter_seconds: given("jitterSeconds", input.jitter_seconds)?,
        };
        let key = input.idempotency_key;
        let schedule =
            idempotent!(ctx, key, |db| Box::pin(schedule_change::update(db, viewer(ctx), id, expected, &changes)));
        Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
    }

    /// Pauses a schedule: nothing of it starts until `resumeSchedule`, or until the time `until`, and
    /// occurrences that fall due meanwhile are skipped.
    async fn pause_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let (key, reason, until) = (input.idempotency_key, input.reason.as_deref(), input.until);
        let schedule =
            idempotent!(ctx, key, |db| Box::pin(schedule_change::pause(db, viewer(ctx), id, expected, reason, until)));
        Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
    }

    /// Resumes a paused schedule at the next occurrence. A single run whose time passed during the
    /// pause starts immediately, unless its catch-up policy is NONE.
    async fn resume_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        if input.until.is_some() {
            return Err(Refusal::input("until", "is for `pauseSchedule` only: omit it").into());
        }
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let (key, reason) = (input.idempotency_key, input.reason.as_deref());
        let schedule =
            idempotent!(ctx, key, |db| Box::pin(schedule_change::resume(db, viewer(ctx), id, expected, reason)));
        Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
    }

    /// Ends a schedule: its waiting runs are cancelled and no further runs are created. Ending it
    /// again has no effect.
    async fn end_schedule(&self, ctx: &Context<'_>, input: EndScheduleInput) -> Result<EndSchedulePayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let schedule =
            idempotent!(ctx, input.idempotency_key, |db| schedule_change::end(db, viewer(ctx), id, expected));
        Ok(EndSchedulePayload { schedule: Schedule(schedule) })
    }
}

/// Converts a field that can be omitted but not set to null.
fn given<T>(field: &str, value: MaybeUndefined<T>) -> std::result::Result<Option<T>, Refusal> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(Refusal::input(field, "must not be null; omit it to keep the current value")),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

/// Converts a field that can be omitted or set to null.
fn nullable<T>(value: MaybeUndefined<T>) -> Option<Option<T>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}
