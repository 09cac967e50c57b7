//! Meetings.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::dataloader::Loader;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::MeetingStatus;
use entity::id::MeetingId;

use super::communication::Communication;
use super::list::{List, Totals, args, list};
use super::loader::{Rows, below, load, must_load};
use super::record::Record;
use super::run::Run;
use super::step::Step;
use super::{Actor, AvailableAction, db, viewer};
use crate::domain::meeting::{self as noun, Action, Filter, Time};
use crate::kernel::validate;

/// A time that people have agreed on, booked from within a step of guided work.
pub struct Meeting(pub entity::meeting::Model);

/// One who is invited.
pub struct Attendee(entity::meeting::Attendee);

/// One who is invited.
#[Object]
impl Attendee {
    /// The name; empty where none is known.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The mail address.
    async fn email(&self) -> &str {
        &self.0.email
    }

    /// The record; null for somebody who is none.
    async fn record(&self, ctx: &Context<'_>) -> Result<Option<Record>> {
        Ok(load(ctx, self.0.record_id).await?.map(Record))
    }
}

/// A time that people have agreed on, booked from within a step of guided work.
#[Object]
impl Meeting {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// What it is about.
    async fn title(&self) -> &str {
        &self.0.title
    }

    /// More about it; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Where; empty where nothing was said.
    async fn location(&self) -> &str {
        &self.0.location
    }

    /// From.
    async fn starts_at(&self) -> DateTime<Utc> {
        self.0.starts_at
    }

    /// Until.
    async fn ends_at(&self) -> DateTime<Utc> {
        self.0.ends_at
    }

    /// The IANA zone that its times are shown in.
    async fn timezone(&self) -> &str {
        &self.0.time_zone
    }

    /// Who is invited.
    async fn attendees(&self) -> Vec<Attendee> {
        self.0.attendees.0.iter().cloned().map(Attendee).collect()
    }

    /// Who booked it.
    async fn organizer(&self) -> Actor {
        self.0.organizer.clone().into()
    }

    /// Where it stands.
    async fn status(&self) -> MeetingStatus {
        self.0.status
    }

    /// Counts what was sent about it to calendars, from 0.
    async fn sequence(&self) -> i32 {
        self.0.sequence
    }

    /// Other meetings at the same time, with who booked it or somebody who is invited in both; the earliest first.
    async fn conflicts(&self, ctx: &Context<'_>) -> Result<Vec<Meeting>> {
        let found = must_load(ctx, ConflictsOf(Arc::new(self.0.clone()))).await?;
        Ok(found.iter().cloned().map(Meeting).collect())
    }

    /// The run that it was booked in.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The step that it was booked from.
    async fn step(&self, ctx: &Context<'_>) -> Result<Step> {
        Ok(Step(must_load(ctx, self.0.step_id).await?))
    }

    /// What was written about it to who is invited, in the order in which it was written.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn invitations(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<Communication>> {
        let filter = crate::domain::message::communication::Filter {
            meeting_ids: Some(vec![self.0.id.to_string().into()]),
            ..crate::domain::message::communication::Filter::default()
        };
        let window = crate::domain::message::communication::of_meeting(
            db(ctx),
            viewer(ctx),
            &filter,
            args(first, after, None, None),
        )?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::Communications(filter), Communication))
    }

    /// What can be done with it now, and why not the rest.
    async fn available_actions(&self) -> Result<Vec<AvailableAction>> {
        Action::ALL
            .into_iter()
            .map(|action| AvailableAction::judged(action, noun::check_allowed(&self.0, action)))
            .collect()
    }

    /// When it was booked.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// The meetings that are at the same time as another, of all that an answer shows at once.
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
    type Error = Arc<crate::kernel::error::Error>;

    async fn load(&self, of: &[ConflictsOf]) -> std::result::Result<HashMap<ConflictsOf, Self::Value>, Self::Error> {
        let meetings: Vec<_> = of.iter().map(|one| one.0.as_ref().clone()).collect();
        let mut found = noun::conflicts(self.db.read(), &self.viewer, &meetings).await.map_err(Arc::new)?;
        let each = of.iter().map(|one| (one.clone(), Arc::new(found.remove(&one.0.id).unwrap_or_default())));
        Ok(each.collect())
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct MeetingQuery;

#[Object]
impl MeetingQuery {
    /// One by its id; null where the org has none with it.
    async fn meeting(&self, ctx: &Context<'_>, id: ID) -> Result<Option<Meeting>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<MeetingId>("id", &id)?).await?.map(Meeting))
    }

    /// Meetings by filter, the earliest first. `first` after a cursor, or `last` before one; 50 unless said, at most 500.
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
        let page = below(ctx, window, true).await?;
        Ok(list(page, Totals::Meetings(filter), Meeting))
    }
}

/// A meeting's new time.
#[derive(InputObject)]
pub struct MoveMeetingInput {
    /// Which one.
    id: ID,
    /// From, in the future.
    starts_at: DateTime<Utc>,
    /// For how many minutes; as long as before unless said.
    minutes: Option<i32>,
    /// The IANA zone that it is shown in; the same unless said.
    timezone: Option<String>,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which meeting is called off.
#[derive(InputObject)]
pub struct CancelMeetingInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct MeetingPayload {
    /// As it is now.
    pub(super) meeting: Meeting,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct MeetingMutation;

#[Object]
impl MeetingMutation {
    /// Moves a meeting to another time, and sends who is invited an update; also when its run is done. Nothing goes out of a
    /// run that was cancelled.
    async fn move_meeting(&self, ctx: &Context<'_>, input: MoveMeetingInput) -> Result<MeetingPayload> {
        let (id, expected) = (validate::id::<MeetingId>("id", &input.id)?, input.expected_revision);
        let before = Box::pin(noun::must_find(db(ctx).read(), viewer(ctx), id)).await?;
        let time = Time {
            starts_at: chrono::SubsecRound::trunc_subsecs(input.starts_at, 6),
            minutes: input.minutes.map_or((before.ends_at - before.starts_at).num_minutes(), i64::from),
            time_zone: input.timezone.unwrap_or(before.time_zone),
        };
        let row =
            idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::shift(db, viewer(ctx), id, expected, &time)));
        Ok(MeetingPayload { meeting: Meeting(row) })
    }

    /// Calls a meeting off, and tells who is invited; also when its run is done. Nothing goes out of a run that was
    /// cancelled.
    async fn cancel_meeting(&self, ctx: &Context<'_>, input: CancelMeetingInput) -> Result<MeetingPayload> {
        let (id, expected) = (validate::id::<MeetingId>("id", &input.id)?, input.expected_revision);
        let row = idempotent!(ctx, input.idempotency_key, |db| Box::pin(noun::cancel(db, viewer(ctx), id, expected)));
        Ok(MeetingPayload { meeting: Meeting(row) })
    }
}
