//! A key by which a program, or a person's tool, asks: only the hash of its secret is kept.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;
use crate::member::Role;

/// One key.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "api_key")]
pub struct Model {
    /// The id, which is also the public part of the key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: ApiKeyId,
    /// The tenant.
    pub org_id: OrgId,
    /// As whom it asks.
    pub member_id: MemberId,
    /// The agent that asks by it; none: the member.
    pub agent_id: Option<AgentId>,
    /// What it is for.
    pub name: String,
    /// What it may do; never more than its member.
    pub role: Role,
    /// SHA-256 of the secret, in hex; the secret is long and random, so that this needs no salt.
    pub secret_hash: String,
    /// Who made it.
    pub created_by: Actor,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// From when on it is worth nothing.
    pub expires_at: Option<DateTimeUtc>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTimeUtc>,
    /// When it was revoked.
    pub revoked_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
