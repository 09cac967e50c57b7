//! The latest items of a shared execution: bounded by number and by bytes, and counted for the
//! owner of the execution as long as the buffer or a reader holds them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::graphql::stream::StreamKind;
use crate::kernel::cost::{self, CostOwner};
use crate::kernel::limits;
use crate::transport::error::RequestError;
use crate::transport::execute::Payload;

/// One item, shared by the buffer and its readers.
#[derive(Clone, Debug)]
pub(super) struct SharedItem {
    /// The item's log position; two items of a list have the same if it changed by time alone.
    pub(super) position: i64,
    /// Number of the item in its buffer, from 1; of a snapshot that of the item before it.
    pub(super) number: u64,
    pub(super) payload: Payload,
    /// The cost of its bytes.
    pub(super) held: Option<Arc<cost::Request>>,
}

/// The latest items of a shared execution.
#[derive(Debug)]
pub(super) struct Buffer {
    /// The log position after which all items are in `items`.
    before: i64,
    /// Number of the newest item that was dropped.
    dropped: u64,
    /// Number of the newest item.
    newest: u64,
    items: VecDeque<SharedItem>,
    /// Total size of the items.
    bytes: usize,
    /// Set when the execution has ended, with the reason if it failed.
    pub(super) over: Option<Option<Ended>>,
    kind: StreamKind,
    /// The newest snapshot of a list, while all items after it are in `items`.
    snapshot: Option<SharedItem>,
}

/// The error that ended an execution, and the owner that it was charged to.
pub(super) type Ended = (RequestError, Option<CostOwner>);

/// The result of reading the buffer from a position.
pub(super) enum Lookup {
    Item(SharedItem),
    /// Items up to this position are no longer buffered.
    More(i64),
    Over(Option<Ended>),
    Nothing,
}

impl Buffer {
    /// An empty buffer of the items after a position.
    pub(super) fn new(before: i64, kind: StreamKind) -> Self {
        let items = VecDeque::new();
        Self { before, dropped: 0, newest: 0, items, bytes: 0, over: None, kind, snapshot: None }
    }

    /// The snapshot of a list, for a reader that needs one that has reached a position.
    pub(super) fn snapshot(&self, position: i64) -> Lookup {
        match (&self.snapshot, &self.over) {
            (Some(snapshot), _) if snapshot.position >= position => Lookup::Item(snapshot.clone()),
            (_, Some(why)) => Lookup::Over(why.clone()),
            _ => Lookup::Nothing,
        }
    }

    /// Replaces the snapshot. Its readers continue with the items after it.
    pub(super) fn set_snapshot(&mut self, snapshot: SharedItem) {
        self.snapshot = Some(SharedItem { number: self.newest, ..snapshot });
    }

    /// The next item after a position, or after the item with a number, if the reader has one of
    /// this buffer. A reader takes one at a time, so that it holds only what it is about to write.
    pub(super) fn after(&self, position: i64, number: Option<u64>) -> Lookup {
        let is_known = |item: &SharedItem| number.map_or(item.position <= position, |number| item.number <= number);
        let is_behind = number.map_or(position < self.before, |number| number < self.dropped);
        let next = self.items.partition_point(is_known);
        match (self.items.get(next), &self.over) {
            (Some(next), _) if self.kind == StreamKind::Newest => {
                Lookup::Item(self.items.back().unwrap_or(next).clone())
            }
            _ if is_behind => Lookup::More(self.before),
            (Some(next), _) => Lookup::Item(next.clone()),
            (None, Some(why)) => Lookup::Over(why.clone()),
            (None, None) => Lookup::Nothing,
        }
    }

    /// Adds an item, and drops the oldest that are too many. The newest stays in any case: its
    /// readers have been woken, and it is counted.
    pub(super) fn push(&mut self, item: SharedItem) {
        self.bytes += item.payload.len();
        self.newest += 1;
        self.items.push_back(SharedItem { number: self.newest, ..item });
        while self.items.len() > 1 && self.is_full() {
            if let Some(removed) = self.items.pop_front() {
                self.bytes -= removed.payload.len();
                (self.before, self.dropped) = (removed.position, removed.number);
            }
        }
        self.snapshot.take_if(|snapshot| snapshot.number < self.dropped);
    }

    fn is_full(&self) -> bool {
        let is_much_held = || {
            let held = self.items.back().and_then(|newest| newest.held.as_ref());
            held.is_some_and(|held| held.is_much_held())
        };
        self.kind == StreamKind::Newest
            || self.items.len() > limits::SHARED_KEPT
            || self.bytes > limits::SHARED_BYTES
            || self.bytes > limits::SHARED_LEAST_BYTES && is_much_held()
    }
}
