//! API keys of programs and of people's tools. Only a hash of the secret is stored.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::member::Role;

/// One API key.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    /// The id, which is also the public part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    /// The tenant.
    pub org_id: OrgId,
    /// The member that requests with this key act for.
    pub member_id: MemberId,
    /// The agent that uses the key; null if the member does.
    pub agent_id: Option<AgentId>,
    /// Name that says what the key is for.
    pub name: String,
    /// Role of the key; never grants more than the member's role.
    pub role: Role,
    /// SHA-256 of the secret, in hex. The secret is long and random, so no salt is needed.
    pub secret_hash: String,
    /// The actor that created it.
    pub created_by: Actor,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Expiry; null if the key does not expire.
    pub expires_at: Option<DateTimeUtc>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<DateTimeUtc>,
    /// Time of the revocation; null if it was not revoked.
    pub revoked_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
