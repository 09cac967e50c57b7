//! Who asks: a member of an org, with a role.

use entity::id::{MemberId, OrgId};
use entity::member::{self, Role};
use entity::{Actor, ActorKind};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};

use crate::db::Db;
use crate::error::Result;
use crate::transact;

/// Who asks. Every finder takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Whose rows can be seen.
    pub org_id: OrgId,
    /// As who it is written beside what the viewer does.
    pub actor: Actor,
    /// What may be done.
    pub role: Role,
}

impl Viewer {
    /// As who it is written beside what the viewer does.
    pub fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// The member, where the viewer is one.
    pub fn member_id(&self) -> Option<MemberId> {
        self.actor.member_id
    }

    /// The engine, at work on an org's rows.
    pub fn engine(org_id: OrgId) -> Self {
        Self { org_id, actor: Actor::engine(), role: Role::Operator }
    }

    /// The built-in org's admin, as whom everybody works in development mode; made where it is not there yet.
    pub async fn developer(db: &Db) -> Result<Self> {
        Self::admin_of(db, entity::org::PLATFORM, "Sortie").await
    }

    /// The first admin of an org, which is made with them where it is not there yet.
    pub async fn admin_of(db: &Db, org_id: OrgId, org_name: &str) -> Result<Self> {
        transact!(db, |tx| {
            let at = tx.now();
            if entity::org::Entity::find_by_id(org_id).one(tx.db()).await?.is_none() {
                let org =
                    entity::org::ActiveModel { id: Set(org_id), name: Set(org_name.to_owned()), created_at: Set(at) };
                org.insert(tx.db()).await?;
                let counter = entity::event_counter::ActiveModel { org_id: Set(org_id), position: Set(0) };
                counter.insert(tx.db()).await?;
            }
            let found = member::Entity::find()
                .filter(member::COLUMN.org_id.eq(org_id))
                .filter(member::COLUMN.role.eq(Role::Admin))
                .one(tx.db())
                .await?;
            let member = match found {
                Some(member) => member,
                None => {
                    let member = member::ActiveModel {
                        id: Set(MemberId::new()),
                        org_id: Set(org_id),
                        name: Set("Developer".to_owned()),
                        email: Set("developer@localhost".to_owned()),
                        role: Set(Role::Admin),
                        created_at: Set(at),
                        updated_at: Set(at),
                        revision: Set(1),
                    };
                    member.insert(tx.db()).await?
                }
            };
            let actor = Actor { kind: ActorKind::Member, member_id: Some(member.id), name: member.name };
            Ok(Self { org_id, actor, role: member.role })
        })
    }
}
