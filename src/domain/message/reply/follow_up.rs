//! Follow-ups for replies that no step handles, and the rows, transitions and events of all
//! follow-ups.

use chrono::{DateTime, Utc};
use entity::follow_up::{ActiveModel, COLUMN, Entity, FollowUpTransition, Model};
use entity::id::*;
use entity::reply::ReplyTransition;
use entity::{ActivityKind, Actor, FollowUpStatus, StateMachine, communication, reply, run};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set};
use serde_json::{Value, json};

use crate::domain::message::activity::{self, NewActivity};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
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
/// it, and returns the reply with it. The run must be locked.
pub(crate) async fn create(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    message: &communication::Model,
    reply: reply::Model,
) -> Result<reply::Model> {
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
    let created = insert(tx, viewer, run, draft, json!({ "replyId": reply.id })).await?;
    let mut row = reply.into_active_model();
    row.follow_up_id = Set(Some(created.id));
    Ok(row.update(tx.db()).await?)
}

/// Applies the transition that replies have gone through to those of their follow-ups whose status
/// has it.
pub(super) async fn follow(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    ids: impl Iterator<Item = FollowUpId>,
    transition: ReplyTransition,
) -> Result<()> {
    let ids: Vec<FollowUpId> = ids.collect();
    if ids.is_empty() {
        return Ok(());
    }
    let transition = match transition {
        ReplyTransition::Handle => FollowUpTransition::Complete,
        ReplyTransition::Ignore => FollowUpTransition::Cancel,
        ReplyTransition::Reopen => FollowUpTransition::Reopen,
    };
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(run.org_id))
        .filter(any_of(tx.dialect(), COLUMN.id, ids))
        .order_by_asc(COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?;
    for one in found {
        if let Some(to) = one.status.next(transition) {
            apply(tx, actor, run, one, transition, to).await?;
        }
    }
    Ok(())
}

/// Applies a transition to a follow-up that is locked, with its event, and for a completed one with
/// the activity.
pub(crate) async fn apply(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    found: Model,
    transition: FollowUpTransition,
    to: FollowUpStatus,
) -> Result<Model> {
    let (from, revision) = (found.status, found.revision);
    let mut row = found.into_active_model();
    row.status = Set(to);
    let open = to == FollowUpStatus::Open;
    row.closed_at = Set((!open).then_some(tx.now()));
    row.closed_by = Set((!open).then(|| actor.clone()));
    if open {
        // If it becomes overdue again, that is reported again.
        row.overdue_at = Set(None);
    }
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let found = row.update(tx.db()).await?;
    let kind = match transition {
        FollowUpTransition::Complete => "follow_up.completed",
        FollowUpTransition::Cancel => "follow_up.cancelled",
        FollowUpTransition::Reopen => "follow_up.reopened",
    };
    emit(tx, actor, kind, run, &found, json!({ "from": from }));
    if transition == FollowUpTransition::Complete {
        let done = vec![done(&found, ActivityKind::FollowUpDone, format!("Done: {}", found.title))];
        let counted = [("followUpsDone".to_owned(), 1)];
        activity::write(tx, actor, run, found.step_id, done, &counted).await?;
    }
    Ok(found)
}

/// The activity about a follow-up.
pub(crate) fn done(found: &Model, kind: ActivityKind, summary: String) -> NewActivity {
    let details = json!({ "followUpId": found.id, "title": found.title, "dueAt": found.due_at });
    NewActivity { record_id: found.record_id, kind, summary, details }
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
