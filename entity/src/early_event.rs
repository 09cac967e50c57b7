//! Events about a record of a run, kept for steps that are created, start or are retried
//! afterwards.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One event's name, once per run and record.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "early_event")]
pub struct Model {
    /// The run.
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: RunId,
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_id: RecordId,
    /// The event's name.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// The tenant.
    pub org_id: OrgId,
    /// Time of its latest occurrence.
    pub at: DateTimeUtc,
    /// Number of its latest occurrence: the events of a run are numbered in their order.
    pub number: i64,
    /// Number of its first occurrence.
    pub first_number: i64,
    /// Time of its first occurrence; null if it was kept before this column existed.
    pub first_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
