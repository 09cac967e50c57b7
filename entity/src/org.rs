//! The tenant: every row belongs to one.

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
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

/// The built-in org, whose templates all may read; in development mode, the org of whoever asks.
pub const PLATFORM: OrgId = OrgId(uuid::Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
