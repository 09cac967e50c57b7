//! A message as it is made: by a draft from the campaign's content, by an `email` step from its own.

use chrono::{DateTime, Utc};
use entity::communication::{ActiveModel, CommunicationStatus};
use entity::id::*;
use entity::{Channel, run, run_record};
use sea_orm::Set;

use crate::content::Message;

/// What a message is made of.
#[derive(Clone, Debug)]
pub(super) struct Fresh<'a> {
    /// Of which run.
    pub(super) run: &'a run::Model,
    /// Of which step.
    pub(super) step_id: StepId,
    /// To which place of the audience.
    pub(super) place: &'a run_record::Model,
    /// The way.
    pub(super) channel: Channel,
    /// The address.
    pub(super) to: String,
    /// The name there.
    pub(super) name: String,
    /// What it says.
    pub(super) message: Message,
    /// Whether it is a test's.
    pub(super) test: bool,
    /// What stands behind the @ of its Message-ID.
    pub(super) domain: &'a str,
}

impl Fresh<'_> {
    /// Its row, in a status.
    pub(super) fn row(self, status: CommunicationStatus, now: DateTime<Utc>) -> ActiveModel {
        let id = CommunicationId::new();
        ActiveModel {
            id: Set(id),
            org_id: Set(self.run.org_id),
            campaign_id: Set(self.run.campaign_id),
            run_id: Set(self.run.id),
            step_id: Set(self.step_id),
            run_record_id: Set(self.place.id),
            record_id: Set(self.place.record_id),
            occasion: Set(0),
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
            reserved_at: Set(None),
            sent_at: Set(None),
            created_at: Set(now),
            updated_at: Set(now),
            revision: Set(1),
        }
    }
}
