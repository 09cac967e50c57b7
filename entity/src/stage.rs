//! A place in the pipeline of a kind of record; their order is the org's.

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
    /// The kind of records: `partnership`.
    pub record_kind: String,
    /// As records bear it.
    pub name: String,
    /// The order, from 0.
    pub sequence: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
