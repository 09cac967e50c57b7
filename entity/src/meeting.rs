//! A meeting booked within a step of guided work, and the state machine of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Status of a meeting.
    pub enum MeetingStatus {
        /// The meeting takes place.
        Booked,
        /// The meeting was cancelled.
        Cancelled,
    }
}

/// Transitions of a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetingTransition {
    /// The meeting moves to another time.
    Move,
    /// The meeting is cancelled.
    Cancel,
}

impl StateMachine for MeetingStatus {
    type Transition = MeetingTransition;
    const TRANSITIONS: &'static [MeetingTransition] = &[MeetingTransition::Move, MeetingTransition::Cancel];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, transition: MeetingTransition) -> Option<Self> {
        match (self, transition) {
            (Self::Booked, MeetingTransition::Move) => Some(Self::Booked),
            (Self::Booked, MeetingTransition::Cancel) => Some(Self::Cancelled),
            (Self::Cancelled, MeetingTransition::Move | MeetingTransition::Cancel) => None,
        }
    }
}

/// One invited person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attendee {
    /// The name; empty if unknown.
    pub name: String,
    /// The mail address.
    pub email: String,
    /// The record with this address; null for other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_id: Option<RecordId>,
}

/// All invited people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Attendees(pub Vec<Attendee>);

/// One meeting.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "meeting")]
pub struct Model {
    /// The id; the UID in calendars is `<id>@<domain>`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MeetingId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run that it was booked in.
    pub run_id: RunId,
    /// The step that it was booked in.
    pub step_id: StepId,
    /// Title, on one line.
    pub title: String,
    /// Description.
    pub description: String,
    /// Location; empty if not given.
    pub location: String,
    /// Start time.
    pub starts_at: DateTimeUtc,
    /// End time.
    pub ends_at: DateTimeUtc,
    /// IANA time zone in which its times are shown.
    pub time_zone: String,
    /// The invited people.
    pub attendees: Attendees,
    /// The actor that booked it.
    pub organizer: Actor,
    /// The member that booked it; null if the organizer is not a member.
    pub member_id: Option<MemberId>,
    /// Mail address that its invitations name as the organizer; null for meetings booked before it was
    /// stored.
    pub organizer_email: Option<String>,
    /// Current status.
    pub status: MeetingStatus,
    /// Number of the calendar update last sent about it, from 0 (RFC 5545, SEQUENCE).
    pub sequence: i32,
    /// Time of the booking.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
