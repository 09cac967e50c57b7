//! The list that a step of guided work began with: what it is about does not shift while somebody works in it.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One step's list.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "step_about")]
pub struct Model {
    /// The step.
    #[sea_orm(primary_key, auto_increment = false)]
    pub step_id: StepId,
    /// The tenant.
    pub org_id: OrgId,
    /// The ids of its records, in order.
    pub records: Json,
    /// The time at which the list was taken.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
