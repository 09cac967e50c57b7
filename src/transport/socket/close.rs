//! The codes with which a socket is closed.

use crate::transport::error::{Kind, RequestError};

/// A close code of the protocol, and a reason of under 100 bytes.
pub(super) type Close = (u16, &'static str);

/// The close code of a client that violates the WebSocket protocol itself (RFC 6455, 7.4.1); `None`
/// if the connection has failed. The library's error has no type that axum would show.
pub(super) fn violation(error: &str) -> Option<Close> {
    if error.ends_with("without closing handshake") {
        return None;
    }
    let codes = [
        ("WebSocket protocol error", (1002, "a frame violates the WebSocket protocol")),
        ("UTF-8 encoding error", (1007, "a text message is not UTF-8")),
        ("Space limit exceeded", (1009, "a message is too long")),
    ];
    codes.into_iter().find(|(begins, _)| error.starts_with(begins)).map(|(_, close)| close)
}

/// The close code of a failed login. An internal or temporary error is not a rejection of the
/// client.
pub(super) fn forbidden(error: RequestError) -> Close {
    match error.kind {
        Kind::Internal => (1011, "internal error"),
        _ if error.is_temporary() => (1013, "try again later"),
        _ => (4403, "Forbidden"),
    }
}
