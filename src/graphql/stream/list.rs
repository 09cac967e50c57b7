//! Live lists: a query's list, read again when the log has events that may change it, and sent as
//! the difference to the last item.
//!
//! One mechanism serves all nouns; a noun says which window is read and which rows an event touches.
//! A read costs a page by index, independently of the size of the table, and there are at most four
//! a second, however many events there are.

pub mod change;
pub mod fields;
pub mod noun;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{Context, Result};
use futures_util::{Stream, StreamExt, stream};
use sea_orm::{EntityTrait, Iterable, ModelTrait, Value};
use tokio::time::Sleep;
use uuid::Uuid;

use super::{Batches, LogScope, begin};
use crate::graphql::{db, viewer};
use crate::kernel::cost;
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::event as log;
use crate::kernel::page::{Difference, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{large, limits};
use change::{Counts, ListChange, ListChangeKind, Place};
pub use fields::ListSubscription;
use noun::{Noun, Touch};

/// The subscriptions that are live lists.
pub const FIELDS: [&str; 5] = ["runList", "campaignList", "stepList", "communicationList", "replyList"];

/// The time after which a list is read again without an event, if rows come or leave by the passing
/// of time.
const RECHECK_EVERY: Duration = Duration::from_secs(15);

/// The same for a list with counts, which are taken over all matching rows.
const RECOUNT_EVERY: Duration = Duration::from_secs(60);

/// The state of a live list, as its last item left it.
struct Follower<N: Noun> {
    db: Arc<Db>,
    viewer: Viewer,
    noun: N,
    /// True if the counts are selected.
    counting: bool,
    batches: Batches,
    scope: LogScope,
    /// The position up to which the log was taken note of.
    position: i64,
    /// The rows' ids in their order, each with a hash of the row.
    rows: Vec<(Uuid, u64)>,
    counts: Counts,
    /// The rows that events have touched since the last read.
    touched: HashSet<Uuid>,
    /// True if the list must be read again.
    is_due: bool,
    /// The time until the list may be read again.
    pause: Option<Pin<Box<Sleep>>>,
    /// The time until the list is read again without an event; none if time alone changes nothing.
    recheck: Option<Pin<Box<Sleep>>>,
    begun: bool,
    over: bool,
}

/// Returns a live list: first a snapshot, also with a cursor, then its changes, without end.
pub(super) async fn follow<N: Noun>(
    ctx: &Context<'_>,
    noun: N,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<ListChange<N>>> + use<N>> {
    let (db, viewer) = (db(ctx).clone(), viewer(ctx).clone());
    noun.window(&db, &viewer)?;
    if let Some(cursor) = &after {
        log::cursor::resume(&db, &viewer, "after", cursor).await?;
    }
    let selected = ctx.look_ahead();
    let counting = ["totalCount", "countsByStatus"].iter().any(|name| selected.field(name).exists());
    let (position, scope, batches) = begin(ctx, None).await?;
    let follower = Follower {
        db,
        viewer,
        noun,
        counting,
        batches,
        scope,
        position,
        rows: Vec::new(),
        counts: Counts::default(),
        touched: HashSet::new(),
        is_due: false,
        pause: None,
        recheck: None,
        begun: false,
        over: false,
    };
    Ok(stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item.map_err(Into::into), follower))
    }))
}

impl<N: Noun> Follower<N> {
    async fn next(&mut self) -> Option<error::Result<ListChange<N>>> {
        if self.over {
            return None;
        }
        let item = self.next_item().await.transpose()?;
        match &item {
            Ok(item) => self.scope.set_list(self.position, item.kind == ListChangeKind::Snapshot),
            Err(_) => self.over = true,
        }
        Some(item)
    }

    /// Waits for the next item; none if the log ends first.
    async fn next_item(&mut self) -> error::Result<Option<ListChange<N>>> {
        if !self.begun {
            self.begun = true;
            self.read().await?;
            // Subscribers that have asked meanwhile get this one.
            self.scope.take_request(self.position);
            return Ok(Some(self.snapshot()));
        }
        loop {
            if self.is_due && self.pause.is_none() {
                if let Some(change) = self.change().await? {
                    return Ok(Some(change));
                }
                continue;
            }
            // A snapshot is the list as the last item left it, so that the next one fits to both.
            if !self.is_due && self.scope.take_request(self.position) {
                return Ok(Some(self.snapshot()));
            }
            tokio::select! {
                batch = self.batches.next() => match batch {
                    Some(events) => self.take(&events?),
                    None => return Ok(None),
                },
                () = self.scope.snapshot_requested() => {}
                () = elapsed(&mut self.pause) => self.pause = None,
                () = passed(&mut self.recheck, &self.db) => {
                    self.recheck = None;
                    self.is_due = true;
                }
            }
        }
    }

    /// Takes note of what events may have changed.
    fn take(&mut self, events: &[Arc<entity::event::Model>]) {
        for event in events {
            self.position = event.position;
            match self.noun.touch(event) {
                Touch::Content(id) | Touch::Place(id) if self.rows.iter().any(|(row, _)| *row == id) => {
                    self.touched.insert(id);
                    self.is_due = true;
                }
                Touch::Place(_) | Touch::Anything => self.is_due = true,
                Touch::Content(_) | Touch::Nothing => {}
            }
        }
    }

    /// Reads the list, and returns its difference to the last item; none if there is none.
    async fn change(&mut self) -> error::Result<Option<ListChange<N>>> {
        let (before, counts) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.counts));
        self.read().await?;
        let ids = |rows: &[(Uuid, u64)]| rows.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        let difference = Difference::between(&ids(&before), &ids(&self.rows));
        let touched = std::mem::take(&mut self.touched);
        // Not every change of a row is named by an event: due times are set with the task's.
        let same: HashSet<(Uuid, u64)> = before.into_iter().filter(|(id, _)| !touched.contains(id)).collect();
        let rows = ids(&self.rows.iter().filter(|state| !same.contains(state)).copied().collect::<Vec<_>>());
        if rows.is_empty() && difference == Difference::default() && counts == self.counts {
            return Ok(None);
        }
        let place = |(id, after): (Uuid, Option<Uuid>)| Place { node: N::id(id), after: after.map(N::id) };
        Ok(Some(ListChange {
            cursor: self.cursor(),
            kind: ListChangeKind::Changed,
            rows,
            entered: difference.entered.into_iter().map(place).collect(),
            left: difference.left.into_iter().map(N::id).collect(),
            totals: self.counts.clone().into(),
        }))
    }

    fn snapshot(&self) -> ListChange<N> {
        ListChange {
            cursor: self.cursor(),
            kind: ListChangeKind::Snapshot,
            rows: self.rows.iter().map(|(id, _)| *id).collect(),
            entered: Vec::new(),
            left: Vec::new(),
            totals: self.counts.clone().into(),
        }
    }

    fn cursor(&self) -> String {
        log::cursor(self.viewer.org_id, self.position)
    }

    /// Reads the list and its counts. Keeps no row: an item may wait long for its reader, and reads those
    /// that it shows when it is answered.
    async fn read(&mut self) -> error::Result<()> {
        let window = self.noun.window(&self.db, &self.viewer)?;
        let (db, by) = (&self.db, N::status());
        let mut counted = Vec::new();
        if self.counting {
            counted.push(window.clone());
            counted.extend(self.noun.facets(&self.db, &self.viewer)?);
        }
        let org_id = self.viewer.org_id;
        let (rows, counts) = apart(async move {
            let counts: Vec<Vec<(String, u64)>> = match counted.is_empty() {
                true => Vec::new(),
                false => {
                    let found = Window::count_all_by(db.read(), &counted, by).await?;
                    found.into_iter().collect::<error::Result<_>>()?
                }
            };
            let page = window.read(db.read()).await?;
            let bytes = cost::current().map_or(0, |request| request.answer_bytes());
            let hashes = move || page.rows.iter().map(|(_, row)| (N::id_of(row), hash(row))).collect::<Vec<_>>();
            Ok((large::in_turn(bytes, org_id, hashes).await?, counts))
        })
        .await?;
        self.rows = rows;
        self.counts = Counts::of(counts);
        // Events that arrive during the pause are one read: this coalesces them.
        self.pause = Some(Box::pin(tokio::time::sleep(limits::LIST_EVERY)));
        let every = if self.counting { RECOUNT_EVERY } else { RECHECK_EVERY };
        self.recheck = self.noun.depends_on_time().then(|| Box::pin(tokio::time::sleep(every)));
        self.is_due = false;
        Ok(())
    }
}

/// A hash of a row's content, column by column: long texts and JSON byte by byte, without being
/// formatted.
fn hash<M: ModelTrait>(row: &M) -> u64 {
    let mut hash = DefaultHasher::new();
    for column in <M::Entity as EntityTrait>::Column::iter() {
        match row.get(column) {
            Value::String(Some(text)) => hash.write(text.as_bytes()),
            Value::Json(Some(json)) => hash_json(&json, &mut hash),
            Value::Bytes(Some(bytes)) => hash.write(&bytes),
            short => hash.write(format!("{short:?}").as_bytes()),
        }
        hash.write_u8(0xff);
    }
    hash.finish()
}

fn hash_json(json: &serde_json::Value, hash: &mut DefaultHasher) {
    struct Bytes<'a>(&'a mut DefaultHasher);
    impl Write for Bytes<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    // Writing to a hash does not fail.
    let _ = serde_json::to_writer(Bytes(hash), json);
}

/// Waits for the end of a pause; forever without one.
async fn elapsed(pause: &mut Option<Pin<Box<Sleep>>>) {
    match pause {
        Some(pause) => pause.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Waits until time has passed by which the list may have changed, or the clock was moved.
async fn passed(recheck: &mut Option<Pin<Box<Sleep>>>, db: &Db) {
    if recheck.is_none() {
        return std::future::pending().await;
    }
    tokio::select! {
        () = elapsed(recheck) => {}
        () = db.clock().moved() => {}
    }
}

/// Runs a read whose cost ends with it: a list may be read many times for one item.
async fn apart<T>(work: impl Future<Output = error::Result<T>>) -> error::Result<T> {
    let Some(request) = cost::current() else { return work.await };
    let part = request.part(request.answer_bytes());
    let found = cost::within(part.clone(), work).await;
    match part.refusal() {
        Some(refusal) => Err(request.end(refusal.clone()).into()),
        None => found,
    }
}
