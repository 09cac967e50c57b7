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
    /// Its name.
    pub name: String,
    /// The filter, as `record/filter.rs` reads it; none for a fixed list (`segment_record`).
    pub filter: Option<Json>,
    /// A digest of the fixed list's ids as it was given; none for a filter. Records that are deleted since do not change it.
    pub list_digest: Option<String>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
