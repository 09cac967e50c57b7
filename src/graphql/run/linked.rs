//! The records that guided work was started with.

use async_graphql::{Context, Result};
use entity::RunType;

use super::Run;
use crate::domain::audience::record::filter::RecordFilter;
use crate::domain::run::snapshot::linked;
use crate::graphql::list::List;
use crate::graphql::loader::{SnapshotOfRun, must_load};
use crate::graphql::record::Record;
use crate::graphql::record::list::records;
use crate::kernel::page::Args;

impl Run {
    /// A page of the records that it was started with; none for a run of a campaign.
    pub(super) async fn linked(&self, ctx: &Context<'_>, args: Args) -> Result<List<Record>> {
        let mut ids = Vec::new();
        if self.row.run_type == RunType::Guided {
            ids = linked(&must_load(ctx, SnapshotOfRun(self.row.id)).await?);
        }
        let ids = ids.into_iter().map(|id| id.to_string().into()).collect();
        let filter = RecordFilter { ids: Some(ids), ..RecordFilter::default() };
        records(ctx, filter, None, args, self.fetched.alone).await
    }
}
