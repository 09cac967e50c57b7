//! Events about messages.

use entity::communication::{CommunicationStatus, Model};
use entity::run;
use serde_json::json;

use crate::kernel::db::Tx;
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;

/// Appends an event about a message.
pub(crate) fn emit(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    kind: &str,
    row: &Model,
    from: CommunicationStatus,
    reason: Option<&str>,
) {
    let payload = json!({
        "from": from,
        "to": row.status,
        "reason": reason,
        "communicationId": row.id,
        "channel": row.channel,
        "test": row.test,
    });
    event::append(tx, Event::new(row.org_id, kind, &viewer.actor()).run(run).record(row.record_id).payload(payload));
}

/// Emits the event that a message goes to another address than the one it was drafted for.
pub(crate) fn emit_readdressed(tx: &Tx, viewer: &Viewer, run: &run::Model, row: &Model) {
    let payload = json!({ "communicationId": row.id, "channel": row.channel, "test": row.test });
    let event = Event::new(row.org_id, "communication.readdressed", &viewer.actor());
    event::append(tx, event.run(run).record(row.record_id).payload(payload));
}
