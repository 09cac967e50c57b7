//! Events about a run as a whole that occurred before the steps waiting for them could receive
//! them.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One event's name, once per run.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "early_run_event")]
pub struct Model {
    /// The run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: RunId,
    /// The event's name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The tenant.
    pub org_id: OrgId,
    /// Time of its latest occurrence.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
