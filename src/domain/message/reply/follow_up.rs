//! Follow-ups for replies that no step handles, and the events of all follow-ups.

use entity::follow_up::{ActiveModel, Model};
use entity::id::*;
use entity::{Actor, FollowUpStatus, communication, reply, run};
use sea_orm::{ActiveModelTrait, Set};
use serde_json::{Value, json};

use crate::kernel::db::Tx;
use crate::kernel::error::Result;
use crate::kernel::event::{self, Event};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Creates a follow-up for a reply that no step of its run handles any more, so that somebody sees
/// it. The run must be locked.
pub(crate) async fn create(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    message: &communication::Model,
    reply: &reply::Model,
) -> Result<()> {
    let from = if message.to_name.is_empty() { &message.to_address } else { &message.to_name };
    let title: String = format!("Handle the reply from {from}").chars().take(limits::NAME_CHARS).collect();
    let row = ActiveModel {
        id: Set(FollowUpId::new()),
        org_id: Set(run.org_id),
        run_id: Set(run.id),
        step_id: Set(message.step_id),
        record_id: Set(reply.record_id),
        title: Set(title),
        note: Set(reply.body.chars().take(limits::TEXT_CHARS).collect()),
        due_at: Set(None),
        assignee_id: Set(None),
        status: Set(FollowUpStatus::Open),
        overdue_at: Set(None),
        closed_at: Set(None),
        closed_by: Set(None),
        created_by: Set(viewer.actor()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let found = row.insert(tx.db()).await?;
    emit(tx, &viewer.actor(), "follow_up.created", run, &found, json!({ "from": null, "replyId": reply.id }));
    Ok(())
}

/// Appends an event about a follow-up.
pub(crate) fn emit(tx: &Tx, actor: &Actor, kind: &str, run: &run::Model, found: &Model, mut payload: Value) {
    if payload.get("from").is_some() {
        payload["to"] = json!(found.status);
    }
    payload["id"] = json!(found.id);
    payload["followUpId"] = json!(found.id);
    payload["title"] = json!(found.title);
    payload["dueAt"] = json!(found.due_at);
    payload["assigneeId"] = json!(found.assignee_id);
    event::append(tx, Event::new(found.org_id, kind, actor).run(run).record(found.record_id).payload(payload));
}
