//! API keys: create, which returns the secret once; find, page, revoke.

use chrono::{DateTime, Utc};
use entity::agent;
use entity::api_key::{ActiveModel, Entity, Model};
use entity::id::{AgentId, ApiKeyId, Id, MemberId};
use entity::member::Role;
use entity::org::PLATFORM;
use rand::Rng;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::json;

use crate::domain::people::admin_access::{
    MAKE_ANOTHER, admin_can_authenticate, admin_can_authenticate_locked, require_admin_access,
};
use crate::domain::people::member;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::validate;
use crate::kernel::viewer::{KEY_BEGINS, Viewer, hash};
use crate::transact;

scoped!(api_key, ApiKeyId, "key");
paged!(api_key);

/// Returns true if a key exists in any org; called at startup, before there is a viewer. Revoked
/// and expired keys count, too, so that the server does not fall back to development mode without
/// them.
pub async fn exists(db: &Db) -> Result<bool> {
    Ok(Entity::find().one(db.read()).await?.is_some())
}

/// The fields of a new key.
#[derive(Clone, Debug)]
pub struct Fields {
    /// Name, for example its purpose.
    pub name: String,
    /// Role, which bounds its permissions.
    pub role: Role,
    /// The member that it authenticates; defaults to its creator.
    pub member_id: Option<MemberId>,
    /// The agent that it authenticates, for the role WORKER.
    pub agent_id: Option<AgentId>,
    /// Expiry; `None` if the key does not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Creates a key. Returns its row and the key itself, which can't be retrieved again. Errors:
/// BAD_USER_INPUT for a missing name, a role above its member's, an expiry in the past, and for the
/// server's first key unless it is an admin's of the built-in org: a valid key ends development
/// mode at the next start, and then nobody else could create another.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<(Model, String)> {
    let name = validate::name("name", &fields.name)?;
    let member_id = fields.member_id.or(viewer.member_id());
    let member_id =
        member_id.ok_or_else(|| Refusal::input("memberId", "is required: the member that the key authenticates"))?;
    let secret: String = {
        let mut bytes = [0u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let row = transact!(db, |tx| {
        let member = member::must_find(tx.db(), viewer, member_id).await?;
        if fields.role.within(member.role) != fields.role {
            let message = format!("{} exceeds the role of {}, which is {}", fields.role, member.name, member.role);
            return Err(Refusal::input("role", message).into());
        }
        let first = fields.role == Role::Admin && viewer.org_id == PLATFORM;
        if !first && !admin_can_authenticate(tx.db(), PLATFORM, tx.now(), db.has_tokens()).await? {
            let why = "the first key must be an admin's of the built-in org: once a key exists, every request must authenticate from the next start on";
            return Err(Refusal::input("role", format!("{why}. {MAKE_ANOTHER}")).into());
        }
        if let Some(id) = fields.agent_id {
            // By its row: agents are declared above people.
            let found = agent::Entity::find_by_id(id).filter(agent::COLUMN.org_id.eq(viewer.org_id));
            found.one(tx.db()).await?.ok_or_else(|| Refusal::not_found("agent", id))?;
            if fields.role != Role::Worker {
                return Err(Refusal::input("agentId", "requires the role WORKER").into());
            }
        }
        if fields.expires_at.is_some_and(|at| at <= tx.now()) {
            return Err(Refusal::input("expiresAt", "must be in the future").into());
        }
        let row = ActiveModel {
            id: Set(ApiKeyId::new()),
            org_id: Set(viewer.org_id),
            member_id: Set(member.id),
            agent_id: Set(fields.agent_id),
            name: Set(name.clone()),
            role: Set(fields.role),
            secret_hash: Set(hash(&secret)),
            created_by: Set(viewer.actor()),
            created_at: Set(tx.now()),
            expires_at: Set(fields.expires_at),
            last_used_at: Set(None),
            revoked_at: Set(None),
        };
        let row = row.insert(tx.db()).await?;
        tx.set_result(row.id);
        event::append(tx, event_of("api_key.created", viewer, &row));
        Ok(row)
    })?;
    let shown = row.id.to_string();
    let id = shown.strip_prefix(ApiKeyId::PREFIX).unwrap_or_default();
    Ok((row, format!("{}{}_{secret}", KEY_BEGINS.trim_end_matches('_'), id)))
}

/// Revokes a key: it is invalid from now on, and its open connections are closed. Idempotent.
/// Errors: NOT_FOUND; CONFLICT for the last key by which an admin can authenticate, unless
/// `even_the_last`.
pub async fn revoke(db: &WriteContext, viewer: &Viewer, id: ApiKeyId, even_the_last: bool) -> Result<Model> {
    transact!(db, |tx| {
        let could_before = !even_the_last && admin_can_authenticate_locked(tx, viewer, db.has_tokens()).await?;
        let found = must_find(tx.db(), viewer, id).await?;
        tx.set_result(id);
        tx.credentials_changed();
        if found.revoked_at.is_some() {
            return Ok(found);
        }
        let mut row = found.into_active_model();
        row.revoked_at = Set(Some(tx.now()));
        let row = row.update(tx.db()).await?;
        require_admin_access(tx, viewer, could_before, db.has_tokens()).await?;
        event::append(tx, event_of("api_key.revoked", viewer, &row));
        Ok(row)
    })
}

fn event_of(kind: &str, viewer: &Viewer, row: &Model) -> Event {
    let payload = json!({ "apiKeyId": row.id, "name": row.name, "role": row.role, "memberId": row.member_id });
    Event::new(viewer.org_id, kind, &viewer.actor()).payload(payload)
}
