//! A time that people have agreed on, booked from within a step; and the law of its status.

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::actor::Actor;
use crate::id::*;
use crate::state_machine::StateMachine;

text_enum! {
    /// Where a meeting stands.
    pub enum MeetingStatus {
        /// It takes place.
        Booked,
        /// It was called off.
        Cancelled,
    }
}

/// What may happen to a meeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeetingTransition {
    /// Another time.
    Move,
    /// Called off.
    Cancel,
}

impl StateMachine for MeetingStatus {
    type Transition = MeetingTransition;
    const TRANSITIONS: &'static [MeetingTransition] = &[MeetingTransition::Move, MeetingTransition::Cancel];

    fn states() -> Vec<Self> {
        Self::all()
    }

    fn next(self, act: MeetingTransition) -> Option<Self> {
        match (self, act) {
            (Self::Booked, MeetingTransition::Move) => Some(Self::Booked),
            (Self::Booked, MeetingTransition::Cancel) => Some(Self::Cancelled),
            (Self::Cancelled, MeetingTransition::Move | MeetingTransition::Cancel) => None,
        }
    }
}

/// One who is invited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attendee {
    /// The name; empty where none is known.
    pub name: String,
    /// The mail address.
    pub email: String,
    /// The record whose address it is; none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_id: Option<RecordId>,
}

/// All who are invited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Attendees(pub Vec<Attendee>);

/// One meeting.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "meeting")]
pub struct Model {
    /// The id; in calendars it is `<id>@<domain>`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MeetingId,
    /// The tenant.
    pub org_id: OrgId,
    /// The run that it was booked in.
    pub run_id: RunId,
    /// The step that it was booked from.
    pub step_id: StepId,
    /// What it is about, on one line.
    pub title: String,
    /// More about it.
    pub description: String,
    /// Where; empty where nothing was said.
    pub location: String,
    /// From.
    pub starts_at: DateTimeUtc,
    /// Until.
    pub ends_at: DateTimeUtc,
    /// The IANA zone that its times are shown in.
    pub time_zone: String,
    /// Who is invited.
    pub attendees: Attendees,
    /// Who booked it.
    pub organizer: Actor,
    /// The member who booked it, while there is one.
    pub member_id: Option<MemberId>,
    /// Where it stands.
    pub status: MeetingStatus,
    /// Counts what was sent about it to calendars, from 0 (RFC 5545, SEQUENCE).
    pub sequence: i32,
    /// When it was booked.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
