//! Who lets content out.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// What it takes to approve a review.
    pub enum ReviewPolicy {
        /// Approving the step is enough: it lets out all that are not rejected.
        Any,
        /// Each message needs a verdict of its own before the step can be approved.
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
    /// Its name.
    pub name: String,
    /// The person who reviews.
    pub member_id: MemberId,
    /// What it takes to approve.
    pub policy: ReviewPolicy,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
