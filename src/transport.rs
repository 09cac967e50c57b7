//! GraphQL over HTTP, WebSocket and SSE, our own over the schema's executor. Who asks, from where, and how much, is judged
//! here, the same on every way in.

pub mod accept;
pub mod address_limits;
pub mod auth;
pub mod body;
pub mod connections;
pub mod documents;
pub mod error;
pub mod execute;
pub mod failed_logins;
pub mod guard;
pub mod http;
pub mod import;
pub mod origin;
pub mod parsed;
pub mod request;
pub mod shared;
pub mod socket;
pub mod sse;
pub mod uploads;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Request, Variables};
use entity::AuditOutcome;
use entity::id::OrgId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::field::Empty;

use crate::graphql::document::Checked;
use crate::graphql::idempotent::AuditEntries;
use crate::graphql::{Schema, asked_by, role};
use crate::kernel::audit::{self, Entry};
use crate::kernel::cost::{self, Costs};
use crate::kernel::db::Db;
use crate::kernel::error::Code;
use crate::kernel::event;
use crate::kernel::viewer::Viewer;
use address_limits::{Addresses, BufferedBytes};
use auth::{Authenticator, Principal, StreamPermit, StreamQuotas};
use documents::Documents;
use error::RequestError;
use guard::Operation;
use parsed::{Parsed, Parsing};
use request::GraphqlRequest;
use shared::SharedSubscriptions;
use sse::Sessions;

/// What every request needs.
#[derive(Clone)]
#[allow(missing_debug_implementations)]
pub struct App {
    /// The schema, for documents that were found valid.
    pub schema: Schema,
    /// Finds out whether they are.
    pub validator: Schema,
    /// Documents that were parsed before.
    pub parsing: Parsing,
    /// The database.
    pub db: Arc<Db>,
    /// What the requests under way cost.
    pub costs: Costs,
    /// How who asks is told apart.
    pub authenticator: Authenticator,
    /// What each address holds of the server.
    pub addresses: Addresses,
    /// Documents that are known by name.
    pub documents: Documents,
    /// The open sockets and streams.
    pub presences: StreamQuotas,
    /// How many of them one key may have.
    pub streams_per_key: usize,
    /// How long a client may take over what it must say first.
    pub client_time: Duration,
    /// How often a socket is pinged.
    pub ping: Duration,
    /// The region of imported telephone numbers without a country code; none: they need one.
    pub phone_region: Option<String>,
    /// The subscriptions that share their execution.
    pub crowds: SharedSubscriptions,
    /// The imports under way.
    pub uploads: uploads::Uploads,
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
    /// Its document.
    pub parsed: Arc<Parsed>,
    /// What a subscription needs for another execution of the same.
    pub again: Option<RequestContext>,
    /// What it is.
    pub operation: Operation,
    /// The org of who asks.
    pub org_id: OrgId,
    /// The position in the log to go on behind, whatever `after` says: of an SSE client that comes again.
    pub resume: Option<i64>,
    /// The audit's entries of a mutation's root fields.
    pub entries: AuditEntries,
    /// What it costs.
    pub cost: Arc<cost::Request>,
    /// By which way it came: `http`, `socket` or `sse`.
    pub way: &'static str,
    /// What is traced of it.
    pub span: tracing::Span,
    /// A subscription's place among those of its key; none for other operations.
    pub presence: Option<StreamPermit>,
}

/// What the same request is made of once more.
#[derive(Clone, Debug)]
pub struct RequestContext {
    checked: Checked,
    viewer: Viewer,
}

impl RequestContext {
    /// The request, for a document.
    fn request(&self, app: &App, parsed: &Parsed) -> Request {
        asked_by(self.checked.request(&parsed.document), &app.db, &self.viewer)
    }
}

impl App {
    /// A load of bytes that an address sends, empty as yet.
    pub fn load(&self, address: std::net::IpAddr) -> BufferedBytes {
        self.addresses.load(address, self.authenticator.speaks_for_many(address))
    }

    /// Lets a request in, if its document and its asker may.
    pub async fn admit(
        &self,
        asked: GraphqlRequest,
        principal: &Principal,
        way: &'static str,
    ) -> Result<Admitted, RequestError> {
        let mut kind = "none".to_owned();
        let admitted = self.judge(asked, principal, way, &mut kind).await;
        if let Err(told) = &admitted {
            let code = told.code().to_owned();
            metrics::counter!("sortie_requests_total", "way" => way, "kind" => kind, "outcome" => code).increment(1);
        }
        admitted
    }

    /// Judges a request; `kind` becomes the kind of its operation as soon as that is known.
    async fn judge(
        &self,
        mut asked: GraphqlRequest,
        principal: &Principal,
        way: &'static str,
        kind: &mut String,
    ) -> Result<Admitted, RequestError> {
        let document = self.documents.of(&mut asked)?;
        let parsed = self.parsing.of(&document)?;
        let (name, variables) = (asked.operation_name.take(), asked.take_variables());
        let operation = guard::operation(&parsed.document, name.as_deref(), &variables)?;
        *kind = operation.kind.to_string();
        let mut entries = Vec::new();
        if operation.kind == OperationType::Mutation {
            let address = principal.address.to_string();
            entries.extend(operation.roots.iter().map(|root| {
                Arc::new(Entry::new(&principal.viewer, address.clone(), &root.alias, &root.field, &root.input))
            }));
        }
        let entries = AuditEntries(entries.into());
        for root in &operation.roots {
            if let Err(refusal) = role::check_allowed(&principal.viewer, operation.kind, &root.field) {
                let told = RequestError::from(refusal);
                self.note(&entries, AuditOutcome::Refused, Some(told.code())).await;
                return Err(told);
            }
        }
        let checked = match self.check(&parsed, name.as_deref(), variables).await {
            Ok(checked) => checked,
            Err(told) => {
                self.note(&entries, AuditOutcome::Refused, Some(told.code())).await;
                return Err(told);
            }
        };
        let request = asked_by(checked.request(&parsed.document), &self.db, &principal.viewer).data(entries.clone());
        let follows = operation.kind == OperationType::Subscription;
        // What a subscription holds as long as it is open: a parsed document takes some times its text.
        let held = parsed.text.len().saturating_mul(8).saturating_add(checked.bytes());
        let presence = follows.then(|| self.follows(principal, held)).transpose()?;
        let again = follows.then(|| RequestContext { checked, viewer: principal.viewer.clone() });
        let fields: Vec<&str> = operation.roots.iter().map(|root| root.field.as_str()).collect();
        let (kind, org) = (operation.kind, principal.viewer.org_id);
        let span = tracing::info_span!("request", way, %kind, fields = fields.join(" "), %org, outcome = Empty);
        let cost = self.costs.request(&principal.viewer);
        Ok(Admitted {
            request,
            parsed,
            again,
            operation,
            org_id: org,
            resume: None,
            entries,
            cost,
            way,
            span,
            presence,
        })
    }

    /// Checks the variables of every request, and the document unless it was found valid before.
    async fn check(&self, parsed: &Parsed, name: Option<&str>, variables: Variables) -> Result<Checked, RequestError> {
        let checked = parsed.plan.check(name, variables).map_err(|errors| RequestError::errors(&errors))?;
        if !parsed.is_valid() {
            let found = self.validator.execute(checked.whole(&parsed.document)).await;
            if found.is_err() {
                return Err(RequestError::errors(&found.errors));
            }
            parsed.was_valid();
        }
        Ok(checked)
    }

    /// Has the audit say of mutations that are not in it yet what became of them.
    async fn note(&self, entries: &AuditEntries, outcome: AuditOutcome, code: Option<&str>) {
        for entry in entries.0.iter().filter(|entry| !entry.is_noted()) {
            if let Err(err) = audit::note(&self.db, entry, outcome, code).await {
                log_failure!(error, err, "the audit could not be written");
            }
        }
    }
}

/// A reader that did not take the items in time: told where to resume, so that it misses nothing.
fn too_slow(org_id: OrgId, resume: Option<i64>) -> Value {
    let resume = resume.map(|position| event::cursor(org_id, position));
    let message = "you read too slowly; subscribe again with `after` set to the cursor";
    json!({ "message": message, "extensions": { "code": Code::LimitExceeded.as_str(), "cursor": resume } })
}
