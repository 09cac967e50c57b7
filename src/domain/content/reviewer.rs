//! Reviewers: the people who approve content, each with a policy.

use entity::campaign::Column as Campaign;
use entity::id::{MemberId, ReviewerId};
use entity::reviewer::{ActiveModel, Model, ReviewPolicy};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use crate::domain::people::member;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(reviewer, ReviewerId, "reviewer");
paged!(reviewer);
defined!(reviewer, ReviewerId, "reviewer");
deleted!(reviewer, ReviewerId, "reviewer"; used by campaign as "campaign" where |id: ReviewerId| is(Campaign::ReviewerId, id); with );

/// The fields of a reviewer; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The person; default: the member who creates the reviewer.
    pub member_id: Option<MemberId>,
    /// The policy for approvals; default ANY.
    pub policy: Option<ReviewPolicy>,
}

/// Creates a reviewer; a name is required.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let id = fields.member_id.or(viewer.member_id()).ok_or_else(|| Refusal::input("memberId", "is required"))?;
    let member = member::must_find(tx.db(), viewer, id).await?;
    let row = ActiveModel {
        id: Set(ReviewerId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        member_id: Set(member.id),
        policy: Set(fields.policy.unwrap_or(ReviewPolicy::Any)),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let reviewer = row.insert(tx.db()).await?;
    created(tx, viewer, &reviewer);
    Ok(reviewer)
}

/// Updates the given fields. Errors: NOT_FOUND, CONFLICT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: ReviewerId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: ReviewerId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    let revision = found.revision;
    let mut row = found.into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(id) = fields.member_id {
        row.member_id.set_if_not_equals(member::must_find(tx.db(), viewer, id).await?.id);
    }
    if let Some(policy) = fields.policy {
        row.policy.set_if_not_equals(policy);
    }
    save(tx, viewer, row, revision).await
}
