//! Reads request bodies. They are read after authentication, with a timeout and a minimum rate, and
//! counted while they are in memory.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use futures_util::StreamExt;
use mediatype::{MediaType, ReadParams, names};
use tokio::time::{Instant, timeout};

use super::App;
use super::address_limits::BufferedBytes;
use super::auth::Principal;
use super::error::{Kind, RequestError};
use super::request::GraphqlRequest;
use crate::kernel::limits;

/// A complete body, counted until it is dropped.
#[derive(Debug)]
pub struct BufferedBody {
    /// The body's bytes.
    pub bytes: Bytes,
    /// The count of the body's bytes.
    pub load: BufferedBytes,
}

/// Reads a body of at most `limits::BODY_BYTES`.
pub async fn whole(app: &App, principal: &Principal, body: Body) -> Result<BufferedBody, RequestError> {
    if body.size_hint().lower() > limits::BODY_BYTES as u64 {
        return Err(too_large());
    }
    let mut load = app.load(principal);
    let mut chunks = BodyChunks::new(body, app.client_time);
    let read = async {
        // Most bodies arrive in one chunk, which is not copied.
        let mut first = Bytes::new();
        let mut all: Vec<u8> = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            load.add(chunk.len())?;
            if load.received() > limits::BODY_BYTES {
                return Err(too_large());
            }
            if first.is_empty() {
                first = chunk;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&chunk);
            }
        }
        Ok(if all.is_empty() { first } else { all.into() })
    };
    let bytes = timeout(app.client_time, read).await.unwrap_or_else(|_| Err(too_slow()))?;
    Ok(BufferedBody { bytes, load })
}

/// Reads a request from a JSON body. Pages of other origins can't send JSON without a CORS
/// preflight. The count of its bytes is returned with it, to be held while the request is
/// processed.
pub(super) async fn graphql_request(
    app: &App,
    principal: &Principal,
    headers: &HeaderMap,
    body: Body,
) -> Result<(GraphqlRequest, BufferedBytes), RequestError> {
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = MediaType::parse(content).ok().filter(|media| {
        let utf8 = media
            .params()
            .all(|(name, value)| name != names::CHARSET || value.unquoted_str().eq_ignore_ascii_case("utf-8"));
        (media.ty, media.subty, media.suffix) == (names::APPLICATION, names::JSON, None) && utf8
    });
    if media.is_none() {
        let message = "`Content-Type` must be application/json, in UTF-8";
        let kind = Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        return Err(RequestError::new(kind, "BAD_USER_INPUT", message).of_field("Content-Type"));
    }
    require_plain(headers)?;
    let whole = whole(app, principal, body).await?;
    let (request, held) = app.read_json(principal, whole.bytes, GraphqlRequest::of_bytes).await?;
    Ok((GraphqlRequest { held, ..request? }, whole.load))
}

/// Rejects a body that is compressed (415): nothing here decompresses, since few bytes could become
/// very many.
pub fn require_plain(headers: &HeaderMap) -> Result<(), RequestError> {
    let is_plain =
        |value: &HeaderValue| value.to_str().is_ok_and(|value| value.trim().eq_ignore_ascii_case("identity"));
    let transfer = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut transfer = transfer.flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim);
    let is_chunked = transfer.next().is_none_or(|first| first.eq_ignore_ascii_case("chunked"));
    let (field, message) = if !headers.get_all(header::CONTENT_ENCODING).iter().all(is_plain) {
        ("Content-Encoding", "`Content-Encoding` is not supported: send the body uncompressed, without this header")
    } else if !is_chunked || transfer.next().is_some() {
        ("Transfer-Encoding", "`Transfer-Encoding` must be `chunked`: send the body uncompressed")
    } else {
        return Ok(());
    };
    let kind = Kind::Http(StatusCode::UNSUPPORTED_MEDIA_TYPE);
    Err(RequestError::new(kind, "BAD_USER_INPUT", message).of_field(field))
}

/// The chunks of a body, which must arrive at a minimum rate. The total wait for them is limited to
/// `patience`, plus a second for each `limits::BODY_RATE` bytes received. The reader's own time
/// does not count.
#[derive(Debug)]
pub struct BodyChunks {
    body: BodyDataStream,
    patience: Duration,
    waited: Duration,
    received: u64,
}

impl BodyChunks {
    /// Creates the reader of a body.
    pub fn new(body: Body, patience: Duration) -> Self {
        Self { body: body.into_data_stream(), patience, waited: Duration::ZERO, received: 0 }
    }

    /// The next chunk; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        let most = self.patience + Duration::from_secs(self.received / limits::BODY_RATE);
        let begun = Instant::now();
        let chunk = timeout(most.saturating_sub(self.waited).min(self.patience), self.body.next()).await;
        self.waited += begun.elapsed();
        match chunk {
            Ok(Some(Ok(chunk))) => {
                self.received += chunk.len() as u64;
                Ok(Some(chunk))
            }
            Ok(Some(Err(_))) => Err(RequestError::malformed("the body ended too early").of_field("body")),
            Ok(None) => Ok(None),
            Err(_) => Err(too_slow()),
        }
    }
}

fn too_large() -> RequestError {
    let message = format!("the body is larger than {} bytes", limits::BODY_BYTES);
    RequestError::new(Kind::Http(StatusCode::PAYLOAD_TOO_LARGE), "LIMIT_EXCEEDED", message).of_field("body")
}

fn too_slow() -> RequestError {
    RequestError::new(Kind::Http(StatusCode::REQUEST_TIMEOUT), "TIMEOUT", "the body did not arrive in time")
}
