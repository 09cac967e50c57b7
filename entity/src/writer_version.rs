//! A writer as it was: one row per edit.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One version of a writer.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "writer_version")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WriterVersionId,
    /// The tenant.
    pub org_id: OrgId,
    /// Whose version.
    pub writer_id: WriterId,
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
