//! Reads and prepares requests: parses JSON and documents, selects the operation, and checks its
//! variables.
//!
//! All of this is done before anything limits the request's execution, so a large one is prepared on
//! the evaluation threads. Orgs take turns there: however many large requests one of them sends, the
//! others' are prepared meanwhile, and no async thread waits.

use std::sync::Arc;

use axum::body::Bytes;
use entity::id::OrgId;
use tokio::runtime::Handle;

use super::App;
use super::auth::Principal;
use super::error::RequestError;
use super::guard::{self, Operation};
use super::parsed::{Parsed, Parsing};
use super::request::GraphqlRequest;
use crate::graphql::document::{Checked, with_paths};
use crate::graphql::{Schema, rules_validator};
use crate::kernel::cost::{self, CostOwner};
use crate::kernel::{json_size, large, limits};

/// A request whose operation is known.
#[derive(Debug)]
pub(super) struct Prepared {
    /// The parsed document.
    pub parsed: Arc<Parsed>,
    /// The operation to execute.
    pub operation: Operation,
    /// The checked variables, or their errors.
    pub checked: Result<Checked, RequestError>,
}

impl Prepared {
    /// Parses the document, unless it is in the cache, and checks the variables.
    fn of(parsing: &Parsing, document: &str, mut request: GraphqlRequest) -> Result<Self, RequestError> {
        let parsed = parsing.of(document)?;
        let (name, variables) = (request.operation_name.take(), request.take_variables());
        let operation = guard::operation(&parsed.document, name.as_deref(), &variables)?;
        let checked = parsed.plan.check(name.as_deref(), variables).map_err(|errors| RequestError::errors(&errors));
        Ok(Self { parsed, operation, checked })
    }
}

impl App {
    /// Reads JSON of a principal. Parsed, it takes up to forty times its text, which is charged to
    /// the principal until the returned cost is dropped.
    pub(super) async fn read_json<T: Send + 'static>(
        &self,
        principal: &Principal,
        json: Bytes,
        read: impl FnOnce(&[u8]) -> T + Send + 'static,
    ) -> Result<(T, Option<Arc<cost::Request>>), RequestError> {
        if json.len() < limits::TURN_BYTES {
            return Ok((read(&json), None));
        }
        let (costs, owner) = (self.costs.clone(), CostOwner::of(&principal.viewer));
        let work = move || {
            let (cost, charged) = costs.copy(owner, json_size::of_text(&json));
            charged?;
            Ok((read(&json), Some(cost)))
        };
        large::in_turn(usize::MAX, principal.viewer.org_id, work).await?
    }

    /// Prepares a request.
    pub(super) async fn prepare(
        &self,
        request: GraphqlRequest,
        document: String,
        org_id: OrgId,
    ) -> Result<Prepared, RequestError> {
        let parsing = self.parsing.clone();
        let is_costly = document.len() >= limits::NEW_DOCUMENT_BYTES && !parsing.knows(&document);
        let bytes = if is_costly { usize::MAX } else { document.len().max(request.bytes) };
        large::in_turn(bytes, org_id, move || Prepared::of(&parsing, &document, request)).await?
    }

    /// Validates a document unless it was validated before; returns the checked request.
    pub(super) async fn validate(
        &self,
        parsed: &Arc<Parsed>,
        checked: Checked,
        org_id: OrgId,
    ) -> Result<Checked, RequestError> {
        if parsed.is_valid() {
            return Ok(checked);
        }
        if parsed.text.len() < limits::NEW_DOCUMENT_BYTES {
            validate(&self.validator, parsed, &checked).await?;
            return Ok(checked);
        }
        let (validator, parsed, runtime) = (self.validator.clone(), parsed.clone(), Handle::current());
        let work = move || runtime.block_on(validate(&validator, &parsed, &checked)).map(|()| checked);
        large::in_turn(usize::MAX, org_id, work).await?
    }
}

/// Validates a document as a whole. It waits for nothing: no field is resolved.
async fn validate(validator: &Schema, parsed: &Parsed, checked: &Checked) -> Result<(), RequestError> {
    let rejected = |errors| Err(RequestError::errors(&with_paths(&parsed.document, errors)));
    let found = validator.execute(checked.for_validation(&parsed.document)).await;
    if found.is_err() {
        return rejected(found.errors);
    }
    // A copy of one operation at a time: together they could be a multiple of the document.
    for other in checked.others_for_validation(&parsed.document) {
        let found = rules_validator().execute(other).await;
        if found.is_err() {
            return rejected(found.errors);
        }
    }
    parsed.mark_valid();
    Ok(())
}
