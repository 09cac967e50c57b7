//! Who asks: a member of an org, with a role; and how they are known by what they show, a key or a token.

pub mod token;

use chrono::{DateTime, Utc};
use entity::id::{ApiKeyId, MemberId, OrgId};
use entity::member::{self, Role};
use entity::{Actor, ActorKind, api_key};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};
use sha2::{Digest, Sha256};

use crate::db::Db;
use crate::error::Result;
use crate::transact;

/// The address of the built-in org's first member.
pub(crate) const DEVELOPER_EMAIL: &str = "developer@localhost";

/// Who asks. Every finder takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// Whose rows can be seen.
    pub org_id: OrgId,
    /// As who it is written beside what the viewer does.
    pub actor: Actor,
    /// What may be done.
    pub role: Role,
    /// The key that was shown; none for a token, in development mode, and for the engine.
    pub api_key_id: Option<ApiKeyId>,
}

/// Who was found by what was shown, and until when it is worth something.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who.
    pub viewer: Viewer,
    /// Until when; none: until it is revoked.
    pub until: Option<DateTime<Utc>>,
}

/// With what every key begins.
pub const KEY_BEGINS: &str = "sortie_";

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
        Self { org_id, actor: Actor::engine(), role: Role::Operator, api_key_id: None }
    }

    /// The built-in org's admin, as whom everybody works in development mode; made where it is not there yet.
    pub async fn developer(db: &Db) -> Result<Self> {
        Self::admin_of(db, entity::org::PLATFORM, "Sortie").await
    }

    /// The first admin of an org, which is made with them where it is not there yet; what is there is only read.
    pub async fn admin_of(db: &Db, org_id: OrgId, org_name: &str) -> Result<Self> {
        let first = member::Entity::find()
            .filter(member::COLUMN.org_id.eq(org_id))
            .filter(member::COLUMN.role.eq(Role::Admin))
            .one(db.read())
            .await?;
        if let Some(first) = first {
            return Ok(Self::of_member(first));
        }
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
                        email: Set(DEVELOPER_EMAIL.to_owned()),
                        role: Set(Role::Admin),
                        subject: Set(None),
                        created_at: Set(at),
                        updated_at: Set(at),
                        revision: Set(1),
                    };
                    member.insert(tx.db()).await?
                }
            };
            Ok(Self::of_member(member))
        })
    }

    /// Who shows a key; none where it is not one, was revoked, or has expired. That it was used is noted to the minute.
    pub async fn of_key(db: &Db, shown: &str) -> Result<Option<Known>> {
        let Some((id, secret)) = shown.strip_prefix(KEY_BEGINS).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let Ok(id) = format!("api_key_{id}").parse::<ApiKeyId>() else { return Ok(None) };
        let Some(key) = api_key::Entity::find_by_id(id).one(db.front()).await? else { return Ok(None) };
        let now = db.now();
        let over = key.revoked_at.is_some() || key.expires_at.is_some_and(|at| at <= now);
        // Two hashes are compared, so that the time this takes tells nothing of the secret.
        if over || key.secret_hash != hash(secret) {
            return Ok(None);
        }
        let member = member::Entity::find_by_id(key.member_id).one(db.front()).await?;
        let Some(member) = member.filter(|member| member.org_id == key.org_id) else { return Ok(None) };
        if key.last_used_at.is_none_or(|at| now - at >= chrono::Duration::minutes(1)) {
            // Beside the request: who only reads does not wait for the one writer.
            let (db, id) = (db.clone(), key.id);
            tokio::spawn(async move {
                if let Err(err) = used(&db, id).await {
                    tracing::warn!(error = %err, "that a key was used could not be noted");
                }
            });
        }
        let (until, role) = (key.expires_at, key.role.within(member.role));
        let mut viewer = Self { role, api_key_id: Some(key.id), ..Self::of_member(member) };
        if let Some(id) = key.agent_id {
            let agent = entity::agent::Entity::find_by_id(id).one(db.front()).await?;
            let Some(agent) = agent.filter(|agent| agent.org_id == key.org_id) else { return Ok(None) };
            viewer.actor =
                Actor { kind: ActorKind::Agent, member_id: None, agent_id: Some(agent.id), name: agent.name };
        }
        Ok(Some(Known { viewer, until }))
    }

    /// The member of an org whom the identity provider knows as this subject.
    pub async fn of_subject(db: &Db, org_id: OrgId, subject: &str) -> Result<Option<Self>> {
        let found = member::Entity::find()
            .filter(member::COLUMN.org_id.eq(org_id))
            .filter(member::COLUMN.subject.eq(subject))
            .one(db.front())
            .await?;
        Ok(found.map(Self::of_member))
    }

    /// A member, as such.
    pub fn of_member(member: member::Model) -> Self {
        let actor = Actor { kind: ActorKind::Member, member_id: Some(member.id), agent_id: None, name: member.name };
        Self { org_id: member.org_id, actor, role: member.role, api_key_id: None }
    }
}

async fn used(db: &Db, id: ApiKeyId) -> Result<()> {
    transact!(db, |tx| {
        let row = api_key::ActiveModel { id: Set(id), last_used_at: Set(Some(tx.now())), ..Default::default() };
        row.update(tx.db()).await?;
        Ok(())
    })
}

/// As a secret is kept.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
