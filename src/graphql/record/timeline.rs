//! A record's timeline: messages, replies, activities, stage changes and runs in one order.

use std::collections::HashMap;
use std::sync::Arc;

use async_graphql::{Context, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::*;
use uuid::Uuid;

use crate::domain::audience::record::timeline::{Entry, Kind, count, of};
use crate::graphql::activity::Activity;
use crate::graphql::batch_loader::Loader;
use crate::graphql::communication::Communication;
use crate::graphql::connection::Connection;
use crate::graphql::counted::Node;
use crate::graphql::list::{List, Totals};
use crate::graphql::loader::{Rows, load, must_load};
use crate::graphql::reply::Reply;
use crate::graphql::run::Run;
use crate::graphql::selection::RowFields;
use crate::kernel::page::{self, Cursor, Key};

/// One entry of a record's timeline. The field for its kind is set, the others are null.
pub struct TimelineEntry(Entry);

impl RowFields for TimelineEntry {}

/// A change of stage.
#[derive(SimpleObject)]
pub struct StageChange {
    /// The old stage; null if there was none.
    from: Option<String>,
    /// The new stage; null if there is none.
    to: Option<String>,
}

/// One entry of a record's timeline. The field for its kind is set, the others are null.
#[Object]
impl TimelineEntry {
    /// Kind of the entry.
    async fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Time of the event; for a message the time of sending, or of creation if it was not sent.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }

    /// The message; null for other kinds.
    async fn communication(&self, ctx: &Context<'_>) -> Result<Option<Communication>> {
        Ok(load(ctx, self.is(Kind::Communication).map(CommunicationId)).await?.map(Communication))
    }

    /// The reply; null for other kinds.
    async fn reply(&self, ctx: &Context<'_>) -> Result<Option<Reply>> {
        Ok(load(ctx, self.is(Kind::Reply).map(ReplyId)).await?.map(Reply))
    }

    /// The activity; null for other kinds.
    async fn activity(&self, ctx: &Context<'_>) -> Result<Option<Activity>> {
        Ok(load(ctx, self.is(Kind::Activity).map(ActivityId)).await?.map(Activity))
    }

    /// The change of stage; null for other kinds.
    async fn stage_change(&self) -> Option<StageChange> {
        let change = self.0.payload.as_ref()?;
        let text = |field: &str| change[field].as_str().map(str::to_owned);
        Some(StageChange { from: text("from"), to: text("to") })
    }

    /// The run whose audience includes the record; null for other kinds.
    async fn run(&self, ctx: &Context<'_>) -> Result<Option<Run>> {
        Ok(load(ctx, self.is(Kind::Run).map(RunId)).await?.map(Run::from))
    }
}

impl TimelineEntry {
    fn is(&self, kind: Kind) -> Option<Uuid> {
        (self.0.kind == kind).then_some(self.0.id)
    }
}

/// Position in a timeline: time and id.
type Position = (DateTime<Utc>, Uuid);

/// Loader key: the `count` entries of a record's timeline after a position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TimelineOf {
    record: RecordId,
    after: Option<Position>,
    count: u64,
}

impl Loader<TimelineOf> for Rows {
    type Value = Arc<Vec<Entry>>;

    async fn load(&self, of_all: &[TimelineOf]) -> crate::kernel::error::Result<HashMap<TimelineOf, Self::Value>> {
        // On Postgres, events get their positions after the commit: waits until the caller's own
        // writes are visible.
        crate::kernel::event::head(&self.db, &self.viewer).await?;
        // All records of a list request the same page: one statement.
        let mut parts: HashMap<(Option<Position>, u64), Vec<RecordId>> = HashMap::new();
        for one in of_all {
            parts.entry((one.after, one.count)).or_default().push(one.record);
        }
        let mut all = HashMap::new();
        for ((after, count), records) in parts {
            let found = of(self.db.read(), &self.viewer, &records, after, count).await?;
            let keyed =
                found.into_iter().map(|(record, entries)| (TimelineOf { record, after, count }, Arc::new(entries)));
            all.extend(keyed);
        }
        Ok(all)
    }
}

/// Loader key for the number of entries of a record's timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimelineCount(pub RecordId);

impl Loader<TimelineCount> for Rows {
    type Value = u64;

    async fn load(&self, of: &[TimelineCount]) -> crate::kernel::error::Result<HashMap<TimelineCount, u64>> {
        let records: Vec<RecordId> = of.iter().map(|one| one.0).collect();
        let found = count(self.db.read(), &self.viewer, &records).await?;
        Ok(of.iter().map(|one| (*one, found.get(&one.0).copied().unwrap_or_default())).collect())
    }
}

/// Returns one page of a record's timeline, newest first.
pub(super) async fn timeline(
    ctx: &Context<'_>,
    record: RecordId,
    first: Option<i32>,
    after: Option<String>,
) -> Result<List<TimelineEntry>> {
    let args = page::Args { first, after, ..Default::default() };
    let (many, _) = page::count(&args)?;
    let fingerprint: Arc<str> = page::fingerprint(&("timeline", record))?.into();
    let after = match &args.after {
        Some(text) => match Cursor::place("after", text, &fingerprint)? {
            (Key::Time(at), id) => Some((at, id)),
            _ => return Err(crate::kernel::error::Refusal::input("after", "not a cursor of this list").into()),
        },
        None => None,
    };
    let found = must_load(ctx, TimelineOf { record, after, count: many as u64 + 1 }).await?;
    let has_next = found.len() > many;
    let rows = found.iter().take(many).map(|entry| {
        let cursor = Cursor::new(fingerprint.clone(), Key::Time(entry.at), entry.id);
        (cursor, Node(TimelineEntry(entry.clone())))
    });
    let totals = Totals::Timeline(record);
    Ok(Connection { rows: rows.collect(), has_previous: after.is_some(), has_next, totals })
}
