//! Members, the people of an org: find, page, create, update, delete.

use entity::api_key::Column as Key;
use entity::id::MemberId;
use entity::member::{ActiveModel, COLUMN, Entity, Model, Role};
use entity::reply::Column as Assigned;
use entity::step::{Column as Step, StepStatus};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, DbErr, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};

use crate::domain::people::admin_access::{admin_can_authenticate_locked, require_admin_access};
use crate::domain::people::saved_view;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, WriteContext, error_codes};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(member, MemberId, "member");
paged!(member);
defined!(member, MemberId, "member");
deleted!(member, MemberId, "member";
    used by reviewer as "reviewer" where |id: MemberId| is(entity::reviewer::Column::MemberId, id),
        api_key as "key" where |id: MemberId| is(Key::MemberId, id).and(Expr::col((entity::api_key::Entity, Key::RevokedAt)).is_null()),
        schedule as "schedule" where |id: MemberId| is(entity::schedule::Column::AssigneeId, id),
        follow_up as "follow-up" where |id: MemberId| is(entity::follow_up::Column::AssigneeId, id),
        reply as "reply" where |id: MemberId| is(Assigned::AssigneeId, id).and(Expr::col((entity::reply::Entity, Assigned::Status)).eq("OPEN")),
        meeting as "meeting" where |id: MemberId| is(entity::meeting::Column::MemberId, id),
        step as "step" where |id: MemberId| is(Step::AssigneeId, id).and(Step::Status.is_in(StepStatus::OPEN));
    with api_key.MemberId;
    before saved_view::leave;
    if without);

/// The fields of a member. In an update, only the given fields change.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Name.
    pub name: Option<String>,
    /// Mail address, unique within the org.
    pub email: Option<String>,
    /// Role; defaults to VIEWER.
    pub role: Option<Role>,
    /// The `sub` claim of their tokens; `Some(None)` clears it.
    pub subject: Option<Option<String>>,
}

/// Returns the member with a mail address. Errors: NOT_FOUND.
pub async fn by_email(db: &Db, viewer: &Viewer, email: &str) -> Result<Model> {
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.email.eq(email));
    let found = found.one(db.read()).await?;
    found.ok_or_else(|| Refusal::not_found("member", email).into())
}

/// Returns the members with some lower-case mail addresses, unordered.
pub(crate) async fn by_emails(
    db: &impl sea_orm::ConnectionTrait,
    viewer: &Viewer,
    emails: &[String],
) -> Result<Vec<Model>> {
    let lower = sea_orm::sea_query::Func::lower(Expr::col(entity::member::Column::Email));
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    Ok(found.filter(any_of(db.get_database_backend(), Expr::expr(lower), emails.iter().cloned())).all(db).await?)
}

/// Creates a member. Errors: BAD_USER_INPUT, also for a missing name or address; CONFLICT.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let email = validate::email("email", fields.email.as_deref().unwrap_or_default())?;
    let role = check_role(fields.role.unwrap_or(Role::Viewer))?;
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
        created(tx, viewer, &member);
        Ok(member)
    })
}

/// Updates the given fields. Errors: NOT_FOUND, CONFLICT (also if no admin could authenticate any
/// more).
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: MemberId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let role = fields.role.map(check_role).transpose()?;
    transact!(db, |tx| {
        // The permissions of their keys and tokens change now.
        tx.credentials_changed();
        let found = must_lock(tx, viewer, id, expected).await?;
        let revision = found.revision;
        let may_lock_out = found.role == Role::Admin && (role.is_some() || fields.subject.is_some());
        let could_before = may_lock_out && admin_can_authenticate_locked(tx, viewer, db.has_tokens()).await?;
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
        let saved = match save(tx, viewer, row, revision).await {
            Err(err) if err.db().is_some_and(error_codes::is_duplicate) => return Err(already()),
            other => other?,
        };
        require_admin_access(tx, viewer, could_before, db.has_tokens()).await?;
        Ok(saved)
    })
}

fn check_role(role: Role) -> Result<Role> {
    match role {
        Role::Worker => Err(Refusal::input("role", "WORKER is for API keys of programs, not for members").into()),
        role => Ok(role),
    }
}

/// Runs after a member is deleted: an admin must remain who can authenticate, and the member's
/// connections are closed.
async fn without(tx: &Tx, db: &WriteContext, viewer: &Viewer, member: &Model) -> Result<()> {
    if member.role == Role::Admin {
        another_admin(tx, viewer, member.id).await?;
        // Keys in use block the deletion, so that a token is the only credential that goes with a
        // member.
        let could_before = db.has_tokens() && member.subject.is_some();
        require_admin_access(tx, viewer, could_before, db.has_tokens()).await?;
    }
    tx.credentials_changed();
    Ok(())
}

/// Checks that the org has another admin: without one, nobody could appoint the next. Errors:
/// CONFLICT.
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
    if error_codes::is_duplicate(&err) { already() } else { err.into() }
}

fn already() -> Error {
    Refusal::conflict("another member has this email or subject already").into()
}
