//! Cursors of the log: a position, and whose log it is of. A cursor that the log can't go on from is refused, in every place
//! that takes one: a follower that began behind the log's end would be silent for as long as the log takes to get there.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entity::id::OrgId;

use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// A position as clients carry it.
pub fn cursor(org_id: OrgId, position: i64) -> String {
    URL_SAFE_NO_PAD.encode(format!("event:{}:{position}", tag(org_id)))
}

/// The position that a client's cursor stands for, as far as the cursor alone tells it. Errors: BAD_USER_INPUT.
pub fn position_of(org_id: OrgId, field: &str, cursor: &str) -> Result<i64> {
    let foreign = || {
        let told =
            "this is no cursor of the event log, like that of an event, an edge or `pageInfo.endCursor` of `events`";
        Refusal::input(field, format!("{told}; leave it out to begin anew"))
    };
    let text =
        URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(foreign)?;
    let rest = text.strip_prefix("event:").ok_or_else(foreign)?;
    let position = match rest.split_once(':') {
        Some((of, _)) if of != tag(org_id) => {
            return Err(Refusal::input(field, "this is a cursor of another organisation's log").into());
        }
        Some((_, position)) => position,
        // As they were made before they named their log.
        None => rest,
    };
    let plain = position.bytes().all(|b| b.is_ascii_digit()).then(|| position.parse().ok()).flatten();
    Ok(plain.ok_or_else(foreign)?)
}

/// The position to go on from. Errors: BAD_USER_INPUT, also for one beyond the log's end: of a log that was restored from a
/// backup that is older than the cursor.
pub async fn resume(db: &Db, viewer: &Viewer, field: &str, cursor: &str) -> Result<i64> {
    let position = position_of(viewer.org_id, field, cursor)?;
    within(db, viewer, field, position).await?;
    Ok(position)
}

/// Refuses a position beyond the log's end.
pub async fn within(db: &Db, viewer: &Viewer, field: &str, position: i64) -> Result<()> {
    if position > super::head(db, viewer).await? {
        let told = "this cursor lies beyond the end of the log: the database was restored from a backup that is older, or \
                    it is another one. Read anew what you show, and begin without it";
        return Err(Refusal::input(field, told).with("reason", serde_json::json!("BEYOND_END")).into());
    }
    Ok(())
}

/// The end of the org's id, which is random.
fn tag(org_id: OrgId) -> String {
    let text = org_id.0.simple().to_string();
    text[text.len() - 8..].to_owned()
}
