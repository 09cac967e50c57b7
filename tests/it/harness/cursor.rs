//! Cursors of the log as tests make and read them, of whichever org.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One of a position, as they were before they named their log: they are taken still.
pub fn at(position: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("event:{position}"))
}

/// The position of one.
pub fn position(cursor: &str) -> i64 {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    text.rsplit(':').next().unwrap().parse().unwrap()
}
