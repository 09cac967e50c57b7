//! A directed link from one record to another, with a role.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

/// One link between two records.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "record_link")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RecordLinkId,
    /// The tenant.
    pub org_id: OrgId,
    /// The record that it goes from.
    pub from_id: RecordId,
    /// The record that it leads to.
    pub to_id: RecordId,
    /// The role of the second record for the first: `partnership`, `successor` …
    pub role: String,
    /// The actor that created it.
    pub created_by: Actor,
    /// Creation time.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
