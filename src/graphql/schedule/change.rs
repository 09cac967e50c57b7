//! Changes of schedules: update, pause, resume, end.

use async_graphql::{Context, ID, InputObject, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy, ScheduleTransition};

use super::Schedule;
use crate::domain::plan::schedule as noun;
use crate::domain::plan::schedule::change::ScheduleChanges;
use crate::graphql::viewer;
use crate::kernel::error::Refusal;
use crate::kernel::validate;

/// The schedule that is to be changed, and how; what is not given stays as it is.
#[derive(InputObject)]
pub struct UpdateScheduleInput {
    /// The schedule.
    id: ID,
    /// Once, at this time; a repeating schedule becomes a single one. Not together with `cron`.
    at: MaybeUndefined<DateTime<Utc>>,
    /// By this pattern; a single schedule becomes a repeating one. Not together with `at`.
    cron: MaybeUndefined<String>,
    /// The IANA time zone that the pattern is read in.
    timezone: MaybeUndefined<String>,
    /// Local times that do not exist.
    gap: MaybeUndefined<GapPolicy>,
    /// Local times that come twice.
    fold: MaybeUndefined<FoldPolicy>,
    /// The name of its runs, the waiting ones too; null: the campaign's or the template's, for those to come.
    name: MaybeUndefined<String>,
    /// The occurrences that are made up for when their time passed while the server was down.
    catch_up: MaybeUndefined<CatchUpPolicy>,
    /// The age up to which an occurrence is made up for, 1 to 31536000 seconds; null: any age by LAST, a day by ALL.
    catch_up_window_seconds: MaybeUndefined<i64>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The idempotency key: repeating the request with it within seven days returns the original result.
    idempotency_key: Option<String>,
}

/// A schedule that is to be paused or resumed.
#[derive(InputObject)]
pub struct ScheduleActInput {
    /// The schedule.
    id: ID,
    /// The reason, for the log; at most 10,000 characters.
    reason: Option<String>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The idempotency key: repeating the request with it within seven days returns the original result.
    idempotency_key: Option<String>,
}

/// A schedule after a change.
#[derive(SimpleObject)]
pub struct ScheduleChangePayload {
    /// The schedule as it is now.
    schedule: Schedule,
}

/// Which schedule is to end.
#[derive(InputObject)]
pub struct EndScheduleInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was changed.
#[derive(SimpleObject)]
pub struct EndSchedulePayload {
    /// As it is now.
    schedule: Schedule,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ScheduleMutation;

#[Object]
impl ScheduleMutation {
    /// Changes a schedule that has not ended. With its time the waiting run moves to the next occurrence; runs that were
    /// moved by `rescheduleRun` stay where they are.
    async fn update_schedule(&self, ctx: &Context<'_>, input: UpdateScheduleInput) -> Result<ScheduleChangePayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let wanted = ScheduleChanges {
            at: given("at", input.at)?,
            cron: given("cron", input.cron)?,
            time_zone: given("timezone", input.timezone)?,
            gap: given("gap", input.gap)?,
            fold: given("fold", input.fold)?,
            name: nullable(input.name),
            catch_up: given("catchUp", input.catch_up)?,
            window_seconds: nullable(input.catch_up_window_seconds),
        };
        let key = input.idempotency_key;
        let schedule = idempotent!(ctx, key, |db| Box::pin(noun::update(db, viewer(ctx), id, expected, &wanted)));
        Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
    }

    /// Pauses a schedule: nothing of it starts until `resumeSchedule`, and what falls due meanwhile is skipped.
    async fn pause_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        hold(ctx, input, ScheduleTransition::Pause).await
    }

    /// Resumes a paused schedule with the next occurrence from now. A single time that passed in the pause starts at once,
    /// unless its catch-up policy is NONE.
    async fn resume_schedule(&self, ctx: &Context<'_>, input: ScheduleActInput) -> Result<ScheduleChangePayload> {
        hold(ctx, input, ScheduleTransition::Resume).await
    }

    /// Ends a schedule: its waiting runs are cancelled, and none follows. Twice is once.
    async fn end_schedule(&self, ctx: &Context<'_>, input: EndScheduleInput) -> Result<EndSchedulePayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let schedule = idempotent!(ctx, input.idempotency_key, |db| noun::end(db, viewer(ctx), id, expected));
        Ok(EndSchedulePayload { schedule: Schedule(schedule) })
    }
}

async fn hold(ctx: &Context<'_>, input: ScheduleActInput, act: ScheduleTransition) -> Result<ScheduleChangePayload> {
    let id = validate::id("id", &input.id)?;
    let (expected, reason) = (input.expected_revision, input.reason.as_deref());
    let key = input.idempotency_key.clone();
    let schedule = idempotent!(ctx, key, |db| Box::pin(noun::hold(db, viewer(ctx), id, expected, act, reason)));
    Ok(ScheduleChangePayload { schedule: Schedule(schedule) })
}

/// A field that can be left out but not emptied.
fn given<T>(field: &str, value: MaybeUndefined<T>) -> std::result::Result<Option<T>, Refusal> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(Refusal::input(field, "can't be emptied: leave it out to keep it")),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

/// A field that can be left out, and emptied.
fn nullable<T>(value: MaybeUndefined<T>) -> Option<Option<T>> {
    match value {
        MaybeUndefined::Undefined => None,
        MaybeUndefined::Null => Some(None),
        MaybeUndefined::Value(value) => Some(Some(value)),
    }
}
