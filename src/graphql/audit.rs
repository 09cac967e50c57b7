//! The audit: who did what, from where.

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::AuditOutcome;

use super::list::{List, Totals, args, list};
use super::{Actor, db, viewer};
use crate::graphql::counted::Counted;
use crate::kernel::audit as noun;

/// One mutation that was asked for.
pub struct AuditEntry(pub entity::audit::Model);

/// One mutation that was asked for.
#[Object]
impl AuditEntry {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// Who asked.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// By which key; null for a token, and in development mode.
    async fn api_key_id(&self) -> Option<ID> {
        self.0.api_key_id.map(|id| id.to_string().into())
    }

    /// From which address of the network.
    async fn address(&self) -> &str {
        &self.0.address
    }

    /// What was asked for, as the schema calls it; `authenticate`: a key was shown and refused, once a minute.
    async fn mutation(&self) -> &str {
        &self.0.mutation
    }

    /// With what; long texts and lists are cut, and end in `…`.
    async fn input(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.input.clone()))
    }

    /// The id of what was made or changed; null where nothing was.
    async fn target_id(&self) -> Option<ID> {
        self.0.target.clone().map(ID)
    }

    /// What became of it.
    async fn outcome(&self) -> AuditOutcome {
        self.0.outcome
    }

    /// The code of the refusal; null where it was not refused.
    async fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// How many mutations of this name, outcome and code the entry stands for: 1, or more where refusals of one key came
    /// too quickly to be kept one by one. The input is that of the first.
    async fn times(&self) -> i32 {
        self.0.times
    }

    /// When.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The mutations that were asked for, refused ones too, the newest first; for admins.
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn audit(
        &self,
        ctx: &Context<'_>,
        filter: Option<noun::Filter>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<AuditEntry>> {
        let filter = filter.unwrap_or_default();
        let page = noun::page(db(ctx), viewer(ctx), &filter, &args(first, after, last, before)).await?;
        Ok(list(page, Totals::Audit(filter), AuditEntry))
    }
}
