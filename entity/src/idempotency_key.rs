//! Idempotency keys of mutations: a repeated request has no second effect.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One key; deleted after seven days.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_key")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// The principal that sent the request.
    #[sea_orm(primary_key, auto_increment = false, column_name = "asker")]
    pub principal: String,
    /// Name of the mutation.
    #[sea_orm(primary_key, auto_increment = false)]
    pub mutation: String,
    /// The key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// Hash of the rest of the input.
    pub input: String,
    /// Id of the created or changed object; null only within the transaction that creates it.
    #[sea_orm(column_name = "made")]
    pub result: Option<Uuid>,
    /// Anything else that a repeated request returns: for `settleSteps` the refusals by step; null if
    /// there is nothing.
    pub detail: Option<Json>,
    /// Time of the request.
    pub created_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
