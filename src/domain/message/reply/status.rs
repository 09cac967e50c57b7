//! Changes the status of replies, with their events, and of the follow-ups that were created for
//! them: a reply and its follow-up are open or closed together.

use entity::id::*;
use entity::reply::{COLUMN, Column, Entity, Model, ReplyTransition};
use entity::{Actor, ReplyStatus, StateMachine, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use super::follow_up;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::Result;
use crate::kernel::event::{self, Event};

/// Applies a transition to those replies of a run that meet a condition and whose status has it, and
/// to their follow-ups. Returns the changed replies. The run must be locked.
pub(crate) async fn change(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    which: Condition,
    transition: ReplyTransition,
    note: Option<&str>,
) -> Result<Vec<Model>> {
    let changed = update(tx, actor, run, which, transition, note).await?;
    follow_up::follow(tx, actor, run, changed.iter().filter_map(|reply| reply.follow_up_id), transition).await?;
    Ok(changed)
}

/// Marks the open replies that these steps handle as handled.
pub(crate) async fn handled_by_steps(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    steps: impl Iterator<Item = StepId>,
) -> Result<()> {
    let of_steps = Condition::all().add(any_of(tx.dialect(), Column::StepId, steps));
    change(tx, actor, run, of_steps, ReplyTransition::Handle, None).await?;
    Ok(())
}

/// Applies the transition that a follow-up has gone through to its reply, if it has one.
pub(crate) async fn follow(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    of: FollowUpId,
    transition: ReplyTransition,
) -> Result<()> {
    let its_own = Condition::all().add(Column::FollowUpId.eq(of));
    update(tx, actor, run, its_own, transition, None).await?;
    Ok(())
}

async fn update(
    tx: &Tx,
    actor: &Actor,
    run: &run::Model,
    which: Condition,
    transition: ReplyTransition,
    note: Option<&str>,
) -> Result<Vec<Model>> {
    let kind = match transition {
        ReplyTransition::Handle => "reply.handled",
        ReplyTransition::Ignore => "reply.ignored",
        ReplyTransition::Reopen => "reply.reopened",
    };
    let mut changed = Vec::new();
    for from in ReplyStatus::states() {
        let Some(to) = from.next(transition) else { continue };
        let closed = to != ReplyStatus::Open;
        let by = if closed { Some(serde_json::to_value(actor)?) } else { None };
        let rows = Entity::update_many()
            .col_expr(Column::Status, Expr::value(to.to_value()))
            .col_expr(Column::HandledAt, Expr::value(closed.then(|| tx.now())))
            .col_expr(Column::HandledBy, Expr::value(by))
            .col_expr(Column::Note, Expr::value(note.map(str::to_owned)))
            .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(COLUMN.run_id.eq(run.id))
            .filter(which.clone())
            .filter(COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            emit(tx, actor, kind, run, row, json!({ "from": from, "to": to, "note": row.note }));
        }
        changed.extend(rows);
    }
    Ok(changed)
}

/// Appends an event about a reply; `payload` is added to what all have.
pub(crate) fn emit(tx: &Tx, actor: &Actor, kind: &str, run: &run::Model, reply: &Model, mut payload: Value) {
    payload["replyId"] = json!(reply.id);
    payload["communicationId"] = json!(reply.communication_id);
    payload["channel"] = json!(reply.channel);
    let event = Event::new(run.org_id, kind, actor).run(run).record(reply.record_id);
    event::append(tx, event.payload(payload));
}
