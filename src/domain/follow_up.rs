//! Creates, completes, cancels and reopens follow-ups, to-dos with a due date, and reports overdue
//! ones. Created from within a step, or for a reply that no step handles.

use async_graphql::{Enum, ID, InputObject};
use chrono::{DateTime, Utc};
use entity::follow_up::{COLUMN, Column, Entity, FollowUpTransition, Model};
use entity::id::*;
use entity::reply::ReplyTransition;
use entity::{ActivityKind, Actor, FollowUpStatus, StateMachine};
use sea_orm::sea_query::{Condition, Expr};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};
use serde::Serialize;
use serde_json::json;

use crate::domain::audience::record::erasure::hold_off;
use crate::domain::message::activity;
use crate::domain::message::reply;
pub use crate::domain::message::reply::follow_up::FollowUpDraft;
use crate::domain::message::reply::follow_up::{apply, done, emit, insert};
use crate::domain::run as runs;
use crate::domain::run::guided::{self, active_step};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::page::{self, Args, Window};
use crate::kernel::stuck::{self, StuckWork};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

scoped!(follow_up, FollowUpId, "follow-up");
locked!(follow_up, FollowUpId, "follow-up");

/// A filter over follow-ups; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "FollowUpFilter")]
pub struct Filter {
    /// Follow-ups created in one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Follow-ups about one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Follow-ups with one of these statuses.
    pub statuses: Option<Vec<FollowUpStatus>>,
    /// Follow-ups assigned to one of these members.
    pub assignee_ids: Option<Vec<ID>>,
    /// True for those assigned to the requesting member. False and null match all.
    pub mine: Option<bool>,
    /// True for those that are open and past their due time, false for all others.
    pub overdue: Option<bool>,
}

/// A window of the matching follow-ups, newest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args, now: DateTime<Utc>) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("follow_up", filter))?;
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(given, "filter", "runIds")?));
    }
    if let Some(given) = &filter.record_ids {
        select = select.filter(any_of(
            db.dialect(),
            Column::RecordId,
            validate::ids::<RecordId>(given, "filter", "recordIds")?,
        ));
    }
    if let Some(statuses) = &filter.statuses {
        select = select.filter(any_of(db.dialect(), COLUMN.status, statuses.clone()));
    }
    if let Some(given) = &filter.assignee_ids {
        select = select.filter(any_of(
            db.dialect(),
            Column::AssigneeId,
            validate::ids::<MemberId>(given, "filter", "assigneeIds")?,
        ));
    }
    if filter.mine == Some(true) {
        let me = viewer.member_id().map_or_else(uuid::Uuid::nil, |id| id.0);
        select = select.filter(Column::AssigneeId.eq(me));
    }
    if let Some(overdue) = filter.overdue {
        let late = Condition::all().add(COLUMN.due_at.lt(now)).add(COLUMN.status.eq(FollowUpStatus::Open));
        select = select.filter(if overdue { late } else { late.add(COLUMN.due_at.is_not_null()).not() });
    }
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// An action on a follow-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "FollowUpAction")]
pub enum Action {
    /// Mark it as done.
    Complete,
    /// Cancel it.
    Cancel,
    /// Open it again after it was completed or cancelled.
    Reopen,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 3] = [Self::Complete, Self::Cancel, Self::Reopen];

    fn transition(self) -> FollowUpTransition {
        match self {
            Self::Complete => FollowUpTransition::Complete,
            Self::Cancel => FollowUpTransition::Cancel,
            Self::Reopen => FollowUpTransition::Reopen,
        }
    }
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(found: &Model, action: Action) -> Result<()> {
    let transition = action.transition();
    let next = found.status.next(transition);
    next.map(|_| ()).ok_or_else(|| Refusal::transition("follow-up", found.status, transition).into())
}

/// Creates a follow-up. Errors: NOT_FOUND; CONFLICT if the step is not in progress; BAD_USER_INPUT.
pub async fn create(db: &WriteContext, viewer: &Viewer, draft: &FollowUpDraft) -> Result<Model> {
    let (title, note) = (validate::name("title", &draft.title)?, validate::text("note", &draft.note)?);
    transact!(db, |tx| {
        let within = active_step::enter(tx, viewer, draft.step_id).await?;
        let about = match draft.record_id {
            Some(id) => vec![crate::domain::audience::record::must_find(tx.db(), viewer, id).await?],
            None => Vec::new(),
        };
        hold_off(tx, viewer, draft.record_id).await?;
        if let Some(id) = draft.assignee {
            crate::domain::people::member::must_find(tx.db(), viewer, id).await?;
        }
        let (run, _) = guided::recipients(tx, within.run, &about, false).await?;
        let written = FollowUpDraft { title: title.clone(), note: note.clone(), ..draft.clone() };
        let found = insert(tx, viewer, &run, written, json!({})).await?;
        let done = vec![done(&found, ActivityKind::FollowUpCreated, format!("To do: {title}"))];
        let counted = [("followUpsCreated".to_owned(), 1)];
        activity::write(tx, &viewer.actor(), &run, within.step.id, done, &counted).await?;
        tx.set_result(found.id);
        Ok(found)
    })
}

/// Completes, cancels or reopens a follow-up, also after its run has ended. Errors: NOT_FOUND,
/// CONFLICT, INVALID_TRANSITION.
pub async fn change_status(
    db: &WriteContext,
    viewer: &Viewer,
    id: FollowUpId,
    expected: Option<i32>,
    action: Action,
) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, action)?;
        let transition = action.transition();
        let to = found.status.next(transition).unwrap_or(found.status);
        let found = apply(tx, &viewer.actor(), &run, found, transition, to).await?;
        // The reply that it was created for is open or closed with it.
        let of_reply = match action {
            Action::Complete => ReplyTransition::Handle,
            Action::Cancel => ReplyTransition::Ignore,
            Action::Reopen => ReplyTransition::Reopen,
        };
        reply::status::follow(tx, &viewer.actor(), &run, found.id, of_reply).await?;
        tx.set_result(found.id);
        Ok(found)
    })
}

/// Returns open follow-ups past their due time that were not reported yet, except in runs whose
/// reporting is set aside as stuck.
pub async fn overdue(db: &Db) -> Result<runs::overdue::OverdueRows<FollowUpId>> {
    let late = Entity::find()
        .select_only()
        .column(Column::OrgId)
        .column(Column::RunId)
        .column(Column::Id)
        // A literal, so that the partial index on exactly these rows is used.
        .filter(Expr::cust(
            "follow_up.due_at IS NOT NULL AND follow_up.overdue_at IS NULL AND follow_up.status = 'OPEN'",
        ))
        .filter(COLUMN.due_at.lt(db.now()))
        .filter(stuck::is_free(Expr::col((Entity, Column::RunId)), &[StuckWork::Tell], db.now()))
        .order_by_asc(COLUMN.due_at)
        .limit(limits::CHUNK)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(runs::overdue::by_run(late))
}

/// Emits `follow_up.overdue` once for each open, overdue follow-up of a run.
pub async fn emit_overdue(db: &WriteContext, org_id: OrgId, run_id: RunId, ids: &[FollowUpId]) -> Result<()> {
    transact!(db, |tx| {
        let run = runs::must_lock(tx, &Viewer::engine(org_id), run_id, None).await?;
        let updated = Entity::update_many()
            .col_expr(Column::OverdueAt, Expr::value(tx.now()))
            .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
            .filter(COLUMN.overdue_at.is_null())
            .filter(COLUMN.status.eq(FollowUpStatus::Open))
            .exec_with_returning(tx.db())
            .await?;
        for found in &updated {
            emit(tx, &Actor::engine(), "follow_up.overdue", &run, found, json!({}));
        }
        Ok(())
    })
}
