//! Rows that subscriptions share which differ in what they select: a row that one of them has read
//! for an item of the log serves the others for the same item.
//!
//! A row was read at or after the position of its item. No subscription goes back in time: it takes
//! a shared row only if its read began after all rows of the subscription's earlier items were read;
//! otherwise it reads anew. Rows are shared for a moment and within an org and role, because there
//! are changes without an event.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_graphql::Context;
use entity::id::*;
use entity::member::Role;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use super::batch_loader::{Key, Loader};
use super::loader::Rows;
use super::stream::LogScope;
use super::{rows, viewer};
use crate::kernel::error::{Error, Result};

/// Maximum number of items whose rows are kept.
const PLACES: usize = 64;

/// Maximum number of rows that are kept for one item: those of an item's objects, not of its lists.
const ROWS_OF_A_PLACE: usize = 256;

/// The time for which rows of an item are shared.
const SHARED_FOR: Duration = Duration::from_millis(500);

/// The time that a subscription waits for another one's read before it reads itself.
const PATIENCE: Duration = Duration::from_millis(100);

/// The rows that subscriptions share.
#[derive(Clone, Debug, Default)]
pub struct SharedRows(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The latest items, oldest first.
    places: Mutex<VecDeque<Place>>,
    /// Number of reads that have begun.
    reads: AtomicU64,
}

/// An item of the log, for one org and role.
#[derive(Debug)]
struct Place {
    of: (OrgId, Role, i64),
    begun: Instant,
    /// Number of rows.
    count: usize,
    /// The reads of each kind of id: a `HashMap<K, Read<K>>` under the type `K`.
    rows: HashMap<TypeId, Box<dyn Any + Send>>,
}

/// A read of a row, in progress or over.
struct Read<K: Key>
where
    Rows: Loader<K>,
{
    /// Its number.
    number: u64,
    row: Shared<oneshot::Receiver<Found<<Rows as Loader<K>>::Value>>>,
}

/// A row, if there is one, and the number of reads that had begun when it was there.
#[derive(Clone, Debug)]
struct Found<V> {
    row: Option<Arc<V>>,
    reads: u64,
}

/// The part that a subscription has in a read.
enum Part<V> {
    /// It reads for all.
    Reads(oneshot::Sender<Found<V>>),
    /// Another one has begun.
    Waits(Shared<oneshot::Receiver<Found<V>>>),
}

impl SharedRows {
    /// Joins the read of a row for an item; begins it if nobody has, or if it began before `after`.
    /// None if nothing more is shared of this item.
    fn join<K: Key>(&self, of: (OrgId, Role, i64), after: u64, id: &K) -> Option<Part<<Rows as Loader<K>>::Value>>
    where
        Rows: Loader<K>,
    {
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        drop_expired(&mut places);
        let at = places.iter().rposition(|place| place.of == of).unwrap_or_else(|| {
            places.push_back(Place { of, begun: Instant::now(), count: 0, rows: HashMap::new() });
            tokio::spawn(expire(Arc::downgrade(&self.0)));
            places.len() - 1
        });
        let place = places.get_mut(at)?;
        let all = place.rows.entry(TypeId::of::<K>()).or_insert_with(|| Box::new(HashMap::<K, Read<K>>::new()));
        let all = all.downcast_mut::<HashMap<K, Read<K>>>()?;
        match all.get(id) {
            Some(read) if read.number > after => return Some(Part::Waits(read.row.clone())),
            None if place.count >= ROWS_OF_A_PLACE => return None,
            Some(_) => {}
            None => place.count += 1,
        }
        let number = self.0.reads.fetch_add(1, Ordering::SeqCst) + 1;
        let (sender, receiver) = oneshot::channel();
        all.insert(id.clone(), Read { number, row: receiver.shared() });
        Some(Part::Reads(sender))
    }
}

/// Drops the items whose rows are no longer shared, and the oldest beyond the maximum.
fn drop_expired(places: &mut VecDeque<Place>) {
    while places.front().is_some_and(|place| place.begun.elapsed() >= SHARED_FOR) || places.len() > PLACES {
        places.pop_front();
    }
}

/// Drops a new item's rows when its time is over, also if nothing is read after it.
async fn expire(shared: Weak<Inner>) {
    tokio::time::sleep(SHARED_FOR).await;
    if let Some(shared) = shared.upgrade() {
        drop_expired(&mut shared.places.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Returns the row of an object that an item of the log names, from a read that other subscriptions
/// share; in a query, as `loader::load`.
pub fn load<'a, I: Key>(
    ctx: &'a Context<'_>,
    id: Option<I>,
) -> BoxFuture<'a, Result<Option<<Rows as Loader<I>>::Value>>>
where
    Rows: Loader<I>,
{
    Box::pin(async move {
        let Some(id) = id else { return Ok(None) };
        let (shared, scope) = (ctx.data_opt::<SharedRows>(), ctx.data_opt::<LogScope>());
        match shared.zip(scope).and_then(|(shared, scope)| Some((shared, scope, scope.now()?))) {
            Some((shared, scope, position)) => load_shared(ctx, shared, scope, position, id).await,
            None => rows(ctx).load_one(id).await,
        }
    })
}

/// Returns the row of an object that must exist, since an item or a row refers to it.
pub async fn must_load<I: Key>(ctx: &Context<'_>, id: I) -> Result<<Rows as Loader<I>>::Value>
where
    Rows: Loader<I>,
{
    load(ctx, Some(id)).await?.ok_or_else(|| Error::internal("a referenced row does not exist"))
}

async fn load_shared<I: Key>(
    ctx: &Context<'_>,
    shared: &SharedRows,
    scope: &LogScope,
    position: i64,
    id: I,
) -> Result<Option<<Rows as Loader<I>>::Value>>
where
    Rows: Loader<I>,
{
    let viewer = viewer(ctx);
    match shared.join((viewer.org_id, viewer.role, position), scope.reads_before(), &id) {
        Some(Part::Reads(sender)) => {
            let row = rows(ctx).load_one(id).await?;
            let reads = shared.0.reads.load(Ordering::SeqCst);
            scope.has_read(reads);
            // Nobody may wait for it.
            let _ = sender.send(Found { row: row.clone().map(Arc::new), reads });
            return Ok(row);
        }
        // Unless the other one is slow, was ended or has failed.
        Some(Part::Waits(read)) => {
            if let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, read).await {
                scope.has_read(found.reads);
                return Ok(found.row.map(|row| row.as_ref().clone()));
            }
        }
        None => {}
    }
    let row = rows(ctx).load_one(id).await;
    scope.has_read(shared.0.reads.load(Ordering::SeqCst));
    row
}
