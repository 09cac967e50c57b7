//! Looks up viewers: by API key, by the subject of a token, and the admin of an org.

use entity::id::{ApiKeyId, MemberId, OrgId};
use entity::member::{self, Role};
use entity::{Actor, ActorKind, api_key};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};

use super::{AuthResult, Authenticated, DEVELOPER_EMAIL, KEY_BEGINS, Reason, Rejected, Viewer, hash};
use crate::kernel::db::{Db, dialect};
use crate::kernel::error::Result;
use crate::transact;

impl Viewer {
    /// The built-in org's admin, whom all requests act as in development mode; created if missing.
    pub async fn developer(db: &Db) -> Result<Self> {
        Self::admin_of(db, entity::org::PLATFORM, "Sortie").await
    }

    /// The first admin of an org. Creates the org and the admin if they are missing; reads only if
    /// they exist.
    pub async fn admin_of(db: &Db, org_id: OrgId, org_name: &str) -> Result<Self> {
        let first = member::Entity::find()
            .filter(member::COLUMN.org_id.eq(org_id))
            .filter(member::COLUMN.role.eq(Role::Admin))
            .one(db.front())
            .await?;
        if let Some(first) = first {
            return Ok(Self::of_member(first));
        }
        transact!(db.write(), |tx| {
            // Two nodes that start at once on a new database create them once.
            dialect::lock_name(tx, "first admin").await?;
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

    /// Authenticates an API key. Records the time of use, to the minute.
    pub async fn of_key(db: &Db, credential: &str) -> Result<AuthResult> {
        let Some((id, secret)) = credential.strip_prefix(KEY_BEGINS).and_then(|rest| rest.split_once('_')) else {
            return Ok(Err(Reason::Malformed.into()));
        };
        let Ok(id) = format!("api_key_{id}").parse::<ApiKeyId>() else { return Ok(Err(Reason::Malformed.into())) };
        let Some(key) = api_key::Entity::find_by_id(id).one(db.front()).await? else {
            return Ok(Err(Reason::Unknown.into()));
        };
        let now = db.now();
        // Compares hashes, so that the timing reveals nothing about the secret.
        let rejection = match key.secret_hash == hash(secret) {
            false => Some(Reason::WrongSecret),
            true if key.revoked_at.is_some() => Some(Reason::Revoked),
            true if key.expires_at.is_some_and(|at| at <= now) => Some(Reason::Expired),
            true => None,
        };
        if let Some(reason) = rejection {
            return Ok(Err(Rejected { reason, key: Some(Box::new(key)) }));
        }
        let member = member::Entity::find_by_id(key.member_id).one(db.front()).await?;
        let Some(member) = member.filter(|member| member.org_id == key.org_id) else {
            return Ok(Err(Reason::NoMember.into()));
        };
        if key.last_used_at.is_none_or(|at| now - at >= chrono::Duration::minutes(1)) {
            // Runs in the background: a request that only reads must not wait for the one writer.
            let (db, id) = (db.clone(), key.id);
            tokio::spawn(async move {
                if let Err(err) = record_use(&db, id).await {
                    log_failure!(warn, err, "the last use of an API key could not be recorded");
                }
            });
        }
        let (until, role) = (key.expires_at, key.role.within(member.role));
        let mut viewer = Self { role, api_key_id: Some(key.id), ..Self::of_member(member) };
        if let Some(id) = key.agent_id {
            let agent = entity::agent::Entity::find_by_id(id).one(db.front()).await?;
            let Some(agent) = agent.filter(|agent| agent.org_id == key.org_id) else {
                return Ok(Err(Reason::NoMember.into()));
            };
            viewer.actor =
                Actor { kind: ActorKind::Agent, member_id: None, agent_id: Some(agent.id), name: agent.name };
        }
        Ok(Ok(Authenticated { viewer, until }))
    }

    /// The viewer that the audit names for a rejected API key: its member or its agent.
    pub async fn of_rejected_key(db: &Db, key: &api_key::Model) -> Result<Option<Self>> {
        let member = member::Entity::find_by_id(key.member_id).one(db.front()).await?;
        Ok(member.filter(|member| member.org_id == key.org_id).map(|member| {
            let mut viewer = Self { role: key.role, api_key_id: Some(key.id), ..Self::of_member(member) };
            if let Some(agent_id) = key.agent_id {
                let name = key.name.clone();
                viewer.actor = Actor { kind: ActorKind::Agent, member_id: None, agent_id: Some(agent_id), name };
            }
            viewer
        }))
    }

    /// The member of an org with this subject at the identity provider.
    pub async fn of_subject(db: &Db, org_id: OrgId, subject: &str) -> Result<Option<Self>> {
        let found = member::Entity::find()
            .filter(member::COLUMN.org_id.eq(org_id))
            .filter(member::COLUMN.subject.eq(subject))
            .one(db.front())
            .await?;
        Ok(found.map(Self::of_member))
    }
}

async fn record_use(db: &Db, id: ApiKeyId) -> Result<()> {
    transact!(db.write(), |tx| {
        let row = api_key::ActiveModel { id: Set(id), last_used_at: Set(Some(tx.now())), ..Default::default() };
        row.update(tx.db()).await?;
        Ok(())
    })
}
