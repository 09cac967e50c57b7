//! A key that a client gave a mutation, so that asking again does nothing again.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One key; it goes after seven days.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// Who asked.
    #[sea_orm(primary_key, auto_increment = false)]
    pub asker: String,
    /// What was asked for.
    #[sea_orm(primary_key, auto_increment = false)]
    pub mutation: String,
    /// The key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// A hash of the rest of the input.
    pub input: String,
    /// What was made or changed; null only inside the transaction that makes it.
    pub made: Option<Uuid>,
    /// When.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
