//! Past occurrences of a schedule: those that started, and those that did not.

use std::sync::Arc;

use async_graphql::{Context, Object, Result};
use chrono::{DateTime, Utc};
use entity::id::ScheduleId;
use entity::missed_occurrence::{self, UnfiredReason};
use uuid::Uuid;

use crate::domain::run::past_occurrences::{OccurrenceStatus, PastPage, backfilled, fired, unfired};
use crate::graphql::connection::Connection;
use crate::graphql::counted::Node;
use crate::graphql::list::{List, Totals, args};
use crate::graphql::loader::{nested_count, nested_page};
use crate::graphql::run::Run;
use crate::graphql::selection::RowFields;
use crate::graphql::{db, viewer};
use crate::kernel::error::Refusal;
use crate::kernel::page::{self, Cursor, Key};

/// An occurrence of a schedule that is over, or a stretch of them that did not start for the same
/// reason.
pub struct PastOccurrence {
    at: DateTime<Utc>,
    id: Uuid,
    what: What,
}

enum What {
    Started(Box<entity::run::Model>),
    Unfired(missed_occurrence::Model),
}

impl RowFields for PastOccurrence {}

/// An occurrence of a schedule that is over, or a stretch of them that did not start for the same
/// reason.
#[Object]
impl PastOccurrence {
    /// Time of the occurrence; of a stretch, that of its last one.
    async fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// Time of the first occurrence of a stretch; the same as `at` for a single one.
    async fn first_at(&self) -> DateTime<Utc> {
        match &self.what {
            What::Started(_) => self.at,
            What::Unfired(row) => row.first_at,
        }
    }

    /// Number of occurrences: more than one only in a stretch.
    async fn count(&self) -> i64 {
        match &self.what {
            What::Started(_) => 1,
            What::Unfired(row) => row.count,
        }
    }

    /// Fate of the occurrence: started, made up for, skipped or missed.
    async fn status(&self) -> OccurrenceStatus {
        match &self.what {
            What::Started(run) if run.backfill_for.is_some() => OccurrenceStatus::Backfilled,
            What::Started(_) => OccurrenceStatus::Fired,
            What::Unfired(row) => OccurrenceStatus::of_unfired(row.reason),
        }
    }

    /// Reason why it did not start; null if it did.
    async fn reason(&self) -> Option<UnfiredReason> {
        match &self.what {
            What::Started(_) => None,
            What::Unfired(row) => Some(row.reason),
        }
    }

    /// The run that it started; null if it did not start.
    async fn run(&self) -> Option<Run> {
        match &self.what {
            What::Started(run) => Some(Run::from(run.as_ref().clone())),
            What::Unfired(_) => None,
        }
    }
}

/// Returns a page of the past occurrences of a schedule, latest first. The pages of its three kinds
/// are read up to the same position, and merged.
pub(super) async fn past(
    ctx: &Context<'_>,
    id: ScheduleId,
    first: Option<i32>,
    after: Option<String>,
) -> Result<List<PastOccurrence>> {
    let (viewer, args) = (viewer(ctx), args(first, after, None, None));
    let (many, _) = page::count(&args)?;
    let fingerprint: Arc<str> = page::fingerprint(&("occurrences", id))?.into();
    let after = match &args.after {
        Some(text) => match Cursor::place("after", text, &fingerprint)? {
            (Key::Time(at), id) => Some((at, id)),
            _ => return Err(Refusal::input("after", "not a cursor of this list").into()),
        },
        None => None,
    };
    let page = PastPage { first, after };
    let (mut rows, mut has_next) = (Vec::new(), false);
    for window in [fired(viewer, id, &page)?, backfilled(viewer, id, &page)?] {
        let found = nested_page(ctx, window, false).await?;
        has_next |= found.has_next;
        rows.extend(found.rows.into_iter().map(|(_, run)| PastOccurrence {
            at: run.occurrence_at.or(run.backfill_for).unwrap_or_default(),
            id: run.id.0,
            what: What::Started(Box::new(run)),
        }));
    }
    let found = nested_page(ctx, unfired(viewer, id, db(ctx).now(), &page)?, false).await?;
    has_next |= found.has_next;
    let stretches = found.rows.into_iter().map(|(_, row)| row);
    rows.extend(stretches.map(|row| PastOccurrence { at: row.last_at, id: row.id.0, what: What::Unfired(row) }));
    rows.sort_by_key(|row| std::cmp::Reverse((row.at, row.id)));
    has_next |= rows.len() > many;
    rows.truncate(many);
    let rows = rows.into_iter().map(|row| {
        let cursor = Cursor::new(fingerprint.clone(), Key::Time(row.at), row.id);
        (cursor, Node(row))
    });
    let totals = Totals::Occurrences(id);
    Ok(Connection { rows: rows.collect(), has_previous: after.is_some(), has_next, totals })
}

/// Counts the past occurrences of a schedule; a stretch counts once.
pub(in crate::graphql) async fn count(ctx: &Context<'_>, id: ScheduleId) -> crate::kernel::error::Result<u64> {
    let (viewer, all) = (viewer(ctx), PastPage::default());
    let started = nested_count(ctx, fired(viewer, id, &all)?).await?;
    let made_up = nested_count(ctx, backfilled(viewer, id, &all)?).await?;
    Ok(started + made_up + nested_count(ctx, unfired(viewer, id, db(ctx).now(), &all)?).await?)
}
