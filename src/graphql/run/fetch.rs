//! Prefetching for runs: parts that the selection needs of a whole list are loaded in one batch;
//! all others on demand.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_graphql::{Context, ID, Lookahead, Result};
use entity::id::{CampaignId, RunId};

use super::{Fetched, Run};
use crate::domain::plan::campaign;
use crate::graphql::campaign::Campaign;
use crate::graphql::loader::{PartsOfRun, RunParts, must_load};
use crate::graphql::{db, selection, shared_rows, viewer};

impl Run {
    /// The run's id as a filter's list.
    pub(super) fn ids(&self) -> Vec<ID> {
        vec![self.row.id.to_string().into()]
    }

    pub(super) async fn plan(&self, ctx: &Context<'_>) -> Result<Option<Arc<entity::campaign::Model>>> {
        match &self.fetched.campaign {
            Some(campaign) => Ok(Some(campaign.clone())),
            None => Ok(shared_rows::load(ctx, self.row.campaign_id).await?.map(Arc::new)),
        }
    }

    pub(super) async fn parts(&self, ctx: &Context<'_>) -> Result<Arc<RunParts>> {
        match &self.fetched.parts {
            Some(parts) => Ok(parts.clone()),
            None => Ok(must_load(ctx, PartsOfRun(self.row.id)).await?),
        }
    }

    /// Wraps rows as runs, prefetching the parts that the selections need.
    pub(in crate::graphql) async fn fetch(
        ctx: &Context<'_>,
        rows: Vec<entity::run::Model>,
        selected: &[Lookahead<'_>],
    ) -> Result<Vec<Self>> {
        let (mut campaigns, mut parts) = (HashMap::new(), HashMap::new());
        let selects = |name: &str| selected.iter().any(|one| one.field(name).exists());
        let selects_any = |names: &[&str]| names.iter().any(|name| selects(name));
        if selects_any(&["campaign", "availableActions", "waitingFor", "drift"]) {
            let ids: HashSet<CampaignId> = rows.iter().filter_map(|row| row.campaign_id).collect();
            let ids: Vec<CampaignId> = ids.into_iter().collect();
            let whole = selects_any(&["availableActions", "waitingFor", "drift"]);
            let shown: Vec<Lookahead<'_>> = selected.iter().map(|one| one.field("campaign")).collect();
            let columns = selection::columns::<Campaign>(&shown).filter(|_| !whole);
            let found = Box::pin(campaign::find_part(db(ctx).read(), viewer(ctx), &ids, columns)).await?;
            campaigns.extend(found.into_iter().map(|row| (row.id, Arc::new(row))));
        }
        if selects_any(&["phases", "currentPhase", "progress", "waitingFor", "availableActions", "summary"]) {
            let ids: Vec<RunId> = rows.iter().map(|row| row.id).collect();
            parts = Box::pin(RunParts::of(db(ctx), viewer(ctx), &ids)).await?;
        }
        let alone = rows.len() == 1;
        let each = rows.into_iter().map(|row| {
            let campaign = row.campaign_id.and_then(|id| campaigns.get(&id)).cloned();
            let fetched = Fetched { campaign, parts: parts.remove(&row.id), alone };
            Self { row, fetched }
        });
        Ok(each.collect())
    }
}
