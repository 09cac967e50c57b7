//! Record lists of guided steps, fixed when a step starts, so that the list does not change while a
//! person works on it.

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
    /// Ids of the records, in order.
    pub records: Json,
    /// Time at which the list was fixed.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
