//! What the launch's own input says: recipients, sample, time.

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
                    Some(when) => (when.check(db.now()).map(|_| ()).map_err(|refusal| refusal.message), either(when)),
                    None => (Err("say when: `at`, or `cron` and `timezone`".to_owned()), false),
                };
                let field = if matches!(input.when, Some(ScheduleTime::Cron { .. })) { "cron" } else { "at" };
                let mend = "give a time in the future, or a valid pattern and zone";
                match checked {
                    Err(ill) => self.say(PreflightCode::Time, false, Some(field), "", &ill, mend),
                    Ok(()) if note => {
                        let mend = "write `+` before the day of week to require both, or give one of the two fields";
                        self.advise(PreflightCode::Time, false, Some(field), "", EITHER_DAY, mend);
                    }
                    Ok(()) => {
                        self.say(PreflightCode::Time, true, Some(field), "the time lies in the future", "", mend);
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
        let mut faults = Vec::new();
        if launch.recipients.is_empty() && sample == 0 {
            faults.push("neither test recipients nor a sample are given".to_owned());
        }
        if launch.recipients.is_empty() && sample != 0 && channel != Channel::Email {
            faults.push(
                "a sample without recipients goes to the launcher's mail address, so this channel needs recipients"
                    .to_owned(),
            );
        }
        if launch.recipients.len() > limits::TEST_RECIPIENTS {
            faults.push(format!("more than {} recipients", limits::TEST_RECIPIENTS));
        }
        if usize::try_from(sample).map_or(true, |sample| sample > limits::TEST_SAMPLE) {
            faults.push(format!("a sample is of 1 to {}", limits::TEST_SAMPLE));
        }
        for (i, address) in launch.recipients.iter().enumerate() {
            if let Err(err) = address_of(channel, i, address) {
                faults.push(err.to_string());
            }
        }
        let keys: Vec<String> = launch.recipients.iter().filter_map(|given| key_of(channel, given)).collect();
        let closed = suppression::among(db.read(), campaign.org_id, channel, &keys).await?;
        if faults.is_empty() && !closed.is_empty() {
            let some: Vec<&str> = closed.keys().take(limits::USES_SHOWN as usize).map(String::as_str).collect();
            let told =
                format!("{} of the recipients are suppressed, and get nothing: {}", closed.len(), some.join(", "));
            let mend = "give other recipients, or take the addresses off the list (`unsuppressAddress`)";
            self.advise(PreflightCode::TestRecipients, false, Some("recipients"), "", &told, mend);
            return Ok(());
        }
        self.say(
            PreflightCode::TestRecipients,
            faults.is_empty(),
            Some("recipients"),
            "there are test recipients",
            &faults.join("; "),
            "give recipients, or a sample",
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

/// The address of a test recipient, as it is compared; none where it is no address.
fn key_of(channel: Channel, given: &str) -> Option<String> {
    address_of(channel, 0, given).ok().map(|address| suppression::key(&address))
}

/// The recipients of a test run in the form in which addresses are kept, so that suppressions are found by them; each once.
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
