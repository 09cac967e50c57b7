//! GraphQL over HTTP, WebSocket and SSE, our own over the schema's executor. Who asks, from where, and how much, is judged
//! here, the same on every way in.

pub mod asked;
pub mod documents;
pub mod flow;
pub mod guard;
pub mod guest;
pub mod http;
pub mod socket;
pub mod sse;
pub mod told;

use std::sync::Arc;

use async_graphql::Request;
use async_graphql::parser::types::OperationType;
use entity::AuditOutcome;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::audit::{self, Entry};
use crate::db::Db;
use crate::error::Code;
use crate::graphql::once::Entries;
use crate::graphql::{Schema, asked_by, role};
use asked::Asked;
use documents::Documents;
use guard::Operation;
use guest::{Doors, Guest, Presences};
use sse::Sessions;
use told::Told;

/// What every request needs.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct App {
    /// The schema.
    pub schema: Schema,
    /// The database.
    pub db: Arc<Db>,
    /// How who asks is told apart.
    pub doors: Doors,
    /// Documents that are known by name.
    pub documents: Documents,
    /// The open sockets and streams.
    pub presences: Presences,
    /// How many of them one key may have.
    pub streams_per_key: usize,
    /// The clients with one SSE stream for all their operations.
    pub sessions: Sessions,
    /// Set when the server is to stop.
    pub stop: watch::Receiver<bool>,
}

/// A request that may be executed.
#[derive(Debug)]
pub struct Admitted {
    /// With who asks.
    pub request: Request,
    /// What it is.
    pub operation: Operation,
    /// The audit's entries of a mutation's root fields.
    pub entries: Entries,
}

impl App {
    /// Lets a request in, if its document and its asker may.
    pub async fn admit(&self, mut asked: Asked, guest: &Guest) -> Result<Admitted, Told> {
        let document = self.documents.of(&mut asked)?;
        let mut request = asked.request(document);
        let operation = guard::guard(&mut request)?;
        let mut entries = Vec::new();
        if operation.kind == OperationType::Mutation {
            let address = guest.peer.0.ip().to_string();
            entries.extend(operation.roots.iter().map(|root| {
                Arc::new(Entry::new(&guest.viewer, address.clone(), &root.alias, &root.field, &root.input))
            }));
        }
        let entries = Entries(entries.into());
        for root in &operation.roots {
            if let Err(refusal) = role::may(&guest.viewer, operation.kind, &root.field) {
                let told = Told::from(refusal);
                self.note(&entries, AuditOutcome::Refused, Some(told.code())).await;
                return Err(told);
            }
        }
        let request = asked_by(request, &self.db, &guest.viewer).data(entries.clone());
        Ok(Admitted { request, operation, entries })
    }

    /// Has the audit say of mutations that are not in it yet what became of them.
    async fn note(&self, entries: &Entries, outcome: AuditOutcome, code: Option<&str>) {
        for entry in entries.0.iter().filter(|entry| !entry.is_noted()) {
            if let Err(err) = audit::note(&self.db, entry, outcome, code).await {
                tracing::error!(error = %err, "the audit could not be written");
            }
        }
    }
}

/// A reader that did not take the items in time: told where to resume, so that it misses nothing.
fn too_slow(resume: Option<String>) -> Value {
    let message = "you read too slowly; subscribe again with `after` set to the cursor";
    json!({ "message": message, "extensions": { "code": Code::LimitExceeded.as_str(), "cursor": resume } })
}
