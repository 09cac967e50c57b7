//! GraphQL over HTTP, WebSocket and SSE, implemented over the schema's executor. Authentication,
//! the check of origins, and limits are applied here, the same for every transport.

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
mod introspection;
pub mod items;
mod json_path;
pub mod origin;
pub mod parsed;
mod prepare;
pub mod request;
pub mod response;
pub mod shared;
pub mod socket;
pub mod sse;
pub mod sse_sessions;
pub mod uploads;

use std::sync::Arc;
use std::time::Duration;

use async_graphql::Request;
use async_graphql::parser::types::OperationType;
use entity::AuditOutcome;
use entity::id::OrgId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::field::Empty;

use crate::graphql::document::Checked;
use crate::graphql::idempotent::AuditEntries;
use crate::graphql::shared_rows::SharedRows;
use crate::graphql::{Schema, role, with_viewer};
use crate::kernel::audit::{self, Entry};
use crate::kernel::cost::{self, CostOwner, Costs};
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
use prepare::Prepared;
use request::GraphqlRequest;
use shared::SharedSubscriptions;
use sse_sessions::Sessions;

/// The state shared by all requests.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the schema has no Debug")]
pub struct App {
    /// The schema that executes validated documents.
    pub schema: Schema,
    /// The schema that validates documents.
    pub validator: Schema,
    /// Cache of parsed documents.
    pub parsing: Parsing,
    /// The database.
    pub db: Arc<Db>,
    /// The costs of the requests in progress.
    pub costs: Costs,
    /// Authentication of requests.
    pub authenticator: Authenticator,
    /// The connections and buffered bytes of each address.
    pub addresses: Addresses,
    /// Registered and persisted documents.
    pub documents: Documents,
    /// The open sockets, streams and subscriptions by principal.
    pub stream_quotas: StreamQuotas,
    /// Maximum number of open sockets and streams of one key.
    pub streams_per_key: usize,
    /// Maximum time for a client to send its request or `connection_init`.
    pub client_time: Duration,
    /// Interval of pings on sockets.
    pub ping: Duration,
    /// The region of imported telephone numbers without a country code; `None` if they need one.
    pub phone_region: Option<String>,
    /// The subscriptions that share their execution.
    pub shared_subscriptions: SharedSubscriptions,
    /// The rows that subscriptions share.
    pub shared_rows: SharedRows,
    /// The imports in progress.
    pub uploads: uploads::ImportQuotas,
    /// The clients with one SSE stream for all their operations.
    pub sessions: Sessions,
    /// Set when the server is stopping.
    pub stop: watch::Receiver<bool>,
}

/// A request that passed all checks and may be executed.
#[derive(Debug)]
pub struct Admitted {
    /// The request for the executor, with its viewer.
    pub request: Request,
    /// The parsed document.
    pub parsed: Arc<Parsed>,
    /// The context to execute a subscription again; `None` for other operations.
    pub parts: Option<RequestParts>,
    /// The operation to execute.
    pub operation: Operation,
    /// The org of the principal.
    pub org_id: OrgId,
    /// The log position after which an SSE client resumes when it reconnects; takes precedence over
    /// `after`.
    pub resume: Option<i64>,
    /// The audit entries of a mutation's root fields.
    pub entries: AuditEntries,
    /// The cost of the request.
    pub cost: Arc<cost::Request>,
    /// The transport: `http`, `socket` or `sse`.
    pub transport: &'static str,
    /// The tracing span of the request.
    pub span: tracing::Span,
    /// A subscription's permit from its key's quota; `None` for other operations.
    pub stream_permit: Option<StreamPermit>,
}

/// The parts from which the same request is built again.
#[derive(Clone, Debug)]
pub struct RequestParts {
    checked: Checked,
    viewer: Viewer,
}

impl RequestParts {
    /// Builds the request for a document.
    fn request(&self, app: &App, parsed: &Parsed) -> Request {
        with_viewer(self.checked.request(&parsed.document), &app.db, &self.viewer)
    }
}

impl App {
    /// An empty count of bytes buffered for a principal.
    pub fn load(&self, principal: &Principal) -> BufferedBytes {
        let (address, owner) = (principal.address, CostOwner::of(&principal.viewer));
        self.addresses.load(address, self.authenticator.is_shared_address(address), owner)
    }

    /// Checks a request: its document, its operation's limits, and the principal's permissions.
    pub async fn admit(
        &self,
        request: GraphqlRequest,
        principal: &Principal,
        transport: &'static str,
    ) -> Result<Admitted, RequestError> {
        let mut kind = "none".to_owned();
        let admitted = self.check_request(request, principal, transport, &mut kind).await;
        if let Err(error) = &admitted {
            let code = error.code().to_owned();
            metrics::counter!("sortie_requests_total", "way" => transport, "kind" => kind, "outcome" => code)
                .increment(1);
        }
        admitted
    }

    /// Checks a request, and sets `kind` to the kind of its operation as soon as that is known.
    async fn check_request(
        &self,
        mut request: GraphqlRequest,
        principal: &Principal,
        transport: &'static str,
        kind: &mut String,
    ) -> Result<Admitted, RequestError> {
        let document = self.documents.of(&mut request)?;
        let org = principal.viewer.org_id;
        let Prepared { parsed, operation, checked } = self.prepare(request, document, org).await?;
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
                let error = RequestError::from(refusal);
                self.note(&entries, AuditOutcome::Refused, Some(error.code())).await;
                return Err(error);
            }
        }
        let checked = match checked {
            Ok(checked) => self.admit_memory(&parsed, checked, principal).await,
            Err(error) => Err(error),
        };
        let (checked, cost) = match checked {
            Ok(admitted) => admitted,
            Err(error) => {
                self.note(&entries, AuditOutcome::Refused, Some(error.code())).await;
                return Err(error);
            }
        };
        let request = with_viewer(checked.request(&parsed.document), &self.db, &principal.viewer).data(entries.clone());
        let is_subscription = operation.kind == OperationType::Subscription;
        // The memory that a subscription uses while open.
        let held = parsed.weight_in_use().saturating_add(checked.bytes());
        let stream_permit = is_subscription.then(|| self.permit_subscription(principal, held)).transpose()?;
        let parts = is_subscription.then(|| RequestParts { checked, viewer: principal.viewer.clone() });
        let fields: Vec<&str> = operation.roots.iter().map(|root| root.field.as_str()).collect();
        let kind = operation.kind;
        let span =
            tracing::info_span!("request", way = transport, %kind, fields = fields.join(" "), %org, outcome = Empty);
        Ok(Admitted {
            request,
            parsed,
            parts,
            operation,
            org_id: org,
            resume: None,
            entries,
            cost,
            transport,
            span,
            stream_permit,
        })
    }

    /// Charges the memory of a request's document and variables to its key and org, and validates
    /// the document.
    async fn admit_memory(
        &self,
        parsed: &Arc<Parsed>,
        checked: Checked,
        principal: &Principal,
    ) -> Result<(Checked, Arc<cost::Request>), RequestError> {
        let cost = self.costs.request(&principal.viewer);
        cost.hold_input(parsed.weight_in_use().saturating_add(checked.bytes()))?;
        Ok((self.validate(parsed, checked, principal.viewer.org_id).await?, cost))
    }

    /// Writes the outcome of mutations that are not in the audit log yet.
    async fn note(&self, entries: &AuditEntries, outcome: AuditOutcome, code: Option<&str>) {
        for entry in entries.0.iter().filter(|entry| !entry.is_committed()) {
            if let Err(err) = audit::record(&self.db, entry, outcome, code).await {
                log_failure!(error, err, "the audit log could not be written");
            }
        }
    }
}

/// The error for a client that reads too slowly, with the cursor to resume from without a gap.
fn too_slow(org_id: OrgId, resume: Option<i64>) -> Value {
    let resume = resume.map(|position| event::cursor(org_id, position));
    let message = match resume {
        Some(_) => "the client reads too slowly; subscribe again with `after` set to the cursor",
        None => "the client reads too slowly; subscribe again",
    };
    json!({ "message": message, "extensions": { "code": Code::LimitExceeded.as_str(), "cursor": resume } })
}
