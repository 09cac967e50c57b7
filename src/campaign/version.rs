//! The plan's history: what changed, who changed it, when.

use entity::campaign;
use entity::campaign_version::{ActiveModel, COLUMN, Entity, Model};
use entity::id::{CampaignId, CampaignVersionId};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, Set};
use serde_json::{Value, json};

use crate::db::{Db, Tx};
use crate::error::Result;
use crate::page::{self, Args, Page};
use crate::viewer::Viewer;

scoped!(campaign_version, CampaignVersionId, "campaign version");

/// The versions of a campaign, the newest first.
pub async fn page(db: &Db, viewer: &Viewer, id: CampaignId, args: &Args) -> Result<Page<Model>> {
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.campaign_id.eq(id));
    page::page(db.read(), select, &NEWEST_FIRST, &page::fingerprint(&("version", id))?, args).await
}

/// How many versions a campaign has had.
pub async fn count(db: &Db, viewer: &Viewer, id: CampaignId) -> Result<u64> {
    let all = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.campaign_id.eq(id));
    Ok(all.count(db.read()).await?)
}

/// Keeps the campaign's version with what changed to make it.
pub(super) async fn keep(tx: &Tx, viewer: &Viewer, campaign: &campaign::Model, changes: Value) -> Result<()> {
    let row = ActiveModel {
        id: Set(CampaignVersionId::new()),
        org_id: Set(campaign.org_id),
        campaign_id: Set(campaign.id),
        version: Set(campaign.version),
        changes: Set(changes),
        actor: Set(viewer.actor()),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// What differs between two versions: a list of `{field, from, to}`.
pub(super) fn changes(before: &campaign::Model, after: &campaign::Model) -> Result<Value> {
    let mut changes = Vec::new();
    let mut note = |field: &str, from: Value, to: Value| {
        if from != to {
            changes.push(json!({ "field": field, "from": from, "to": to }));
        }
    };
    note("name", json!(before.name), json!(after.name));
    note("description", json!(before.description), json!(after.description));
    note("channel", json!(before.channel), json!(after.channel));
    note("goal", json!(before.goal_id), json!(after.goal_id));
    note("writer", json!(before.writer_id), json!(after.writer_id));
    note("reviewer", json!(before.reviewer_id), json!(after.reviewer_id));
    note("messageTemplate", json!(before.message_template_id), json!(after.message_template_id));
    note("segment", json!(before.segment_id), json!(after.segment_id));
    note("record", json!(before.record_id), json!(after.record_id));
    note("instructions", json!(before.instructions), json!(after.instructions));
    note("variables", before.variables.clone(), after.variables.clone());
    Ok(json!(changes))
}
