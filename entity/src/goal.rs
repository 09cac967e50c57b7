//! What a campaign is for, reusable across campaigns.

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
    /// Its name.
    pub name: String,
    /// What is to be achieved.
    pub description: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
