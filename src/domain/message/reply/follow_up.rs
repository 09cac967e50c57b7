//! Follow-ups for replies that no step handles, and the rows and events of all follow-ups.

use chrono::{DateTime, Utc};
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

/// The fields of a new follow-up.
#[derive(Clone, Debug)]
pub struct FollowUpDraft {
    /// The step in which it is created, or that the reply is to.
    pub step_id: StepId,
    /// The record that it is about.
    pub record_id: Option<RecordId>,
    /// Title.
    pub title: String,
    /// Note.
    pub note: String,
    /// Due time.
    pub due_at: Option<DateTime<Utc>>,
    /// The member that it is assigned to.
    pub assignee: Option<MemberId>,
}

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
    let draft = FollowUpDraft {
        step_id: message.step_id,
        record_id: reply.record_id,
        title,
        note: reply.body.chars().take(limits::TEXT_CHARS).collect(),
        due_at: None,
        assignee: None,
    };
    insert(tx, viewer, run, draft, json!({ "replyId": reply.id })).await?;
    Ok(())
}

/// Inserts an open follow-up, with its event; `payload` is added to the event's.
pub(crate) async fn insert(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    draft: FollowUpDraft,
    mut payload: Value,
) -> Result<Model> {
    let row = ActiveModel {
        id: Set(FollowUpId::new()),
        org_id: Set(run.org_id),
        run_id: Set(run.id),
        step_id: Set(draft.step_id),
        record_id: Set(draft.record_id),
        title: Set(draft.title),
        note: Set(draft.note),
        due_at: Set(draft.due_at),
        assignee_id: Set(draft.assignee),
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
    payload["from"] = Value::Null;
    emit(tx, &viewer.actor(), "follow_up.created", run, &found, payload);
    Ok(found)
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
