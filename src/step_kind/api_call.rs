//! `api_call`: sends one HTTP request, rendered from the step's settings. Parts of the response
//! become the step's result.

use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::definition::Span;
use entity::id::Id;
use entity::{run, step};
use futures_util::FutureExt;
use futures_util::future::join_all;
use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde_json::{Map, Value, json};

use super::batch_context::StepContext;
use super::{Claimed, Outcome, Work, batch_context};
use crate::channel::http_client::{Answer, HttpClient};
use crate::domain::content::templating;
use crate::domain::plan::run_template::kind;
use crate::domain::run::snapshot::RunSnapshot;
use crate::domain::run::step::judge;
use crate::kernel::budget::{self, EvaluationPool};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::{json_size, limits};

/// The kind `api_call`.
#[derive(Debug)]
pub struct ApiCall {
    /// The client for the calls.
    pub http_client: Arc<HttpClient>,
}

/// The rendered parts of a request.
struct Parts {
    url: String,
    headers: Vec<(String, String)>,
    body: Body,
}

enum Body {
    None,
    Text(String),
    Json(String),
}

fn parts(settings: &Value, values: &Map<String, Value>, until: Instant) -> std::result::Result<Parts, String> {
    let url = templating::text("url", settings["url"].as_str().unwrap_or_default(), values, until)?;
    let mut headers = Vec::new();
    for (name, value) in settings["headers"].as_object().into_iter().flatten() {
        headers.push((name.clone(), templating::text(name, value.as_str().unwrap_or_default(), values, until)?));
    }
    let body = match &settings["body"] {
        Value::Null => Body::None,
        Value::String(text) => Body::Text(templating::text("body", text, values, until)?),
        other => Body::Json(templating::filled("body", other, values, until)?.to_string()),
    };
    Ok(Parts { url, headers, body })
}

impl Work for ApiCall {
    type Outcome = ();
    const KIND: &'static str = kind::API_CALL;

    fn batch(&self) -> u64 {
        limits::CALL_BATCH
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<()>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(&'a self, db: &'a WriteContext, claimed: &'a [Claimed]) -> Result<Vec<super::Answer<'a, ()>>> {
        let batch = batch_context::of_batch(db, claimed).await?;
        // Concurrent, so that a slow call delays no other.
        let answers = (0..claimed.len()).map(|i| {
            let (claim, batch) = (&claimed[i], batch.clone());
            async move { self.one(db, claim, &batch[i]).await }.boxed()
        });
        Ok(answers.collect())
    }

    async fn record(&self, _: &Tx, _: &run::Model, _: &[(step::Model, &Outcome<()>)]) -> Result<()> {
        Ok(())
    }
}

impl ApiCall {
    async fn one(&self, db: &Db, claim: &Claimed, context: &StepContext) -> Outcome<()> {
        let snapshot: &RunSnapshot = &context.snapshot;
        let settings = batch_context::settings(snapshot, claim);
        // Secrets are part of the request only, and of nothing that is stored.
        let secrets = self.http_client.secrets(claim.run.org_id);
        let (owned, context) = (settings.clone(), context.clone());
        let org = Some(claim.run.org_id.uuid());
        let evaluated = budget::run_for(EvaluationPool::Engine, org, move |until| {
            Some(context.values()?.and_then(|mut values| {
                values.insert("secrets".into(), secrets);
                parts(&owned, &values, until)
            }))
        });
        let parts = match evaluated.await.map(Option::transpose) {
            Ok(Ok(Some(parts))) => Ok(parts),
            Ok(Err(why)) => Err(why),
            // All evaluation threads are busy, or the results were not read yet.
            Ok(Ok(None)) | Err(Error::Refused(_)) => return batch_context::not_yet(db),
            Err(err) => return Outcome::Failed { why: err.public_message(), retryable: true, after: None, data: None },
        };
        match parts.and_then(|parts| self.request(settings, parts, claim)) {
            Err(why) => Outcome::Failed { why, retryable: false, after: None, data: None },
            // A test makes no call: its result is the method and the URL as it is written.
            Ok((request, _)) if snapshot.test.is_some() => {
                let (method, url) = (request.method().as_str(), &settings["url"]);
                Outcome::Done { result: json!({ "rehearsed": true, "method": method, "url": url }), data: () }
            }
            Ok((request, time)) => self.call(settings, request, time).await,
        }
    }

    fn request(
        &self,
        settings: &Value,
        parts: Parts,
        claim: &Claimed,
    ) -> std::result::Result<(Request, Duration), String> {
        let method = settings["method"].as_str().unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes()).map_err(|err| err.to_string())?;
        let url = Url::parse(parts.url.trim()).map_err(|err| format!("url: {err}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err("url: the scheme must be http or https".into());
        }
        let mut request = self.http_client.client().request(method, url);
        // The receiver can tell a repetition after a crash from a second request.
        request = request.header("idempotency-key", claim.step.id.to_string());
        for (name, value) in parts.headers {
            let name = HeaderName::try_from(name).map_err(|err| format!("headers: {err}"))?;
            // Checked here, too, for templates saved before such headers were rejected.
            if kind::FRAMING.contains(&name.as_str()) {
                return Err(format!("headers: {name} is set by the server itself"));
            }
            let value = HeaderValue::try_from(value).map_err(|err| format!("headers: {err}"))?;
            request = request.header(name, value);
        }
        request = match parts.body {
            Body::None => request,
            Body::Text(text) => request.body(text),
            Body::Json(text) => request.header("content-type", "application/json").body(text),
        };
        let time =
            settings["timeout"].as_str().and_then(|text| text.parse().ok()).map_or(limits::CALL, |span: Span| span.0);
        Ok((request.build().map_err(|err| err.to_string())?, time))
    }

    async fn call(&self, settings: &Value, request: Request, time: Duration) -> Outcome<()> {
        let answer = match self.http_client.call(request, time, limits::CALL_BYTES).await {
            Ok(answer) => answer,
            Err(failed) => {
                return Outcome::Failed { why: failed.why, retryable: failed.retryable, after: None, data: None };
            }
        };
        let code = answer.status.as_u16();
        let expected = match settings["expect"].as_array() {
            Some(all) => all.iter().any(|one| one.as_u64() == Some(u64::from(code))),
            None => answer.status.is_success(),
        };
        if !expected {
            return refused(&answer);
        }
        let failed = |why: String| Outcome::Failed { why, retryable: false, after: None, data: None };
        let mut result = json!({ "status": code });
        if let Some(output) = settings["output"].as_object().filter(|output| !output.is_empty()) {
            if json_size::of_text(&answer.body) > limits::CALL_PARSED_BYTES {
                return failed(format!("the response takes more than {} bytes of memory", limits::CALL_PARSED_BYTES));
            }
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            for (name, pointer) in output {
                let found = pointer.as_str().and_then(|pointer| body.pointer(pointer)).cloned();
                match found {
                    Some(value) => result[name.as_str()] = value,
                    None => return failed(format!("the response has nothing at {pointer} for `{name}`")),
                }
                // Several outputs may each be the whole response.
                if let Err(why) = judge::check_size(&result) {
                    return failed(format!("the output taken from the response is too large: {why}"));
                }
            }
        }
        Outcome::Done { result, data: () }
    }
}

/// The outcome of an unexpected status; a temporary one is retried.
fn refused(answer: &Answer) -> Outcome<()> {
    let code = answer.status.as_u16();
    let retryable = answer.status.is_server_error() || matches!(code, 408 | 425 | 429);
    let text: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    let text = crate::kernel::validate::printable(text.trim());
    let why = if text.is_empty() { format!("it answered {code}") } else { format!("it answered {code}: {text}") };
    Outcome::Failed { why, retryable, after: answer.retry_after(), data: None }
}
