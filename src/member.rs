//! The people of an org.

use entity::id::MemberId;
use entity::member::{ActiveModel, Model, Role};
use sea_orm::{ActiveModelTrait, DbErr, IntoActiveModel, Set};

use crate::db::{Db, dialect};
use crate::error::{Error, Refusal, Result};
use crate::viewer::Viewer;
use crate::{input, transact};

scoped!(member, MemberId, "member");
paged!(member);
saved!(member, MemberId, "member");

/// What a member is made of; in a change, only what is given.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The address, unique within the org.
    pub email: Option<String>,
    /// What they may do; VIEWER unless said.
    pub role: Option<Role>,
}

/// Makes one; without a name and an address it is refused.
pub async fn create(db: &Db, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = input::name("name", fields.name.as_deref().unwrap_or_default())?;
    let email = input::email("email", fields.email.as_deref().unwrap_or_default())?;
    transact!(db, |tx| {
        let row = ActiveModel {
            id: Set(MemberId::new()),
            org_id: Set(viewer.org_id),
            name: Set(name.clone()),
            email: Set(email.clone()),
            role: Set(fields.role.unwrap_or(Role::Viewer)),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let member = row.insert(tx.db()).await.map_err(taken)?;
        tx.made(member.id);
        Ok(member)
    })
}

/// Changes what is given. Errors: NOT_FOUND, CONFLICT.
pub async fn update(db: &Db, viewer: &Viewer, id: MemberId, expected: Option<i32>, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        let revision = found.revision;
        let mut row = found.into_active_model();
        if let Some(name) = &fields.name {
            row.name.set_if_not_equals(input::name("name", name)?);
        }
        if let Some(email) = &fields.email {
            row.email.set_if_not_equals(input::email("email", email)?);
        }
        if let Some(role) = fields.role {
            row.role.set_if_not_equals(role);
        }
        match save(tx, row, revision).await {
            Err(err) if err.db().is_some_and(dialect::is_duplicate) => Err(already()),
            other => other,
        }
    })
}

fn taken(err: DbErr) -> Error {
    if dialect::is_duplicate(&err) { already() } else { err.into() }
}

fn already() -> Error {
    Refusal::conflict("a member has this address already").with("field", "email".into()).into()
}
