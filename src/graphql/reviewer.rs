//! Reviewers.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::ReviewerId;
use entity::reviewer::ReviewPolicy;

use super::loader::must_load;
use super::member::Member;
use super::viewer;
use crate::domain::content::reviewer as noun;
use crate::kernel::validate;

/// Who lets content out: a person, with a policy.
pub struct Reviewer(pub entity::reviewer::Model);

/// Who lets content out: a person, with a policy.
#[Object]
impl Reviewer {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The person.
    async fn member(&self, ctx: &Context<'_>) -> Result<Member> {
        Ok(Member(must_load(ctx, self.0.member_id).await?))
    }

    /// What it takes to approve a review.
    async fn policy(&self) -> ReviewPolicy {
        self.0.policy
    }

    /// When it was made.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(ReviewerQuery: reviewer, reviewers of Reviewer, ReviewerId, Reviewers);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateReviewerInput {
    /// The name.
    name: String,
    /// The person; yourself unless said.
    member_id: Option<ID>,
    /// What it takes to approve; ANY unless said.
    policy: Option<ReviewPolicy>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateReviewerInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another person.
    member_id: Option<ID>,
    /// Another policy.
    policy: Option<ReviewPolicy>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct ReviewerPayload {
    /// As it is now.
    reviewer: Reviewer,
}

deletion!(ReviewerDeletion: delete_reviewer of ReviewerId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct ReviewerMutation;

#[Object]
impl ReviewerMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
    async fn create_reviewer(&self, ctx: &Context<'_>, input: CreateReviewerInput) -> Result<ReviewerPayload> {
        let fields = noun::Fields {
            name: Some(input.name),
            member_id: input.member_id.as_ref().map(|id| validate::id("memberId", id)).transpose()?,
            policy: input.policy,
        };
        Ok(ReviewerPayload {
            reviewer: Reviewer(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
    async fn update_reviewer(&self, ctx: &Context<'_>, input: UpdateReviewerInput) -> Result<ReviewerPayload> {
        let id = validate::id::<ReviewerId>("id", &input.id)?;
        let fields = noun::Fields {
            name: input.name,
            member_id: input.member_id.as_ref().map(|id| validate::id("memberId", id)).transpose()?,
            policy: input.policy,
        };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(ReviewerPayload { reviewer: Reviewer(changed) })
    }
}
