//! The audit log: one row for every requested mutation, including rejected ones.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// The outcome of a mutation.
    pub enum AuditOutcome {
        /// The mutation was applied.
        Done,
        /// Nothing was changed: the object was in that state already, the request repeated an
        /// idempotency key, or the preflight failed.
        Nothing,
        /// The mutation was rejected; `code` says why.
        Refused,
        /// The server failed.
        Failed,
    }
}

/// One requested mutation.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditId,
    /// The tenant.
    pub org_id: OrgId,
    /// The actor that sent the request.
    pub actor: Actor,
    /// The member that sent the request.
    pub member_id: Option<MemberId>,
    /// The API key; null for a token, and in development mode.
    pub api_key_id: Option<ApiKeyId>,
    /// Network address of the client.
    pub address: String,
    /// Name of the mutation in the schema.
    pub mutation: String,
    /// Input of the mutation, with long texts truncated.
    pub input: Json,
    /// Id of the object that was created or changed.
    pub target: Option<String>,
    /// The outcome.
    pub outcome: AuditOutcome,
    /// Error code of a rejected mutation.
    pub code: Option<String>,
    /// Time of the request; the first one's if the row stands for several.
    pub at: DateTimeUtc,
    /// Number of mutations that the row stands for: more than 1 if a key's rejected requests
    /// arrived too quickly to be stored one by one.
    pub times: i32,
}

impl ActiveModelBehavior for ActiveModel {}
