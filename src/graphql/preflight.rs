//! Preflight, for an action and its input.

use async_graphql::{InputObject, Result};
use chrono::{DateTime, Utc};
use entity::schedule::{FoldPolicy, GapPolicy};

use crate::domain::plan::campaign::preflight::LaunchInput as Launch;
use crate::domain::plan::schedule::ScheduleTime;
use crate::kernel::error::Refusal;

/// What a launch would be given: test recipients or a sample for TEST_RUN, a time for SCHEDULE.
#[derive(InputObject, Default, Clone)]
pub struct LaunchInput {
    /// Addresses that a test run goes to.
    pub recipients: Option<Vec<String>>,
    /// How many records of the audience a test run samples.
    pub sample: Option<i32>,
    /// When, for a single run.
    pub at: Option<DateTime<Utc>>,
    /// When, for repeating runs: five fields.
    pub cron: Option<String>,
    /// The IANA zone that `cron` is read in.
    pub timezone: Option<String>,
    /// Local times that do not exist; SHIFT unless said.
    pub gap: Option<GapPolicy>,
    /// Local times that come twice; ONCE unless said.
    pub fold: Option<FoldPolicy>,
    /// Whether a run would be launched although another one is under way; false unless said, and OPEN_RUN
    /// fails then, as it does for the launch.
    pub even_if_open: Option<bool>,
}

impl LaunchInput {
    /// Read, with contradictions refused.
    pub fn read(&self) -> Result<Launch> {
        let when = when(self.at, self.cron.as_deref(), self.timezone.as_deref(), self.gap, self.fold)?;
        Ok(Launch {
            recipients: self.recipients.clone().unwrap_or_default(),
            sample: self.sample,
            when,
            terms: crate::domain::plan::schedule::SchedulePolicies::default(),
            even_if_open: self.even_if_open.unwrap_or(false),
        })
    }
}

/// At one time, or by a pattern, not both; none where neither is given.
pub fn when(
    at: Option<DateTime<Utc>>,
    cron: Option<&str>,
    timezone: Option<&str>,
    gap: Option<GapPolicy>,
    fold: Option<FoldPolicy>,
) -> std::result::Result<Option<ScheduleTime>, Refusal> {
    match (at, cron) {
        (Some(_), Some(_)) => Err(Refusal::input("cron", "give `at` or `cron`, not both")),
        (Some(at), None) => Ok(Some(ScheduleTime::At(chrono::SubsecRound::trunc_subsecs(at, 6)))),
        (None, Some(cron)) => Ok(Some(ScheduleTime::Cron {
            cron: cron.to_owned(),
            time_zone: timezone.unwrap_or("UTC").to_owned(),
            gap: gap.unwrap_or(GapPolicy::Shift),
            fold: fold.unwrap_or(FoldPolicy::Once),
        })),
        (None, None) => Ok(None),
    }
}
