//! Launches: a test run, a run, a schedule.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::schedule::{CatchUpPolicy, FoldPolicy, GapPolicy};

use super::Run;
use crate::domain::plan::campaign::preflight::{LaunchAction, LaunchInput, Preflight};
use crate::domain::plan::schedule::SchedulePolicies;
use crate::domain::run::launch::{self, Launch};
use crate::graphql::preflight::when;
use crate::graphql::schedule::Schedule;
use crate::graphql::viewer;
use crate::kernel::validate;

/// A run to the test addresses.
#[derive(InputObject)]
pub struct TestRunInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the run; the campaign's unless said.
    name: Option<String>,
    /// The test addresses; with a `sample` and none of these, your own address.
    recipients: Option<Vec<String>>,
    /// How many records of the audience to render for; every recipient gets a message for each. One unless said.
    sample: Option<i32>,
    /// Whether the messages are reviewed as in a run; no, unless said.
    review: Option<bool>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// A run over the audience, now.
#[derive(InputObject)]
pub struct RunCampaignInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the run; the campaign's unless said.
    name: Option<String>,
    /// Whether it is launched although another run of the campaign is under way (queued, in progress or paused; tests do not
    /// count): whoever is in both audiences gets both messages. False unless said: the preflight's OPEN_RUN fails then.
    even_if_open: Option<bool>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Runs over the audience, at their time: `at`, or `cron` in a `timezone`.
#[derive(InputObject)]
pub struct ScheduleCampaignInput {
    /// The campaign.
    campaign_id: ID,
    /// The campaign's revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A name for the runs; the campaign's unless said.
    name: Option<String>,
    /// Once, at this time.
    at: Option<DateTime<Utc>>,
    /// Again and again: minute, hour, day of month, month, day of week.
    cron: Option<String>,
    /// The IANA zone that `cron` is read in; UTC unless said.
    timezone: Option<String>,
    /// Local times that do not exist; SHIFT unless said.
    gap: Option<GapPolicy>,
    /// Local times that come twice; ONCE unless said.
    fold: Option<FoldPolicy>,
    /// The occurrences that are made up for when their time passed while the server was down; LAST unless given.
    catch_up: Option<CatchUpPolicy>,
    /// The age up to which an occurrence is made up for, 1 to 31536000 seconds; unless given, any age by LAST, a day by ALL.
    catch_up_window_seconds: Option<i64>,
    /// Only shows the preflight.
    dry_run: Option<bool>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// The run that was launched, and the preflight that let it fly or held it back.
#[derive(SimpleObject)]
pub struct LaunchPayload {
    /// The run; null where the preflight is not ready, or it was a dry run.
    run: Option<Run>,
    /// The preflight, with every reason.
    preflight: Preflight,
}

/// The schedule that was made, and the preflight that let it be or held it back.
#[derive(SimpleObject)]
pub struct SchedulePayload {
    /// The schedule; null where the preflight is not ready, or it was a dry run.
    schedule: Option<Schedule>,
    /// Its first occurrence, waiting for its time; null where the schedule is.
    run: Option<Run>,
    /// The preflight, with every reason.
    preflight: Preflight,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct LaunchMutation;

#[Object]
impl LaunchMutation {
    /// Launches a run to the test addresses. It never reaches the audience and changes no record.
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
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::again(
            db,
            viewer(ctx),
            id
        ));
        Ok(LaunchPayload { run: launched.run.map(Run::from), preflight: launched.preflight })
    }

    /// Launches a run over the audience, now.
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
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::again(
            db,
            viewer(ctx),
            id
        ));
        Ok(LaunchPayload { run: launched.run.map(Run::from), preflight: launched.preflight })
    }

    /// Schedules runs over the audience, once or repeating. Preflight is asked now, and again when each falls due.
    async fn schedule_campaign(&self, ctx: &Context<'_>, input: ScheduleCampaignInput) -> Result<SchedulePayload> {
        let when = when(input.at, input.cron.as_deref(), input.timezone.as_deref(), input.gap, input.fold)?;
        let terms =
            SchedulePolicies { name: None, catch_up: input.catch_up, window_seconds: input.catch_up_window_seconds };
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
        let launched = idempotent!(ctx, key, |db| launch::launch(db, viewer(ctx), &launch), |id| launch::again(
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
