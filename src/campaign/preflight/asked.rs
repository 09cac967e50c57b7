//! What the launch's own input says: recipients, sample, time.

use entity::Channel;

use super::{Checks, LaunchAction, LaunchInput, PreflightCode};
use crate::db::Db;
use crate::{input, limits};

impl Checks {
    pub(super) fn input(&mut self, db: &Db, channel: Channel, input: Option<&LaunchInput>) {
        match (self.action, input) {
            (LaunchAction::TestRun, Some(input)) => self.recipients(channel, input),
            (LaunchAction::TestRun, None) => {
                self.not_applicable(PreflightCode::TestRecipients, "depends on the launch's input")
            }
            (_, _) => self.not_applicable(PreflightCode::TestRecipients, "for test runs only"),
        }
        match (self.action, input) {
            (LaunchAction::Schedule, Some(input)) => {
                let checked = match &input.when {
                    Some(when) => when.check(db.now()).map(|_| ()),
                    None => Err("say when: `at`, or `cron` and `timezone`".to_owned()),
                };
                let ill = checked.as_ref().err().cloned().unwrap_or_default();
                self.say(
                    PreflightCode::Time,
                    checked.is_ok(),
                    Some("at"),
                    "the time lies in the future",
                    &ill,
                    "give a time in the future, or a valid pattern and zone",
                );
            }
            (LaunchAction::Schedule, None) => self.not_applicable(PreflightCode::Time, "depends on the launch's input"),
            (_, _) => self.not_applicable(PreflightCode::Time, "for schedules only"),
        }
    }

    fn recipients(&mut self, channel: Channel, launch: &LaunchInput) {
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
        for address in &launch.recipients {
            let checked = match channel {
                Channel::Email => input::email("recipients", address),
                Channel::Sms | Channel::Phone => input::phone("recipients", address),
            };
            if let Err(err) = checked {
                faults.push(err.to_string());
            }
        }
        self.say(
            PreflightCode::TestRecipients,
            faults.is_empty(),
            Some("recipients"),
            "there are test recipients",
            &faults.join("; "),
            "give recipients, or a sample",
        );
    }
}
