//! Replies as a live list.

use async_graphql::{Context, ID, Result};
use entity::id::ReplyId;
use entity::{event, reply};
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{Noun, Touch, noun_of};
use crate::domain::message::reply::{self as noun, Filter};
use crate::graphql::reply::Reply;
use crate::graphql::stream::list::change::ListTotal;
use crate::kernel::db::Db;
use crate::kernel::error;
use crate::kernel::page::{Args, Window};
use crate::kernel::viewer::Viewer;

/// The list of `replies`.
pub struct Replies {
    /// The filter.
    pub filter: Filter,
    /// The page.
    pub args: Args,
}

impl Noun for Replies {
    type Entity = reply::Entity;
    type Node = Reply;
    type Totals = ListTotal;
    const CHANGE: &'static str = "ReplyListChange";

    fn window(&self, _: &Db, viewer: &Viewer) -> error::Result<Window<Self::Entity>> {
        noun::window(viewer, self.filter, self.args.clone())
    }

    fn facets(&self, _: &Db, _: &Viewer) -> error::Result<Option<Window<Self::Entity>>> {
        Ok(None)
    }

    /// Replies come, and do not change.
    fn touch(&self, event: &event::Model) -> Touch {
        let is_elsewhere = self.filter.run_id.is_some_and(|run| event.run_id != Some(run))
            || self.filter.campaign_id.is_some_and(|campaign| event.campaign_id != Some(campaign));
        match noun_of(event) {
            "reply" if !is_elsewhere => Touch::Anything,
            _ => Touch::Nothing,
        }
    }

    fn status() -> Option<reply::Column> {
        None
    }

    fn id(id: Uuid) -> ID {
        ReplyId(id).to_string().into()
    }

    fn id_of(row: &reply::Model) -> Uuid {
        row.id.0
    }

    fn find<'a>(db: &'a Db, viewer: &'a Viewer, ids: &'a [Uuid]) -> BoxFuture<'a, error::Result<Vec<reply::Model>>> {
        let ids: Vec<ReplyId> = ids.iter().copied().map(ReplyId).collect();
        Box::pin(async move { noun::find_all(db.read(), viewer, &ids).await })
    }

    fn nodes<'a>(_: &'a Context<'_>, rows: Vec<reply::Model>) -> BoxFuture<'a, Result<Vec<Reply>>> {
        Box::pin(async move { Ok(rows.into_iter().map(Reply).collect()) })
    }
}
