//! The items of live lists.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::marker::PhantomData;

use async_graphql::{Context, Enum, ID, Object, OutputType, Result, SimpleObject, TypeName};
use entity::StateMachine;
use uuid::Uuid;

use super::noun::Noun;
use crate::graphql::counted::Node;
use crate::graphql::list::StatusCount;
use crate::graphql::{db, viewer};

/// Kind of an item of a live list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
pub enum ListChangeKind {
    /// The whole list: it replaces everything that the client has.
    Snapshot,
    /// The difference to the item before.
    Changed,
}

/// The place of a row in a live list.
#[derive(Clone, Debug, SimpleObject)]
pub struct Place {
    /// Id of the row.
    pub(super) node: ID,
    /// Id of the row directly before it; null if it is at the head of the list.
    pub(super) after: Option<ID>,
}

/// An item of a live list. To apply it: with the kind SNAPSHOT, replace the whole list by `nodes`.
/// With CHANGED, remove the rows in `left`; then take each of `entered` in order, remove its row
/// from where it may be, and put it behind the row `after`; then replace the content of the rows in
/// `nodes`.
pub struct ListChange<N: Noun> {
    pub(super) cursor: String,
    pub(super) kind: ListChangeKind,
    pub(super) rows: Vec<Uuid>,
    pub(super) entered: Vec<Place>,
    pub(super) left: Vec<ID>,
    pub(super) totals: N::Totals,
}

impl<N: Noun> TypeName for ListChange<N> {
    fn type_name() -> Cow<'static, str> {
        N::CHANGE.into()
    }
}

/// An item of a live list. To apply it: with the kind SNAPSHOT, replace the whole list by `nodes`.
/// With CHANGED, remove the rows in `left`; then take each of `entered` in order, remove its row
/// from where it may be, and put it behind the row `after`; then replace the content of the rows in
/// `nodes`.
#[Object(name_type)]
impl<N: Noun> ListChange<N> {
    /// Position in the log: everything that was committed up to there is in the list, possibly
    /// more. Pass it as `after` to resume; the list then begins with a SNAPSHOT again.
    async fn cursor(&self) -> &str {
        &self.cursor
    }

    /// Kind of the item. The first one is a SNAPSHOT; later ones may be, for example if the client
    /// reads too slowly.
    async fn kind(&self) -> ListChangeKind {
        self.kind
    }

    /// With SNAPSHOT: the rows in order. With CHANGED: the rows of the list that changed or that
    /// are new in it, in the list's order; rows that only moved may be missing, and those deleted
    /// meanwhile, which the next item names in `left`. Their content may be newer than `cursor`, and
    /// a row may be repeated without a change.
    async fn nodes(&self, ctx: &Context<'_>) -> Result<Vec<Node<N::Node>>> {
        let mut rows = N::find(db(ctx), viewer(ctx), &self.rows).await?;
        let places: HashMap<Uuid, usize> = self.rows.iter().enumerate().map(|(at, id)| (*id, at)).collect();
        rows.sort_by_key(|row| places.get(&N::id_of(row)));
        Ok(N::nodes(ctx, rows).await?.into_iter().map(Node).collect())
    }

    /// Rows that came into the list or moved in it, in the list's order, each with the row that it
    /// stands behind. The content of new ones is in `nodes`. Empty with SNAPSHOT.
    async fn entered(&self) -> &[Place] {
        &self.entered
    }

    /// Ids of the rows that are no longer in the list: they don't match the filter any more, others
    /// have pushed them out, or they were deleted. Ids that the client does not know are ignored.
    /// Empty with SNAPSHOT.
    async fn left(&self) -> &[ID] {
        &self.left
    }

    #[graphql(flatten)]
    async fn totals(&self) -> &N::Totals {
        &self.totals
    }
}

/// The number of matching rows, and the numbers by status as if the filter had no `statuses`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    total: u64,
    by_status: BTreeMap<String, u64>,
}

impl Counts {
    /// The counts of the list by status, and behind them those without the filter's `statuses`, if
    /// it has some.
    pub(super) fn of(counts: Vec<Vec<(String, u64)>>) -> Self {
        let total = counts.first().map_or(0, |list| list.iter().map(|(_, count)| count).sum());
        Self { total, by_status: counts.into_iter().next_back().unwrap_or_default().into_iter().collect() }
    }
}

/// The total of a list.
pub struct ListTotal(Counts);

impl From<Counts> for ListTotal {
    fn from(counts: Counts) -> Self {
        Self(counts)
    }
}

#[Object]
impl ListTotal {
    /// Total number of rows that match the filter, also beyond `first`; computed only when
    /// selected. With it an item also comes when only this number changed.
    async fn total_count(&self) -> u64 {
        self.0.total
    }
}

/// The total of a list, and its part in each status.
pub struct StatusTotals<S>(Counts, PhantomData<S>);

impl<S> From<Counts> for StatusTotals<S> {
    fn from(counts: Counts) -> Self {
        Self(counts, PhantomData)
    }
}

impl<S: OutputType> TypeName for StatusTotals<S> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Totals", S::type_name()).into()
    }
}

#[Object(name_type)]
impl<S: OutputType + StateMachine + Display> StatusTotals<S> {
    /// Total number of rows that match the filter, also beyond `first`; computed only when
    /// selected. With it an item also comes when only this number changed.
    async fn total_count(&self) -> u64 {
        self.0.total
    }

    /// Number of rows in each status, including statuses without rows, as if the filter had no
    /// `statuses`: the counts stay while one is chosen. Computed only when selected. With it an item
    /// also comes when only these numbers changed.
    async fn counts_by_status(&self) -> Vec<StatusCount<S>> {
        let count = |status: &S| self.0.by_status.get(&status.to_string()).copied().unwrap_or_default();
        S::states().into_iter().map(|status| StatusCount { count: count(&status), status }).collect()
    }
}
