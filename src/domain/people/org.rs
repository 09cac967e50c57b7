//! Orgs, the tenants: the viewer's; and for the operator's command line, which has access to all of
//! them, create with a first admin, and list.

use entity::id::{MemberId, OrgId};
use entity::member::{self, Role};
use entity::org::{ActiveModel, Column, Entity, Model};
use sea_orm::{ActiveModelTrait, EntityTrait, QueryOrder, Set};

use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Creates an org with its first admin.
pub async fn create(db: &WriteContext, name: &str, admin: &str, email: &str) -> Result<(Model, Viewer)> {
    let (name, admin) = (validate::name("name", name)?, validate::name("admin", admin)?);
    let email = validate::email("email", email)?;
    transact!(db, |tx| {
        let at = tx.now();
        let org = ActiveModel { id: Set(OrgId::new()), name: Set(name.clone()), created_at: Set(at) };
        let org = org.insert(tx.db()).await?;
        let counter = entity::event_counter::ActiveModel { org_id: Set(org.id), position: Set(0) };
        counter.insert(tx.db()).await?;
        let member = member::ActiveModel {
            id: Set(MemberId::new()),
            org_id: Set(org.id),
            name: Set(admin.clone()),
            email: Set(email.clone()),
            role: Set(Role::Admin),
            subject: Set(None),
            created_at: Set(at),
            updated_at: Set(at),
            revision: Set(1),
        };
        Ok((org, Viewer::of_member(member.insert(tx.db()).await?)))
    })
}

/// Returns the viewer's org.
pub async fn of(db: &Db, viewer: &Viewer) -> Result<Model> {
    let found = Entity::find_by_id(viewer.org_id).one(db.read()).await?;
    found.ok_or_else(|| Error::internal(format!("{} does not exist", viewer.org_id)))
}

/// Returns all orgs, by name.
pub async fn all(db: &Db) -> Result<Vec<Model>> {
    Ok(Entity::find().order_by_asc(Column::Name).order_by_asc(Column::Id).all(db.read()).await?)
}

/// The command line's viewer in an org: its first admin.
pub async fn admin(db: &Db, id: Option<&str>) -> Result<Viewer> {
    let Some(id) = id else { return Viewer::developer(db).await };
    let id: OrgId = id.parse().map_err(Error::internal)?;
    match Entity::find_by_id(id).one(db.read()).await? {
        Some(org) => Viewer::admin_of(db, org.id, &org.name).await,
        None => Err(Refusal::not_found("org", id).into()),
    }
}
