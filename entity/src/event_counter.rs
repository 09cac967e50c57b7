//! The last position of each org's event log, on a row of its own so that it can be locked last.

use sea_orm::entity::prelude::*;

use crate::id::OrgId;

/// The end of an org's event log.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event_counter")]
pub struct Model {
    /// The org that the log belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// Position of the newest event; 0 before the first.
    pub position: i64,
}

impl ActiveModelBehavior for ActiveModel {}
