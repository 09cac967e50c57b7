//! The people of an org.

use entity::api_key::Column as Key;
use entity::id::MemberId;
use entity::member::{ActiveModel, COLUMN, Entity, Model, Role};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};

use crate::domain::people::api_key;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, dialect};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(member, MemberId, "member");
paged!(member);
saved!(member, MemberId, "member");
deleted!(member, MemberId, "member";
    used by reviewer as "reviewer" where |id: MemberId| is(entity::reviewer::Column::MemberId, id),
        api_key as "key" where |id: MemberId| is(Key::MemberId, id).and(Expr::col((entity::api_key::Entity, Key::RevokedAt)).is_null());
    with api_key.MemberId;
    if without);

/// What a member is made of; in a change, only what is given.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The address, unique within the org.
    pub email: Option<String>,
    /// What they may do; VIEWER unless said.
    pub role: Option<Role>,
    /// The `sub` of their tokens; `Some(None)` takes it away.
    pub subject: Option<Option<String>>,
}

/// The member of an address. Errors: NOT_FOUND.
pub async fn by_email(db: &Db, viewer: &Viewer, email: &str) -> Result<Model> {
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.email.eq(email));
    let found = found.one(db.read()).await?;
    found.ok_or_else(|| Refusal::not_found("member", email).into())
}

/// The members of some addresses, in no order.
pub(crate) async fn by_emails(
    db: &impl sea_orm::ConnectionTrait,
    viewer: &Viewer,
    emails: &[String],
) -> Result<Vec<Model>> {
    let lower = sea_orm::sea_query::Func::lower(Expr::col(entity::member::Column::Email));
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    Ok(found.filter(any_of(db.get_database_backend(), Expr::expr(lower), emails.iter().cloned())).all(db).await?)
}

/// Makes one; without a name and an address it is refused.
pub async fn create(db: &Db, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let email = validate::email("email", fields.email.as_deref().unwrap_or_default())?;
    let role = of_a_person(fields.role.unwrap_or(Role::Viewer))?;
    let subject = fields.subject.clone().flatten().map(|subject| validate::name("subject", &subject)).transpose()?;
    transact!(db, |tx| {
        let row = ActiveModel {
            id: Set(MemberId::new()),
            org_id: Set(viewer.org_id),
            name: Set(name.clone()),
            email: Set(email.clone()),
            role: Set(role),
            subject: Set(subject.clone()),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let member = row.insert(tx.db()).await.map_err(taken)?;
        tx.set_result(member.id);
        Ok(member)
    })
}

/// Changes what is given. Errors: NOT_FOUND, CONFLICT (also where no admin could come in any more).
pub async fn update(db: &Db, viewer: &Viewer, id: MemberId, expected: Option<i32>, fields: &Fields) -> Result<Model> {
    let role = fields.role.map(of_a_person).transpose()?;
    transact!(db, |tx| {
        // Their keys and tokens may do something else from now on.
        tx.changes_doors();
        let found = must_lock(tx, viewer, id, expected).await?;
        let revision = found.revision;
        let may_lock_out = found.role == Role::Admin && (role.is_some() || fields.subject.is_some());
        let could_before = may_lock_out && api_key::admin_could_enter(tx, viewer, db.has_tokens()).await?;
        if found.role == Role::Admin && role.is_some_and(|role| role != Role::Admin) {
            another_admin(tx, viewer, id).await?;
        }
        let mut row = found.into_active_model();
        if let Some(name) = &fields.name {
            row.name.set_if_not_equals(validate::name("name", name)?);
        }
        if let Some(email) = &fields.email {
            row.email.set_if_not_equals(validate::email("email", email)?);
        }
        if let Some(subject) = &fields.subject {
            let subject = subject.as_deref().map(|subject| validate::name("subject", subject)).transpose()?;
            row.subject.set_if_not_equals(subject);
        }
        if let Some(role) = role {
            row.role.set_if_not_equals(role);
        }
        let saved = match save(tx, row, revision).await {
            Err(err) if err.db().is_some_and(dialect::is_duplicate) => return Err(already()),
            other => other?,
        };
        api_key::keep_an_admin(tx, viewer, could_before, db.has_tokens()).await?;
        Ok(saved)
    })
}

fn of_a_person(role: Role) -> Result<Role> {
    match role {
        Role::Worker => Err(Refusal::input("role", "WORKER is for keys of programs, not for members").into()),
        role => Ok(role),
    }
}

/// What a deletion of theirs must leave, and whom it sends away.
async fn without(tx: &Tx, viewer: &Viewer, gone: &Model) -> Result<()> {
    if gone.role == Role::Admin {
        another_admin(tx, viewer, gone.id).await?;
    }
    tx.changes_doors();
    Ok(())
}

/// An org keeps an admin: without one nobody could make another. Errors: CONFLICT.
async fn another_admin(tx: &Tx, viewer: &Viewer, but: MemberId) -> Result<()> {
    let others = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.role.eq(Role::Admin))
        .filter(COLUMN.id.ne(but))
        .lock_exclusive();
    match others.one(tx.db()).await? {
        Some(_) => Ok(()),
        None => Err(Refusal::conflict("this is the org's last admin").into()),
    }
}

fn taken(err: DbErr) -> Error {
    if dialect::is_duplicate(&err) { already() } else { err.into() }
}

fn already() -> Error {
    Refusal::conflict("a member has this address or subject already").into()
}
