//! A campaign's history: each change with its actor and time.

use entity::id::{CampaignId, CampaignVersionId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};

use super::Fields;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

scoped!(campaign_version, CampaignVersionId, "campaign version");
versioned!(campaign_version, campaign, campaign_id: CampaignId, CampaignVersionId);
changes!(campaign:
    name as "name", description as "description", channel as "channel", goal_id as "goal", writer_id as "writer",
    reviewer_id as "reviewer", message_template_id as "messageTemplate", segment_id as "segment", record_id as "record",
    run_template_id as "runTemplate", overrides as "overrides", instructions as "instructions",
    variables as "variables",
);

/// Returns the changes that restore the campaign to a version: all later changes undone, the last
/// one first.
pub(super) async fn fields_at(db: &Db, viewer: &Viewer, id: CampaignId, version: i32) -> Result<Fields> {
    use entity::campaign_version::{COLUMN, Column, Entity};
    let later = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.campaign_id.eq(id))
        .filter(COLUMN.version.gt(version))
        .order_by_desc(Column::Version)
        .all(db.read())
        .await?;
    let mut fields = Fields::default();
    for change in later.iter().flat_map(|version| version.changes.as_array().into_iter().flatten()) {
        let from = || change["from"].clone();
        macro_rules! back {
            ($field:ident) => {
                fields.$field = Some(serde_json::from_value(from())?)
            };
        }
        match change["field"].as_str().unwrap_or_default() {
            "name" => back!(name),
            "description" => back!(description),
            "channel" => back!(channel),
            "goal" => back!(goal_id),
            "writer" => back!(writer_id),
            "reviewer" => back!(reviewer_id),
            "messageTemplate" => back!(message_template_id),
            "segment" => back!(segment_id),
            "record" => back!(record_id),
            "runTemplate" => back!(run_template_id),
            "overrides" => back!(overrides),
            "instructions" => back!(instructions),
            "variables" => fields.variables = Some(from()),
            _ => {}
        }
    }
    Ok(fields)
}
