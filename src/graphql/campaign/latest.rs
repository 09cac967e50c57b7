//! The present of a campaign: its open run, the run that began last, and the next start of its schedules.

use std::collections::HashMap;

use async_graphql::{Context, Result};
use chrono::{DateTime, Utc};
use entity::id::CampaignId;
use entity::{CampaignStatus, RunStatus, run};

use super::Campaign;
use crate::domain::plan::schedule;
use crate::domain::run::list::{RunFilter, SortBy, last_begun, window};
use crate::graphql::batch_loader::Loader;
use crate::graphql::list::args;
use crate::graphql::loader::{Rows, load, nested_page};
use crate::graphql::{db, viewer};
use crate::kernel::error;
use crate::kernel::page::Window;

impl Campaign {
    /// The run created last among those that are queued, in progress or paused.
    pub(super) async fn open_run(&self, ctx: &Context<'_>) -> Result<Option<run::Model>> {
        let filter = RunFilter {
            campaign_ids: Some(vec![self.0.id.to_string().into()]),
            statuses: Some(vec![RunStatus::Queued, RunStatus::InProgress, RunStatus::Paused]),
            ..RunFilter::default()
        };
        let one = args(Some(1), None, None, None);
        first(ctx, window(db(ctx), viewer(ctx), &filter, SortBy::CreatedAt, true, one)?).await
    }

    /// The run that began last, without test runs.
    pub(super) async fn last_begun(&self, ctx: &Context<'_>) -> Result<Option<run::Model>> {
        first(ctx, last_begun(viewer(ctx), self.0.id)?).await
    }

    /// The next start of its schedules, which fire only while it is ACTIVE.
    pub(super) async fn next_fire(&self, ctx: &Context<'_>) -> Result<Option<DateTime<Utc>>> {
        let active = (self.0.status == CampaignStatus::Active).then_some(NextFireOf(self.0.id));
        Ok(load(ctx, active).await?)
    }
}

/// The first run of a window.
async fn first(ctx: &Context<'_>, window: Window<run::Entity>) -> Result<Option<run::Model>> {
    Ok(nested_page(ctx, window, false).await?.rows.into_iter().next().map(|(_, row)| row))
}

/// Loader key for the next start of a campaign's schedules; absent if none is active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct NextFireOf(CampaignId);

impl Loader<NextFireOf> for Rows {
    type Value = DateTime<Utc>;

    async fn load(&self, campaigns: &[NextFireOf]) -> error::Result<HashMap<NextFireOf, Self::Value>> {
        let ids: Vec<CampaignId> = campaigns.iter().map(|of| of.0).collect();
        let found = schedule::list::next_of(self.db.read(), &self.viewer, &ids).await?;
        Ok(found.into_iter().map(|(id, next)| (NextFireOf(id), next)).collect())
    }
}
