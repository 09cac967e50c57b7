//! What people do with runs.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::run::RunTransition;

use super::Run;
use crate::domain::run as noun;
use crate::domain::run::list::RunFilter;
use crate::graphql::viewer;
use crate::kernel::validate;

/// Which run is to take a step.
#[derive(InputObject)]
pub struct RunActInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Why; kept where it is given.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// The recipients that are tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
pub enum RetryRecipients {
    /// Those that failed, and that no run that repeats this one has reached.
    Failed,
}

/// Which run is tried again.
#[derive(InputObject)]
pub struct RetryRunInput {
    /// Which one: it failed, or it completed and some of its recipients failed.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The recipients that are tried again; FAILED unless said.
    recipients: Option<RetryRecipients>,
    /// Why; kept where it is given.
    reason: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// A scheduled run's new time.
#[derive(InputObject)]
pub struct RescheduleRunInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// The new time, in the future.
    at: DateTime<Utc>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which run is to be repeated.
#[derive(InputObject)]
pub struct RepeatRunInput {
    /// Which one; it has ended.
    id: ID,
    /// A name of its own; the same, unless said.
    name: Option<String>,
    /// Only who was not reached, by it or by another run that repeats it: what was done for them is taken over, and what was
    /// let out by a reviewer is not reviewed again. Refused with CONFLICT where nobody is left, or while another such run is
    /// open. False unless said: the whole.
    only_failed: Option<bool>,
    /// Whether the whole is repeated although another run of the campaign is under way: whoever is in both gets both
    /// messages. False unless said: refused with CONFLICT, naming the run (`runId`).
    even_if_open: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which runs something is done to.
#[derive(InputObject)]
pub struct BulkRunInput {
    /// Which ones; at most a thousand.
    filter: RunFilter,
    /// Why; kept where it is given.
    reason: Option<String>,
    /// Judges each run as the act would, and does nothing: `count` and `refused` say what would come of it. False unless
    /// given.
    dry_run: Option<bool>,
}

/// A run that it was refused for.
#[derive(SimpleObject)]
pub struct RefusedRun {
    /// Which one.
    id: ID,
    /// The refusal's code.
    code: String,
    /// Why.
    message: String,
}

/// The number of runs that were refused with one code.
#[derive(SimpleObject)]
pub struct RefusedCount {
    /// The refusal's code.
    code: String,
    /// The number of runs.
    count: u64,
}

/// What came of it.
#[derive(SimpleObject)]
pub struct BulkRunPayload {
    /// How many the filter lets through.
    matched: u64,
    /// The number of runs that it was done to; of a dry run, that it would be done to.
    count: u64,
    /// The runs that it was done to; empty for a dry run.
    done: Vec<ID>,
    /// The runs that it was refused for, with the reason; of a dry run, that it would be refused for. The others are done
    /// all the same.
    refused: Vec<RefusedRun>,
    /// The number of `refused` by code, the most frequent first.
    refused_counts: Vec<RefusedCount>,
}

async fn bulk(ctx: &Context<'_>, input: BulkRunInput, action: noun::Action) -> Result<BulkRunPayload> {
    let db = crate::graphql::idempotent::keyed(ctx, None)?;
    let dry = input.dry_run.unwrap_or(false);
    let found = noun::bulk::act(&db, viewer(ctx), &input.filter, action, input.reason.as_deref(), dry);
    let found = Box::pin(found).await?;
    let mut counts: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for (_, refusal) in &found.refused {
        *counts.entry(refusal.code.as_str()).or_default() += 1;
    }
    let counts = counts.into_iter().map(|(code, count)| RefusedCount { code: code.into(), count });
    let mut refused_counts: Vec<RefusedCount> = counts.collect();
    refused_counts.sort_by_key(|of| std::cmp::Reverse(of.count));
    let refused = found.refused.into_iter().map(|(id, refusal)| RefusedRun {
        id: id.to_string().into(),
        code: refusal.code.as_str().into(),
        message: refusal.message,
    });
    Ok(BulkRunPayload {
        matched: found.matched,
        count: if dry { found.would } else { found.done.len() as u64 },
        done: found.done.into_iter().map(|id| id.to_string().into()).collect(),
        refused: refused.collect(),
        refused_counts,
    })
}

/// What was changed.
#[derive(SimpleObject)]
pub struct RunPayload {
    /// As it is now.
    pub(super) run: Run,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Queues another run like one that has ended: the same structure, the same instructions, the same records; its `parent`
    /// is the one that it repeats. Refused with NOT_FOUND, CONFLICT.
    async fn repeat_run(&self, ctx: &Context<'_>, input: RepeatRunInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (only_failed, even_if_open) = (input.only_failed.unwrap_or(false), input.even_if_open.unwrap_or(false));
        let (name, how) = (input.name.as_deref(), noun::repeat::RepeatOptions { only_failed, even_if_open });
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::repeat::repeat(db, viewer(ctx), id, name, how));
        Ok(RunPayload { run: run.into() })
    }

    /// Calls off what a filter lets through, each by itself. Refused with LIMIT_EXCEEDED for more than a thousand.
    async fn cancel_runs(&self, ctx: &Context<'_>, input: BulkRunInput) -> Result<BulkRunPayload> {
        bulk(ctx, input, noun::Action::Cancel).await
    }

    /// Has what failed done again in all runs that a filter lets through and that have failed, or completed with recipients that
    /// failed; each by itself. Refused with LIMIT_EXCEEDED
    /// for more than a thousand.
    async fn retry_runs(&self, ctx: &Context<'_>, input: BulkRunInput) -> Result<BulkRunPayload> {
        bulk(ctx, input, noun::Action::Retry).await
    }

    /// Moves a scheduled run to another time in the future.
    async fn reschedule_run(&self, ctx: &Context<'_>, input: RescheduleRunInput) -> Result<RunPayload> {
        let (id, at) = (validate::id("id", &input.id)?, chrono::SubsecRound::trunc_subsecs(input.at, 6));
        let expected = input.expected_revision;
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::reschedule(db, viewer(ctx), id, expected, at));
        Ok(RunPayload { run: run.into() })
    }

    /// In progress → paused: nothing of it is claimed, started or sent; what is in hand settles.
    async fn pause_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::hold(
            db,
            viewer(ctx),
            id,
            expected,
            RunTransition::Pause
        ));
        Ok(RunPayload { run: run.into() })
    }

    /// Paused → in progress.
    async fn resume_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let expected = input.expected_revision;
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::hold(
            db,
            viewer(ctx),
            id,
            expected,
            RunTransition::Resume
        ));
        Ok(RunPayload { run: run.into() })
    }

    /// Failed → in progress: the failed steps of its failed phase are done again, what had gone through stays. Completed → in
    /// progress: the recipients that failed are tried again, and nobody else. Refused with CONFLICT for a run that failed
    /// before it began, or whose campaign has ended; where nobody is left to be reached; while a run that repeats it is open.
    async fn retry_run(&self, ctx: &Context<'_>, input: RetryRunInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let reason = input.reason.as_deref();
        let run =
            idempotent!(ctx, input.idempotency_key, |db| noun::retry::retry(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: run.into() })
    }

    /// Looks again at where a run stands: a scheduled one gets its preflight of now, one at work is derived anew from its
    /// steps and moved as far as it goes. What was right stays as it is.
    async fn refresh_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::refresh::refresh(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: run.into() })
    }

    /// Calls a run off: nothing of it starts from now on, and its open steps are skipped. Twice is once.
    async fn cancel_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::cancel(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: run.into() })
    }
}
