//! The goal of campaigns; reusable.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One goal.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "goal")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GoalId,
    /// The tenant.
    pub org_id: OrgId,
    /// Display name.
    pub name: String,
    /// Description of the intended result.
    pub description: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
