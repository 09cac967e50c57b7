//! Executes operations, queries and mutations with a single response and subscriptions item by
//! item, and reports their errors and panics.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use async_graphql::parser::types::OperationType;
use async_graphql::{PathSegment, Request, Response, ServerError, Value as GraphqlValue};
use entity::AuditOutcome;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::error::{Kind, RequestError};
use super::introspection::{Introspection, Turn};
use super::{Admitted, App};
use crate::graphql::batching;
use crate::graphql::idempotent::AuditEntries;
use crate::graphql::stream::LogScope;
use crate::kernel::cost::execution_time::Live;
use crate::kernel::cost::{self, CostAccount};
use crate::kernel::error::Refusal;
use crate::kernel::{audit, large, limits};
use ForIntrospection::{Known, Run};

/// Executes a query or a mutation, and serialises its response.
///
/// A query is aborted when its client disconnects or its time is over; a mutation always completes.
/// Effects that are of use only to the receiver of the response, such as claims, are undone if
/// there is none.
pub async fn execute(app: &App, admitted: Admitted) -> Result<Vec<u8>, RequestError> {
    let (kind, transport, span) = (admitted.operation.kind.to_string(), admitted.transport, admitted.span.clone());
    let cost = admitted.cost.clone();
    let introspection = Introspection::of(&admitted);
    let begun = Instant::now();
    let (outcome, has_data, written) = match &introspection {
        None => answer(app, admitted, false).await,
        Some(introspection) => match known_or_turn(introspection).await {
            Ok(Known(response)) => ("OK".to_owned(), true, Ok(response)),
            Ok(Run(_turn)) => {
                let done = answer(app, admitted, true).await;
                if let ("OK", _, Ok(response)) = (done.0.as_str(), done.1, &done.2) {
                    introspection.keep(response);
                }
                done
            }
            Err(error) => (error.code().to_owned(), false, Err(error)),
        },
    };
    if !has_data || written.is_err() {
        cost.undo().await;
    }
    span.record("outcome", outcome.as_str());
    metrics::histogram!("sortie_request_seconds", "kind" => kind.clone()).record(begun.elapsed());
    metrics::counter!("sortie_requests_total", "way" => transport, "kind" => kind, "outcome" => outcome).increment(1);
    written
}

/// The written response to large introspection, or the turn to write it.
enum ForIntrospection {
    Known(Vec<u8>),
    Run(Turn),
}

/// Returns the written response, or the turn to write it.
async fn known_or_turn(introspection: &Introspection) -> Result<ForIntrospection, RequestError> {
    if let Some(response) = introspection.known() {
        return Ok(Known(response));
    }
    let turn = timeout(limits::QUERY_TIME, introspection.turn()).await.map_err(|_| too_long())??;
    // Another request may have written it meanwhile.
    Ok(introspection.known().map_or(Run(turn), Known))
}

/// Executes a request and serialises its response. Returns the outcome for the metrics, and true if
/// the response has data.
async fn answer(app: &App, admitted: Admitted, asks_schema: bool) -> (String, bool, Result<Vec<u8>, RequestError>) {
    let (cost, is_query) = (admitted.cost.clone(), admitted.operation.kind == OperationType::Query);
    let done = finish(app, admitted, asks_schema).await;
    let has_data = done.as_ref().is_ok_and(|response| response.data != GraphqlValue::Null);
    let outcome = match &done {
        Ok(response) if response.is_ok() => "OK".to_owned(),
        Ok(response) => RequestError::errors(&response.errors).code().to_owned(),
        Err(error) => error.code().to_owned(),
    };
    let written = match done {
        Ok(response) => {
            // The schema's descriptions are not counted.
            let bytes = if asks_schema { usize::MAX } else { cost.response_bytes() };
            let write = || {
                // Dropped here as well: its values are many.
                let response = response;
                cost::answer::write(&cost, &response)
            };
            let written = match is_query {
                true => large::run(bytes, write).await,
                // A client that disconnects during an await here would leave its claims undone.
                false => large::at_once(bytes, write),
            };
            written.map_err(|refusal| over(&refusal, is_query))
        }
        Err(error) => Err(error),
    };
    (outcome, has_data, written)
}

async fn finish(app: &App, admitted: Admitted, asks_schema: bool) -> Result<Response, RequestError> {
    let (all, request, entries) = (app.clone(), admitted.request, admitted.entries);
    let is_query = admitted.operation.kind == OperationType::Query;
    let (cost, counted) = (admitted.cost.clone(), admitted.cost);
    let waits = Waits::default();
    let abandoned = waits.0.clone();
    let work = async move {
        if is_query {
            let mut work = std::pin::pin!(batching::execute(&all.schema, request));
            // A query that exceeded its cost is not executed further.
            let mut poll = |cx: &mut Context<'_>| match asks_schema {
                // Introspection is resolved in one poll: the thread leaves the async pool meanwhile.
                true => tokio::task::block_in_place(|| work.as_mut().poll(cx)),
                false => work.as_mut().poll(cx),
            };
            let work = poll_fn(|cx| match (poll(cx), cost::refusal()) {
                (_, Some(_)) => Poll::Ready(Response::default()),
                (answer, None) => answer,
            });
            return timeout(limits::QUERY_TIME, work).await.ok();
        }
        let work = batching::execute(&all.schema, request);
        let done = AssertUnwindSafe(work).catch_unwind().await;
        note(&all, &entries, done.as_ref().ok()).await;
        if abandoned.load(Ordering::Relaxed)
            && let Some(cost) = cost::current()
        {
            cost.undo().await;
        }
        match done {
            Ok(response) => Some(response),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    };
    let work = tokio::spawn(cost::within(counted, work).instrument(admitted.span));
    let _abort = is_query.then(|| AbortOnDrop(work.abort_handle()));
    match work.await {
        Ok(_) if let Some(refusal) = cost.refusal() => Err(over(refusal, is_query)),
        Ok(Some(response)) if let Some(error) = RequestError::of_unavailable(&response, is_query) => Err(error),
        Ok(Some(response)) => RequestError::of_unstarted(&response).map_or(Ok(response), Err),
        Ok(None) => Err(too_long()),
        Err(_) => Err(panicked()),
    }
}

/// The error of a request that was ended early. A mutation's changes so far are kept.
fn over(refusal: &Refusal, is_query: bool) -> RequestError {
    let mut refusal = refusal.clone();
    if !is_query {
        refusal.message += " (the mutation's changes so far are kept)";
    }
    refusal.into()
}

/// A serialised response in JSON, shared by all its receivers.
pub type Payload = Arc<str>;

/// One item of an operation.
#[derive(Clone, Debug)]
pub struct Item {
    /// The response. An error is the last item.
    pub payload: Result<Payload, RequestError>,
    /// The item's log position; `None` if it is not about an event.
    pub position: Option<i64>,
    /// The log position after which to resume if the item can't be delivered.
    pub resume: Option<i64>,
    /// The item's cost while it waits for its reader.
    pub held: Option<Arc<cost::Request>>,
    /// True if the payload is shared with other readers: a copy of it is not counted yet.
    pub shared: bool,
    /// True if the item is a list's snapshot, from which the items after it continue.
    pub snapshot: bool,
}

impl Item {
    /// An error that ends the operation; `resume` as in the item.
    pub fn failed(error: RequestError, resume: Option<i64>) -> Self {
        Self { payload: Err(error), position: None, resume, held: None, shared: false, snapshot: false }
    }
}

/// Executes a subscription without sharing it. `scope` tracks its log position. Each item costs as much as a request, charged to the payer.
pub(super) fn alone(app: &App, request: Request, scope: &LogScope, payer: CostAccount) -> BoxStream<'static, Item> {
    let request = request.data(scope.clone()).data(app.shared_rows.clone());
    let responses = batching::stream(&app.schema, request);
    let (costs, live) = (app.costs.clone(), app.costs.live(payer.clone()));
    stream::unfold(Some((responses, scope.clone(), costs, live, payer)), move |state| async move {
        let (mut responses, scope, costs, live, payer) = state?;
        let cost = costs.item(&payer);
        let delivered = scope.now();
        let next = AssertUnwindSafe(live.paced(responses.next())).catch_unwind();
        let result = cost::within(cost.clone(), next).await;
        // Items are polled one at a time, so that the position is that of this item.
        let (position, before) = (scope.now(), scope.before());
        let (payload, last) = match result {
            Ok(_) if let Some(refusal) = cost.refusal() => (Err(refusal.clone().into()), true),
            Ok(Some(response)) => match RequestError::of_subscription(&response, scope.is_list()) {
                Some(error) => (Err(error), true),
                None => match payload(&cost, &live, response).await {
                    Ok(payload) => (Ok(payload), false),
                    Err(refusal) => (Err(refusal.into()), true),
                },
            },
            Ok(None) => return None,
            Err(_) => (Err(panicked()), true),
        };
        let resume = match &payload {
            Ok(_) => before,
            // The failed item may have moved the position, or the source failed before it did.
            Err(_) => scope.after_failure(delivered),
        };
        let item = Item { payload, position, resume, held: Some(cost), shared: false, snapshot: scope.is_snapshot() };
        Some((item, (!last).then_some((responses, scope, costs, live, payer))))
    })
    .boxed()
}

/// Serialises a response; the time counts as execution. Fails with LIMIT_EXCEEDED if it is too
/// large.
async fn payload(cost: &cost::Request, live: &Live, response: Response) -> Result<Payload, Refusal> {
    large::run(cost.response_bytes(), || {
        let begun = Instant::now();
        let payload = cost::answer::write(cost, &response).map(text);
        drop(response);
        live.take(begun.elapsed());
        payload
    })
    .await
}

/// JSON is always valid UTF-8.
pub(super) fn text(bytes: Vec<u8>) -> Payload {
    Arc::from(String::from_utf8_lossy(&bytes))
}

/// Writes the outcome of each root field that has not written its own audit entry.
async fn note(app: &App, entries: &AuditEntries, response: Option<&Response>) {
    for entry in entries.0.iter().filter(|entry| !entry.is_committed()) {
        let is_own =
            |error: &&ServerError| matches!(error.path.first(), Some(PathSegment::Field(name)) if *name == entry.alias);
        let error = response.and_then(|response| response.errors.iter().find(is_own));
        let code = error.and_then(|error| match error.extensions.as_ref()?.get("code")? {
            GraphqlValue::String(code) => Some(code.as_str()),
            _ => None,
        });
        let (outcome, code) = match (response, error, code) {
            // Not executed at all: the document was invalid, or an earlier field failed.
            (Some(response), None, _) if response.data == GraphqlValue::Null => {
                (AuditOutcome::Refused, Some("BAD_USER_INPUT"))
            }
            (Some(_), None, _) => (AuditOutcome::Nothing, None),
            (None, ..) | (_, _, Some("INTERNAL")) => (AuditOutcome::Failed, Some("INTERNAL")),
            (_, _, Some("UNAVAILABLE")) => (AuditOutcome::Failed, Some("UNAVAILABLE")),
            (_, _, code) => (AuditOutcome::Refused, code),
        };
        // Workers poll every second; a poll without a result is not recorded.
        if outcome == AuditOutcome::Nothing && entry.is_poll() {
            continue;
        }
        if let Err(err) = audit::record(&app.db, entry, outcome, code).await {
            log_failure!(error, err, "the audit log could not be written");
        }
    }
}

/// Guard of a waiting client; its flag is set when the client is gone.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Aborts a task on drop.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn too_long() -> RequestError {
    let message = format!("the query took longer than {} s: request less at once", limits::QUERY_TIME.as_secs());
    RequestError::new(Kind::Http(axum::http::StatusCode::SERVICE_UNAVAILABLE), "TIMEOUT", message)
}

/// The error of a panic, whose own message and location are on standard error.
fn panicked() -> RequestError {
    RequestError::internal("a resolver panicked")
}
