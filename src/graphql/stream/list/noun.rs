//! The nouns of live lists: the window that is read, and the rows that an event touches.
//!
//! An event is judged by its columns, before any statement. Conditions of the filter that events
//! carry, such as the run, exclude events here; all others are judged by the read.

mod campaigns;
mod communications;
mod replies;
mod runs;
mod steps;

use async_graphql::{ContainerType, Context, ID, ObjectType, Result};
use entity::event;
use futures_util::future::BoxFuture;
use sea_orm::EntityTrait;
use uuid::Uuid;

use super::change::Counts;
use crate::graphql::selection::RowFields;
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::page::Window;
use crate::kernel::viewer::Viewer;
pub use campaigns::Campaigns;
pub use communications::Communications;
pub use replies::Replies;
pub use runs::Runs;
pub use steps::Steps;

/// The rows of a noun.
pub type Row<N> = <<N as Noun>::Entity as EntityTrait>::Model;

/// The effect that an event may have on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// None.
    Nothing,
    /// The row's content changes, if the list has it; its place does not.
    Content(Uuid),
    /// The row's content changes, and it may come into the list, move or leave.
    Place(Uuid),
    /// Any row may come, change, move or leave.
    Anything,
}

/// The list of a root query, with its filter and order.
pub trait Noun: Sized + Send + Sync + 'static {
    /// The table.
    type Entity: EntityTrait<Model: Send + Sync + 'static> + Send + Sync + 'static;
    /// The GraphQL type of a row.
    type Node: ContainerType + RowFields;
    /// The fields with the totals.
    type Totals: ObjectType + From<Counts>;
    /// Name of the GraphQL type of an item.
    const CHANGE: &'static str;

    /// The window, made by the finder of the root query.
    fn window(&self, db: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>>;

    /// The window without the filter's own `statuses`, over which `countsByStatus` counts; none if
    /// the filter has none.
    fn facets(&self, db: &Db, viewer: &Viewer) -> error::Result<Option<Window<Self::Entity>>>;

    /// The effect of an event.
    fn touch(&self, event: &event::Model) -> Touch;

    /// True if rows may come or leave by the passing of time alone.
    fn depends_on_time(&self) -> bool {
        false
    }

    /// The column with the status; none if the noun has none.
    fn status() -> Option<<Self::Entity as EntityTrait>::Column>;

    /// The id as clients know it.
    fn id(id: Uuid) -> ID;

    /// The id of a row.
    fn id_of(row: &Row<Self>) -> Uuid;

    /// The rows with these ids, in no order.
    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<Row<Self>>>>;

    /// The rows as GraphQL objects.
    fn nodes<'a>(ctx: &'a Context<'_>, rows: Vec<Row<Self>>) -> BoxFuture<'a, Result<Vec<Self::Node>>>;
}

/// The first part of an event's kind.
fn noun_of(event: &event::Model) -> &str {
    event.kind.split('.').next().unwrap_or_default()
}

/// True if a condition of a filter excludes an event with this id, or without one.
fn excludes<I: PartialEq>(condition: &Option<Vec<I>>, id: Option<I>) -> bool {
    condition.as_ref().is_some_and(|ids| id.is_none_or(|id| !ids.contains(&id)))
}
