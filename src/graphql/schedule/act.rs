//! Mutations on the runs of a schedule: trigger, skip, backfill.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::ScheduleId;

use super::Schedule;
use crate::domain::plan::schedule as noun;
use crate::domain::run::schedule_act::{self, BackfillRange};
use crate::graphql::run::Run;
use crate::graphql::{db, viewer};
use crate::kernel::validate;

/// Identifies the schedule of which a run is started now.
#[derive(InputObject)]
pub struct TriggerScheduleInput {
    /// Id of the schedule.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The run that was started outside of the pattern.
#[derive(SimpleObject)]
pub struct TriggerSchedulePayload {
    /// The run: QUEUED, or SCHEDULED if it waits for an earlier run to end (`waitingFor`
    /// EARLIER_RUN).
    run: Run,
    /// The schedule.
    schedule: Schedule,
}

/// The occurrence to skip.
#[derive(InputObject)]
pub struct SkipOccurrenceInput {
    /// Id of the schedule.
    id: ID,
    /// Time of the occurrence, as `Schedule.upcoming` gives it in `at`. Null: the next one.
    at: Option<DateTime<Utc>>,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The schedule, one of whose occurrences does not start.
#[derive(SimpleObject)]
pub struct SkipOccurrencePayload {
    /// The schedule after the change.
    schedule: Schedule,
}

/// The past range of a schedule to start runs for.
#[derive(InputObject)]
pub struct BackfillScheduleInput {
    /// Id of the schedule, which repeats and is active.
    id: ID,
    /// Start of the range, inclusive.
    from: DateTime<Utc>,
    /// End of the range, inclusive; not in the future.
    to: DateTime<Utc>,
    /// True to list the occurrences without starting runs. Null is the same as false.
    dry_run: Option<bool>,
    /// Expected revision: rejected with CONFLICT if the schedule has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The runs that make up for past occurrences.
#[derive(SimpleObject)]
pub struct BackfillSchedulePayload {
    /// Times of the pattern within the range, in order.
    occurrences: Vec<DateTime<Utc>>,
    /// Their runs in the same order; each waits for the one before it. Empty for a dry run.
    runs: Vec<Run>,
    /// The schedule.
    schedule: Schedule,
}

/// Mutations on the runs of schedules.
#[derive(Default)]
pub struct ScheduleActMutation;

#[Object]
impl ScheduleActMutation {
    /// Starts a run of an active schedule now, outside of its pattern: `nextAt` and `remaining` stay.
    /// If an earlier run is open, the overlap policy decides: under ALLOW_ALL it starts, under
    /// CANCEL_OTHER the earlier one is cancelled, under BUFFER_ONE and BUFFER_ALL it waits. Rejected
    /// with CONFLICT under SKIP, under BUFFER_ONE if one waits already, and if the preflight fails.
    async fn trigger_schedule(&self, ctx: &Context<'_>, input: TriggerScheduleInput) -> Result<TriggerSchedulePayload> {
        let (id, expected) = (validate::id::<ScheduleId>("id", &input.id)?, input.expected_revision);
        let run = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(schedule_act::trigger(db, viewer(ctx), id, expected)),
            |run| crate::domain::run::must_find(db.read(), viewer(ctx), run)
        );
        let schedule = noun::must_find(db(ctx).read(), viewer(ctx), id).await?;
        Ok(TriggerSchedulePayload { run: run.into(), schedule: Schedule(schedule) })
    }

    /// Skips an occurrence that has not started: it does not start, and `missed` lists it with the
    /// reason SKIPPED. Rejected with BAD_USER_INPUT for a time that is not an upcoming occurrence;
    /// the message names the next ones.
    async fn skip_occurrence(&self, ctx: &Context<'_>, input: SkipOccurrenceInput) -> Result<SkipOccurrencePayload> {
        let (id, expected, at) = (validate::id("id", &input.id)?, input.expected_revision, input.at);
        let key = input.idempotency_key;
        let schedule = idempotent!(ctx, key, |db| Box::pin(schedule_act::skip(db, viewer(ctx), id, expected, at)));
        Ok(SkipOccurrencePayload { schedule: Schedule(schedule) })
    }

    /// Starts a run for each time of the schedule's present pattern within a past range, at most
    /// 100, also if it had a run or was missed. The runs start in order, each when those before it
    /// have ended; `remaining` stays. Rejected with LIMIT_EXCEEDED for more occurrences, and with
    /// BAD_USER_INPUT for a range without any.
    async fn backfill_schedule(
        &self,
        ctx: &Context<'_>,
        input: BackfillScheduleInput,
    ) -> Result<BackfillSchedulePayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let range = BackfillRange { from: input.from, to: input.to, dry_run: input.dry_run.unwrap_or(false) };
        let done = idempotent!(
            ctx,
            input.idempotency_key,
            |db| Box::pin(async { schedule_act::backfill(db, viewer(ctx), id, expected, range).await }),
            |first| schedule_act::replay_backfill(db, viewer(ctx), first, range)
        );
        Ok(BackfillSchedulePayload {
            occurrences: done.occurrences,
            runs: done.runs.into_iter().map(Run::from).collect(),
            schedule: Schedule(done.schedule),
        })
    }
}
