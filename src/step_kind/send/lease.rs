//! The leases under which messages are handed over. A process that was cut off from its database for
//! longer than a lease may find that another has taken its messages over: it must not send them too.

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::queued_message;
use entity::step::{self, StepStatus};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use uuid::Uuid;

use super::MessageLookup;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;

/// A message to hand over, and the lease of its step or of its entry in the send queue.
#[derive(Clone, Debug)]
pub(crate) struct LeasedMessage {
    /// The key that finds the message; none for a step without a recipient.
    pub(super) key: Option<Uuid>,
    leased: Uuid,
    owner: Option<String>,
    attempt: i32,
}

impl LeasedMessage {
    /// The message of a claimed step, found by a key.
    pub(in crate::step_kind) fn of_step(step: &step::Model, key: Option<Uuid>) -> Self {
        Self { key, leased: step.id.0, owner: step.lease_owner.clone(), attempt: step.attempt_count }
    }

    /// A claimed message of the send queue.
    pub(crate) fn of_queued(queued: &queued_message::Model) -> Self {
        let id = queued.communication_id.0;
        Self { key: Some(id), leased: id, owner: queued.lease_owner.clone(), attempt: queued.attempt }
    }
}

/// The keys of those messages whose leases are still held. The leases are locked: nobody takes them
/// over before the transaction ends.
pub(super) async fn held(tx: &Tx, by: MessageLookup, messages: &[LeasedMessage]) -> Result<HashSet<Uuid>> {
    let leased = messages.iter().map(|message| message.leased);
    let rows: Vec<(Uuid, Option<String>, i32)> = match by {
        MessageLookup::Recipient { .. } | MessageLookup::Step => {
            step::Entity::find()
                .select_only()
                .columns([step::Column::Id, step::Column::LeaseOwner, step::Column::AttemptCount])
                .filter(any_of(tx.dialect(), step::COLUMN.id, leased.map(StepId)))
                .filter(step::COLUMN.status.eq(StepStatus::InProgress))
                .order_by_asc(step::COLUMN.id)
                .lock_shared()
                .into_tuple()
                .all(tx.db())
                .await?
        }
        MessageLookup::Message => {
            use queued_message::{COLUMN, Column};
            queued_message::Entity::find()
                .select_only()
                .columns([Column::CommunicationId, Column::LeaseOwner, Column::Attempt])
                .filter(any_of(tx.dialect(), COLUMN.communication_id, leased.map(CommunicationId)))
                .order_by_asc(COLUMN.communication_id)
                .lock_shared()
                .into_tuple()
                .all(tx.db())
                .await?
        }
    };
    let now: HashMap<Uuid, (Option<String>, i32)> =
        rows.into_iter().map(|(id, owner, attempt)| (id, (owner, attempt))).collect();
    let is_held = |message: &&LeasedMessage| {
        now.get(&message.leased)
            .is_some_and(|(owner, attempt)| *attempt == message.attempt && *owner == message.owner && owner.is_some())
    };
    Ok(messages.iter().filter(is_held).filter_map(|message| message.key).collect())
}
