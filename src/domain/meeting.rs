//! Meetings: book from within a step, move, cancel. Each change is sent to the attendees as an RFC
//! 5545 invitation.

mod attendees;
mod conflicts;
mod invitation;

pub use conflicts::conflicts;

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Duration, Utc};
use entity::communication::{ActiveModel as Message, CommunicationStatus};
use entity::id::*;
use entity::meeting::{ActiveModel, Attendees, COLUMN, Column, Entity, MeetingTransition, Model};
use entity::{ActivityKind, Channel, MeetingStatus, RunStatus, StateMachine, record, run};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde::Serialize;
use serde_json::json;

use crate::domain::audience::record::erasure::hold_off;
use crate::domain::content::templating::Message as Text;
use crate::domain::message::activity::{self, NewActivity};
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::message::send_queue;
use crate::domain::run as runs;
use crate::domain::run::guided::{self, active_step};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable, validate};
use crate::transact;

scoped!(meeting, MeetingId, "meeting");
saved!(meeting, MeetingId, "meeting");

/// A filter over meetings; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "MeetingFilter")]
pub struct Filter {
    /// Meetings booked in one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Meetings with one of these statuses.
    pub statuses: Option<Vec<MeetingStatus>>,
    /// Meetings that end after this time.
    pub from: Option<DateTime<Utc>>,
    /// Meetings that begin before this time.
    pub to: Option<DateTime<Utc>>,
}

/// A window of the matching meetings, earliest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.by = Some((Column::StartsAt, |row| page::Key::Time(row.starts_at), false));
    order.descending = false;
    let fingerprint = page::fingerprint(&("meeting", filter))?;
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(given, "filter", "runIds")?));
    }
    if let Some(statuses) = &filter.statuses {
        select = select.filter(any_of(db.dialect(), COLUMN.status, statuses.clone()));
    }
    if let Some(from) = filter.from {
        select = select.filter(COLUMN.ends_at.gt(from));
    }
    if let Some(to) = filter.to {
        select = select.filter(COLUMN.starts_at.lt(to));
    }
    Ok(Window { select, order, fingerprint, args, part: None })
}

/// An action on a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "MeetingAction")]
pub enum Action {
    /// Move it to another time.
    Move,
    /// Cancel it.
    Cancel,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 2] = [Self::Move, Self::Cancel];

    fn transition(self) -> MeetingTransition {
        match self {
            Self::Move => MeetingTransition::Move,
            Self::Cancel => MeetingTransition::Cancel,
        }
    }
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(meeting: &Model, action: Action) -> Result<()> {
    let transition = action.transition();
    let next = meeting.status.next(transition);
    next.map(|_| ()).ok_or_else(|| Refusal::transition("meeting", meeting.status, transition).into())
}

/// An invitee: a record, or a person by mail address.
#[derive(Clone, Debug, Default)]
pub struct Invitee {
    /// The record.
    pub record_id: Option<RecordId>,
    /// The mail address; defaults to the record's.
    pub email: Option<String>,
    /// The name; defaults to the record's.
    pub name: Option<String>,
}

/// The time of a meeting.
#[derive(Clone, Debug)]
pub struct Time {
    /// Start.
    pub starts_at: DateTime<Utc>,
    /// Duration in minutes.
    pub minutes: i64,
    /// IANA time zone in which the invitation shows it.
    pub time_zone: String,
}

impl Time {
    fn end(&self, now: DateTime<Utc>) -> Result<DateTime<Utc>> {
        if !(1..=limits::MEETING_MINUTES).contains(&self.minutes) {
            return Err(Refusal::input("minutes", format!("must be 1 to {}", limits::MEETING_MINUTES)).into());
        }
        if self.starts_at <= now {
            return Err(Refusal::input("startsAt", "the time lies in the past").into());
        }
        let end = self.starts_at.checked_add_signed(Duration::minutes(self.minutes));
        let end = end.filter(|end| storable::time(*end).is_ok());
        Ok(end.ok_or_else(|| Refusal::input("startsAt", "is too far in the future"))?)
    }
}

/// The request to book a meeting.
#[derive(Clone, Debug)]
pub struct Booking {
    /// The person's step in which it is booked.
    pub step_id: StepId,
    /// Title.
    pub title: String,
    /// Description.
    pub description: String,
    /// Location.
    pub location: String,
    /// Time.
    pub time: Time,
    /// Invitees.
    pub guests: Vec<Invitee>,
}

/// Books a meeting and enqueues its invitations. Overlapping meetings don't prevent it; `conflicts`
/// lists them. Errors: NOT_FOUND; CONFLICT if the step is not in progress, its campaign is paused, or it
/// has a meeting with one of the guests at the same start; BAD_USER_INPUT naming a guest without an
/// address, or outside the audience of a campaign's run.
pub async fn book(db: &WriteContext, viewer: &Viewer, booking: &Booking) -> Result<Model> {
    let title = validate::name("title", &booking.title)?;
    let (description, location) =
        (validate::text("description", &booking.description)?, validate::text("location", &booking.location)?);
    let zone = validate::time_zone("timezone", &booking.time.time_zone)?.to_string();
    let (attendees, records) = attendees::of(db, viewer, &booking.guests).await?;
    let meeting = transact!(db, |tx| {
        let ends_at = booking.time.end(tx.now())?;
        let within = active_step::enter(tx, viewer, booking.step_id).await?;
        attendees::check_may_be_invited(tx, &within.run, &attendees).await?;
        hold_off(tx, viewer, records.iter().map(|record| record.id)).await?;
        conflicts::reject_duplicate(tx, within.step.id, booking.time.starts_at, &attendees).await?;
        let row = ActiveModel {
            id: Set(MeetingId::new()),
            org_id: Set(viewer.org_id),
            run_id: Set(within.run.id),
            step_id: Set(within.step.id),
            title: Set(title.clone()),
            description: Set(description.clone()),
            location: Set(location.clone()),
            starts_at: Set(booking.time.starts_at),
            ends_at: Set(ends_at),
            time_zone: Set(zone.clone()),
            attendees: Set(Attendees(attendees.clone())),
            organizer: Set(viewer.actor()),
            member_id: Set(viewer.member_id()),
            organizer_email: Set(Some(invitation::organizer(tx, db, viewer, viewer.member_id()).await?)),
            status: Set(MeetingStatus::Booked),
            sequence: Set(0),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let meeting = row.insert(tx.db()).await?;
        emit(tx, viewer, "meeting.booked", &within.run, &meeting, json!({ "from": null }));
        let run = invite(tx, db, viewer, within.run, &meeting, &records).await?;
        let counted = [("meetingsBooked".to_owned(), 1)];
        let done = done(&meeting, ActivityKind::MeetingBooked, "Booked", &records);
        activity::write(tx, &viewer.actor(), &run, within.step.id, done, &counted).await?;
        tx.set_result(meeting.id);
        Ok(meeting)
    })?;
    db.wake();
    Ok(meeting)
}

/// Moves a meeting to another time, and notifies the attendees; does nothing if it has that time. Errors: NOT_FOUND, CONFLICT,
/// INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn reschedule(
    db: &WriteContext,
    viewer: &Viewer,
    id: MeetingId,
    expected: Option<i32>,
    time: &Time,
) -> Result<Model> {
    let zone = validate::time_zone("timezone", &time.time_zone)?.to_string();
    change(db, viewer, id, expected, Action::Move, |row, now| {
        row.ends_at = Set(time.end(now)?);
        row.starts_at = Set(time.starts_at);
        row.time_zone = Set(zone.clone());
        Ok(())
    })
    .await
}

/// Cancels a meeting, and notifies the attendees. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION.
pub async fn cancel(db: &WriteContext, viewer: &Viewer, id: MeetingId, expected: Option<i32>) -> Result<Model> {
    change(db, viewer, id, expected, Action::Cancel, |row, _| {
        row.status = Set(MeetingStatus::Cancelled);
        Ok(())
    })
    .await
}

async fn change(
    db: &WriteContext,
    viewer: &Viewer,
    id: MeetingId,
    expected: Option<i32>,
    action: Action,
    apply: impl Fn(&mut ActiveModel, DateTime<Utc>) -> Result<()>,
) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    let meeting = transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, action)?;
        let (before, revision, sequence) = (found.clone(), found.revision, found.sequence);
        let mut row = found.into_active_model();
        apply(&mut row, tx.now())?;
        let is_unchanged = row.starts_at.try_as_ref() == Some(&before.starts_at)
            && row.ends_at.try_as_ref() == Some(&before.ends_at)
            && row.time_zone.try_as_ref() == Some(&before.time_zone);
        if action == Action::Move && is_unchanged {
            // Nobody is told the same time twice.
            tx.set_result(id);
            return Ok(before);
        }
        row.sequence = Set(sequence + 1);
        let meeting = save(tx, row, revision).await?;
        let (kind, event, verb, counter) = match action {
            Action::Move => (ActivityKind::MeetingMoved, "meeting.moved", "Moved", "meetingsMoved"),
            Action::Cancel => (ActivityKind::MeetingCancelled, "meeting.cancelled", "Cancelled", "meetingsCancelled"),
        };
        let payload = json!({ "from": before.status, "wasAt": before.starts_at });
        emit(tx, viewer, event, &run, &meeting, payload);
        let ids: Vec<RecordId> = meeting.attendees.0.iter().filter_map(|one| one.record_id).collect();
        let records = crate::domain::audience::record::find_all(tx.db(), viewer, &ids).await?;
        let run = invite(tx, db, viewer, run, &meeting, &records).await?;
        let done = done(&meeting, kind, verb, &records);
        let counted = [(counter.to_owned(), 1)];
        activity::write(tx, &viewer.actor(), &run, meeting.step_id, done, &counted).await?;
        Ok(meeting)
    })?;
    db.wake();
    Ok(meeting)
}

/// Enqueues a message about the meeting to each attendee, with a calendar attachment. A cancelled
/// run sends nothing. The run must be locked; returns its new state.
async fn invite(
    tx: &Tx,
    db: &Db,
    viewer: &Viewer,
    run: run::Model,
    meeting: &Model,
    records: &[record::Model],
) -> Result<run::Model> {
    if run.status == RunStatus::Cancelled {
        return Ok(run);
    }
    let organizer = match &meeting.organizer_email {
        Some(email) => email.clone(),
        None => invitation::organizer(tx, db, viewer, meeting.member_id).await?,
    };
    let calendar = invitation::calendar(meeting, &organizer, db.domain(), tx.now());
    let text = text(meeting);
    let action_number = send_queue::next_action_number(tx, meeting.step_id).await?;
    let (run, recipients) = guided::recipients(tx, run, records, false).await?;
    let others: Vec<String> =
        meeting.attendees.0.iter().filter(|one| one.record_id.is_none()).map(|one| one.email.clone()).collect();
    let (run, others) = guided::recipients_of_addresses(tx, run, &others).await?;
    let mut messages: Vec<Message> = Vec::new();
    for one in meeting.attendees.0.iter().filter(|one| !one.email.is_empty()) {
        let place = match one.record_id {
            Some(id) => recipients.get(&id),
            None => others.get(&one.email),
        };
        let Some(place) = place else { continue };
        let message = NewMessage {
            run: &run,
            step_id: meeting.step_id,
            recipient: place,
            channel: Channel::Email,
            to: one.email.clone(),
            name: one.name.clone(),
            message: text.clone(),
            action_number,
            is_repeat: false,
            acted_by: Some(viewer.actor()),
            meeting: Some((meeting.id, calendar.clone())),
            test: false,
            domain: db.domain(),
        };
        messages.push(message.row(CommunicationStatus::Approved, tx.now()));
    }
    Ok(send_queue::release(tx, viewer, run, messages).await?.0)
}

/// The text of the mail to the attendees; their calendar shows the details.
fn text(meeting: &Model) -> Text {
    let (prefix, verb) = match (meeting.status, meeting.sequence) {
        (MeetingStatus::Cancelled, _) => ("Cancelled: ", "does not take place"),
        (MeetingStatus::Booked, 0) => ("Invitation: ", "takes place"),
        (MeetingStatus::Booked, _) => ("New time: ", "takes place"),
    };
    let when = match meeting.time_zone.parse::<chrono_tz::Tz>() {
        Ok(zone) => meeting.starts_at.with_timezone(&zone).format("%A, %d %B %Y, %H:%M").to_string(),
        Err(_) => meeting.starts_at.to_rfc3339(),
    };
    let minutes = (meeting.ends_at - meeting.starts_at).num_minutes();
    let mut body = format!("{} {verb}:\n\n{when} ({}), {minutes} minutes\n", meeting.title, meeting.time_zone);
    if !meeting.location.is_empty() {
        body.push_str(&format!("Where: {}\n", meeting.location));
    }
    if !meeting.description.is_empty() {
        body.push_str(&format!("\n{}\n", meeting.description));
    }
    body.push_str(&format!("\n{}\n", meeting.organizer.name));
    Text { subject: Some(format!("{prefix}{}", meeting.title)), body }
}

/// The activities about a meeting: one for each invited record, or a single one without a record.
fn done(meeting: &Model, kind: ActivityKind, verb: &str, records: &[record::Model]) -> Vec<NewActivity> {
    let details = json!({
        "meetingId": meeting.id, "title": meeting.title, "startsAt": meeting.starts_at, "endsAt": meeting.ends_at,
    });
    let one = |record_id| NewActivity {
        record_id,
        kind,
        summary: format!("{verb} the meeting {}", meeting.title),
        details: details.clone(),
    };
    if records.is_empty() { vec![one(None)] } else { records.iter().map(|record| one(Some(record.id))).collect() }
}

fn emit(tx: &Tx, viewer: &Viewer, kind: &str, run: &run::Model, meeting: &Model, mut payload: serde_json::Value) {
    payload["to"] = json!(meeting.status);
    payload["id"] = json!(meeting.id);
    payload["meetingId"] = json!(meeting.id);
    payload["title"] = json!(meeting.title);
    payload["startsAt"] = json!(meeting.starts_at);
    payload["sequence"] = json!(meeting.sequence);
    event::append(tx, Event::new(meeting.org_id, kind, &viewer.actor()).run(run).payload(payload));
}
