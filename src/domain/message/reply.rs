//! Replies: find and page, and the changes of their status. They are recorded by
//! `run::incoming_reply`; people handle them by `run::handle_reply`.

pub(crate) mod follow_up;
pub mod message_ids;
pub(crate) mod status;

use std::collections::HashMap;

use async_graphql::{Enum, ID, InputObject};
use entity::id::*;
use entity::reply::{COLUMN, Column, Entity, Model};
use entity::{Channel, ReplyStatus};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder};
use serde::Serialize;

use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect;
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Key, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

scoped!(reply, ReplyId, "reply");
saved!(reply, ReplyId, "reply");

/// Trigger of steps that handle replies.
pub(crate) const ON_REPLY: &str = "event:reply.received";

/// The column of the folded subject and text, which no row is read with.
pub(crate) const SEARCH: &str = "search";

/// A filter over replies; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "ReplyFilter")]
pub struct Filter {
    /// Only these replies.
    pub ids: Option<Vec<ID>>,
    /// Replies to messages of one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Replies to messages of one of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Replies to one of these messages.
    pub communication_ids: Option<Vec<ID>>,
    /// Replies of one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Replies that one of these steps handles.
    pub step_ids: Option<Vec<ID>>,
    /// Replies with one of these statuses.
    pub statuses: Option<Vec<ReplyStatus>>,
    /// Replies on one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Replies assigned to one of these members.
    pub assignee_ids: Option<Vec<ID>>,
    /// True for those assigned to nobody, false for those assigned to a member. Null matches all.
    pub unassigned: Option<bool>,
    /// True for those assigned to the requesting member. False and null match all.
    pub mine: Option<bool>,
    /// True for replies to test messages, false for all others. Null matches all.
    pub test: Option<bool>,
    /// Replies that arrived in this period.
    pub received_at: Option<DateTimeRange>,
    /// Part of the subject or of the text, at most 1,000 characters; ignores case and Unicode
    /// normalization forms.
    pub search: Option<String>,
}

/// Sort field of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "ReplyOrderField")]
pub enum SortBy {
    /// Time at which it was recorded.
    CreatedAt,
    /// Time at which it arrived, as its `receivedAt` says.
    ReceivedAt,
}

/// A window of the matching replies.
pub fn window(
    db: &Db,
    viewer: &Viewer,
    filter: &Filter,
    by: SortBy,
    descending: bool,
    args: Args,
) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("reply", by, descending, filter))?;
    let mut order = NEWEST_FIRST;
    order.descending = descending;
    order.by = match by {
        // Ids are in the order of recording.
        SortBy::CreatedAt => None,
        SortBy::ReceivedAt => Some((Column::ReceivedAt, |row| Key::Time(row.received_at), false)),
    };
    Ok(Window { select: select(db, viewer, filter)?, order, fingerprint, args, part: None })
}

/// A window of the matching replies, newest first.
pub fn latest(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    window(db, viewer, filter, SortBy::CreatedAt, true, args)
}

fn select(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<sea_orm::Select<Entity>> {
    fn ids<I: Id>(given: &[ID], field: &str) -> Result<Vec<I>> {
        validate::ids(given, "filter", field)
    }
    let of = db.dialect();
    let mut all = Condition::all().add(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.ids {
        all = all.add(any_of(of, COLUMN.id, ids::<ReplyId>(given, "ids")?));
    }
    if let Some(given) = &filter.run_ids {
        all = all.add(any_of(of, COLUMN.run_id, ids::<RunId>(given, "runIds")?));
    }
    if let Some(given) = &filter.campaign_ids {
        all = all.add(any_of(of, Column::CampaignId, ids::<CampaignId>(given, "campaignIds")?));
    }
    if let Some(given) = &filter.communication_ids {
        all = all.add(any_of(of, COLUMN.communication_id, ids::<CommunicationId>(given, "communicationIds")?));
    }
    if let Some(given) = &filter.record_ids {
        all = all.add(any_of(of, Column::RecordId, ids::<RecordId>(given, "recordIds")?));
    }
    if let Some(given) = &filter.step_ids {
        all = all.add(any_of(of, Column::StepId, ids::<StepId>(given, "stepIds")?));
    }
    if let Some(statuses) = &filter.statuses {
        all = all.add(any_of(of, COLUMN.status, statuses.clone()));
    }
    if let Some(channels) = &filter.channels {
        all = all.add(any_of(of, COLUMN.channel, channels.clone()));
    }
    if let Some(given) = &filter.assignee_ids {
        all = all.add(any_of(of, Column::AssigneeId, ids::<MemberId>(given, "assigneeIds")?));
    }
    if let Some(unassigned) = filter.unassigned {
        all = all.add(if unassigned { Column::AssigneeId.is_null() } else { Column::AssigneeId.is_not_null() });
    }
    if filter.mine == Some(true) {
        let me = viewer.member_id().map_or_else(uuid::Uuid::nil, |id| id.0);
        all = all.add(Column::AssigneeId.eq(me));
    }
    if let Some(test) = filter.test {
        all = all.add(COLUMN.test.eq(test));
    }
    if let Some(range) = &filter.received_at {
        all = range.narrow(all, Column::ReceivedAt, "filter.receivedAt")?;
    }
    if let Some(text) = &filter.search {
        all = all.add(dialect::search(Expr::col((Entity, SEARCH)), "filter.search", text)?);
    }
    Ok(Entity::find().filter(all))
}

/// The newest reply that each of these steps handles.
pub async fn of_steps(db: &Db, viewer: &Viewer, steps: &[StepId]) -> Result<HashMap<StepId, Model>> {
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.dialect(), Column::StepId, steps.iter().copied()))
        .order_by_asc(COLUMN.id)
        .all(db.read())
        .await?;
    Ok(found.into_iter().filter_map(|row| Some((row.step_id?, row))).collect())
}

/// The reply that each of these follow-ups was created for.
pub async fn of_follow_ups(db: &Db, viewer: &Viewer, follow_ups: &[FollowUpId]) -> Result<HashMap<FollowUpId, Model>> {
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.dialect(), Column::FollowUpId, follow_ups.iter().copied()))
        .all(db.read())
        .await?;
    Ok(found.into_iter().filter_map(|row| Some((row.follow_up_id?, row))).collect())
}
