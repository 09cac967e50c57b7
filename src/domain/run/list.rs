//! Runs list: filter, order, keyset pages, counts on request.

use async_graphql::{Enum, ID, InputObject};
use entity::id::*;
use entity::run::{COLUMN, Column, Entity};
use entity::{Channel, RunStatus, RunType, run_record};
use sea_orm::sea_query::{Condition, Expr, Query};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select};
use serde::Serialize;

use crate::domain::audience::record::filter::{NO_CONDITION, NOT_ALONE};
use crate::kernel::db::Db;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::{self, Dialect};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::nested_filter::{self, NestedFilter};
use crate::kernel::page::{self, Args, Key, Order, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

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
    Ok(Window { select, order, fingerprint, args, part: None })
}

/// Returns a window with the run of a campaign that began last; test runs do not count.
pub fn last_begun(viewer: &Viewer, campaign: CampaignId) -> Result<Window<Entity>> {
    let mut order = super::NEWEST_FIRST;
    order.by = Some((Column::StartedAt, |row| row.started_at.into(), false));
    // The literals are those of the index.
    let select = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.campaign_id.eq(campaign))
        .filter(Expr::cust("run.started_at IS NOT NULL AND run.type <> 'TEST_RUN'"));
    let args = Args { first: Some(1), ..Args::default() };
    Ok(Window { select, order, fingerprint: page::fingerprint(&("run", "last", campaign))?, args, part: None })
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
    condition_at(dialect, viewer, filter, "filter")
}

/// The condition of a filter; errors name its fields below `path`.
pub(crate) fn condition_at(dialect: Dialect, viewer: &Viewer, filter: &RunFilter, path: &str) -> Result<Condition> {
    let met = nested_filter::condition(filter, dialect, path)?;
    Ok(Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(met))
}

impl RunFilter {
    /// Rejects a filter for a mutation if it, or a filter nested in it, has no condition, or has a
    /// range without an end. Errors: BAD_USER_INPUT.
    pub fn require_condition(&self) -> Result<()> {
        self.require("filter")
    }

    /// The same; errors name the filter's fields below `path`.
    pub(crate) fn require(&self, path: &str) -> Result<()> {
        for (name, range) in [("createdAt", &self.created_at), ("scheduledFor", &self.scheduled_for)] {
            if let Some(range) = range {
                range.require_end(&format!("{path}.{name}"))?;
            }
        }
        nested_filter::require_condition(self, path, NO_CONDITION)
    }

    fn id_lists(&self) -> [&Option<Vec<ID>>; 5] {
        [&self.ids, &self.campaign_ids, &self.goal_ids, &self.run_template_ids, &self.record_ids]
    }
}

impl NestedFilter for RunFilter {
    fn own(&self, dialect: Dialect, path: &str) -> Result<Condition> {
        if self.all == Some(true) && nested_filter::has_condition(&RunFilter { all: None, ..self.clone() }) {
            return Err(Refusal::input(&format!("{path}.all"), NOT_ALONE).into());
        }
        let mut all = Condition::all();
        if let Some(ids) = &self.ids {
            all = all.add(any_of(dialect, COLUMN.id, validate::ids::<RunId>(ids, path, "ids")?));
        }
        if let Some(ids) = &self.campaign_ids {
            all = all.add(any_of(dialect, COLUMN.campaign_id, validate::ids::<CampaignId>(ids, path, "campaignIds")?));
        }
        if let Some(ids) = &self.goal_ids {
            all = all.add(any_of(dialect, Column::GoalId, validate::ids::<GoalId>(ids, path, "goalIds")?));
        }
        if let Some(ids) = &self.run_template_ids {
            let ids = validate::ids::<RunTemplateId>(ids, path, "runTemplateIds")?;
            all = all.add(any_of(dialect, Column::RunTemplateId, ids));
        }
        if let Some(channels) = &self.channels {
            all = all.add(any_of(dialect, COLUMN.channel, channels.clone()));
        }
        if let Some(statuses) = &self.statuses {
            all = all.add(any_of(dialect, COLUMN.status, statuses.clone()));
        }
        if let Some(types) = &self.types {
            all = all.add(any_of(dialect, COLUMN.run_type, types.clone()));
        }
        if let Some(ids) = &self.record_ids {
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
            ("createdAt", Column::CreatedAt, &self.created_at),
            ("scheduledFor", Column::ScheduledFor, &self.scheduled_for),
        ] {
            if let Some(range) = range {
                all = range.narrow(all, column, &format!("{path}.{name}"))?;
            }
        }
        if let Some(range) = &self.scheduled_for {
            let key = |descending| page::nullable_key::<Entity>(Column::ScheduledFor, descending, dialect);
            all = range.narrow_keys(all, [key(false), key(true)]);
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
        let ranges = [&self.created_at, &self.scheduled_for];
        self.all == Some(true)
            || self.id_lists().into_iter().any(Option::is_some)
            || self.channels.is_some()
            || self.statuses.is_some()
            || self.types.is_some()
            || ranges.into_iter().flatten().any(DateTimeRange::has_end)
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty())
    }

    fn has_empty_list(&self) -> bool {
        self.id_lists().into_iter().flatten().any(Vec::is_empty)
            || self.channels.as_ref().is_some_and(Vec::is_empty)
            || self.statuses.as_ref().is_some_and(Vec::is_empty)
            || self.types.as_ref().is_some_and(Vec::is_empty)
    }
}
