//! Calendar attachments for meetings (RFC 5545). Times are in UTC, which needs no time zone
//! definition.

use chrono::{DateTime, Utc};
use entity::id::MemberId;
use entity::meeting::Model;
use icalendar::{Calendar, Component, Event, EventLike, EventStatus, Property};

use crate::domain::people::member;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Builds the calendar attachment of a mail about a meeting. `REQUEST` books or moves it, `CANCEL`
/// cancels it; the same UID with a greater SEQUENCE replaces a calendar's entry.
pub(super) fn calendar(meeting: &Model, organizer: &str, domain: &str, now: DateTime<Utc>) -> String {
    let cancelled = meeting.status == entity::MeetingStatus::Cancelled;
    let mut event = Event::with_uid(&format!("{}@{domain}", meeting.id));
    event
        .timestamp(now)
        .starts(meeting.starts_at)
        .ends(meeting.ends_at)
        .summary(&text(&meeting.title))
        .status(if cancelled { EventStatus::Cancelled } else { EventStatus::Confirmed })
        .add_property("SEQUENCE", meeting.sequence.to_string())
        .append_property(person("ORGANIZER", &meeting.organizer.name, organizer, &[]));
    if !meeting.description.is_empty() {
        event.description(&text(&meeting.description));
    }
    if !meeting.location.is_empty() {
        event.location(&text(&meeting.location));
    }
    for one in meeting.attendees.0.iter().filter(|one| !one.email.is_empty()) {
        let role = [("ROLE", "REQ-PARTICIPANT"), ("PARTSTAT", "NEEDS-ACTION"), ("RSVP", "TRUE")];
        event.append_multi_property(person("ATTENDEE", &one.name, &one.email, &role));
    }
    let mut calendar = Calendar::empty();
    calendar
        .append_property(("VERSION", "2.0"))
        .append_property(("PRODID", "-//Sortie//Guided runs//EN"))
        .append_property(("METHOD", if cancelled { "CANCEL" } else { "REQUEST" }))
        .push(event.done());
    calendar.done().to_string()
}

fn person(key: &str, name: &str, email: &str, more: &[(&str, &str)]) -> Property {
    let mut property = Property::new(key, format!("mailto:{email}"));
    // A parameter value has no escapes for these characters.
    let name: String = name.chars().map(|c| if c.is_control() || c == '"' { ' ' } else { c }).collect();
    if !name.trim().is_empty() {
        property.add_parameter("CN", name.trim());
    }
    for (key, value) in more {
        property.add_parameter(key, value);
    }
    property.done()
}

/// Normalises line ends and removes other control characters.
fn text(text: &str) -> String {
    text.replace("\r\n", "\n").chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

/// The mail address of a meeting's organizer: the member's, else one that nobody reads.
pub(super) async fn organizer(tx: &Tx, db: &Db, viewer: &Viewer, member: Option<MemberId>) -> Result<String> {
    let found = match member {
        Some(id) => member::find(tx.db(), viewer, id).await?.map(|member| member.email),
        None => None,
    };
    Ok(found.unwrap_or_else(|| format!("noreply@{}", db.domain())))
}
