//! The viewer: the principal of a request, a member of an org with a role, and how an API key or a
//! token resolves to one.

mod jwks;
pub mod token;

use chrono::{DateTime, Utc};
use entity::id::{ApiKeyId, MemberId, OrgId};
use entity::member::{self, Role};
use entity::{Actor, ActorKind, api_key};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};
use sha2::{Digest, Sha256};

use crate::kernel::db::Db;
use crate::kernel::error::Result;
use crate::transact;

/// Email address of the built-in org's first member.
pub(crate) const DEVELOPER_EMAIL: &str = "developer@localhost";

/// The principal of a request. Every query of rows takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The org whose rows are visible.
    pub org_id: OrgId,
    /// The actor that is recorded with the viewer's changes.
    pub actor: Actor,
    /// The role, which decides what the viewer may do.
    pub role: Role,
    /// The API key of the request; none for a token, in development mode and for the engine.
    pub api_key_id: Option<ApiKeyId>,
}

/// An authenticated principal, and the expiry of its credential.
#[derive(Clone, Debug)]
pub struct Authenticated {
    /// The principal.
    pub viewer: Viewer,
    /// Expiry of the credential; none if it is valid until revoked.
    pub until: Option<DateTime<Utc>>,
}

/// The reason that a credential was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The request has no credential.
    Missing,
    /// Neither an API key nor a token of a kind that is accepted here.
    Malformed,
    /// No key has this id.
    Unknown,
    /// A key has this id, but the secret is wrong.
    WrongSecret,
    /// The key was revoked.
    Revoked,
    /// The key or the token has expired.
    Expired,
    /// The token is not valid yet.
    NotYet,
    /// The issuer has no key by which the token could be verified.
    UnknownIssuerKey,
    /// The signature, the issuer or the audience of the token is wrong.
    WrongSignature,
    /// The member that the credential belongs to does not exist.
    NoMember,
    /// Not checked, because too many attempts failed before it.
    Slowed,
}

impl Reason {
    /// The name in metrics, the log and the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown_key",
            Self::WrongSecret => "wrong_secret",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotYet => "not_yet_valid",
            Self::UnknownIssuerKey => "unknown_issuer_key",
            Self::WrongSignature => "wrong_signature",
            Self::NoMember => "no_member",
            Self::Slowed => "slowed",
        }
    }
}

/// A rejected credential.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The reason.
    pub reason: Reason,
    /// The API key that the credential names, if it names one.
    pub key: Option<Box<api_key::Model>>,
}

impl From<Reason> for Rejected {
    fn from(reason: Reason) -> Self {
        Self { reason, key: None }
    }
}

/// The outcome of authentication.
pub type AuthResult = std::result::Result<Authenticated, Rejected>;

/// Prefix of every API key.
pub const KEY_BEGINS: &str = "sortie_";

impl Viewer {
    /// The actor that is recorded with the viewer's changes.
    pub fn actor(&self) -> Actor {
        self.actor.clone()
    }

    /// The member's id; none if the viewer is not a member.
    pub fn member_id(&self) -> Option<MemberId> {
        self.actor.member_id
    }

    /// An anonymous viewer of the same org and role. Work that several members share is executed as
    /// this viewer, so that nothing in its result can depend on one of them.
    pub fn anybody(&self) -> Self {
        let actor = Actor { member_id: None, agent_id: None, name: String::new(), ..self.actor.clone() };
        Self { actor, api_key_id: None, ..*self }
    }

    /// The engine, acting on an org's rows.
    pub fn engine(org_id: OrgId) -> Self {
        Self { org_id, actor: Actor::engine(), role: Role::Operator, api_key_id: None }
    }

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

    /// The viewer for a member.
    pub fn of_member(member: member::Model) -> Self {
        let actor = Actor { kind: ActorKind::Member, member_id: Some(member.id), agent_id: None, name: member.name };
        Self { org_id: member.org_id, actor, role: member.role, api_key_id: None }
    }
}

async fn record_use(db: &Db, id: ApiKeyId) -> Result<()> {
    transact!(db, |tx| {
        let row = api_key::ActiveModel { id: Set(id), last_used_at: Set(Some(tx.now())), ..Default::default() };
        row.update(tx.db()).await?;
        Ok(())
    })
}

/// The form in which a secret is stored: its SHA-256 in hex.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
