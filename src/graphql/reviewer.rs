//! Reviewers: the object, its queries and its mutations.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::ReviewerId;
use entity::reviewer::ReviewPolicy;

use super::campaign::Campaign;
use super::campaign::list::{CampaignOrder, campaigns};
use super::list::{List, args};
use super::loader::must_load;
use super::member::Member;
use super::viewer;
use crate::domain::content::reviewer as noun;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A person who approves content before it is sent, with a review policy.
pub struct Reviewer(pub entity::reviewer::Model);

impl RowFields for Reviewer {}

/// A person who approves content before it is sent, with a review policy.
#[Object]
impl Reviewer {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The member who reviews.
    async fn member(&self, ctx: &Context<'_>) -> Result<Member> {
        Ok(Member(must_load(ctx, self.0.member_id).await?))
    }

    /// The policy: the approvals that a review needs.
    async fn policy(&self) -> ReviewPolicy {
        self.0.policy
    }

    /// The campaigns that it reviews now, newest first by default; empty if there is none.
    /// `filter.reviewerIds` is ignored. Page with `first` and `after`, or `last` and `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<CampaignFilter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        let mut filter = filter.unwrap_or_default();
        filter.reviewer_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(campaigns(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// Creation time.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(ReviewerQuery: reviewer, reviewers of Reviewer, ReviewerId, Reviewers);

/// Fields of a new reviewer.
#[derive(InputObject)]
pub struct CreateReviewerInput {
    /// The name.
    name: String,
    /// Id of the member who reviews; the viewer by default.
    member_id: Option<ID>,
    /// The review policy; ANY by default.
    policy: Option<ReviewPolicy>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a reviewer. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateReviewerInput {
    /// Id of the reviewer.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the reviewer has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// Id of the new member.
    member_id: Option<ID>,
    /// The new review policy.
    policy: Option<ReviewPolicy>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed reviewer.
#[derive(SimpleObject)]
pub struct ReviewerPayload {
    /// The reviewer after the change.
    reviewer: Reviewer,
}

deletion!(ReviewerDeletion: delete_reviewer of ReviewerId);

/// Mutations for reviewers.
#[derive(Default)]
pub struct ReviewerMutation;

#[Object]
impl ReviewerMutation {
    /// Creates a reviewer. Rejected with BAD_USER_INPUT, naming the field.
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

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
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
