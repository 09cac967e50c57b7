//! Results of bulk actions: one row per target, created with the action.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// Status of one target of a bulk action.
    pub enum BulkResultStatus {
        /// Not dealt with yet; after a stop, for good.
        Pending,
        /// The action was applied, or had been in effect already.
        Done,
        /// The action was refused, as the single mutation would have been.
        Refused,
        /// The action failed by a fault of the server.
        Failed,
    }
}

/// One target.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "bulk_result")]
pub struct Model {
    /// The bulk action.
    #[sea_orm(primary_key, auto_increment = false)]
    pub bulk_action_id: BulkActionId,
    /// 1, 2, 3 … within the bulk action, in the order of the targets' ids.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i32,
    /// The tenant.
    pub org_id: OrgId,
    /// Id of the target. Refers to no row: the ids that a client gives need not exist.
    pub target_id: Uuid,
    /// Current status.
    pub status: BulkResultStatus,
    /// Error code of a refusal or failure.
    pub code: Option<String>,
    /// Error message of a refusal or failure.
    pub message: Option<String>,
}

impl ActiveModelBehavior for ActiveModel {}
