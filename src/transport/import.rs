//! `POST /import/records?kind=lead`: streams a CSV from the network into the database, and responds
//! with the import's report.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use entity::AuditOutcome;
use entity::member::Role;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use super::App;
use super::accept::Type;
use super::body;
use super::error::{Kind, RequestError};
use super::origin::Peer;
use super::response::refuse;
use super::sse::{parameter, parameters};
use super::uploads::UploadPermit;
use crate::domain::import::{Options, Problem, import_with};
use crate::graphql::role;
use crate::kernel::audit::Entry;
use crate::kernel::error::Error;
use crate::kernel::{audit, limits, validate};

/// Imports a file. Requires a role that may define (`importRecords` in the table).
pub async fn records(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    body: Body,
) -> Response {
    match import(&app, peer, &headers, query.as_deref(), body).await {
        Ok(report) => (StatusCode::OK, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], report.to_string())
            .into_response(),
        Err(error) => refuse(Type::Graphql, &error),
    }
}

async fn import(
    app: &App,
    peer: Peer,
    headers: &HeaderMap,
    query: Option<&str>,
    body: Body,
) -> Result<Value, RequestError> {
    let principal = app.principal(peer, headers).await?;
    let kind = parameter(query, "kind")
        .ok_or_else(|| RequestError::malformed("`kind` is missing: /import/records?kind=lead").of_field("kind"))?;
    let charset = content_type(headers).split(';').skip(1).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    });
    let options = Options {
        kind,
        file: parameter(query, "file").unwrap_or_else(|| "upload.csv".into()),
        map: parameters(query, "map"),
        types: parameters(query, "types"),
        delimiter: parameter(query, "delimiter"),
        encoding: parameter(query, "encoding").or(charset),
        decimal: parameter(query, "decimal"),
        dates: parameter(query, "dates"),
        region: parameter(query, "region").or_else(|| app.phone_region.clone()),
    };
    if let Some(unknown) = names(query).into_iter().find(|name| !PARAMETERS.contains(&name.as_str())) {
        let message =
            format!("unknown parameter `{}`: allowed are {}", validate::printable(&unknown), PARAMETERS.join(", "));
        return Err(RequestError::malformed(&message).of_field(&validate::printable(&unknown)));
    }
    let mut input = json!({ "kind": options.kind, "file": options.file });
    for (name, value) in [("map", &options.map), ("types", &options.types)] {
        if !value.is_empty() {
            input[name] = json!(value);
        }
    }
    let address = principal.address.to_string();
    let entry = Arc::new(Entry::new(&principal.viewer, address, "", "importRecords", &input));
    let done = check(&principal.viewer, headers);
    let done = match done {
        Ok(()) => match app.uploads.begin(&principal) {
            Ok(permit) => read(app, &principal.viewer, entry.clone(), options, body, permit).await,
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = &done
        && !entry.is_committed()
    {
        let outcome = if error.kind == Kind::Internal { AuditOutcome::Failed } else { AuditOutcome::Refused };
        if let Err(err) = audit::record(&app.db, &entry, outcome, Some(error.code())).await {
            log_failure!(error, err, "the audit log could not be written");
        }
    }
    done
}

fn check(viewer: &crate::kernel::viewer::Viewer, headers: &HeaderMap) -> Result<(), RequestError> {
    role::require_role(viewer, Role::Manager, "importRecords")?;
    match content_type(headers).split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "text/csv" | "text/plain" | "text/tab-separated-values" => body::require_plain(headers),
        _ => Err(RequestError::new(
            Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE),
            "BAD_USER_INPUT",
            "`Content-Type` must be text/csv, text/plain or text/tab-separated-values",
        )
        .of_field("Content-Type")),
    }
}

/// The parameters of the URL.
const PARAMETERS: [&str; 9] = ["kind", "file", "map", "types", "delimiter", "encoding", "region", "decimal", "dates"];

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn names(query: Option<&str>) -> Vec<String> {
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.map(|(name, _)| name.into_owned()).filter(|name| !name.is_empty()).collect()
}

/// Reads and imports the file. The CSV reader is not async, so it gets a thread of its own, outside
/// of the pool, to which the body's chunks are sent.
async fn read(
    app: &App,
    viewer: &crate::kernel::viewer::Viewer,
    entry: Arc<Entry>,
    options: Options,
    body: Body,
    permit: UploadPermit,
) -> Result<Value, RequestError> {
    let (chunks, queue) = channel();
    let room = Arc::new(Semaphore::new(CHUNKS));
    let (reported, report) = oneshot::channel();
    let (db, viewer) = (app.db.write().with_audit_entry(Some(entry)), viewer.clone());
    let runtime = tokio::runtime::Handle::current();
    let reader_room = room.clone();
    let work = move || {
        let mut problems: Vec<Problem> = Vec::new();
        let more = |_: &entity::import::Model, found: &[Problem]| {
            let room = limits::IMPORT_PROBLEMS_TOLD.saturating_sub(problems.len());
            problems.extend(found.iter().take(room).cloned());
        };
        let source = ChunkReader { queue, left: Bytes::new(), room: reader_room };
        let report = runtime.block_on(import_with(&db, &viewer, &options, source, more));
        drop(permit);
        // The client may have disconnected.
        let _ = reported.send(report.map(|report| (report, problems)));
    };
    std::thread::Builder::new().name("import".into()).spawn(work).map_err(RequestError::internal)?;
    let sent = send(body, app.client_time, chunks, &room).await;
    let (report, problems) = match (report.await, sent) {
        (Ok(Ok(done)), Ok(())) => done,
        (_, Err(error)) => return Err(error),
        (Ok(Err(Error::Refused(refusal))), _) => return Err(refusal.into()),
        (Ok(Err(err)), _) if err.is_unreachable() => return Err(err.into()),
        (Ok(Err(err)), _) => {
            return Err(RequestError::internal(format_args!("an import failed: {err}")));
        }
        (Err(err), _) => return Err(RequestError::internal(err)),
    };
    let problems: Vec<Value> = problems
        .into_iter()
        .map(|found| json!({ "line": found.line, "column": found.column, "value": found.value, "why": found.why }))
        .collect();
    Ok(json!({
        "id": report.id, "kind": report.kind, "file": report.file, "status": report.status, "rows": report.rows,
        "created": report.created, "updated": report.updated, "unchanged": report.unchanged, "bad": report.bad,
        "fieldsLeftOut": report.fields_left_out, "failure": report.failure, "columns": report.columns,
        "warnings": report.warnings, "problems": problems,
    }))
}

/// A chunk of the file; `None` at its end.
type Chunk = std::io::Result<Option<Bytes>>;

/// Maximum number of chunks that wait for the reader.
const CHUNKS: usize = 4;

async fn send(body: Body, patience: Duration, chunks: Sender<Chunk>, room: &Semaphore) -> Result<(), RequestError> {
    let mut body = body::BodyChunks::new(body, patience);
    loop {
        let (chunk, error) = match body.next().await {
            Ok(chunk) => (Ok(chunk), None),
            Err(error) => (Err(ended()), Some(error)),
        };
        let last = !matches!(chunk, Ok(Some(_)));
        // The permit is returned when the chunk is read. A reader that ends before the file closes
        // the semaphore, and its own result says why.
        let Ok(permit) = room.acquire().await else { return Ok(()) };
        permit.forget();
        let sent = chunks.send(chunk);
        match error {
            Some(error) => return Err(error),
            None if last || sent.is_err() => return Ok(()),
            None => {}
        }
    }
}

fn ended() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "the upload was cut short")
}

/// The received chunks as a blocking reader.
struct ChunkReader {
    queue: Receiver<Chunk>,
    left: Bytes,
    room: Arc<Semaphore>,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            let chunk = self.queue.recv().map_err(|_| ended())?;
            self.room.add_permits(1);
            match chunk? {
                Some(chunk) => self.left = chunk,
                None => return Ok(0),
            }
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.left.split_to(count));
        Ok(count)
    }
}

impl Drop for ChunkReader {
    fn drop(&mut self) {
        self.room.close();
    }
}
