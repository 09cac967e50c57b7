//! Stages of the pipeline of a kind of record; each org defines its own.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One stage.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "stage")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: StageId,
    /// The tenant.
    pub org_id: OrgId,
    /// Kind of record, for example `partnership`.
    pub record_kind: String,
    /// Name, as stored in `record.stage`.
    pub name: String,
    /// Position in the pipeline, from 0.
    pub sequence: i32,
    /// Creation time.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
