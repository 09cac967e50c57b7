//! Approvals of campaigns. An approval stores the approved content, so that later changes to it can
//! be reported field by field.
//!
//! The approved content determines the messages, their recipients and the steps: the campaign's own
//! fields except name and description, and the content of its parts, which for a reviewer is the
//! policy and the person who reviews. Names of parts are not included, nor are the members of a segment, as long as its filter, or its fixed list, is the
//! same.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::campaign::Model;
use entity::campaign_approval::{self, COLUMN, Column, Entity};
use entity::id::{CampaignApprovalId, CampaignId, ReviewerId};
use entity::{CampaignStatus, campaign, run_template};
use sea_orm::sea_query::{Condition, Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    Set,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::content::reviewer;
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// A change since the approval: the field, the approved value, the current value.
pub type Change = (String, Value, Value);

/// Returns the content that an approval covers, by field.
fn covered_content(parts: &CampaignParts) -> Value {
    let campaign = &parts.campaign;
    // A built-in template may change with a new version of the program.
    let template_content = |row: &run_template::Model| {
        let written = (!row.built_in).then(|| json!({ "definition": row.definition, "overrides": row.overrides }));
        json!({ "id": row.id, "written": written })
    };
    json!({
        "channel": campaign.channel,
        "goal": parts.goal.as_ref().map(|row| json!({ "id": row.id, "description": row.description })),
        "writer": parts.writer.as_ref().map(|row| json!({
            "id": row.id, "kind": row.kind, "instructions": row.instructions, "body": row.body,
        })),
        "reviewer": parts.reviewer.as_ref().map(|row| json!({
            "id": row.id, "policy": row.policy, "member": row.member_id,
        })),
        "messageTemplate": parts.message_template.as_ref().map(|row| json!({
            "id": row.id, "channel": row.channel, "subject": row.subject, "body": row.body,
        })),
        "segment": parts.segment.as_ref().map(|row| match &row.list_digest {
            None => json!({ "id": row.id, "filter": row.filter }),
            Some(list) => json!({ "id": row.id, "filter": row.filter, "list": list }),
        }),
        "record": campaign.record_id,
        "runTemplate": parts.run_template.as_ref().map(|chain| json!({
            "template": template_content(&chain.template), "base": chain.base.as_ref().map(template_content),
        })),
        "overrides": campaign.overrides,
        "instructions": campaign.instructions,
        "variables": campaign.variables,
    })
}

/// Returns a digest of the content that an approval would cover now.
pub fn content_version(parts: &CampaignParts) -> Result<String> {
    let hash = Sha256::digest(serde_json::to_vec(&covered_content(parts))?);
    Ok(URL_SAFE_NO_PAD.encode(hash))
}

/// Rejects the request if the content is not the version that the caller read. Errors: CONFLICT.
pub(crate) fn expect_content_version(parts: &CampaignParts, expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let now = content_version(parts)?;
    if now == expected {
        return Ok(());
    }
    let message = "the content that an approval of this campaign covers has changed since you read it: read it again";
    Err(Refusal::conflict(message)
        .with("field", json!("expectedContentVersion"))
        .with("contentVersion", json!(now))
        .into())
}

/// Stores the approved content, in the transaction of the approval.
pub(super) async fn store_approved_content(tx: &Tx, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
    let row = campaign_approval::ActiveModel {
        id: Set(CampaignApprovalId::new()),
        org_id: Set(viewer.org_id),
        campaign_id: Set(parts.campaign.id),
        version: Set(parts.campaign.version),
        approved: Set(covered_content(parts)),
        actor: Set(viewer.actor()),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// Stores what earlier versions did not store of approvals: the whole content, and who reviews. What
/// there is now counts as approved. Called at startup, before anything can change.
pub async fn store_missing_approvals(db: &WriteContext) -> Result<()> {
    store_missing_content(db).await?;
    store_missing_reviewers(db).await
}

async fn store_missing_content(db: &WriteContext) -> Result<()> {
    let mut stored = Query::select();
    stored
        .expr(Expr::val(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::CampaignId)).equals((campaign::Entity, campaign::Column::Id)));
    let missing = campaign::Entity::find()
        .filter(campaign::COLUMN.status.is_in([CampaignStatus::Active, CampaignStatus::Paused]))
        .filter(Expr::col(campaign::Column::ApprovedVersion).eq(Expr::col(campaign::Column::Version)))
        .filter(Expr::exists(stored).not())
        .order_by_asc(campaign::COLUMN.id)
        .limit(limits::CHUNK);
    let mut last = None;
    loop {
        let after = last.map(|last: CampaignId| campaign::COLUMN.id.gt(last));
        let chunk = missing.clone().filter(Condition::all().add_option(after)).all(db.read()).await?;
        let Some(end) = chunk.last() else { return Ok(()) };
        last = Some(end.id);
        for campaign in chunk {
            let mut viewer = Viewer::engine(campaign.org_id);
            viewer.actor = campaign.approved_by.clone().unwrap_or(viewer.actor);
            let parts = CampaignParts::of(db.read(), &viewer, campaign).await?;
            transact!(db, |tx| store_approved_content(tx, &viewer, &parts).await)?;
        }
    }
}

/// Adds the person to approved reviewers for whom none was stored, not even that there is none.
async fn store_missing_reviewers(db: &WriteContext) -> Result<()> {
    let without = match db.dialect() {
        Dialect::Postgres => "approved->'reviewer'->>'id' IS NOT NULL AND approved->'reviewer'->'member' IS NULL",
        Dialect::Sqlite => {
            "json_extract(approved, '$.reviewer.id') IS NOT NULL AND json_type(approved, '$.reviewer.member') IS NULL"
        }
    };
    let missing = Entity::find().filter(Expr::cust(without)).order_by_asc(COLUMN.id).limit(limits::CHUNK);
    let mut last = None;
    loop {
        let after = last.map(|last: CampaignApprovalId| COLUMN.id.gt(last));
        let chunk = missing.clone().filter(Condition::all().add_option(after)).all(db.read()).await?;
        let Some(end) = chunk.last() else { return Ok(()) };
        last = Some(end.id);
        for approval in chunk {
            store_reviewer(db, approval).await?;
        }
    }
}

async fn store_reviewer(db: &WriteContext, approval: campaign_approval::Model) -> Result<()> {
    let viewer = Viewer::engine(approval.org_id);
    let id = approval.approved["reviewer"]["id"].as_str().and_then(|id| id.parse::<ReviewerId>().ok());
    let reviewer = match id {
        Some(id) => reviewer::find(db.read(), &viewer, id).await?,
        None => None,
    };
    let Some(reviewer) = reviewer else { return Ok(()) };
    let mut approved = approval.approved.clone();
    approved["reviewer"]["member"] = json!(reviewer.member_id);
    transact!(db, |tx| {
        let mut row = approval.clone().into_active_model();
        row.approved = Set(approved.clone());
        row.update(tx.db()).await?;
        Ok(())
    })
}

/// Returns the covered fields that have changed since the last approval, if there is one. For
/// campaigns approved and changed before approvals were stored, only the versions are known.
pub async fn changed(db: &impl ConnectionTrait, viewer: &Viewer, parts: &CampaignParts) -> Result<Vec<Change>> {
    let last = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.campaign_id.eq(parts.campaign.id))
        .order_by_desc(Column::Id)
        .one(db)
        .await?;
    let Some(last) = last else {
        let (then, now) = (parts.campaign.approved_version, parts.campaign.version);
        let changed = then.filter(|then| *then < now);
        return Ok(changed.map(|then| ("version".to_owned(), json!(then), json!(now))).into_iter().collect());
    };
    let now = covered_content(parts);
    let (Some(before), Some(now)) = (last.approved.as_object(), now.as_object()) else { return Ok(Vec::new()) };
    let each = now.iter().map(|(field, to)| (field, before.get(field).unwrap_or(&Value::Null), to));
    Ok(each
        .filter(|(field, from, to)| from != to && !(*field == "reviewer" && is_same_reviewer(from, to)))
        .map(|(field, from, to)| (field.clone(), from.clone(), to.clone()))
        .collect())
}

/// True if reviewers differ only in that the approved one was stored without its person.
fn is_same_reviewer(approved: &Value, now: &Value) -> bool {
    approved.get("member").is_none() && ["id", "policy"].iter().all(|key| approved[key] == now[key]) && now.is_object()
}

/// Rejects the approval of an active campaign if its content has not changed since the last one.
pub(super) async fn require_changes(db: &impl ConnectionTrait, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
    let campaign = &parts.campaign;
    if campaign.status == CampaignStatus::Active && changed(db, viewer, parts).await?.is_empty() {
        return Err(Refusal::conflict(format!(
            "{} is approved: nothing that matters has changed since",
            version(campaign)
        ))
        .into());
    }
    Ok(())
}

/// Names the approved version in messages.
pub(super) fn version(campaign: &Model) -> String {
    campaign.approved_version.map_or_else(|| "it".to_owned(), |version| format!("version {version}"))
}
