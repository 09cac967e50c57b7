//! Orgs, the tenants: every row belongs to one.

use sea_orm::entity::prelude::*;

use crate::id::OrgId;

/// One tenant.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "org")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: OrgId,
    /// Display name.
    pub name: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

/// The built-in org. All orgs may read its templates; in development mode, all requests belong to
/// it.
pub const PLATFORM: OrgId = OrgId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
