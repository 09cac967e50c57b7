//! A campaign's history: each change with its actor and time.

use entity::campaign::Model;
use entity::id::{CampaignId, CampaignVersionId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Fields;
use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::kernel::scoped::differences;
use crate::kernel::viewer::Viewer;

scoped!(campaign_version, CampaignVersionId, "campaign version");
versioned!(campaign_version, campaign, campaign_id: CampaignId, CampaignVersionId);

/// The differences between two versions.
pub(super) fn changes(before: &Model, after: &Model) -> Value {
    let fields = |row: &Model| {
        [
            ("name", json!(row.name)),
            ("description", json!(row.description)),
            ("channel", json!(row.channel)),
            ("goal", json!(row.goal_id)),
            ("writer", json!(row.writer_id)),
            ("reviewer", json!(row.reviewer_id)),
            ("messageTemplate", json!(row.message_template_id)),
            ("segment", json!(row.segment_id)),
            ("record", json!(row.record_id)),
            ("runTemplate", json!(row.run_template_id)),
            ("overrides", json!(row.overrides)),
            ("instructions", json!(row.instructions)),
            ("variables", json!(row.variables)),
        ]
    };
    differences(fields(before), fields(after))
}

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
        match change["field"].as_str().unwrap_or_default() {
            "name" => fields.name = before(change)?,
            "description" => fields.description = before(change)?,
            "channel" => fields.channel = before(change)?,
            "goal" => fields.goal_id = before(change)?,
            "writer" => fields.writer_id = before(change)?,
            "reviewer" => fields.reviewer_id = before(change)?,
            "messageTemplate" => fields.message_template_id = before(change)?,
            "segment" => fields.segment_id = before(change)?,
            "record" => fields.record_id = before(change)?,
            "runTemplate" => fields.run_template_id = before(change)?,
            "overrides" => fields.overrides = before(change)?,
            "instructions" => fields.instructions = before(change)?,
            "variables" => fields.variables = Some(change["from"].clone()),
            _ => {}
        }
    }
    Ok(fields)
}

/// The value of a field before a change.
fn before<T: DeserializeOwned>(change: &Value) -> Result<Option<T>> {
    Ok(Some(serde_json::from_value(change["from"].clone())?))
}
