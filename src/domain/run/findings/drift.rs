//! The fields of campaigns that have changed since their runs were launched.

use std::collections::HashMap;

use entity::id::{CampaignId, RunId};
use entity::run::Model;
use entity::{Definition, RunStatus};

use crate::domain::plan::campaign;
use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::run::snapshot;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Names of the changed fields, by run; runs whose campaign has not changed are left out, as are those
/// that are only scheduled, and guided work.
pub(super) async fn of_runs(db: &Db, viewer: &Viewer, runs: &[Model]) -> Result<HashMap<RunId, Vec<String>>> {
    let begun = runs.iter().filter(|run| run.status != RunStatus::Scheduled);
    let begun: Vec<(RunId, CampaignId)> = begun.filter_map(|run| Some((run.id, run.campaign_id?))).collect();
    if begun.is_empty() {
        return Ok(HashMap::new());
    }
    let (ids, campaigns): (Vec<RunId>, Vec<CampaignId>) = begun.iter().copied().unzip();
    let snapshots = snapshot::of_begun(db.read(), viewer, &ids).await?;
    let campaigns = campaign::find_all(db.read(), viewer, &campaigns).await?;
    let now: HashMap<CampaignId, (CampaignSnapshot, Definition)> = CampaignParts::of_all(db.read(), viewer, campaigns)
        .await?
        .into_iter()
        .map(|parts| (parts.campaign.id, (CampaignSnapshot::of(&parts), parts.resolved.definition)))
        .collect();
    let mut all = HashMap::new();
    for (run, campaign) in begun {
        let (Some(then), Some((now, definition))) = (snapshots.get(&run), now.get(&campaign)) else { continue };
        let Some(launched_with) = &then.instructions else { continue };
        let mut fields: Vec<String> = launched_with.drift(now)?.into_iter().map(|(field, _, _)| field).collect();
        if then.definition != *definition {
            fields.push("definition".into());
        }
        if !fields.is_empty() {
            all.insert(run, fields);
        }
    }
    Ok(all)
}
