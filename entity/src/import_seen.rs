//! External ids that a running import has read, so that a duplicate is reported with the line of
//! its first occurrence.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One external id.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "import_seen")]
pub struct Model {
    /// The import.
    #[sea_orm(primary_key, auto_increment = false)]
    pub import_id: ImportId,
    /// The external id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub external_id: String,
    /// Line of its first occurrence.
    pub line: i64,
}

impl ActiveModelBehavior for ActiveModel {}
