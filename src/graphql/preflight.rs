//! Preflight input: the parameters of a launch that is only checked.

use async_graphql::{InputObject, Result};
use chrono::{DateTime, Utc};
use entity::schedule::{FoldPolicy, GapPolicy};

use crate::domain::plan::campaign::preflight::LaunchInput as Launch;
use crate::domain::plan::schedule::ScheduleTime;
use crate::kernel::error::Refusal;

/// Parameters of the launch to check: test recipients or a sample for TEST_RUN, a time for
/// SCHEDULE.
#[derive(InputObject, Default, Clone)]
pub struct LaunchInput {
    /// Addresses that receive a test run's messages.
    pub recipients: Option<Vec<String>>,
    /// Number of records of the audience that a test run samples.
    pub sample: Option<i32>,
    /// Start time of a single run.
    pub at: Option<DateTime<Utc>>,
    /// Cron pattern of repeating runs, five fields.
    pub cron: Option<String>,
    /// IANA time zone in which `cron` is evaluated.
    pub timezone: Option<String>,
    /// Policy for local times that do not exist; SHIFT by default.
    pub gap: Option<GapPolicy>,
    /// Policy for local times that occur twice; ONCE by default.
    pub fold: Option<FoldPolicy>,
    /// True to launch although another run is open; false by default, and then the check OPEN_RUN
    /// fails, as it does for the launch.
    pub even_if_open: Option<bool>,
}

impl LaunchInput {
    /// Converts the input; rejects contradictory fields.
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

/// Returns a single time or a pattern, `None` if neither is given; rejects both together,
/// and a single time with settings of a pattern.
pub fn when(
    at: Option<DateTime<Utc>>,
    cron: Option<&str>,
    timezone: Option<&str>,
    gap: Option<GapPolicy>,
    fold: Option<FoldPolicy>,
) -> std::result::Result<Option<ScheduleTime>, Refusal> {
    match (at, cron) {
        (Some(_), Some(_)) => Err(Refusal::input("cron", "give `at` or `cron`, not both")),
        (Some(at), None) => {
            ScheduleTime::check_alone(&[
                ("timezone", timezone.is_some()),
                ("gap", gap.is_some()),
                ("fold", fold.is_some()),
            ])?;
            Ok(Some(ScheduleTime::At(chrono::SubsecRound::trunc_subsecs(at, 6))))
        }
        (None, Some(cron)) => Ok(Some(ScheduleTime::Cron {
            cron: cron.to_owned(),
            time_zone: timezone.unwrap_or("UTC").to_owned(),
            gap: gap.unwrap_or(GapPolicy::Shift),
            fold: fold.unwrap_or(FoldPolicy::Once),
        })),
        (None, None) => Ok(None),
    }
}
