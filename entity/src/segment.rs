//! A saved filter over records, or a fixed list.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One segment.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "segment")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: SegmentId,
    /// The tenant.
    pub org_id: OrgId,
    /// Display name.
    pub name: String,
    /// The filter, as `record/filter.rs` reads it; null for a fixed list (`segment_record`).
    pub filter: Option<Json>,
    /// Digest of the ids of the fixed list as it was given; null for a filter. Deleting records
    /// does not change it.
    pub list_digest: Option<String>,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
