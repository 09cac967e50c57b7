//! New messages: drafts of the campaign's content, messages of `email` steps, messages by a
//! person's action.

use chrono::{DateTime, Utc};
use entity::communication::{ActiveModel, CommunicationStatus};
use entity::id::*;
use entity::{Channel, run, run_record};
use sea_orm::Set;

use super::search;
use crate::domain::content::templating::Message;

/// The values of a new message.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage<'a> {
    /// The message's run.
    pub(crate) run: &'a run::Model,
    /// The step that sends it.
    pub(crate) step_id: StepId,
    /// The recipient, an entry of the run's audience.
    pub(crate) recipient: &'a run_record::Model,
    /// The channel.
    pub(crate) channel: Channel,
    /// The recipient's address.
    pub(crate) to: String,
    /// The recipient's name.
    pub(crate) name: String,
    /// The rendered content.
    pub(crate) message: Message,
    /// 0 for a step's own message, else the number of a person's action.
    pub(crate) action_number: i32,
    /// True if a person chose to write again to an address that the step has already written to.
    pub(crate) is_repeat: bool,
    /// The person whose action it is; `None` for a step's own message.
    pub(crate) acted_by: Option<entity::Actor>,
    /// The meeting that it is about, with the calendar attachment.
    pub(crate) meeting: Option<(MeetingId, String)>,
    /// True if it belongs to a test run.
    pub(crate) test: bool,
    /// The domain of its Message-ID, after the `@`.
    pub(crate) domain: &'a str,
}

impl NewMessage<'_> {
    /// Builds the row with a status.
    pub(crate) fn row(self, status: CommunicationStatus, now: DateTime<Utc>) -> ActiveModel {
        let id = CommunicationId::new();
        let (meeting_id, calendar) = self.meeting.unzip();
        ActiveModel {
            id: Set(id),
            org_id: Set(self.run.org_id),
            campaign_id: Set(self.run.campaign_id),
            run_id: Set(self.run.id),
            step_id: Set(self.step_id),
            run_record_id: Set(self.recipient.id),
            record_id: Set(self.recipient.record_id),
            action_number: Set(self.action_number),
            is_repeat: Set(self.is_repeat),
            acted_by: Set(self.acted_by),
            channel: Set(self.channel),
            search: Set(search::folded(self.message.subject.as_deref(), &self.name)),
            to_address: Set(self.to),
            to_name: Set(self.name),
            subject: Set(self.message.subject),
            body: Set(self.message.body),
            status: Set(status),
            test: Set(self.test),
            message_id: Set(format!("{id}@{}", self.domain)),
            edited_by: Set(None),
            reviewed_by: Set(None),
            rejected_because: Set(None),
            error: Set(None),
            meeting_id: Set(meeting_id),
            calendar: Set(calendar),
            reserved_at: Set(None),
            refusals: Set(0),
            refused_since: Set(None),
            sent_at: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
            revision: Set(1),
        }
    }
}
