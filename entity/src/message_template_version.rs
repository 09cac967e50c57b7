//! Versions of message templates: one row per edit.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One version of a message template.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "message_template_version")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageTemplateVersionId,
    /// The tenant.
    pub org_id: OrgId,
    /// The message template.
    pub message_template_id: MessageTemplateId,
    /// Version number, from 1.
    pub version: i32,
    /// The changes, as a list of `{field, from, to}`.
    pub changes: Json,
    /// The actor that made the change.
    pub actor: Actor,
    /// Time of the edit.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
