//! Meetings that are at the same time, with somebody who is in both.

use std::collections::HashMap;

use chrono::Duration;
use entity::MeetingStatus;
use entity::id::MeetingId;
use entity::meeting::{Attendee, COLUMN, Entity, Model};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::error::Result;
use crate::limits;
use crate::viewer::Viewer;

/// Other meetings at the same time, with somebody who is in both: who booked them, or who is invited; the earliest first.
/// For some meetings at once: one statement.
pub async fn conflicts(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    meetings: &[Model],
) -> Result<HashMap<MeetingId, Vec<Model>>> {
    let mut all = HashMap::new();
    let (Some(from), Some(to)) =
        (meetings.iter().map(|meeting| meeting.starts_at).min(), meetings.iter().map(|meeting| meeting.ends_at).max())
    else {
        return Ok(all);
    };
    let near = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.status.eq(MeetingStatus::Booked))
        // No meeting is longer: so the index on their beginnings bounds them on both sides.
        .filter(COLUMN.starts_at.gt(from - Duration::minutes(limits::MEETING_MINUTES)))
        .filter(COLUMN.starts_at.lt(to))
        .order_by_asc(COLUMN.starts_at)
        .order_by_asc(COLUMN.id)
        .limit(limits::CONFLICTS)
        .all(db)
        .await?;
    for meeting in meetings {
        let with = near.iter().filter(|other| {
            let same = meeting.member_id.is_some() && meeting.member_id == other.member_id;
            let guest = |one: &Attendee| {
                other.attendees.0.iter().any(|two| {
                    one.email.eq_ignore_ascii_case(&two.email)
                        || (one.record_id.is_some() && one.record_id == two.record_id)
                })
            };
            other.id != meeting.id
                && meeting.status == MeetingStatus::Booked
                && other.starts_at < meeting.ends_at
                && meeting.starts_at < other.ends_at
                && (same || meeting.attendees.0.iter().any(guest))
        });
        all.insert(meeting.id, with.cloned().collect());
    }
    Ok(all)
}
