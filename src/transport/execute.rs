//! An operation on its way: executed in one piece, or item by item. What goes wrong is told, a panic, too.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use async_graphql::parser::types::OperationType;
use async_graphql::{PathSegment, Request, Response, ServerError, Value as GraphqlValue};
use entity::AuditOutcome;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::error::{Kind, RequestError};
use super::{Admitted, App, shared};
use crate::graphql::batching;
use crate::graphql::idempotent::AuditEntries;
use crate::graphql::stream::LogScope;
use crate::kernel::cost::{self, CostAccount};
use crate::kernel::error::Refusal;
use crate::kernel::{audit, limits};

/// Executes a query or a mutation, and writes its answer.
///
/// A query ends with whoever waits for it, or when its time is over; a mutation always comes to its own end. What is of use
/// only to who gets the answer is undone where nobody does.
pub async fn execute(app: &App, admitted: Admitted) -> Result<Vec<u8>, RequestError> {
    let (kind, way, span) = (admitted.operation.kind.to_string(), admitted.way, admitted.span.clone());
    let (cost, is_query) = (admitted.cost.clone(), admitted.operation.kind == OperationType::Query);
    let begun = std::time::Instant::now();
    let done = finish(app, admitted).await;
    let has_data = done.as_ref().is_ok_and(|response| response.data != GraphqlValue::Null);
    let outcome = match &done {
        Ok(response) if response.is_ok() => "OK".to_owned(),
        Ok(response) => RequestError::errors(&response.errors).code().to_owned(),
        Err(told) => told.code().to_owned(),
    };
    let written =
        done.and_then(|response| cost::answer::write(&cost, &response).map_err(|refusal| over(&refusal, is_query)));
    if !has_data || written.is_err() {
        cost.undo().await;
    }
    span.record("outcome", outcome.as_str());
    metrics::histogram!("sortie_request_seconds", "kind" => kind.clone()).record(begun.elapsed());
    metrics::counter!("sortie_requests_total", "way" => way, "kind" => kind, "outcome" => outcome).increment(1);
    written
}

async fn finish(app: &App, admitted: Admitted) -> Result<Response, RequestError> {
    let (all, request, entries) = (app.clone(), admitted.request, admitted.entries);
    let is_query = admitted.operation.kind == OperationType::Query;
    let (cost, counted) = (admitted.cost.clone(), admitted.cost);
    let waits = Waits::default();
    let left = waits.0.clone();
    let work = async move {
        if is_query {
            let mut work = std::pin::pin!(batching::execute(&all.schema, request));
            // A query that is over is not executed to its end.
            let work = poll_fn(|cx| match (work.as_mut().poll(cx), cost::refusal()) {
                (_, Some(_)) => Poll::Ready(Response::default()),
                (answer, None) => answer,
            });
            return timeout(limits::QUERY_TIME, work).await.ok();
        }
        let work = batching::execute(&all.schema, request);
        let done = AssertUnwindSafe(work).catch_unwind().await;
        note(&all, &entries, done.as_ref().ok()).await;
        if left.load(Ordering::Relaxed)
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
    let _ended = is_query.then(|| Ended(work.abort_handle()));
    match work.await {
        Ok(_) if let Some(refusal) = cost.refusal() => Err(over(refusal, is_query)),
        Ok(Some(response)) if let Some(told) = RequestError::away_of(&response, is_query) => Err(told),
        Ok(Some(response)) => RequestError::of(&response).map_or(Ok(response), Err),
        Ok(None) => Err(too_long()),
        Err(_) => Err(panicked()),
    }
}

/// The refusal of a request that was ended. What a mutation did stands.
fn over(refusal: &Refusal, is_query: bool) -> RequestError {
    let mut refusal = refusal.clone();
    if !is_query {
        refusal.message += " (what the mutation did up to there stands)";
    }
    refusal.into()
}

/// An answer as it is written: JSON, shared by all whom it goes to.
pub type Payload = Arc<str>;

/// One item of an operation.
#[derive(Clone, Debug)]
pub struct Item {
    /// The answer; an error is the last.
    pub payload: Result<Payload, RequestError>,
    /// Where it stands in the log; none where it does not.
    pub position: Option<i64>,
    /// Behind which position to resume, if it can't be delivered.
    pub resume: Option<i64>,
    /// What it costs, as long as it waits for its reader; none where it is shared with others.
    pub held: Option<Arc<cost::Request>>,
}

/// Executes whatever it is, item by item; an error is the last item.
pub fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    if admitted.operation.kind != OperationType::Subscription {
        let app = app.clone();
        return stream::once(async move {
            let cost = admitted.cost.clone();
            let payload = execute(&app, admitted).await.map(text);
            Item { payload, position: None, resume: None, held: Some(cost) }
        })
        .boxed();
    }
    let (way, kind) = (admitted.way, admitted.operation.kind.to_string());
    metrics::counter!("sortie_requests_total", "way" => way, "kind" => kind, "outcome" => "OK").increment(1);
    let mut admitted = admitted;
    let presence = admitted.presence.take();
    let held = move |item| {
        let _ = &presence;
        item
    };
    shared::items(app, admitted).map(held).boxed()
}

/// Executes a subscription by itself; `place`, which the request carries, says how far it has come. Each item costs as a
/// request does, for whoever pays for it.
pub(super) fn alone(app: &App, request: Request, place: &LogScope, payer: CostAccount) -> BoxStream<'static, Item> {
    let responses = batching::stream(&app.schema, request);
    let (costs, live) = (app.costs.clone(), app.costs.live(payer.clone()));
    stream::unfold(Some((responses, place.clone(), costs, live, payer)), move |state| async move {
        let (mut responses, place, costs, live, payer) = state?;
        let cost = costs.item(&payer);
        let next = AssertUnwindSafe(live.paced(responses.next())).catch_unwind();
        let come = cost::within(cost.clone(), next).await;
        // Items are asked for one at a time: the place is that of this one.
        let (position, resume) = (place.now(), place.before());
        let (payload, last) = match come {
            Ok(_) if let Some(refusal) = cost.refusal() => (Err(refusal.clone().into()), true),
            Ok(Some(response)) => match RequestError::of_source(&response) {
                Some(told) => (Err(told), true),
                None => match payload(&cost, &response) {
                    Ok(payload) => (Ok(payload), false),
                    Err(refusal) => (Err(refusal.into()), true),
                },
            },
            Ok(None) => return None,
            Err(_) => (Err(panicked()), true),
        };
        let held = Some(cost);
        Some((Item { payload, position, resume, held }, (!last).then_some((responses, place, costs, live, payer))))
    })
    .boxed()
}

/// An answer as it is written. Errors: LIMIT_EXCEEDED where it is larger than it may be.
fn payload(cost: &cost::Request, response: &Response) -> Result<Payload, Refusal> {
    cost::answer::write(cost, response).map(text)
}

/// JSON is text.
fn text(bytes: Vec<u8>) -> Payload {
    Arc::from(String::from_utf8_lossy(&bytes))
}

/// Has the audit tell what became of each root field that did not write itself down in what it did.
async fn note(app: &App, entries: &AuditEntries, response: Option<&Response>) {
    for entry in entries.0.iter().filter(|entry| !entry.is_noted()) {
        let of =
            |error: &&ServerError| matches!(error.path.first(), Some(PathSegment::Field(name)) if *name == entry.alias);
        let error = response.and_then(|response| response.errors.iter().find(of));
        let code = error.and_then(|error| match error.extensions.as_ref()?.get("code")? {
            GraphqlValue::String(code) => Some(code.as_str()),
            _ => None,
        });
        let (outcome, code) = match (response, error, code) {
            // Not executed at all: the document was at fault, or an earlier field.
            (Some(response), None, _) if response.data == GraphqlValue::Null => {
                (AuditOutcome::Refused, Some("BAD_USER_INPUT"))
            }
            (Some(_), None, _) => (AuditOutcome::Nothing, None),
            (None, ..) | (_, _, Some("INTERNAL")) => (AuditOutcome::Failed, Some("INTERNAL")),
            (_, _, Some("UNAVAILABLE")) => (AuditOutcome::Failed, Some("UNAVAILABLE")),
            (_, _, code) => (AuditOutcome::Refused, code),
        };
        // Workers ask every second whether there is something to do: that there was not is nothing to keep.
        if outcome == AuditOutcome::Nothing && entry.is_poll() {
            continue;
        }
        if let Err(err) = audit::note(&app.db, entry, outcome, code).await {
            log_failure!(error, err, "the audit could not be written");
        }
    }
}

/// Somebody who waits for an answer; true once nobody does.
#[derive(Default)]
struct Waits(Arc<AtomicBool>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Ends the work when nobody waits for it any more.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn too_long() -> RequestError {
    let told = format!("the query took longer than {} s: ask for less at once", limits::QUERY_TIME.as_secs());
    RequestError::new(Kind::Http(axum::http::StatusCode::SERVICE_UNAVAILABLE), "TIMEOUT", told)
}

/// The panic itself, with its place, went to standard error.
fn panicked() -> RequestError {
    RequestError::ours("a resolver panicked")
}
