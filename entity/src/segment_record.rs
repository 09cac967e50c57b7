//! Fixed lists of segments.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One record on a segment's list.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "segment_record")]
pub struct Model {
    /// The segment.
    #[sea_orm(primary_key, auto_increment = false)]
    pub segment_id: SegmentId,
    /// The record.
    #[sea_orm(primary_key, auto_increment = false)]
    pub record_id: RecordId,
    /// The tenant.
    pub org_id: OrgId,
}

impl ActiveModelBehavior for ActiveModel {}
