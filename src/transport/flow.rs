//! An operation on its way: executed in one piece, or item by item. What goes wrong is told, a panic, too.

use std::panic::AssertUnwindSafe;

use async_graphql::parser::types::OperationType;
use async_graphql::{PathSegment, Request, Response, ServerError, Value as GraphqlValue};
use entity::AuditOutcome;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::parsed::Parsed;
use super::told::{Kind, Told};
use super::{Admitted, Again, App};
use crate::graphql::once::Entries;
use crate::{audit, limits};

/// Executes a query or a mutation.
///
/// A query ends with whoever waits for it, or when its time is over; a mutation always comes to its own end.
pub async fn execute(app: &App, admitted: Admitted) -> Result<Response, Told> {
    let (kind, way, span) = (admitted.operation.kind.to_string(), admitted.way, admitted.span.clone());
    let begun = std::time::Instant::now();
    let done = finish(app, admitted).await;
    let outcome = match &done {
        Ok(response) if response.is_ok() => "OK".to_owned(),
        Ok(response) => Told::errors(&response.errors).code().to_owned(),
        Err(told) => told.code().to_owned(),
    };
    span.record("outcome", outcome.as_str());
    metrics::histogram!("sortie_request_seconds", "kind" => kind.clone()).record(begun.elapsed());
    metrics::counter!("sortie_requests_total", "way" => way, "kind" => kind, "outcome" => outcome).increment(1);
    done
}

async fn finish(app: &App, admitted: Admitted) -> Result<Response, Told> {
    let (all, request, entries) = (app.clone(), admitted.request, admitted.entries);
    let is_query = admitted.operation.kind == OperationType::Query;
    let (parsed, again) = (admitted.parsed, admitted.again);
    let work = async move {
        if is_query {
            return timeout(limits::QUERY_TIME, query(&all, &parsed, request, again)).await.ok();
        }
        let work = all.schema.execute(request);
        let done = AssertUnwindSafe(work).catch_unwind().await;
        note(&all, &entries, done.as_ref().ok()).await;
        match done {
            Ok(response) => Some(response),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    };
    let work = tokio::spawn(work.instrument(admitted.span));
    let _ended = is_query.then(|| Ended(work.abort_handle()));
    match work.await {
        Ok(Some(response)) => Told::of(&response).map_or(Ok(response), Err),
        Ok(None) => Err(too_long()),
        Err(_) => Err(panicked()),
    }
}

/// A document that was found valid is not validated again. What variables hold is then judged where they are used: where
/// that finds fault it is told as the validation tells it, so that an answer does not depend on who asked before.
async fn query(app: &App, parsed: &Parsed, request: Request, again: Option<Again>) -> Response {
    let Some(again) = again else {
        let response = app.schema.execute(request).await;
        if Told::of(&response).is_none() {
            parsed.was_valid();
        }
        return response;
    };
    let response = app.quick.execute(request).await;
    let by_executor = |error: &ServerError| error.extensions.as_ref().is_none_or(|of| of.get("code").is_none());
    if response.errors.iter().any(by_executor) {
        app.schema.execute(again.request(app, parsed)).await
    } else {
        response
    }
}

/// Executes whatever it is, item by item; an error is the last item.
pub fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Result<Response, Told>> {
    if admitted.operation.kind != OperationType::Subscription {
        let app = app.clone();
        return stream::once(async move { execute(&app, admitted).await }).boxed();
    }
    let (way, kind) = (admitted.way, admitted.operation.kind.to_string());
    metrics::counter!("sortie_requests_total", "way" => way, "kind" => kind, "outcome" => "OK").increment(1);
    let responses = app.schema.execute_stream(admitted.request);
    stream::unfold(Some((responses, true)), |state| async move {
        let (mut responses, first) = state?;
        match AssertUnwindSafe(responses.next()).catch_unwind().await {
            Ok(Some(response)) => match Told::of_source(&response).filter(|_| first) {
                Some(told) => Some((Err(told), None)),
                None => Some((Ok(response), Some((responses, false)))),
            },
            Ok(None) => None,
            Err(_) => Some((Err(panicked()), None)),
        }
    })
    .boxed()
}

/// Has the audit tell what became of each root field that did not write itself down in what it did.
async fn note(app: &App, entries: &Entries, response: Option<&Response>) {
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
            (_, _, code) => (AuditOutcome::Refused, code),
        };
        if let Err(err) = audit::note(&app.db, entry, outcome, code).await {
            tracing::error!(error = %err, "the audit could not be written");
        }
    }
}

/// Ends the work when nobody waits for it any more.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn too_long() -> Told {
    let told = format!("the query took longer than {} s: ask for less at once", limits::QUERY_TIME.as_secs());
    Told::new(Kind::Http(axum::http::StatusCode::SERVICE_UNAVAILABLE), "TIMEOUT", told)
}

/// The panic itself, with its place, went to standard error.
fn panicked() -> Told {
    Told::ours("a resolver panicked")
}
