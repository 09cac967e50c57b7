//! Lets the messages about one meeting to one address go one after the other, so that an invitation
//! is handed over before its cancellation: one goes only when the earlier ones have left the queue,
//! also if they are refused for now, or held by a pause. All others go at once.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::CommunicationStatus;
use entity::communication::{self, Column};
use entity::id::{CommunicationId, MeetingId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use crate::domain::message::send_queue;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::{limits, storable};

/// Messages of a batch that wait for an earlier one about the same meeting to the same
/// address, with the time to look again. Only a message that is still in the queue is waited for: one
/// that a person must resolve holds up nobody.
pub(super) async fn behind(tx: &Tx, batch: &[communication::Model]) -> Result<HashMap<CommunicationId, DateTime<Utc>>> {
    let meetings: HashSet<MeetingId> = batch.iter().filter_map(|message| message.meeting_id).collect();
    if meetings.is_empty() {
        return Ok(HashMap::new());
    }
    let unsent: Vec<(CommunicationId, Option<MeetingId>, String, i32)> = communication::Entity::find()
        .select_only()
        .columns([Column::Id, Column::MeetingId, Column::ToAddress, Column::ActionNumber])
        .filter(any_of(tx.dialect(), communication::COLUMN.meeting_id, meetings))
        .filter(communication::COLUMN.status.is_in([CommunicationStatus::Approved, CommunicationStatus::Sending]))
        .into_tuple()
        .all(tx.db())
        .await?;
    let ids: Vec<CommunicationId> = unsent.iter().map(|(id, ..)| *id).collect();
    let due: HashMap<CommunicationId, DateTime<Utc>> = send_queue::of(tx, &ids)
        .await?
        .into_iter()
        .map(|queued| (queued.communication_id, queued.available_at))
        .collect();
    // One that is due or in flight is looked at again soon, unless its settling makes this one due.
    let soon = storable::after(tx.now(), limits::UNREACHABLE_RETRY_DELAY);
    let look_again = |id: &CommunicationId| match due.get(id)? {
        until if *until > tx.now() => Some(*until),
        _ => Some(soon),
    };
    let waits_until = |message: &communication::Model| {
        let meeting = message.meeting_id?;
        let earlier = unsent.iter().filter(|(_, of, to, number)| {
            *of == Some(meeting) && *to == message.to_address && *number < message.action_number
        });
        Some((message.id, earlier.filter_map(|(id, ..)| look_again(id)).min()?))
    };
    Ok(batch.iter().filter_map(waits_until).collect())
}

/// The time of the next try of released messages about meetings that were not handed over, judged
/// when they are put back: the earlier one may have been settled since they were reserved, and would
/// not make them due a second time. The run must be locked.
pub(crate) async fn next_tries(tx: &Tx, ids: &[CommunicationId]) -> Result<HashMap<CommunicationId, DateTime<Utc>>> {
    let waiting = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.id, ids.iter().copied()))
        .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
        .filter(communication::COLUMN.meeting_id.is_not_null())
        .all(tx.db())
        .await?;
    let behind = behind(tx, &waiting).await?;
    Ok(waiting
        .iter()
        .map(|message| (message.id, behind.get(&message.id).copied().unwrap_or_else(|| tx.now())))
        .collect())
}
