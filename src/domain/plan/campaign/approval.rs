//! Approvals are of a version: what was approved is kept, and what matters and has changed since is told, field by field.
//!
//! What matters is what goes out, to whom, and by which steps: the campaign's own fields but name and description, and the
//! content of its parts. Names of parts do not matter, nor who is in a segment, as long as its filter, or its
//! fixed list, is the one that was given.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::campaign::Model;
use entity::campaign_approval::{self, COLUMN, Column, Entity};
use entity::id::CampaignApprovalId;
use entity::{CampaignStatus, campaign, run_template};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, Set};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::preflight::{Checks, LaunchAction, PreflightCode};
use crate::domain::plan::campaign_snapshot::CampaignParts;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::transact;

/// A thing that differs from what was approved: its field, what it was, what it is.
pub type Change = (String, Value, Value);

/// What matters of a plan, each thing by the name of its field.
fn matters(parts: &CampaignParts) -> Value {
    let campaign = &parts.campaign;
    // What ships with the program may change with it.
    let structure = |row: &run_template::Model| {
        let written = (!row.built_in).then(|| json!({ "definition": row.definition, "overrides": row.overrides }));
        json!({ "id": row.id, "written": written })
    };
    json!({
        "channel": campaign.channel,
        "goal": parts.goal.as_ref().map(|row| json!({ "id": row.id, "description": row.description })),
        "writer": parts.writer.as_ref().map(|row| json!({
            "id": row.id, "kind": row.kind, "instructions": row.instructions, "body": row.body,
        })),
        "reviewer": parts.reviewer.as_ref().map(|row| json!({ "id": row.id, "policy": row.policy })),
        "messageTemplate": parts.message_template.as_ref().map(|row| json!({
            "id": row.id, "channel": row.channel, "subject": row.subject, "body": row.body,
        })),
        "segment": parts.segment.as_ref().map(|row| match &row.list_digest {
            None => json!({ "id": row.id, "filter": row.filter }),
            Some(list) => json!({ "id": row.id, "filter": row.filter, "list": list }),
        }),
        "record": campaign.record_id,
        "runTemplate": parts.run_template.as_ref().map(|chain| json!({
            "template": structure(&chain.template), "base": chain.base.as_ref().map(structure),
        })),
        "overrides": campaign.overrides,
        "instructions": campaign.instructions,
        "variables": campaign.variables,
    })
}

/// Names what an approval would cover now: it is another text once anything that matters is another.
pub fn content_version(parts: &CampaignParts) -> Result<String> {
    let hash = Sha256::digest(serde_json::to_vec(&matters(parts))?);
    Ok(URL_SAFE_NO_PAD.encode(hash))
}

/// Refuses where what matters is not what the caller saw. Errors: CONFLICT.
pub(super) fn expect(parts: &CampaignParts, expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let now = content_version(parts)?;
    if now == expected {
        return Ok(());
    }
    let told = "what an approval of this campaign covers has changed since you read it: read it again";
    Err(Refusal::conflict(told)
        .with("field", json!("expectedContentVersion"))
        .with("contentVersion", json!(now))
        .into())
}

/// Keeps what is approved, in the transaction that approves it.
pub(super) async fn keep(tx: &Tx, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
    let row = campaign_approval::ActiveModel {
        id: Set(CampaignApprovalId::new()),
        org_id: Set(viewer.org_id),
        campaign_id: Set(parts.campaign.id),
        version: Set(parts.campaign.version),
        approved: Set(matters(parts)),
        actor: Set(viewer.actor()),
        created_at: Set(tx.now()),
    };
    row.insert(tx.db()).await?;
    Ok(())
}

/// Keeps what is approved where nothing was kept: it was approved before approvals were, and counts as approved as it is.
/// Called at the start, before anything of it can change.
pub async fn keep_missing(db: &Db) -> Result<()> {
    let mut kept = Query::select();
    kept.expr(Expr::val(1))
        .from(Entity)
        .and_where(Expr::col((Entity, Column::CampaignId)).equals((campaign::Entity, campaign::Column::Id)));
    let missing = campaign::Entity::find()
        .filter(campaign::COLUMN.status.is_in([CampaignStatus::Active, CampaignStatus::Paused]))
        .filter(Expr::col(campaign::Column::ApprovedVersion).eq(Expr::col(campaign::Column::Version)))
        .filter(Expr::exists(kept).not())
        .all(db.read())
        .await?;
    for campaign in missing {
        let mut viewer = Viewer::engine(campaign.org_id);
        viewer.actor = campaign.approved_by.clone().unwrap_or(viewer.actor);
        let parts = CampaignParts::of(db.read(), &viewer, campaign).await?;
        transact!(db, |tx| keep(tx, &viewer, &parts).await)?;
    }
    Ok(())
}

/// The fields that matter and have changed since the last approval, by the names of the fields; nothing where there was none. Of what
/// was approved and changed before approvals were kept, only the versions are known.
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
    let now = matters(parts);
    let (Some(before), Some(now)) = (last.approved.as_object(), now.as_object()) else { return Ok(Vec::new()) };
    let each = now.iter().map(|(field, to)| (field, before.get(field).unwrap_or(&Value::Null), to));
    Ok(each
        .filter(|(_, from, to)| from != to)
        .map(|(field, from, to)| (field.clone(), from.clone(), to.clone()))
        .collect())
}

/// Refuses to approve an active campaign of which nothing that matters has changed.
pub(super) async fn needed(db: &impl ConnectionTrait, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
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

fn version(campaign: &Model) -> String {
    campaign.approved_version.map_or_else(|| "it".to_owned(), |version| format!("version {version}"))
}

impl Checks {
    /// Whether what would fly is what was approved.
    pub(super) async fn approved(&mut self, db: &Db, viewer: &Viewer, parts: &CampaignParts) -> Result<()> {
        let (code, campaign) = (PreflightCode::ApprovedVersion, &parts.campaign);
        if campaign.approved_at.is_none() {
            self.not_applicable(code, "the campaign was not approved yet");
            return Ok(());
        }
        let changes = changed(db.read(), viewer, parts).await?;
        let fields: Vec<&str> = changes.iter().map(|(field, _, _)| field.as_str()).collect();
        let well = format!("{} was approved, and nothing that matters has changed since", version(campaign));
        let by = campaign.approved_by.as_ref().map_or("somebody", |by| by.name.as_str());
        let ill = format!("changed since {} was approved by {by}: {}", version(campaign), fields.join(", "));
        let mend = "have it approved again: `approveCampaign`";
        if self.action() == LaunchAction::TestRun {
            self.advise(code, changes.is_empty(), None, &well, &ill, mend);
        } else {
            self.say(code, changes.is_empty(), None, &well, &ill, mend);
        }
        Ok(())
    }
}
