//! The viewer: the principal of a request, a member of an org with a role. An API key or a token
//! resolves to one (`lookup`, `token`).

mod jwks;
mod lookup;
pub mod token;

use chrono::{DateTime, Utc};
use entity::id::{ApiKeyId, MemberId, OrgId};
use entity::member::{self, Role};
use entity::{Actor, ActorKind, api_key};
use sha2::{Digest, Sha256};

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

    /// The viewer for a member.
    pub fn of_member(member: member::Model) -> Self {
        let actor = Actor { kind: ActorKind::Member, member_id: Some(member.id), agent_id: None, name: member.name };
        Self { org_id: member.org_id, actor, role: member.role, api_key_id: None }
    }
}

/// The form in which a secret is stored: its SHA-256 in hex.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
