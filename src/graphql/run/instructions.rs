//! The instructions with which a run started, and the campaign's changes since.

use std::sync::Arc;

use async_graphql::{Context, ID, Json, Object, Result, SimpleObject};

use crate::domain::plan::campaign_snapshot::{CampaignParts, CampaignSnapshot};
use crate::domain::run::snapshot;
use crate::graphql::counted::Counted;
use crate::graphql::{db, viewer};

/// The instructions of a run: the campaign's parts at the launch.
pub struct RunInstructions(pub CampaignSnapshot);

/// A part of the campaign at the launch.
#[derive(SimpleObject)]
pub struct ToldPart {
    /// Id of the part.
    id: ID,
    /// Name at that time.
    name: String,
    /// The goal's description or the writer's instructions; empty for other parts.
    text: String,
}

impl ToldPart {
    fn of<I: std::fmt::Display>(part: Option<&crate::domain::plan::campaign_snapshot::Named<I>>) -> Option<Self> {
        part.map(|part| Self { id: part.id.to_string().into(), name: part.name.clone(), text: part.text.clone() })
    }
}

/// The instructions of a run: the campaign's parts at the launch.
#[Object]
impl RunInstructions {
    /// Version of the campaign.
    async fn campaign_version(&self) -> i32 {
        self.0.campaign_version
    }

    /// The goal; null if there was none.
    async fn goal(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.goal.as_ref())
    }

    /// The writer; null if there was none.
    async fn writer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.writer.as_ref())
    }

    /// The reviewer; null if there was none.
    async fn reviewer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.reviewer.as_ref())
    }

    /// The message template; null if there was none.
    async fn message_template(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.message_template.as_ref())
    }

    /// Version of the message template; null if there was none.
    async fn message_template_version(&self) -> Option<i32> {
        self.0.message_template_version
    }

    /// The subject to render; null if there was none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The body to render, the template's or the writer's own; null if there was none.
    async fn body(&self) -> Option<Counted<&str>> {
        self.0.body.as_deref().or(self.0.writer_body.as_deref()).map(Counted)
    }

    /// The segment; null if the audience was a single record, or if there was none.
    async fn segment(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.segment.as_ref())
    }

    /// The campaign's additions to the writer's instructions; empty if there were none.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// Values for placeholders.
    async fn variables(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(serde_json::Value::Object(self.0.variables.clone())))
    }
}

/// One field that has changed since a launch or an approval.
#[derive(SimpleObject)]
pub struct FieldChange {
    /// Name of the field.
    pub field: String,
    /// Value at the launch, or in `Campaign.changedSinceApproval` at the approval. The JSON value
    /// null if there was none.
    pub then: Json<serde_json::Value>,
    /// Current value; the JSON value null if there is none.
    pub now: Json<serde_json::Value>,
}

impl From<(String, serde_json::Value, serde_json::Value)> for FieldChange {
    fn from((field, then, now): (String, serde_json::Value, serde_json::Value)) -> Self {
        Self { field, then: Json(then), now: Json(now) }
    }
}

/// The changes to the campaign, its parts and its structure since a run started with this snapshot;
/// none while it is only scheduled, and for guided work.
pub(super) async fn drift(
    ctx: &Context<'_>,
    started: &entity::run_snapshot::Model,
    campaign: Option<Arc<entity::campaign::Model>>,
) -> Result<Vec<FieldChange>> {
    let (Some(instructions), Some(campaign)) = (snapshot::instructions(started), campaign) else {
        return Ok(Vec::new());
    };
    let parts = Box::pin(CampaignParts::of(db(ctx).read(), viewer(ctx), campaign.as_ref().clone())).await?;
    let mut all = instructions.drift(&CampaignSnapshot::of(&parts))?;
    if started.definition != parts.resolved.definition {
        let (then, now) = (serde_json::json!(started.definition), serde_json::json!(parts.resolved.definition));
        all.push(("definition".to_owned(), then, now));
    }
    Ok(all.into_iter().map(FieldChange::from).collect())
}
