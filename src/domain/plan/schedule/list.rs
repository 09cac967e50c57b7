//! Lists of schedules with their filter and order.

use std::collections::HashMap;

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};
use entity::id::{CampaignId, RunTemplateId, ScheduleId};
use entity::run;
use entity::schedule::{COLUMN, Column, Entity, ScheduleStatus};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QuerySelect};
use serde::Serialize;

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, dialect};
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

/// Filter for schedules. All given conditions must hold; null fields are no condition. Lists of at
/// most 500 ids each; beyond that it is rejected with LIMIT_EXCEEDED.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "ScheduleFilter")]
pub struct Filter {
    /// Only these schedules.
    pub ids: Option<Vec<ID>>,
    /// Only schedules in one of these statuses.
    pub statuses: Option<Vec<ScheduleStatus>>,
    /// Only schedules of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Only schedules of guided work from these templates.
    pub run_template_ids: Option<Vec<ID>>,
    /// Only active schedules whose next start is in this period.
    pub next_at: Option<DateTimeRange>,
    /// Part of the name of one of its runs or of their campaign, at most 1,000 characters; ignores
    /// case and Unicode normalization forms.
    pub search: Option<String>,
}

/// A field that schedules are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Enum)]
#[graphql(name = "ScheduleOrderField")]
pub enum SortBy {
    /// Creation time.
    CreatedAt,
    /// Time of the next start; schedules without one come last.
    NextAt,
}

/// Returns a window of the matching schedules. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
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
    if by == SortBy::NextAt {
        order.by = Some((Column::NextAt, |row| row.next_at.into(), true));
    }
    let fingerprint = page::fingerprint(&("schedules", by, descending, filter))?;
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(condition(db, filter)?);
    Ok(Window { select, order, fingerprint, args, part: None })
}

fn condition(db: &Db, filter: &Filter) -> Result<Condition> {
    let dialect = db.dialect();
    let mut all = Condition::all();
    if let Some(ids) = &filter.ids {
        all = all.add(any_of(dialect, COLUMN.id, validate::ids::<ScheduleId>(ids, "filter", "ids")?));
    }
    if let Some(statuses) = &filter.statuses {
        all = all.add(any_of(dialect, COLUMN.status, statuses.clone()));
    }
    if let Some(ids) = &filter.campaign_ids {
        let ids = validate::ids::<CampaignId>(ids, "filter", "campaignIds")?;
        all = all.add(any_of(dialect, COLUMN.campaign_id, ids));
    }
    if let Some(ids) = &filter.run_template_ids {
        let ids = validate::ids::<RunTemplateId>(ids, "filter", "runTemplateIds")?;
        all = all.add(any_of(dialect, COLUMN.run_template_id, ids));
    }
    if let Some(range) = &filter.next_at {
        all = range.narrow(all, Column::NextAt, "filter.nextAt")?;
        let key = |descending| page::nullable_key::<Entity>(Column::NextAt, descending, dialect);
        all = range.narrow_keys(all, [key(false), key(true)]);
    }
    if let Some(text) = &filter.search {
        let found = dialect::search(Expr::col((run::Entity, run::Column::Search)), "filter.search", text)?;
        let mut runs = Query::select();
        runs.column(run::Column::Id)
            .from(run::Entity)
            .and_where(Expr::col((run::Entity, run::Column::ScheduleId)).equals((Entity, Column::Id)))
            .and_where(found);
        all = all.add(Expr::exists(runs));
    }
    Ok(all)
}

/// The earliest next start of the active schedules of each of these campaigns; none for a campaign
/// without one.
pub async fn next_of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    campaigns: &[CampaignId],
) -> Result<HashMap<CampaignId, DateTime<Utc>>> {
    let found: Vec<(CampaignId, Option<DateTime<Utc>>)> = Entity::find()
        .select_only()
        .column(Column::CampaignId)
        .column_as(Column::NextAt.min(), "next")
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(db.get_database_backend(), Column::CampaignId, campaigns.iter().copied()))
        // A literal, which the index's own condition is matched against.
        .filter(Expr::cust("schedule.status = 'ACTIVE'"))
        .group_by(Column::CampaignId)
        .into_tuple()
        .all(db)
        .await?;
    Ok(found.into_iter().filter_map(|(id, next)| Some((id, next?))).collect())
}
