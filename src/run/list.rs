//! The runs list: filter, order, keyset pages, counts on request.

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};
use entity::id::*;
use entity::run::{COLUMN, Column, Entity};
use entity::{Channel, RunStatus, RunType, run_record};
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Query};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select};
use serde::Serialize;

use crate::db::dialect;
use crate::error::{Refusal, Result};
use crate::page::{self, Args, Key, Order, Window};
use crate::viewer::Viewer;
use crate::{input, limits};

/// Which runs; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "RunFilter")]
pub struct RunFilter {
    /// One of these runs.
    pub ids: Option<Vec<ID>>,
    /// Of one of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Begun from one of these templates.
    pub run_template_ids: Option<Vec<ID>>,
    /// Over one of these channels.
    pub channels: Option<Vec<Channel>>,
    /// In one of these statuses.
    pub statuses: Option<Vec<RunStatus>>,
    /// Of one of these types.
    pub types: Option<Vec<RunType>>,
    /// With one of these records in its audience.
    pub record_ids: Option<Vec<ID>>,
    /// Made in this time.
    pub created_at: Option<DateTimeRange>,
    /// Scheduled for this time.
    pub scheduled_for: Option<DateTimeRange>,
    /// A part of its name or its campaign's, in any case.
    pub search: Option<String>,
    /// This must not hold.
    pub not: Option<Box<RunFilter>>,
    /// One of these must hold.
    pub or: Option<Vec<RunFilter>>,
}

/// From one point in time until before another; both may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
pub struct DateTimeRange {
    /// This or later.
    pub from: Option<DateTime<Utc>>,
    /// Earlier than this.
    pub to: Option<DateTime<Utc>>,
}

/// By what runs are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "RunOrderField")]
pub enum By {
    /// When they were made.
    CreatedAt,
    /// Their campaign's name, as it was at launch.
    Campaign,
    /// Their channel, as a word.
    Channel,
    /// Their status, as a word.
    Status,
    /// Their type, as a word.
    Type,
    /// The time they are scheduled for; those without come last.
    ScheduledFor,
    /// When they began; those that have not come last.
    StartedAt,
}

/// A window of those that the filter lets through.
pub fn window(viewer: &Viewer, filter: &RunFilter, by: By, descending: bool, args: Args) -> Result<Window<Entity>> {
    let (select, order, fingerprint) = sorted(viewer, filter, by, descending)?;
    Ok(Window { select, order, fingerprint, args })
}

/// How the database would read a page; for tests, and for who wonders why one is slow.
pub async fn plan(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    filter: &RunFilter,
    by: By,
    descending: bool,
    args: &Args,
) -> Result<String> {
    let (select, order, fingerprint) = sorted(viewer, filter, by, descending)?;
    page::plan(db, select, &order, &fingerprint, args).await
}

fn sorted(
    viewer: &Viewer,
    filter: &RunFilter,
    by: By,
    descending: bool,
) -> Result<(Select<Entity>, Order<Entity>, String)> {
    let mut order = super::NEWEST_FIRST;
    order.descending = descending;
    order.by = Some(match by {
        By::CreatedAt => (Column::CreatedAt, |row| Key::Time(row.created_at), false),
        By::Campaign => (Column::CampaignName, |row| Key::Text(row.campaign_name.clone()), false),
        By::Channel => (Column::Channel, |row| Key::Text(row.channel.to_value()), false),
        By::Status => (Column::Status, |row| Key::Text(row.status.to_value()), false),
        By::Type => (Column::RunType, |row| Key::Text(row.run_type.to_value()), false),
        By::ScheduledFor => (Column::ScheduledFor, |row| row.scheduled_for.into(), true),
        By::StartedAt => (Column::StartedAt, |row| row.started_at.into(), true),
    });
    let fingerprint = page::fingerprint(&("run", by, descending, filter))?;
    Ok((Entity::find().filter(condition(viewer, filter)?), order, fingerprint))
}

pub(super) fn condition(viewer: &Viewer, filter: &RunFilter) -> Result<Condition> {
    Ok(Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(met(filter, "filter", 0)?))
}

fn met(filter: &RunFilter, path: &str, depth: usize) -> Result<Condition> {
    if depth > limits::FILTER_DEPTH {
        return Err(Refusal::limit(format!("{path}: nested deeper than {}", limits::FILTER_DEPTH)).into());
    }
    let mut all = Condition::all();
    if let Some(given) = &filter.ids {
        all = all.add(COLUMN.id.is_in(input::ids::<RunId>(given, path, "ids")?));
    }
    if let Some(given) = &filter.campaign_ids {
        all = all.add(COLUMN.campaign_id.is_in(input::ids::<CampaignId>(given, path, "campaignIds")?));
    }
    if let Some(given) = &filter.run_template_ids {
        all = all.add(Column::RunTemplateId.is_in(input::ids::<RunTemplateId>(given, path, "runTemplateIds")?));
    }
    if let Some(channels) = &filter.channels {
        all = all.add(COLUMN.channel.is_in(channels.clone()));
    }
    if let Some(statuses) = &filter.statuses {
        all = all.add(COLUMN.status.is_in(statuses.clone()));
    }
    if let Some(types) = &filter.types {
        all = all.add(COLUMN.run_type.is_in(types.clone()));
    }
    if let Some(given) = &filter.record_ids {
        let mut with = Query::select();
        with.column(run_record::Column::RunId)
            .from(run_record::Entity)
            .and_where(run_record::COLUMN.record_id.is_in(input::ids::<RecordId>(given, path, "recordIds")?));
        all = all.add(COLUMN.id.in_subquery(with));
    }
    for (column, range) in [(Column::CreatedAt, &filter.created_at), (Column::ScheduledFor, &filter.scheduled_for)] {
        if let Some(from) = range.as_ref().and_then(|range| range.from) {
            all = all.add(column.gte(from));
        }
        if let Some(to) = range.as_ref().and_then(|range| range.to) {
            all = all.add(column.lt(to));
        }
    }
    if let Some(text) = &filter.search {
        let text = input::search(&format!("{path}.search"), text)?;
        all = all.add(Expr::col((Entity, Column::Search)).like(dialect::containing(text)));
    }
    if let Some(not) = &filter.not {
        all = all.add(met(not, &format!("{path}.not"), depth + 1)?.not());
    }
    if let Some(or) = &filter.or {
        if or.is_empty() || or.len() > limits::FILTER_CONDITIONS {
            return Err(Refusal::input(&format!("{path}.or"), "needs 1 to 100 filters").into());
        }
        let mut any = Condition::any();
        for (i, one) in or.iter().enumerate() {
            any = any.add(met(one, &format!("{path}.or[{i}]"), depth + 1)?);
        }
        all = all.add(any);
    }
    Ok(all)
}
