//! The send queue of messages that people release by an action of their own. A message stays in
//! flight until its outcome is known; `engine/send` dispatches the queue.

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::queued_message::{COLUMN, Column, Entity, Model};
use entity::{ActivityKind, run};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect, Set,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

use crate::domain::message::activity::{self, NewActivity};
use crate::domain::message::communication::cancel_matching;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::{any_of, insert_all, insert_returning};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;

/// Returns the number of a person's next action in a step.
pub(crate) async fn next_action_number(tx: &Tx, step: StepId) -> Result<i32> {
    let last: Option<Option<i32>> = communication::Entity::find()
        .select_only()
        .column_as(communication::Column::ActionNumber.max(), "last")
        .filter(communication::COLUMN.step_id.eq(step))
        .into_tuple()
        .one(tx.db())
        .await?;
    Ok(last.flatten().unwrap_or_default() + 1)
}

/// Inserts approved messages and enqueues them. The run must be locked; returns its new state, and
/// the messages.
pub(crate) async fn release(
    tx: &Tx,
    viewer: &Viewer,
    run: run::Model,
    messages: Vec<communication::ActiveModel>,
) -> Result<(run::Model, Vec<communication::Model>)> {
    if messages.is_empty() {
        return Ok((run, Vec::new()));
    }
    let mut created = insert_returning(tx, messages, None).await?;
    created.sort_by_key(|row| row.id);
    for row in &created {
        let draft = communication::Model { status: CommunicationStatus::Draft, ..row.clone() };
        let from = CommunicationStatus::Draft;
        crate::domain::message::communication::emit(tx, viewer, &run, "communication.drafted", &draft, from, None);
        crate::domain::message::communication::emit(tx, viewer, &run, "communication.approved", row, from, None);
    }
    queue(tx, viewer, &created).await?;
    let run = in_flight(tx, run, i64::try_from(created.len()).map_err(Error::internal)?).await?;
    Ok((run, created))
}

/// Enqueues messages.
pub(crate) async fn queue(tx: &Tx, viewer: &Viewer, messages: &[communication::Model]) -> Result<()> {
    let rows = messages.iter().map(|row| {
        let queued = Model {
            communication_id: row.id,
            org_id: row.org_id,
            run_id: row.run_id,
            step_id: row.step_id,
            actor: viewer.actor(),
            available_at: tx.now(),
            attempt: 0,
            failures: 0,
            lease_owner: None,
            lease_expires_at: None,
        };
        queued.into_active_model().reset_all()
    });
    insert_all(tx, rows).await?;
    Ok(())
}

/// Adds to the run's count of messages in flight. Doesn't increment the run's revision: it is no
/// change that a person makes.
pub(crate) async fn in_flight(tx: &Tx, run: run::Model, by: i64) -> Result<run::Model> {
    let now = run.in_flight + by;
    let mut row = run.into_active_model();
    row.in_flight = Set(now);
    Ok(row.update(tx.db()).await?)
}

/// Returns the queue entries of messages. Protected by the run's lock.
pub(crate) async fn of(tx: &Tx, ids: &[CommunicationId]) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(any_of(tx.dialect(), COLUMN.communication_id, ids.iter().copied()))
        .order_by_asc(COLUMN.communication_id)
        .all(tx.db())
        .await?)
}

/// Cancels those of some messages of a run that people released and that wait to be sent. The run must be
/// locked.
pub(crate) async fn withdraw(tx: &Tx, viewer: &Viewer, run: &run::Model, these: Condition, reason: &str) -> Result<()> {
    let released = these.add(communication::COLUMN.action_number.gt(0));
    cancel_matching(tx, viewer, run, &released, &[CommunicationStatus::Approved], reason).await?;
    drop_cancelled(tx, run).await
}

/// Removes cancelled messages from the queue, unless a sender holds a lease on them.
pub(crate) async fn drop_cancelled(tx: &Tx, run: &run::Model) -> Result<()> {
    let mut cancelled = Query::select();
    cancelled
        .column(communication::Column::Id)
        .from(communication::Entity)
        .and_where(communication::COLUMN.run_id.eq(run.id))
        .and_where(communication::COLUMN.status.eq(CommunicationStatus::Cancelled));
    let deleted = Entity::delete_many()
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.lease_owner.is_null())
        .filter(Column::CommunicationId.in_subquery(cancelled))
        .exec(tx.db())
        .await?;
    if deleted.rows_affected > 0 {
        let by = i64::try_from(deleted.rows_affected).map_err(Error::internal)?;
        run::Entity::update_many()
            .col_expr(run::Column::InFlight, Expr::col(run::Column::InFlight).sub(by))
            .filter(run::COLUMN.id.eq(run.id))
            .exec(tx.db())
            .await?;
    }
    Ok(())
}

/// Settles messages of one run: removes them from the queue, and records and counts sent ones on
/// their step. The run must be locked; returns its new state.
pub(crate) async fn settle(tx: &Tx, run: run::Model, settled: &[(Model, communication::Model)]) -> Result<run::Model> {
    if settled.is_empty() {
        return Ok(run);
    }
    let ids = settled.iter().map(|(queued, _)| queued.communication_id);
    Entity::delete_many().filter(any_of(tx.dialect(), COLUMN.communication_id, ids)).exec(tx.db()).await?;
    make_followers_due(tx, &run, settled).await?;
    // All messages of one action together, in one activity update.
    for of_one in settled.chunk_by(|(a, _), (b, _)| a.step_id == b.step_id && a.actor == b.actor) {
        let messages: Vec<&communication::Model> = of_one.iter().map(|(_, message)| message).collect();
        record_outcomes(tx, &of_one[0].0.actor, &run, &messages).await?;
    }
    // Messages with an unknown outcome stay in flight until a person resolves them.
    let known = settled.iter().filter(|(_, message)| message.status != CommunicationStatus::Unknown).count();
    in_flight(tx, run, -i64::try_from(known).map_err(Error::internal)?).await
}

/// Makes messages due that waited for settled ones about the same meeting, to the same address.
async fn make_followers_due(tx: &Tx, run: &run::Model, settled: &[(Model, communication::Model)]) -> Result<()> {
    let meetings: BTreeSet<MeetingId> = settled.iter().filter_map(|(_, message)| message.meeting_id).collect();
    if meetings.is_empty() {
        return Ok(());
    }
    let addresses: BTreeSet<&str> = settled.iter().map(|(_, message)| message.to_address.as_str()).collect();
    let mut waiting = Query::select();
    waiting
        .column(communication::Column::Id)
        .from(communication::Entity)
        .cond_where(any_of(tx.dialect(), communication::COLUMN.meeting_id, meetings))
        .and_where(any_of(tx.dialect(), communication::Column::ToAddress, addresses))
        .and_where(communication::COLUMN.status.eq(CommunicationStatus::Approved));
    Entity::update_many()
        .col_expr(Column::AvailableAt, Expr::value(tx.now()))
        .filter(COLUMN.run_id.eq(run.id))
        .filter(COLUMN.lease_owner.is_null())
        .filter(COLUMN.available_at.gt(tx.now()))
        .filter(COLUMN.failures.eq(0))
        .filter(Column::CommunicationId.in_subquery(waiting))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Records the outcomes of messages of one step as activities, and counts them on the step.
pub(crate) async fn record_outcomes(
    tx: &Tx,
    actor: &entity::Actor,
    run: &run::Model,
    messages: &[&communication::Model],
) -> Result<()> {
    let Some(step) = messages.first().map(|message| message.step_id) else { return Ok(()) };
    let (mut done, mut counted) = (Vec::new(), BTreeMap::<String, i64>::new());
    for message in messages {
        let invitation = message.meeting_id.is_some();
        let name = match (message.status, invitation) {
            (CommunicationStatus::Sent, false) => "emailsSent",
            (CommunicationStatus::Sent, true) => "invitationsSent",
            (CommunicationStatus::Failed, _) => "emailsFailed",
            (CommunicationStatus::Suppressed, _) => "emailsSuppressed",
            (CommunicationStatus::Cancelled, false) => "emailsCancelled",
            _ => continue,
        };
        *counted.entry(name.to_owned()).or_default() += 1;
        if message.status == CommunicationStatus::Sent && !invitation {
            done.push(sent(message));
        }
    }
    if counted.is_empty() {
        return Ok(());
    }
    let counted: Vec<(String, i64)> = counted.into_iter().collect();
    activity::write(tx, actor, run, step, done, &counted).await?;
    Ok(())
}

fn sent(message: &communication::Model) -> NewActivity {
    let subject = message.subject.as_deref().unwrap_or_default();
    let to = if message.to_name.is_empty() { &message.to_address } else { &message.to_name };
    NewActivity {
        record_id: message.record_id,
        kind: ActivityKind::EmailSent,
        summary: format!("Wrote to {to}: {subject}"),
        details: json!({ "communicationId": message.id, "subject": subject, "to": message.to_address }),
    }
}
