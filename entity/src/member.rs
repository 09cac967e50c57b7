//! A person of an org.

use sea_orm::entity::prelude::*;

use crate::id::*;

words! {
    /// What a member may do; each role from OPERATOR on adds to VIEWER.
    pub enum Role {
        /// Reads.
        Viewer,
        /// Launches, pauses, cancels, retries, works steps.
        Operator,
        /// Approves and rejects, too.
        Reviewer,
        /// Defines, submits and approves campaigns, schedules, imports.
        Manager,
        /// Manages members and keys, too.
        Admin,
    }
}

/// One person.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "member")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MemberId,
    /// The tenant.
    pub org_id: OrgId,
    /// The name.
    pub name: String,
    /// The address; test runs without recipients go there.
    pub email: String,
    /// What they may do.
    pub role: Role,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
