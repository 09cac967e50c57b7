//! Launch mutations: test run, run, schedule.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, SubsecRound, Utc};
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy, OverlapPolicy};

use super::Run;
use crate::domain::plan::campaign::preflight::{LaunchAction, LaunchInput, Preflight};
use crate::domain::plan::schedule::SchedulePolicies;
use crate::domain::plan::schedule::timing::Bounds;
use crate::domain::run::launch::{self, Launch};
use crate::graphql::preflight::when;
use crate::graphql::schedule::Schedule;
use crate::graphql::viewer;
use crate::kernel::validate;

/// Parameters of a run to test addresses.
#[derive(InputObject)]
pub struct TestRunInput {
    /// Id of the campaign.
    campaign_id: ID,
    /// Expected revision of the campaign: rejected with CONFLICT if it has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Name of the run; the campaign's name by default.
    name: Option<String>,
    /// Test addresses; with a `sample` and no addresses, your own address.
    recipients: Option<Vec<String>>,
    /// Number of records of the audience to render for; every recipient gets one message per
    /// record. 1 by default.
    sample: Option<i32>,
    /// True if the messages are reviewed as in a run; false by default.
    review: Option<bool>,
    /// True to return the preflight without launching.
    dry_run: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Parameters of an immediate run over the audience.
#[derive(InputObject)]
pub struct RunCampaignInput {
    /// Id of the campaign.
    campaign_id: ID,
    /// Expected revision of the campaign: rejected with CONFLICT if it has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Name of the run; the campaign's name by default.
    name: Option<String>,
    /// True to launch while another run of the campaign is open (queued, in progress or paused;
    /// test runs do not count): records in both audiences get both messages. False by default: the
    /// preflight check OPEN_RUN then fails.
    even_if_open: Option<bool>,
    /// True to return the preflight without launching.
    dry_run: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Parameters of scheduled runs over the audience: `at`, or `cron` with a `timezone`.
#[derive(InputObject)]
pub struct ScheduleCampaignInput {
    /// Id of the campaign.
    campaign_id: ID,
    /// Expected revision of the campaign: rejected with CONFLICT if it has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Name of the runs; the campaign's name by default.
    name: Option<String>,
    /// Start time of a single run.
    at: Option<DateTime<Utc>>,
    /// Cron pattern of repeating runs: minute, hour, day of month, month, day of week.
    cron: Option<String>,
    /// IANA time zone in which `cron` is evaluated; UTC by default.
    timezone: Option<String>,
    /// Policy for local times that do not exist; SHIFT by default.
    gap: Option<GapPolicy>,
    /// Policy for local times that occur twice; ONCE by default.
    fold: Option<FoldPolicy>,
    /// Policy for occurrences missed while the server was down; LAST by default.
    catch_up: Option<CatchUpPolicy>,
    /// Maximum age of a missed occurrence to catch up, 1 to 31536000 seconds; by default unlimited
    /// for LAST, one day for ALL.
    catch_up_window_seconds: Option<i64>,
    /// Time before which nothing occurs, in UTC; no bound by default. With `cron` only.
    start_at: Option<DateTime<Utc>>,
    /// Time after which nothing occurs, in UTC; no bound by default. With `cron` only.
    end_at: Option<DateTime<Utc>>,
    /// Number of starts, 1 to 1000000, after which the schedule ends; no limit by default. With
    /// `cron` only.
    remaining: Option<i32>,
    /// Maximum delay of a start behind its occurrence, 0 to 86400 seconds; 0 by default. Each
    /// occurrence has a delay of its own, before the next occurrence. With `cron` only.
    jitter_seconds: Option<i32>,
    /// Policy for an occurrence that falls due while an earlier run of the schedule is open;
    /// ALLOW_ALL by default.
    overlap: Option<OverlapPolicy>,
    /// True to return the preflight without scheduling.
    dry_run: Option<bool>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The launched run and its preflight, which allowed or blocked the launch.
#[derive(SimpleObject)]
pub struct LaunchPayload {
    /// The run; null if the preflight is not ready, or for a dry run.
    run: Option<Run>,
    /// The preflight, with all reasons.
    preflight: Preflight,
}

/// The created schedule and its preflight, which allowed or blocked the schedule.
#[derive(SimpleObject)]
pub struct SchedulePayload {
    /// The schedule; null if the preflight is not ready, or for a dry run.
    schedule: Option<Schedule>,
    /// Run of the first occurrence, not yet due; null if `schedule` is null.
    run: Option<Run>,
    /// The preflight, with all reasons.
    preflight: Preflight,
}

/// Mutations that launch runs.
#[derive(Default)]
pub struct LaunchMutation;

#[Object]
impl LaunchMutation {
    /// Launches a run to test addresses. It never reaches the audience and changes no record.
    async fn test_run_campaign(&self, ctx: &Context<'_>, input: TestRunInput) -> Result<LaunchPayload> {
        let launch = Launch {
            campaign_id: validate::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::TestRun,
            input: LaunchInput {
                recipients: input.recipients.unwrap_or_default(),
                sample: input.sample,
                ..LaunchInput::default()
            },
            review: input.review.unwrap_or(false),
            dry_run: input.dry_run.unwrap_or(false),
        };
        let key = input.idempotency_key;
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::replay(
            db,
            viewer(ctx),
            id
        ));
        Ok(LaunchPayload { run: launched.run.map(Run::from), preflight: launched.preflight })
    }

    /// Launches a run over the audience immediately.
    async fn run_campaign(&self, ctx: &Context<'_>, input: RunCampaignInput) -> Result<LaunchPayload> {
        let launch = Launch {
            campaign_id: validate::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::Run,
            input: LaunchInput { even_if_open: input.even_if_open.unwrap_or(false), ..LaunchInput::default() },
            review: true,
            dry_run: input.dry_run.unwrap_or(false),
        };
        let key = input.idempotency_key;
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::replay(
            db,
            viewer(ctx),
            id
        ));
        Ok(LaunchPayload { run: launched.run.map(Run::from), preflight: launched.preflight })
    }

    /// Schedules runs over the audience, once or repeating. The preflight is computed now, and
    /// again when each run is due.
    async fn schedule_campaign(&self, ctx: &Context<'_>, input: ScheduleCampaignInput) -> Result<SchedulePayload> {
        let when = when(input.at, input.cron.as_deref(), input.timezone.as_deref(), input.gap, input.fold)?;
        let terms = SchedulePolicies {
            name: None,
            catch_up: input.catch_up,
            window_seconds: input.catch_up_window_seconds,
            overlap: input.overlap,
            bounds: Bounds {
                start_at: input.start_at.map(|at| at.trunc_subsecs(6)),
                end_at: input.end_at.map(|at| at.trunc_subsecs(6)),
                remaining: input.remaining,
                jitter_seconds: input.jitter_seconds,
            },
        };
        let launch = Launch {
            campaign_id: validate::id("campaignId", &input.campaign_id)?,
            expected_revision: input.expected_revision,
            name: input.name,
            action: LaunchAction::Schedule,
            input: LaunchInput { when, terms, ..LaunchInput::default() },
            review: true,
            dry_run: input.dry_run.unwrap_or(false),
        };
        let key = input.idempotency_key;
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::replay(
            db,
            viewer(ctx),
            id
        ));
        Ok(SchedulePayload {
            schedule: launched.schedule.map(Schedule),
            run: launched.run.map(Run::from),
            preflight: launched.preflight,
        })
    }
}
