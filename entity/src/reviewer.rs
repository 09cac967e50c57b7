//! Reviewers, who approve the content of campaigns.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// The policy for approving a review.
    pub enum ReviewPolicy {
        /// Approving the step approves all messages that are not rejected.
        Any,
        /// Each message must be approved or rejected individually before the step can be approved.
        All,
    }
}

/// One reviewer.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "reviewer")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ReviewerId,
    /// The tenant.
    pub org_id: OrgId,
    /// Display name.
    pub name: String,
    /// The person who reviews.
    pub member_id: MemberId,
    /// The policy for approving.
    pub policy: ReviewPolicy,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
