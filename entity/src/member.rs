//! A person of an org.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// Role of a member or API key. From VIEWER to ADMIN, each role includes those before it.
    pub enum Role {
        /// May read.
        Viewer,
        /// May also launch, pause, cancel and retry runs, and do steps.
        Operator,
        /// May also approve and reject steps and messages.
        Reviewer,
        /// May also define, submit and approve campaigns, create schedules, and import records.
        Manager,
        /// May also manage members and API keys.
        Admin,
        /// Separate from the other roles: may claim and settle the steps that its agent's filter
        /// matches, and read what that requires. For API keys of programs, not for members.
        Worker,
    }
}

impl Role {
    /// Returns true if the role includes the needed one. WORKER is separate from all others.
    pub fn covers(self, needed: Self) -> bool {
        match (self, needed) {
            (Self::Worker, _) | (_, Self::Worker) => self == needed,
            _ => self >= needed,
        }
    }

    /// Limits an API key's role to its member's. WORKER is never limited, because it grants the
    /// least.
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
    /// Mail address; test runs without recipients are sent to it.
    pub email: String,
    /// The role.
    pub role: Role,
    /// Subject at the identity provider: the `sub` of the member's tokens.
    pub subject: Option<String>,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
