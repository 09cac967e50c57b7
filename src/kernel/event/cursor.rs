//! Cursors of the event log: a position, and the org whose log it belongs to.
//!
//! Every place that takes a cursor rejects one that the log can't resume from: a follower that
//! began beyond the log's end would be silent until the log gets there.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::OrgId;

use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// The cursor for a position.
pub fn cursor(org_id: OrgId, position: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("event:{}:{position}", tag(org_id)))
}

/// Decodes a cursor, without checking it against the log. Errors: BAD_USER_INPUT.
pub fn position_of(org_id: OrgId, field: &str, cursor: &str) -> Result<i64> {
    let foreign = || {
        let message =
            "not a cursor of the event log: take that of an event, an edge or `pageInfo.endCursor` of `events`";
        Refusal::input(field, format!("{message}; leave it out if you have none"))
    };
    let text =
        URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(foreign)?;
    let rest = text.strip_prefix("event:").ok_or_else(foreign)?;
    let position = match rest.split_once(':') {
        Some((of, _)) if of != tag(org_id) => {
            return Err(Refusal::input(field, "this cursor belongs to the log of another org").into());
        }
        Some((_, position)) => position,
        // The older form, without the org.
        None => rest,
    };
    let plain = position.bytes().all(|b| b.is_ascii_digit()).then(|| position.parse().ok()).flatten();
    Ok(plain.ok_or_else(foreign)?)
}

/// The position to resume from. Errors: BAD_USER_INPUT, including a position beyond the log's end,
/// as after restoring a backup that is older than the cursor.
pub async fn resume(db: &Db, viewer: &Viewer, field: &str, cursor: &str) -> Result<i64> {
    let position = position_of(viewer.org_id, field, cursor)?;
    within(db, viewer, field, position).await?;
    Ok(position)
}

/// Rejects a position beyond the log's end.
pub async fn within(db: &Db, viewer: &Viewer, field: &str, position: i64) -> Result<()> {
    if position > super::head(db, viewer).await? {
        let message = "this cursor lies beyond the end of the log: the database was restored from a backup that is older, or \
                    it is another one. Reload the data that you show, and start without a cursor";
        return Err(Refusal::input(field, message).with("reason", serde_json::json!("BEYOND_END")).into());
    }
    Ok(())
}

/// The last characters of the org's id, which are random.
fn tag(org_id: OrgId) -> String {
    let text = org_id.0.simple().to_string();
    text[text.len() - 8..].to_owned()
}
