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
    /// Which member.
    pub member_id: MemberId,
    /// The member's name.
    pub name: String,
    /// What may be done.
    pub role: Role,
}

impl Viewer {
    /// As it is written beside what the viewer does.
    pub fn actor(&self) -> Actor {
        Actor { kind: ActorKind::Member, member_id: Some(self.member_id), name: self.name.clone() }
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
                let org = entity::org::ActiveModel {
                    id: Set(org_id),
                    name: Set(org_name.to_owned()),
                    created_at: Set(at),
                };
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
            Ok(Self { org_id, member_id: member.id, name: member.name, role: member.role })
        })
    }
}
