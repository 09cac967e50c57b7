//! A message as it is made: by a draft from the campaign's content, by an `email` step from its own, by a person's action.

use chrono::{DateTime, Utc};
use entity::communication::{ActiveModel, CommunicationStatus};
use entity::id::*;
use entity::{Channel, run, run_record};
use sea_orm::Set;

use crate::domain::content::templating::Message;

/// What a message is made of.
#[derive(Clone, Debug)]
pub(crate) struct NewMessage<'a> {
    /// Of which run.
    pub(crate) run: &'a run::Model,
    /// Of which step.
    pub(crate) step_id: StepId,
    /// To which place of the audience.
    pub(crate) place: &'a run_record::Model,
    /// The way.
    pub(crate) channel: Channel,
    /// The address.
    pub(crate) to: String,
    /// The name there.
    pub(crate) name: String,
    /// What it says.
    pub(crate) message: Message,
    /// 0 for a step's own message, else the number of a person's action.
    pub(crate) occasion: i32,
    /// Whether a person said to write once more to an address that the step had written to.
    pub(crate) again: bool,
    /// The person whose action it is; none for a step's own message.
    pub(crate) acted_by: Option<entity::Actor>,
    /// The meeting that it is about, and what goes with it for the calendar.
    pub(crate) meeting: Option<(MeetingId, String)>,
    /// Whether it is a test's.
    pub(crate) test: bool,
    /// What stands behind the @ of its Message-ID.
    pub(crate) domain: &'a str,
}

impl NewMessage<'_> {
    /// Its row, in a status.
    pub(crate) fn row(self, status: CommunicationStatus, now: DateTime<Utc>) -> ActiveModel {
        let id = CommunicationId::new();
        let (meeting_id, calendar) = self.meeting.unzip();
        ActiveModel {
            id: Set(id),
            org_id: Set(self.run.org_id),
            campaign_id: Set(self.run.campaign_id),
            run_id: Set(self.run.id),
            step_id: Set(self.step_id),
            run_record_id: Set(self.place.id),
            record_id: Set(self.place.record_id),
            occasion: Set(self.occasion),
            again: Set(self.again),
            acted_by: Set(self.acted_by),
            channel: Set(self.channel),
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
