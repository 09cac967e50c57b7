//! Goals, the purposes of campaigns; reusable across campaigns.

use entity::campaign::Column as Campaign;
use entity::goal::{ActiveModel, Model};
use entity::id::GoalId;
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(goal, GoalId, "goal");
paged!(goal);
defined!(goal, GoalId, "goal");
deleted!(goal, GoalId, "goal"; used by campaign as "campaign" where |id: GoalId| is(Campaign::GoalId, id); with );

/// The fields of a goal; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The intended achievement.
    pub description: Option<String>,
}

/// Creates a goal; a name is required.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let description = validate::text("description", fields.description.as_deref().unwrap_or_default())?;
    let row = ActiveModel {
        id: Set(GoalId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        description: Set(description.clone()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let goal = row.insert(tx.db()).await?;
    created(tx, viewer, &goal);
    Ok(goal)
}

/// Updates the given fields. Errors: NOT_FOUND, CONFLICT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: GoalId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: GoalId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    let revision = found.revision;
    let mut row = found.into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(text) = &fields.description {
        row.description.set_if_not_equals(validate::text("description", text)?);
    }
    save(tx, viewer, row, revision).await
}
