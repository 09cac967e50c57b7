//! Versions of writers: one row per edit.

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
    /// The writer.
    pub writer_id: WriterId,
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
