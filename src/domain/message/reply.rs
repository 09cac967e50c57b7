//! Replies: find and page. They are recorded by `run::incoming_reply`.

pub(crate) mod follow_up;
pub mod message_ids;

use entity::id::*;
use entity::reply::{COLUMN, Entity, Model};
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};

use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Page, Window};
use crate::kernel::viewer::Viewer;

scoped!(reply, ReplyId, "reply");

/// A filter over replies; all given conditions must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Filter {
    /// Replies to this run's messages.
    pub run_id: Option<RunId>,
    /// Replies to this campaign's messages.
    pub campaign_id: Option<CampaignId>,
    /// Replies to this message.
    pub communication_id: Option<CommunicationId>,
    /// Replies of this record.
    pub record_id: Option<RecordId>,
}

/// A window of the matching replies, newest first.
pub fn window(viewer: &Viewer, filter: Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("reply", filter))?;
    Ok(Window { select: select(viewer, filter), order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// Returns one page of the matching replies, newest first.
pub async fn page(db: &Db, viewer: &Viewer, filter: Filter, args: &Args) -> Result<Page<Model>> {
    window(viewer, filter, args.clone())?.read(db.read()).await
}

/// Counts the matching replies.
pub async fn count(db: &Db, viewer: &Viewer, filter: Filter) -> Result<u64> {
    Ok(select(viewer, filter).count(db.read()).await?)
}

fn select(viewer: &Viewer, filter: Filter) -> sea_orm::Select<Entity> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(id) = filter.run_id {
        select = select.filter(COLUMN.run_id.eq(id));
    }
    if let Some(id) = filter.campaign_id {
        select = select.filter(COLUMN.campaign_id.eq(id));
    }
    if let Some(id) = filter.communication_id {
        select = select.filter(COLUMN.communication_id.eq(id));
    }
    if let Some(id) = filter.record_id {
        select = select.filter(COLUMN.record_id.eq(id));
    }
    select
}
