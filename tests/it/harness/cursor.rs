//! Cursors of the log, as tests encode and decode them for any org.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A cursor in the old format, without the log's name; it is still accepted.
pub fn at(position: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("event:{position}"))
}

/// The position in a cursor.
pub fn position(cursor: &str) -> i64 {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    text.rsplit(':').next().unwrap().parse().unwrap()
}
