//! Meetings: appointments booked within people's steps, with their queries and mutations.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::MeetingStatus;
use entity::id::MeetingId;

use super::batch_loader::Loader;
use super::communication::Communication;
use super::list::{CommunicationTotals, List, Totals, args, list};
use super::loader::{Rows, load, must_load, nested_page};
use super::record::Record;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::meeting::{self as noun, Action, Filter, Time};
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// An agreed appointment, booked within a person's step.
pub struct Meeting(pub entity::meeting::Model);

impl RowFields for Meeting {}

/// An invited person.
pub struct Attendee(entity::meeting::Attendee);

/// An invited person.
#[Object]
impl Attendee {
    /// The name; empty if it is not known.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The email address.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// The attendee's record; null if the attendee is not a record.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }
}

/// An agreed appointment, booked within a person's step.
#[Object]
impl Meeting {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The subject of the meeting.
    async fn title(&self) -> &str {
        &self.0.title
    }

    /// Further information; empty if there is none.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The place; empty if none was given.
    async fn location(&self) -> &str {
        &self.0.location
    }

    /// Start time.
    async fn starts_at(&self) -> DateTime<Utc> {
        self.0.starts_at
    }

    /// End time.
    async fn ends_at(&self) -> DateTime<Utc> {
        self.0.ends_at
    }

    /// IANA time zone in which its times are displayed.
    async fn timezone(&self) -> &str {
        &self.0.time_zone
    }

    /// The invited people.
    async fn attendees(&self) -> Vec<Attendee> {
        self.0.attendees.0.iter().cloned().map(Attendee).collect()
    }

    /// The actor that booked it.
    async fn organizer(&self) -> Actor {
        self.0.organizer.clone().into()
    }

    /// Current status.
    async fn status(&self) -> MeetingStatus {
        self.0.status
    }

    /// Sequence number of its calendar updates (RFC 5545, SEQUENCE), starting at 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Other booked meetings that overlap in time and have the same organizer or a common attendee,
    /// earliest first; empty for a cancelled meeting.
    async fn conflicts(&self, ctx: &Context<'_>) -> Result<Vec<Meeting>> {
        let found = must_load(ctx, ConflictsOf(Arc::new(self.0.clone()))).await?;
        Ok(found.iter().cloned().map(Meeting).collect())
    }

    /// The run in which it was booked.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The step within which it was booked.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.0.step_id).await?))
    }

    /// The messages sent to its attendees about it, in order of creation.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication, CommunicationTotals>> {
        let filter = crate::domain::message::communication::Filter {
            meeting_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::communication::Filter::default()
        };
        let args = args(first, after, None, None);
        let window = crate::domain::message::communication::of_meeting(viewer(ctx), self.0.id, args)?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, CommunicationTotals(filter), Communication))
    }

    /// All actions on the meeting: allowed now, or blocked with the reason.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::of_verdict(action, noun::check_allowed(&self.0, action)))
            .collect()
    }

    /// Time of booking.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// Loader key for a meeting's conflicts: one query serves all meetings of a response.
#[derive(Clone, Debug)]
pub struct ConflictsOf(Arc<entity::meeting::Model>);

impl PartialEq for ConflictsOf {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ConflictsOf {}

impl std::hash::Hash for ConflictsOf {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl Loader<ConflictsOf> for Rows {
    type Value = Arc<Vec<entity::meeting::Model>>;

    async fn load(&self, of: &[ConflictsOf]) -> crate::kernel::error::Result<HashMap<ConflictsOf, Self::Value>> {
        let meetings: Vec<_> = of.iter().map(|one| one.0.as_ref().clone()).collect();
        let mut found = noun::conflicts(self.db.read(), &self.viewer, &meetings).await?;
        let each = of.iter().map(|one| (one.clone(), Arc::new(found.remove(&one.0.id).unwrap_or_default())));
        Ok(each.collect())
    }
}

/// Query fields for meetings.
#[derive(Default)]
pub struct MeetingQuery;

#[Object]
impl MeetingQuery {
    /// Returns the meeting with this id; null if the org has none.
    async fn meeting(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Meeting>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<MeetingId>("id", &id)?).await?.map(Meeting))
    }

    /// Meetings that match the filter, earliest first. Page with `first` and `after`, or `last` and
    /// `before`; page size 50 by default, at most 500.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn meetings(
        &self,
        ctx: &Context<'_>,
        filter: Option<Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Meeting>> {
        let filter = filter.unwrap_or_default();
        let window = noun::window(db(ctx), viewer(ctx), &filter, args(first, after, last, before))?;
        let page = nested_page(ctx, window, true).await?;
        Ok(list(page, Totals::Meetings(filter), Meeting))
    }
}

/// A new time for a meeting.
#[derive(InputObject)]
pub struct MoveMeetingInput {
    /// Id of the meeting.
    id: ID,
    /// The new start time, in the future.
    starts_at: DateTime<Utc>,
    /// Duration in minutes; unchanged by default.
    minutes: Option<i32>,
    /// IANA time zone in which its times are displayed; unchanged by default.
    timezone: Option<String>,
    /// Expected revision: rejected with CONFLICT if the meeting has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the meeting to cancel.
#[derive(InputObject)]
pub struct CancelMeetingInput {
    /// Id of the meeting.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the meeting has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed meeting.
#[derive(SimpleObject)]
pub struct MeetingPayload {
    /// The meeting after the change.
    pub(super) meeting: Meeting,
}

/// Mutations for meetings.
#[derive(Default)]
pub struct MeetingMutation;

#[Object]
impl MeetingMutation {
    /// Moves a meeting to another time and sends its attendees an update, also after its run is
    /// completed. Nothing is sent if the run was cancelled, or if the meeting has that time.
    async fn move_meeting(&self, ctx: &Context<'_>, input: MoveMeetingInput) -> Result<MeetingPayload> {
        let (id, expected) = (validate::id::<MeetingId>("id", &input.id)?, input.expected_revision);
        let before = Box::pin(noun::must_find(db(ctx).read(), viewer(ctx), id)).await?;
        let time = Time {
            starts_at: chrono::SubsecRound::trunc_subsecs(input.starts_at, 6),
            minutes: input.minutes.map_or((before.ends_at - before.starts_at).num_minutes(), i64::from),
            time_zone: input.timezone.unwrap_or(before.time_zone),
        };
        let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::reschedule(
            db,
            viewer(ctx),
            id,
            expected,
            &time
        )));
        Ok(MeetingPayload { meeting: Meeting(row) })
    }

    /// Cancels a meeting and notifies its attendees, also after its run is completed. Nothing is
    /// sent if the run was cancelled.
    async fn cancel_meeting(&self, ctx: &Context<'_>, input: CancelMeetingInput) -> Result<MeetingPayload> {
        let (id, expected) = (validate::id::<MeetingId>("id", &input.id)?, input.expected_revision);
        let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::cancel(db, viewer(ctx), id, expected)));
        Ok(MeetingPayload { meeting: Meeting(row) })
    }
}
