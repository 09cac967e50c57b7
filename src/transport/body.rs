//! Bodies of requests: read when it is known who sends them, within a time, at a least rate, and counted while they are in
//! memory.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::StatusCode;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::App;
use super::address_limits::BufferedBytes;
use super::auth::Principal;
use super::error::{Kind, RequestError};
use crate::kernel::limits;

/// A body that is whole, counted until this is dropped.
#[derive(Debug)]
pub struct BufferedBody {
    /// What came.
    pub bytes: Bytes,
    /// Its share of what is under way.
    pub load: BufferedBytes,
}

/// Reads a body of at most `limits::BODY_BYTES`.
pub async fn whole(app: &App, principal: &Principal, body: Body) -> Result<BufferedBody, RequestError> {
    if body.size_hint().lower() > limits::BODY_BYTES as u64 {
        return Err(too_large());
    }
    let mut load = app.load(principal.address);
    let mut pieces = BodyChunks::new(body, app.client_time);
    let read = async {
        // Most bodies come in one piece, which is not copied.
        let mut first = Bytes::new();
        let mut all: Vec<u8> = Vec::new();
        while let Some(piece) = pieces.next().await? {
            load.add(piece.len())?;
            if load.came() > limits::BODY_BYTES {
                return Err(too_large());
            }
            if first.is_empty() {
                first = piece;
            } else {
                if all.is_empty() {
                    all.extend_from_slice(&first);
                }
                all.extend_from_slice(&piece);
            }
        }
        Ok(if all.is_empty() { first } else { all.into() })
    };
    let bytes = timeout(app.client_time, read).await.unwrap_or_else(|_| Err(too_slow()))?;
    Ok(BufferedBody { bytes, load })
}

/// The pieces of a body, which come at a least rate: in all it may be waited for them for `patience`, and a second longer
/// for each `limits::BODY_RATE` bytes that came. The time that the reader takes itself does not count.
#[derive(Debug)]
pub struct BodyChunks {
    body: BodyDataStream,
    patience: Duration,
    waited: Duration,
    came: u64,
}

impl BodyChunks {
    /// The pieces of a body.
    pub fn new(body: Body, patience: Duration) -> Self {
        Self { body: body.into_data_stream(), patience, waited: Duration::ZERO, came: 0 }
    }

    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RequestError> {
        let most = self.patience + Duration::from_secs(self.came / limits::BODY_RATE);
        let begun = Instant::now();
        let piece = timeout(most.saturating_sub(self.waited).min(self.patience), self.body.next()).await;
        self.waited += begun.elapsed();
        match piece {
            Ok(Some(Ok(piece))) => {
                self.came += piece.len() as u64;
                Ok(Some(piece))
            }
            Ok(Some(Err(_))) => Err(RequestError::malformed("the body ended too early")),
            Ok(None) => Ok(None),
            Err(_) => Err(too_slow()),
        }
    }
}

fn too_large() -> RequestError {
    let told = format!("the body is larger than {} bytes", limits::BODY_BYTES);
    RequestError::new(Kind::Http(StatusCode::PAYLOAD_TOO_LARGE), "LIMIT_EXCEEDED", told)
}

fn too_slow() -> RequestError {
    RequestError::new(Kind::Http(StatusCode::REQUEST_TIMEOUT), "TIMEOUT", "the body did not come in time")
}
