//! What a run was told, and what has changed since.

use async_graphql::{ID, Json, Object, SimpleObject};

use crate::domain::plan::campaign_snapshot::Instructions;
use crate::graphql::counted::Counted;

/// What a run was told: the campaign's parts as they were.
pub struct RunInstructions(pub Instructions);

/// A part of the campaign, as it was.
#[derive(SimpleObject)]
pub struct ToldPart {
    /// Its id.
    id: ID,
    /// Its name then.
    name: String,
    /// What it said: the goal's description, the writer's instructions; empty for others.
    text: String,
}

impl ToldPart {
    fn of<I: std::fmt::Display>(told: Option<&crate::domain::plan::campaign_snapshot::Named<I>>) -> Option<Self> {
        told.map(|told| Self { id: told.id.to_string().into(), name: told.name.clone(), text: told.text.clone() })
    }
}

/// What a run was told: the campaign's parts as they were.
#[Object]
impl RunInstructions {
    /// The campaign's version.
    async fn campaign_version(&self) -> i32 {
        self.0.campaign_version
    }

    /// The goal; null where there was none.
    async fn goal(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.goal.as_ref())
    }

    /// The writer; null where there was none.
    async fn writer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.writer.as_ref())
    }

    /// The reviewer; null where there was none.
    async fn reviewer(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.reviewer.as_ref())
    }

    /// The message template; null where there was none.
    async fn message_template(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.message_template.as_ref())
    }

    /// The template's version; null where there was none.
    async fn message_template_version(&self) -> Option<i32> {
        self.0.message_template_version
    }

    /// The subject that was rendered; null where there was none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The body that was rendered, the template's or the writer's own; null where there was none.
    async fn body(&self) -> Option<Counted<&str>> {
        self.0.body.as_deref().or(self.0.writer_body.as_deref()).map(Counted)
    }

    /// The segment; null where the audience was one record, or none.
    async fn segment(&self) -> Option<ToldPart> {
        ToldPart::of(self.0.segment.as_ref())
    }

    /// What the campaign added to the writer's instructions; empty where nothing was said.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// The values for placeholders.
    async fn variables(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(serde_json::Value::Object(self.0.variables.clone())))
    }
}

/// One field that has changed since.
#[derive(SimpleObject)]
pub struct FieldChange {
    /// Which one.
    pub field: String,
    /// As it was; null where there was nothing.
    pub then: Json<serde_json::Value>,
    /// As it is; null where there is nothing.
    pub now: Json<serde_json::Value>,
}

impl From<(String, serde_json::Value, serde_json::Value)> for FieldChange {
    fn from((field, then, now): (String, serde_json::Value, serde_json::Value)) -> Self {
        Self { field, then: Json(then), now: Json(now) }
    }
}
