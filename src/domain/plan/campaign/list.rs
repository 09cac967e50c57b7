//! List of campaigns: filter, order, keyset pages.

use async_graphql::{Enum, ID, InputObject};
use entity::campaign::{COLUMN, Column, Entity};
use entity::id::*;
use entity::{CampaignStatus, Channel};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, Select, Value};
use serde::Serialize;

use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::nested_filter::{self, NO_CONDITION, NestedFilter};
use crate::kernel::page::{self, Args, Key, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Filter over campaigns; all given conditions must hold. A null condition is none; a list without
/// values matches no campaign. At most 500 ids in each list, and at most 100 nested filters, 8 levels
/// deep; beyond that it is rejected with LIMIT_EXCEEDED. Ids of another type are rejected with
/// BAD_USER_INPUT; ids of objects that do not exist match no campaign.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "CampaignFilter")]
pub struct Filter {
    /// Only these campaigns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ID>>,
    /// Only campaigns that have one of these goals now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_ids: Option<Vec<ID>>,
    /// Only campaigns whose audience is one of these segments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_ids: Option<Vec<ID>>,
    /// Only campaigns with one of these writers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writer_ids: Option<Vec<ID>>,
    /// Only campaigns with one of these reviewers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reviewer_ids: Option<Vec<ID>>,
    /// Only campaigns with one of these message templates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_template_ids: Option<Vec<ID>>,
    /// Only campaigns for a single record, which is one of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_ids: Option<Vec<ID>>,
    /// Only campaigns with one of these statuses.
    pub statuses: Option<Vec<CampaignStatus>>,
    /// Only campaigns with one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// Only campaigns created in this period; a period without an end is rejected with
    /// BAD_USER_INPUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTimeRange>,
    /// Only campaigns last changed in this period; a period without an end is rejected with
    /// BAD_USER_INPUT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<DateTimeRange>,
    /// Text to find in name or description, at most 1,000 characters. Case and Unicode
    /// normalization form are ignored.
    pub search: Option<String>,
    /// Only campaigns with at least one of these tags, at most 500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// True for archived campaigns only, false for those that are not. Null: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<bool>,
    /// Condition that must not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Filter>>,
    /// Conditions of which at least one must hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub or: Option<Vec<Filter>>,
}

/// Sort key of campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "CampaignOrderField")]
pub enum SortBy {
    /// The time of creation.
    CreatedAt,
    /// The time of the last change.
    UpdatedAt,
    /// The name.
    Name,
    /// The status, alphabetically.
    Status,
}

/// Returns a window of the matching campaigns. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
pub fn window(
    db: &Db,
    viewer: &Viewer,
    filter: &Filter,
    by: SortBy,
    descending: bool,
    args: Args,
) -> Result<Window<Entity>> {
    let mut order = super::NEWEST_FIRST;
    order.descending = descending;
    order.by = match by {
        SortBy::CreatedAt => Some((Column::CreatedAt, |row| Key::Time(row.created_at), false)),
        SortBy::UpdatedAt => Some((Column::UpdatedAt, |row| Key::Time(row.updated_at), false)),
        SortBy::Name => Some((Column::Name, |row| Key::Text(row.name.clone()), false)),
        SortBy::Status => Some((Column::Status, |row| Key::Text(row.status.to_value()), false)),
    };
    let fingerprint = page::fingerprint(&("campaign", by, descending, filter))?;
    Ok(Window { select: select(db.dialect(), viewer, filter)?, order, fingerprint, args, part: None })
}

/// Counts the matching campaigns.
pub async fn count(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<u64> {
    Ok(select(db.dialect(), viewer, filter)?.count(db.read()).await?)
}

fn select(dialect: Dialect, viewer: &Viewer, filter: &Filter) -> Result<Select<Entity>> {
    select_at(dialect, viewer, filter, "filter")
}

/// Returns the matching campaigns; errors name the filter's fields below `path`.
pub(crate) fn select_at(dialect: Dialect, viewer: &Viewer, filter: &Filter, path: &str) -> Result<Select<Entity>> {
    let met = nested_filter::condition(filter, dialect, path)?;
    Ok(Entity::find().filter(Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(met)))
}

impl Filter {
    /// Rejects a filter that selects campaigns for a change if it, or a filter nested in it, has no
    /// condition. Errors: BAD_USER_INPUT.
    pub(crate) fn require(&self, path: &str) -> Result<()> {
        nested_filter::require_condition(self, path, NO_CONDITION)
    }

    fn ids(&self) -> [&Option<Vec<ID>>; 7] {
        [
            &self.ids,
            &self.goal_ids,
            &self.segment_ids,
            &self.writer_ids,
            &self.reviewer_ids,
            &self.message_template_ids,
            &self.record_ids,
        ]
    }
}

impl NestedFilter for Filter {
    fn own(&self, dialect: Dialect, path: &str) -> Result<Condition> {
        let mut all = Condition::all()
            .add_option(listed::<CampaignId>(dialect, Column::Id, &self.ids, path, "ids")?)
            .add_option(listed::<GoalId>(dialect, Column::GoalId, &self.goal_ids, path, "goalIds")?)
            .add_option(listed::<SegmentId>(dialect, Column::SegmentId, &self.segment_ids, path, "segmentIds")?)
            .add_option(listed::<WriterId>(dialect, Column::WriterId, &self.writer_ids, path, "writerIds")?)
            .add_option(listed::<ReviewerId>(dialect, Column::ReviewerId, &self.reviewer_ids, path, "reviewerIds")?)
            .add_option(listed::<RecordId>(dialect, Column::RecordId, &self.record_ids, path, "recordIds")?);
        let (column, given) = (Column::MessageTemplateId, &self.message_template_ids);
        all = all.add_option(listed::<MessageTemplateId>(dialect, column, given, path, "messageTemplateIds")?);
        if let Some(statuses) = &self.statuses {
            all = all.add(any_of(dialect, COLUMN.status, statuses.clone()));
        }
        if let Some(channels) = &self.channels {
            all = all.add(any_of(dialect, COLUMN.channel, channels.clone()));
        }
        if let Some(tags) = &self.tags {
            if tags.len() > limits::PAGE_MAX {
                let message = format!("at most {}", limits::PAGE_MAX);
                return Err(Refusal::limit_for_field(&format!("{path}.tags"), message).into());
            }
            all = all.add(super::tags::has_any(dialect, tags));
        }
        if let Some(archived) = self.archived {
            all = all.add(if archived { COLUMN.archived_at.is_not_null() } else { COLUMN.archived_at.is_null() });
        }
        for (name, column, range) in
            [("createdAt", Column::CreatedAt, &self.created_at), ("updatedAt", Column::UpdatedAt, &self.updated_at)]
        {
            let Some(range) = range else { continue };
            let path = format!("{path}.{name}");
            all = range.narrow(all, column, &path)?;
        }
        if let Some(text) = &self.search {
            all = all.add(dialect::search(Expr::col((Entity, Column::Search)), &format!("{path}.search"), text)?);
        }
        Ok(all)
    }

    fn not(&self) -> Option<&Self> {
        self.not.as_deref()
    }

    fn or(&self) -> Option<&[Self]> {
        self.or.as_deref()
    }

    fn has_own_condition(&self) -> bool {
        self.ids().into_iter().any(Option::is_some)
            || self.statuses.is_some()
            || self.channels.is_some()
            || self.tags.is_some()
            || self.archived.is_some()
            || [&self.created_at, &self.updated_at].into_iter().flatten().any(DateTimeRange::has_end)
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty())
    }

    fn has_empty_list(&self) -> bool {
        self.ids().into_iter().flatten().any(Vec::is_empty)
            || self.statuses.as_ref().is_some_and(Vec::is_empty)
            || self.channels.as_ref().is_some_and(Vec::is_empty)
            || self.tags.as_ref().is_some_and(Vec::is_empty)
    }
}

/// The condition that a column has one of the given ids; none if no list is given.
fn listed<I: Id + Into<Value>>(
    dialect: Dialect,
    column: Column,
    given: &Option<Vec<ID>>,
    path: &str,
    field: &str,
) -> Result<Option<Expr>> {
    let Some(given) = given else { return Ok(None) };
    Ok(Some(any_of(dialect, column, validate::ids::<I>(given, path, field)?)))
}
