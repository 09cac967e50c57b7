//! Preflight checks of the launch's input: recipients, sample, time.

use entity::id::ScheduleId;
use entity::{Channel, campaign};

use super::{Checks, LaunchAction, LaunchInput, PreflightCode};
use crate::domain::audience::suppression;
use crate::domain::plan::schedule::{EITHER_DAY, ScheduleTime};
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::{limits, validate};

impl Checks {
    pub(super) async fn input(
        &mut self,
        db: &Db,
        campaign: &campaign::Model,
        input: Option<&LaunchInput>,
    ) -> Result<()> {
        match (self.action, input) {
            (LaunchAction::TestRun, Some(input)) => self.recipients(db, campaign, input).await?,
            (LaunchAction::TestRun, None) => {
                self.not_applicable(PreflightCode::TestRecipients, "depends on the launch's input")
            }
            (_, _) => self.not_applicable(PreflightCode::TestRecipients, "for test runs only"),
        }
        match (self.action, input) {
            (LaunchAction::Schedule, Some(input)) => {
                let either =
                    |when: &ScheduleTime| when.pattern().ok().flatten().is_some_and(|pattern| pattern.either_day());
                let (checked, note) = match &input.when {
                    Some(when) => {
                        let found = input.terms.check(ScheduleId::new(), when, db.now());
                        (found.map(|_| ()).map_err(|refusal| refusal.message), either(when))
                    }
                    None => (Err("give a time: `at`, or `cron` and `timezone`".to_owned()), false),
                };
                let field = if matches!(input.when, Some(ScheduleTime::Cron { .. })) { "cron" } else { "at" };
                let remediation = "give a time in the future, or a valid pattern and time zone";
                match checked {
                    Err(failure) => self.require(PreflightCode::Time, false, Some(field), "", &failure, remediation),
                    Ok(()) if note => {
                        let remediation =
                            "write `+` before the day of week to require both, or give one of the two fields";
                        self.advise(PreflightCode::Time, false, Some(field), "", EITHER_DAY, remediation);
                    }
                    Ok(()) => {
                        self.require(
                            PreflightCode::Time,
                            true,
                            Some(field),
                            "the time lies in the future",
                            "",
                            remediation,
                        );
                    }
                }
            }
            (LaunchAction::Schedule, None) => self.not_applicable(PreflightCode::Time, "depends on the launch's input"),
            (_, _) => self.not_applicable(PreflightCode::Time, "for schedules only"),
        }
        Ok(())
    }

    async fn recipients(&mut self, db: &Db, campaign: &campaign::Model, launch: &LaunchInput) -> Result<()> {
        let channel = campaign.channel;
        let sample = launch.sample.unwrap_or(0);
        let mut problems = Vec::new();
        if launch.recipients.is_empty() && sample == 0 {
            problems.push("neither test recipients nor a sample are given".to_owned());
        }
        if launch.recipients.is_empty() && sample != 0 && channel != Channel::Email {
            problems.push(
                "a sample without recipients goes to the launcher's mail address, so this channel needs recipients"
                    .to_owned(),
            );
        }
        if launch.recipients.len() > limits::TEST_RECIPIENTS {
            problems.push(format!("more than {} recipients", limits::TEST_RECIPIENTS));
        }
        if usize::try_from(sample).map_or(true, |sample| sample > limits::TEST_SAMPLE) {
            problems.push(format!("a sample must be 1 to {}", limits::TEST_SAMPLE));
        }
        for (i, address) in launch.recipients.iter().enumerate() {
            if let Err(err) = address_of(channel, i, address) {
                problems.push(err.to_string());
            }
        }
        let keys: Vec<String> = launch.recipients.iter().filter_map(|given| key_of(channel, given)).collect();
        let suppressed = suppression::find_suppressed(db.read(), campaign.org_id, channel, &keys).await?;
        if problems.is_empty() && !suppressed.is_empty() {
            let some: Vec<&str> = suppressed.keys().take(limits::USES_SHOWN as usize).map(String::as_str).collect();
            let message = format!(
                "{} of the recipients are suppressed and will get nothing: {}",
                suppressed.len(),
                some.join(", ")
            );
            let remediation =
                "give other recipients, or remove the addresses from the suppression list (`unsuppressAddress`)";
            self.advise(PreflightCode::TestRecipients, false, Some("recipients"), "", &message, remediation);
            return Ok(());
        }
        self.require(
            PreflightCode::TestRecipients,
            problems.is_empty(),
            Some("recipients"),
            "test recipients are given",
            &problems.join("; "),
            "give recipients or a sample",
        );
        Ok(())
    }
}

fn address_of(channel: Channel, i: usize, given: &str) -> Result<String> {
    let field = format!("recipients[{i}]");
    match channel {
        Channel::Email => validate::email(&field, given),
        Channel::Sms | Channel::Phone => validate::phone(&field, given),
    }
}

/// Returns the key of a test recipient's address for comparison; `None` if the address is invalid.
fn key_of(channel: Channel, given: &str) -> Option<String> {
    address_of(channel, 0, given).ok().map(|address| suppression::key(&address))
}

/// Normalizes and deduplicates the recipients of a test run, so that suppressions match them.
/// Errors: BAD_USER_INPUT.
pub fn test_recipients(channel: Channel, given: &[String]) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::with_capacity(given.len());
    for (i, given) in given.iter().enumerate() {
        let address = address_of(channel, i, given)?;
        if !all.iter().any(|known| suppression::key(known) == suppression::key(&address)) {
            all.push(address);
        }
    }
    Ok(all)
}
