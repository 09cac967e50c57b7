//! A message template as it was: one row per edit.

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
    /// Whose version.
    pub message_template_id: MessageTemplateId,
    /// 1, 2, 3 …
    pub version: i32,
    /// What changed: a list of `{field, from, to}`.
    pub changes: Json,
    /// Who changed it.
    pub actor: Actor,
    /// When.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
