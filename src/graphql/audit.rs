//! Audit: the log of requested mutations, with actor, address and outcome.

use async_graphql::{Context, ID, Json, Object, Result};
use chrono::{DateTime, Utc};
use entity::AuditOutcome;

use super::list::{List, Totals, args, list};
use super::{Actor, db, viewer};
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::audit as noun;

/// A requested mutation, whether it was carried out or rejected.
pub struct AuditEntry(pub entity::audit::Model);

impl RowFields for AuditEntry {}

/// A requested mutation, whether it was carried out or rejected.
#[Object]
impl AuditEntry {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The actor that sent the request.
    async fn actor(&self) -> Actor {
        self.0.actor.clone().into()
    }

    /// Id of the API key that was used; null for a token, and in development mode.
    async fn api_key_id(&self) -> Option<ID> {
        self.0.api_key_id.map(|id| id.to_string().into())
    }

    /// The client's network address.
    async fn address(&self) -> &str {
        &self.0.address
    }

    /// Name of the mutation in the schema; `authenticate` for a known API key that was rejected,
    /// recorded at most once a minute per key. Unknown credentials have no entry.
    async fn mutation(&self) -> &str {
        &self.0.mutation
    }

    /// The mutation's input; long texts and lists are truncated and end in `…`.
    async fn input(&self) -> Counted<Json<serde_json::Value>> {
        Counted(Json(self.0.input.clone()))
    }

    /// Id of the created or changed object; null if there is none.
    async fn target_id(&self) -> Option<ID> {
        self.0.target.clone().map(ID)
    }

    /// The outcome.
    async fn outcome(&self) -> AuditOutcome {
        self.0.outcome
    }

    /// Error code of the rejection; null if it was not rejected.
    async fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// Number of mutations with this name, outcome and code that the entry stands for: 1, or more
    /// if one key was rejected too often for single entries. The input is that of the first.
    async fn times(&self) -> i32 {
        self.0.times
    }

    /// Time of the request; if the entry stands for several, of the first.
    async fn at(&self) -> DateTime<Utc> {
        self.0.at
    }
}

/// Query fields for the audit.
#[derive(Default)]
pub struct AuditQuery;

#[Object]
impl AuditQuery {
    /// The requested mutations, including rejected ones, newest first; for admins. Page with
    /// `first` and `after`, or `last` and `before`; page size 50 by default, at most 500.
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
