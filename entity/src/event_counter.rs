//! The last position of each org's event log, on a row of its own so that it can be locked last.

use sea_orm::entity::prelude::*;

use crate::id::OrgId;

/// How far the log of an org has come.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_counter")]
pub struct Model {
    /// Whose log.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// The position of its newest event; 0 before the first.
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
