//! Run mutations: repeat, retry, reschedule, pause, resume, refresh, cancel; single and in bulk.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::run::RunTransition;

use super::Run;
use crate::domain::run as noun;
use crate::domain::run::list::RunFilter;
use crate::domain::run::permissions::Action;
use crate::graphql::viewer;
use crate::kernel::validate;

/// Identifies the run of a transition.
#[derive(InputObject)]
pub struct RunActInput {
    /// Id of the run.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// Reason, stored in the event of the transition; by cancelRun in `Run.failure`, too. Ignored
    /// by refreshRun, which makes no transition of its own.
    reason: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Selects the recipients to retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum)]
pub enum RetryRecipients {
    /// The recipients that failed and were not reached by a repeat of this run.
    Failed,
}

/// Identifies the run to retry.
#[derive(InputObject)]
pub struct RetryRunInput {
    /// Id of the run, which has failed, or is completed with failed recipients.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The recipients to retry; FAILED by default.
    recipients: Option<RetryRecipients>,
    /// Reason, stored in the event `run.started`.
    reason: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// A new time for a scheduled run.
#[derive(InputObject)]
pub struct RescheduleRunInput {
    /// Id of the run.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the run has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The new time, in the future.
    at: DateTime<Utc>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the run to repeat.
#[derive(InputObject)]
pub struct RepeatRunInput {
    /// Id of the run, which has ended.
    id: ID,
    /// Name of the new run; the same by default.
    name: Option<String>,
    /// True to include only recipients that were not reached by the run or by another repeat of it:
    /// results of their completed steps are carried over, and approved content is not reviewed
    /// again. Rejected with CONFLICT if no recipient is left, or while another such repeat is open.
    /// False by default: the whole audience.
    only_failed: Option<bool>,
    /// True to repeat the whole audience while another run of the campaign is open: recipients in
    /// both get both messages. False by default: rejected with CONFLICT, naming the run (`runId`).
    even_if_open: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Selects the runs of a bulk mutation.
#[derive(InputObject)]
pub struct BulkRunInput {
    /// Filter of the runs; at most 1,000 may match.
    filter: RunFilter,
    /// Reason, stored in the event of each run, as by cancelRun and retryRun; when cancelling also
    /// in `Run.failure`.
    reason: Option<String>,
    /// True to check each run without changing it: `count` and `refused` then describe the expected
    /// result. False by default.
    dry_run: Option<bool>,
}

/// A run for which the mutation was rejected.
#[derive(SimpleObject)]
pub struct RefusedRun {
    /// Id of the run.
    id: ID,
    /// Error code.
    code: String,
    /// Error message.
    message: String,
}

/// The number of rejected runs with one error code.
#[derive(SimpleObject)]
pub struct RefusedCount {
    /// Error code.
    code: String,
    /// Number of runs.
    count: u64,
}

/// Result of a bulk mutation.
#[derive(SimpleObject)]
pub struct BulkRunPayload {
    /// Number of runs that match the filter.
    matched: u64,
    /// Number of runs that were changed; for a dry run, that would be changed.
    count: u64,
    /// Ids of the changed runs; empty for a dry run.
    done: Vec<ID>,
    /// The runs for which the mutation was rejected, with the reason; for a dry run, would be
    /// rejected. The other runs are changed nevertheless.
    refused: Vec<RefusedRun>,
    /// Number of rejected runs per error code, most frequent first.
    refused_counts: Vec<RefusedCount>,
}

async fn bulk(ctx: &Context<'_>, input: BulkRunInput, action: Action) -> Result<BulkRunPayload> {
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

/// The changed run.
#[derive(SimpleObject)]
pub struct RunPayload {
    /// The run after the change.
    pub(super) run: Run,
}

/// Mutations for runs.
#[derive(Default)]
pub struct RunMutation;

#[Object]
impl RunMutation {
    /// Queues a repeat of an ended run with the same structure, instructions and records; its
    /// `parent` is the repeated run. Rejected with NOT_FOUND or CONFLICT.
    async fn repeat_run(&self, ctx: &Context<'_>, input: RepeatRunInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (only_failed, even_if_open) = (input.only_failed.unwrap_or(false), input.even_if_open.unwrap_or(false));
        let (name, how) = (input.name.as_deref(), noun::repeat::RepeatOptions { only_failed, even_if_open });
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::repeat::repeat(db, viewer(ctx), id, name, how));
        Ok(RunPayload { run: run.into() })
    }

    /// Cancels the runs that match a filter, each independently, before the response. Rejected with
    /// LIMIT_EXCEEDED if more than 1,000 match. `startBulkAction` with CANCEL_RUNS cancels more, and
    /// shows its progress.
    async fn cancel_runs(&self, ctx: &Context<'_>, input: BulkRunInput) -> Result<BulkRunPayload> {
        bulk(ctx, input, Action::Cancel).await
    }

    /// Retries the runs that match a filter and have failed, or are completed with failed
    /// recipients, each independently, before the response. Rejected with LIMIT_EXCEEDED if more than
    /// 1,000 match. `startBulkAction` with RETRY_RUNS retries more, and shows its progress.
    async fn retry_runs(&self, ctx: &Context<'_>, input: BulkRunInput) -> Result<BulkRunPayload> {
        bulk(ctx, input, Action::Retry).await
    }

    /// Moves a scheduled run to another time in the future.
    async fn reschedule_run(&self, ctx: &Context<'_>, input: RescheduleRunInput) -> Result<RunPayload> {
        let (id, at) = (validate::id("id", &input.id)?, chrono::SubsecRound::trunc_subsecs(input.at, 6));
        let expected = input.expected_revision;
        let run =
            idempotent!(ctx, input.idempotency_key, |db| noun::control::reschedule(db, viewer(ctx), id, expected, at));
        Ok(RunPayload { run: run.into() })
    }

    /// Pauses a run: nothing of it is claimed, started or sent; work in flight is settled.
    async fn pause_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::control::pause_or_resume(
            db,
            viewer(ctx),
            id,
            expected,
            RunTransition::Pause,
            reason
        ));
        Ok(RunPayload { run: run.into() })
    }

    /// Resumes a paused run.
    async fn resume_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::control::pause_or_resume(
            db,
            viewer(ctx),
            id,
            expected,
            RunTransition::Resume,
            reason
        ));
        Ok(RunPayload { run: run.into() })
    }

    /// Failed → in progress: the failed steps of its failed phase are retried, completed work is
    /// kept. Completed → in progress: only the failed recipients are retried. Rejected with
    /// CONFLICT if the run failed before it began, its campaign has ended, no recipient is left to
    /// be reached, or a repeat of it is open.
    async fn retry_run(&self, ctx: &Context<'_>, input: RetryRunInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let reason = input.reason.as_deref();
        let run =
            idempotent!(ctx, input.idempotency_key, |db| noun::retry::retry(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: run.into() })
    }

    /// Recomputes a run's state: a scheduled run gets a new preflight; for an active run, task and
    /// phase states are derived again from its steps and the run advances as far as possible.
    /// Correct state is not changed. Ignores `reason`.
    async fn refresh_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let (id, expected) = (validate::id("id", &input.id)?, input.expected_revision);
        let run = idempotent!(ctx, input.idempotency_key, |db| noun::refresh::refresh(db, viewer(ctx), id, expected));
        Ok(RunPayload { run: run.into() })
    }

    /// Cancels a run: nothing of it starts any more, and its open steps are skipped. Cancelling it
    /// again has no effect.
    async fn cancel_run(&self, ctx: &Context<'_>, input: RunActInput) -> Result<RunPayload> {
        let id = validate::id("id", &input.id)?;
        let (expected, reason) = (input.expected_revision, input.reason.as_deref());
        let run =
            idempotent!(ctx, input.idempotency_key, |db| noun::control::cancel(db, viewer(ctx), id, expected, reason));
        Ok(RunPayload { run: run.into() })
    }
}
