//! Who did what, from where: one row for every mutation that was asked for, refused ones too.

use sea_orm::entity::prelude::*;

use crate::actor::Actor;
use crate::id::*;

text_enum! {
    /// What became of a mutation.
    pub enum AuditOutcome {
        /// It was done.
        Done,
        /// There was nothing to do: it was so already, was asked before under the same idempotency key, or preflight failed.
        Nothing,
        /// It was refused; `code` says why.
        Refused,
        /// It failed on our side.
        Failed,
    }
}

/// One mutation that was asked for.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AuditId,
    /// The tenant.
    pub org_id: OrgId,
    /// Who asked.
    pub actor: Actor,
    /// The member who asked.
    pub member_id: Option<MemberId>,
    /// By which key; none for a token, and in development mode.
    pub api_key_id: Option<ApiKeyId>,
    /// From which address of the network.
    pub address: String,
    /// What was asked for, as the schema calls it.
    pub mutation: String,
    /// With what, long texts cut.
    pub input: Json,
    /// The id of what was made or changed.
    pub target: Option<String>,
    /// What became of it.
    pub outcome: AuditOutcome,
    /// The code of the refusal.
    pub code: Option<String>,
    /// When; of several, the first.
    pub at: DateTimeUtc,
    /// How many such mutations the entry stands for: more than 1 where a key's refusals came too quickly to be kept one by
    /// one.
    pub times: i32,
}

impl ActiveModelBehavior for ActiveModel {}
