//! Runs list: filter, order, keyset pages, counts on request.

use async_graphql::{Enum, ID, InputObject};
use entity::id::*;
use entity::run::{COLUMN, Column, Entity};
use entity::{Channel, RunStatus, RunType, run_record};
use sea_orm::sea_query::{Condition, Expr, Query};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select};
use serde::Serialize;

use crate::domain::audience::record::filter::{NO_CONDITION, NO_VALUE, NOT_ALONE};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::page::{self, Args, Key, Order, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Filter for runs. All given conditions must hold. A filter without conditions matches all runs in
/// lists, but is rejected with BAD_USER_INPUT by mutations, unless it sets `all: true`. At most 100
/// nested filters, 8 levels deep, and lists of at most 500 ids each; beyond that it is rejected
/// with LIMIT_EXCEEDED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "RunFilter")]
pub struct RunFilter {
    /// True: matches all runs; no other condition may be given. Null is the same as false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Only these runs.
    pub ids: Option<Vec<ID>>,
    /// Only runs of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Only runs launched for these goals; for a run that is only scheduled, its campaign's goal at
    /// the time of scheduling. Guided work never matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal_ids: Option<Vec<ID>>,
    /// Only runs started from these templates.
    pub run_template_ids: Option<Vec<ID>>,
    /// Only runs over these channels.
    pub channels: Option<Vec<Channel>>,
    /// Only runs in one of these statuses.
    pub statuses: Option<Vec<RunStatus>>,
    /// Only runs of these types.
    pub types: Option<Vec<RunType>>,
    /// Only runs with one of these records among their recipients.
    pub record_ids: Option<Vec<ID>>,
    /// Only runs created in this period.
    pub created_at: Option<DateTimeRange>,
    /// Only runs scheduled for this period.
    pub scheduled_for: Option<DateTimeRange>,
    /// Part of the run's or campaign's name, at most 1,000 characters; ignores case and Unicode
    /// normalization forms.
    pub search: Option<String>,
    /// Condition that must not hold.
    pub not: Option<Box<RunFilter>>,
    /// Conditions of which at least one must hold.
    pub or: Option<Vec<RunFilter>>,
}

/// Sort field of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize)]
#[graphql(name = "RunOrderField")]
pub enum SortBy {
    /// Time of creation.
    CreatedAt,
    /// Campaign's name at launch.
    Campaign,
    /// Channel, alphabetically.
    Channel,
    /// Status, alphabetically.
    Status,
    /// Type, alphabetically.
    Type,
    /// Scheduled time; runs without one come last.
    ScheduledFor,
    /// Start time; runs that have not started come last.
    StartedAt,
}

/// Returns a window of the runs that match the filter.
pub fn window(
    db: &Db,
    viewer: &Viewer,
    filter: &RunFilter,
    by: SortBy,
    descending: bool,
    args: Args,
) -> Result<Window<Entity>> {
    let (select, order, fingerprint) = sorted(db.dialect(), viewer, filter, by, descending)?;
    Ok(Window { select, order, fingerprint, args })
}

/// Query plan of a page, for tests and for diagnosing slow pages.
pub async fn plan(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    filter: &RunFilter,
    by: SortBy,
    descending: bool,
    args: &Args,
) -> Result<String> {
    let (select, order, fingerprint) = sorted(db.get_database_backend().into(), viewer, filter, by, descending)?;
    page::plan(db, select, &order, &fingerprint, args).await
}

fn sorted(
    dialect: Dialect,
    viewer: &Viewer,
    filter: &RunFilter,
    by: SortBy,
    descending: bool,
) -> Result<(Select<Entity>, Order<Entity>, String)> {
    let mut order = super::NEWEST_FIRST;
    order.descending = descending;
    order.by = Some(match by {
        SortBy::CreatedAt => (Column::CreatedAt, |row| Key::Time(row.created_at), false),
        SortBy::Campaign => (Column::CampaignName, |row| Key::Text(row.campaign_name.clone()), false),
        SortBy::Channel => (Column::Channel, |row| Key::Text(row.channel.to_value()), false),
        SortBy::Status => (Column::Status, |row| Key::Text(row.status.to_value()), false),
        SortBy::Type => (Column::RunType, |row| Key::Text(row.run_type.to_value()), false),
        SortBy::ScheduledFor => (Column::ScheduledFor, |row| row.scheduled_for.into(), true),
        SortBy::StartedAt => (Column::StartedAt, |row| row.started_at.into(), true),
    });
    let fingerprint = page::fingerprint(&("run", by, descending, filter))?;
    Ok((Entity::find().filter(condition(dialect, viewer, filter)?), order, fingerprint))
}

pub(super) fn condition(dialect: Dialect, viewer: &Viewer, filter: &RunFilter) -> Result<Condition> {
    let met = Reader { dialect, left: limits::FILTER_CONDITIONS }.met(filter, "filter", 0)?;
    Ok(Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(met))
}

impl RunFilter {
    /// Rejects a filter for a mutation if it, or a filter nested in it, has no condition, or has a
    /// range without an end. Errors: BAD_USER_INPUT.
    pub fn require_condition(&self) -> Result<()> {
        self.require("filter")
    }

    fn require(&self, path: &str) -> Result<()> {
        for (name, range) in [("createdAt", &self.created_at), ("scheduledFor", &self.scheduled_for)] {
            if range.as_ref().is_some_and(|range| !range.has_end()) {
                return Err(Refusal::input(&format!("{path}.{name}"), NO_VALUE).into());
            }
        }
        if !self.asks() {
            return Err(Refusal::input(path, NO_CONDITION).into());
        }
        for (i, one) in self.or.iter().flatten().enumerate() {
            one.require(&format!("{path}.or[{i}]"))?;
        }
        self.not.as_ref().map_or(Ok(()), |not| not.require(&format!("{path}.not")))
    }

    /// True if the filter has a condition that is not empty.
    fn asks(&self) -> bool {
        let ids = [&self.ids, &self.campaign_ids, &self.goal_ids, &self.run_template_ids, &self.record_ids];
        let ranges = [&self.created_at, &self.scheduled_for];
        self.all == Some(true)
            || ids.into_iter().any(Option::is_some)
            || self.channels.is_some()
            || self.statuses.is_some()
            || self.types.is_some()
            || ranges.into_iter().flatten().any(DateTimeRange::has_end)
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty())
            || self.not.as_ref().is_some_and(|not| not.asks())
            || self.or.iter().flatten().any(Self::asks)
    }
}

struct Reader {
    dialect: Dialect,
    /// Remaining number of nested filters.
    left: usize,
}

impl Reader {
    fn met(&mut self, filter: &RunFilter, path: &str, depth: usize) -> Result<Condition> {
        let dialect = self.dialect;
        if filter.all == Some(true) && (RunFilter { all: None, ..filter.clone() }).asks() {
            return Err(Refusal::input(&format!("{path}.all"), NOT_ALONE).into());
        }
        let mut all = Condition::all();
        if let Some(ids) = &filter.ids {
            all = all.add(any_of(dialect, COLUMN.id, validate::ids::<RunId>(ids, path, "ids")?));
        }
        if let Some(ids) = &filter.campaign_ids {
            all = all.add(any_of(dialect, COLUMN.campaign_id, validate::ids::<CampaignId>(ids, path, "campaignIds")?));
        }
        if let Some(ids) = &filter.goal_ids {
            all = all.add(any_of(dialect, Column::GoalId, validate::ids::<GoalId>(ids, path, "goalIds")?));
        }
        if let Some(ids) = &filter.run_template_ids {
            let ids = validate::ids::<RunTemplateId>(ids, path, "runTemplateIds")?;
            all = all.add(any_of(dialect, Column::RunTemplateId, ids));
        }
        if let Some(channels) = &filter.channels {
            all = all.add(any_of(dialect, COLUMN.channel, channels.clone()));
        }
        if let Some(statuses) = &filter.statuses {
            all = all.add(any_of(dialect, COLUMN.status, statuses.clone()));
        }
        if let Some(types) = &filter.types {
            all = all.add(any_of(dialect, COLUMN.run_type, types.clone()));
        }
        if let Some(ids) = &filter.record_ids {
            let ids = validate::ids::<RecordId>(ids, path, "recordIds")?;
            let mut with = Query::select();
            with.column(run_record::Column::RunId).from(run_record::Entity).and_where(any_of(
                dialect,
                run_record::COLUMN.record_id,
                ids,
            ));
            all = all.add(COLUMN.id.in_subquery(with));
        }
        for (name, column, range) in [
            ("createdAt", Column::CreatedAt, &filter.created_at),
            ("scheduledFor", Column::ScheduledFor, &filter.scheduled_for),
        ] {
            if let Some(range) = range {
                all = range.narrow(all, column, &format!("{path}.{name}"))?;
            }
        }
        if let Some(text) = &filter.search {
            all = all.add(dialect::search(Expr::col((Entity, Column::Search)), &format!("{path}.search"), text)?);
        }
        if let Some(not) = &filter.not {
            all = all.add(dialect::unmet(self.within(not, &format!("{path}.not"), depth)?));
        }
        if let Some(or) = &filter.or {
            if or.is_empty() {
                return Err(Refusal::input(&format!("{path}.or"), "must not be empty").into());
            }
            let mut any = Condition::any();
            for (i, one) in or.iter().enumerate() {
                any = any.add(self.within(one, &format!("{path}.or[{i}]"), depth)?);
            }
            all = all.add(any);
        }
        Ok(all)
    }

    fn within(&mut self, filter: &RunFilter, path: &str, depth: usize) -> Result<Condition> {
        if depth >= limits::FILTER_DEPTH {
            return Err(Refusal::limit_for_field(
                path,
                format!("filters may be nested {} levels deep at most", limits::FILTER_DEPTH),
            )
            .into());
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| {
            Refusal::limit_for_field(path, format!("at most {} nested filters", limits::FILTER_CONDITIONS))
        })?;
        self.met(filter, path, depth + 1)
    }
}
