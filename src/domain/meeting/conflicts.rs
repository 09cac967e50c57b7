//! Finds overlapping meetings that share a person, and rejects duplicate bookings.

use std::collections::HashMap;

use chrono::{DateTime, Duration, Utc};
use entity::MeetingStatus;
use entity::id::*;
use entity::meeting::{Attendee, COLUMN, Entity, Model};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde_json::json;

use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Returns for each meeting the overlapping ones that share its organizer or an attendee, earliest
/// first, of the first thousand that are near it. One statement for all meetings, unless they lie so
/// far apart that there are more between them.
pub async fn conflicts(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    meetings: &[Model],
) -> Result<HashMap<MeetingId, Vec<Model>>> {
    let mut by_start: Vec<&Model> = meetings.iter().collect();
    by_start.sort_by_key(|meeting| meeting.starts_at);
    let (mut all, mut open) = (HashMap::new(), vec![by_start.as_slice()]);
    while let Some(part) = open.pop() {
        let near = near(db, viewer, part).await?;
        if near.len() as u64 == limits::CONFLICTS && part.len() > 1 {
            let (first, second) = part.split_at(part.len() / 2);
            open.extend([first, second]);
            continue;
        }
        for meeting in part {
            let with = near.iter().filter(|other| is_conflict(meeting, other));
            all.insert(meeting.id, with.cloned().collect());
        }
    }
    Ok(all)
}

/// Booked meetings from the first to the last of some, earliest first.
async fn near(db: &impl ConnectionTrait, viewer: &Viewer, meetings: &[&Model]) -> Result<Vec<Model>> {
    let (Some(from), Some(to)) =
        (meetings.iter().map(|meeting| meeting.starts_at).min(), meetings.iter().map(|meeting| meeting.ends_at).max())
    else {
        return Ok(Vec::new());
    };
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.status.eq(MeetingStatus::Booked))
        // No meeting is longer, so the index on the start bounds the scan on both sides.
        .filter(COLUMN.starts_at.gt(from - Duration::minutes(limits::MEETING_MINUTES)))
        .filter(COLUMN.starts_at.lt(to))
        .order_by_asc(COLUMN.starts_at)
        .order_by_asc(COLUMN.id)
        .limit(limits::CONFLICTS)
        .all(db)
        .await?)
}

/// True if two booked meetings overlap and share a person.
fn is_conflict(meeting: &Model, other: &Model) -> bool {
    let same = meeting.member_id.is_some() && meeting.member_id == other.member_id;
    let guest = |one: &Attendee| other.attendees.0.iter().any(|two| is_same(one, two));
    other.id != meeting.id
        && meeting.status == MeetingStatus::Booked
        && other.starts_at < meeting.ends_at
        && meeting.starts_at < other.ends_at
        && (same || meeting.attendees.0.iter().any(guest))
}

fn is_same(one: &Attendee, two: &Attendee) -> bool {
    let same_address = !one.email.is_empty() && one.email.eq_ignore_ascii_case(&two.email);
    same_address || (one.record_id.is_some() && one.record_id == two.record_id)
}

/// Rejects a booking if its step already has a meeting with one of the guests at the same start:
/// the request was repeated. The run must be locked.
pub(super) async fn reject_duplicate(
    tx: &Tx,
    step: StepId,
    starts_at: DateTime<Utc>,
    guests: &[Attendee],
) -> Result<()> {
    let booked = Entity::find()
        .filter(COLUMN.step_id.eq(step))
        .filter(COLUMN.status.eq(MeetingStatus::Booked))
        .filter(COLUMN.starts_at.eq(starts_at))
        .order_by_asc(COLUMN.id)
        .all(tx.db())
        .await?;
    for meeting in booked {
        let Some(guest) = meeting.attendees.0.iter().find(|one| guests.iter().any(|two| is_same(one, two))) else {
            continue;
        };
        let message = format!(
            "{} has already booked the meeting {} ({}) with {} from this step, at {}: move or cancel that one",
            meeting.organizer.name,
            meeting.title,
            meeting.id,
            guest.email,
            starts_at.to_rfc3339()
        );
        return Err(Refusal::conflict(message).with("meetingId", json!(meeting.id)).into());
    }
    Ok(())
}
