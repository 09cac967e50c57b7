//! Records that a process keeps as they were at its start, whatever changes in the meantime: those that
//! a bulk unsubscribe is about, and the fixed list of a run that still adds its recipients.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One record.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "kept_record")]
pub struct Model {
    /// The sweep or the run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner_id: Uuid,
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_id: RecordId,
    /// The tenant.
    pub org_id: OrgId,
}

impl ActiveModelBehavior for ActiveModel {}
