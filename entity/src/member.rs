//! A person of an org.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
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
        /// Apart from the others: claims and settles what its agent's filter admits, and reads what that needs. For keys of
        /// programs, not for members.
        Worker,
    }
}

impl Role {
    /// Whether it may do what needs another; WORKER is apart from all others.
    pub fn covers(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Worker, _) | (_, Self::Worker) => self == needed,
            _ => self >= needed,
        }
    }

    /// A key's role, which is never more than its member's. A worker's is the least of all.
    pub fn within(self, member: Self) -> Self {
        if self == Self::Worker { self } else { self.min(member) }
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
    /// As whom the identity provider knows them: the `sub` of their tokens.
    pub subject: Option<String>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
