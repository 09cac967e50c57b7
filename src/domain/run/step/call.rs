//! A call that a person makes: whether the number may be called, and what became of it, in the same ledger as all messages.

use entity::communication::{self, CommunicationStatus};
use entity::run_record::{Outcome, RecipientReason};
use entity::step::{Model, StepStatus};
use entity::{ActivityKind, Channel, RunType, run, run_record};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::json;

use super::Action;
use super::transition::place;
use crate::domain::audience::record::{self, unsubscribe};
use crate::domain::audience::suppression;
use crate::domain::message::activity::{self, NewActivity};
use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// The message that says what is to be said: drafted for the step's place.
async fn of(tx: &Tx, step: &Model) -> Result<Option<communication::Model>> {
    let Some(place) = step.run_record_id else { return Ok(None) };
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.run_record_id.eq(place))
        .filter(communication::COLUMN.channel.eq(Channel::Phone))
        .filter(communication::COLUMN.occasion.eq(0))
        .one(tx.db())
        .await?)
}

/// A call begins, to the number that its record has now. Errors: CONFLICT where it has none any more, or one that was closed
/// since the audience was taken in.
pub(super) async fn begin(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<()> {
    let Some(place) = step.run_record_id else { return Ok(()) };
    let place = run_record::Entity::find_by_id(place).one(tx.db()).await?;
    let Some(place) = place else { return Ok(()) };
    // A test calls the number that was given for it.
    let record = match step.record_id.filter(|_| run.run_type != RunType::TestRun) {
        Some(id) => record::find(tx.db(), viewer, id).await?,
        None => None,
    };
    let number = match &record {
        Some(record) => record.phone.clone(),
        None => place.address.clone(),
    };
    let Some(number) = number else {
        let told = "its record has no telephone number any more: skip this step";
        return Err(Refusal::conflict(told).with("reason", json!(RecipientReason::NoAddress)).into());
    };
    check_call_allowed(tx, run, step, &number).await?;
    let has_it = place.address.as_deref() == Some(&number) && place.address_key.is_some();
    if run.run_type == RunType::TestRun || has_it {
        return Ok(());
    }
    readdress(tx, viewer, run, step, place, &number).await
}

/// Message and place take a number that was corrected since they were made. Errors: CONFLICT where another record of the run
/// has it, or was called at it.
async fn readdress(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    place: run_record::Model,
    number: &str,
) -> Result<()> {
    let key = suppression::key(number);
    let held = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(place.run_id))
        .filter(run_record::Column::AddressKey.eq(key.clone()))
        .filter(run_record::COLUMN.id.ne(place.id))
        .one(tx.db())
        .await?;
    if let Some(other) = held {
        let now = match other.record_id {
            Some(id) => record::find(tx.db(), &Viewer::engine(run.org_id), id).await?.and_then(|record| record.phone),
            None => other.address.clone(),
        };
        let open = other.outcome.is_none() && now.as_deref().map(suppression::key) != Some(key.clone());
        if !open {
            let told = format!("another record of the run has {number}, or was called at it: skip this step");
            return Err(Refusal::conflict(told).with("reason", json!(RecipientReason::DuplicateAddress)).into());
        }
        // Its record has another number by now: it follows that when it is called.
        let mut row = other.into_active_model();
        row.address_key = Set(None);
        row.update(tx.db()).await?;
    }
    let mut row = place.into_active_model();
    row.address = Set(Some(number.to_owned()));
    row.address_key = Set(Some(key));
    row.update(tx.db()).await?;
    if let Some(message) = of(tx, step).await?.filter(|message| message.status == CommunicationStatus::Approved) {
        let revision = message.revision;
        let mut row = message.into_active_model();
        row.to_address = Set(number.to_owned());
        row.updated_at = Set(tx.now());
        row.revision = Set(revision + 1);
        let message = row.update(tx.db()).await?;
        crate::domain::message::communication::emit_readdressed(tx, viewer, run, &message);
    }
    Ok(())
}

/// Refuses a call to a number that is closed. Errors: CONFLICT.
async fn check_call_allowed(tx: &Tx, run: &run::Model, step: &Model, number: &str) -> Result<()> {
    suppression::pass_gate(tx, run.org_id).await?;
    let keys = [suppression::key(number)];
    let mut closed = suppression::among(tx.db(), run.org_id, Channel::Phone, &keys).await?.remove(&keys[0]);
    if closed.is_none() {
        let mine: Vec<_> = step.record_id.filter(|_| run.run_type != RunType::TestRun).into_iter().collect();
        let gone = !unsubscribe::among(tx, run.org_id, &mine).await?.is_empty()
            || !unsubscribe::awaited(tx, run.org_id, Channel::Phone, &keys).await?.is_empty();
        closed = gone.then(|| suppression::UNSUBSCRIBED.to_owned());
    }
    match closed {
        Some(why) => {
            let told = format!("{number} must not be called ({why}): skip this step");
            Err(Refusal::conflict(told).with("reason", json!(why)).into())
        }
        None => Ok(()),
    }
}

/// Whether the call of a step was made before.
pub(super) async fn is_made(tx: &Tx, step: &Model) -> Result<bool> {
    Ok(of(tx, step).await?.is_some_and(|message| message.status == CommunicationStatus::Sent))
}

/// What follows for the ledger and the place in the audience from a person's act on a call.
pub(super) async fn follows(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    action: Action,
    reason: Option<&str>,
) -> Result<()> {
    match action {
        Action::Complete => {
            made(tx, viewer, run, step).await?;
            place(tx, step, Some(Outcome::Sent), None).await
        }
        Action::Fail if step.status == StepStatus::Failed => {
            settle(tx, viewer, run, step, CommunicationStatus::Failed, reason).await?;
            place(tx, step, Some(Outcome::Failed), Some(&super::transition::person(reason))).await
        }
        Action::Reset | Action::Restart => {
            let outcome = is_made(tx, step).await?.then_some(Outcome::Sent);
            place(tx, step, outcome, None).await
        }
        _ => Ok(()),
    }
}

/// The call was made: its message has gone out, its record was contacted, and the record's timeline says so. A test changes
/// no record.
async fn made(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<()> {
    let message = settle(tx, viewer, run, step, CommunicationStatus::Sent, None).await?;
    let Some(id) = step.record_id.filter(|_| run.run_type != RunType::TestRun) else { return Ok(()) };
    crate::domain::audience::record::contacted(tx, &[id]).await?;
    let name =
        crate::domain::audience::record::find(tx.db(), viewer, id).await?.map(|record| record.name).unwrap_or_default();
    let to = message.as_ref().map(|message| &message.to_address);
    let done = NewActivity {
        record_id: Some(id),
        kind: ActivityKind::CallMade,
        summary: format!("Called {name}"),
        details: json!({ "communicationId": message.as_ref().map(|message| message.id), "to": to }),
    };
    activity::write(tx, &viewer.actor(), run, step.id, vec![done], &[]).await?;
    Ok(())
}

/// Approved → sending → sent or failed: the call is its own hand-over, reserved when the person began it.
async fn settle(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    to: CommunicationStatus,
    reason: Option<&str>,
) -> Result<Option<communication::Model>> {
    let Some(found) = of(tx, step).await? else { return Ok(None) };
    if found.status != CommunicationStatus::Approved {
        return Ok(Some(found));
    }
    let revision = found.revision;
    let mut row = found.clone().into_active_model();
    row.status = Set(to);
    row.reserved_at = Set(Some(step.started_at.unwrap_or_else(|| tx.now())));
    row.sent_at = Set((to == CommunicationStatus::Sent).then(|| tx.now()));
    row.error = Set(reason.map(str::to_owned));
    row.updated_at = Set(tx.now());
    row.revision = Set(revision + 1);
    let message = row.update(tx.db()).await?;
    // Two edges of the law in one write: taken in hand, and come to its end.
    let (from, between) = (CommunicationStatus::Approved, CommunicationStatus::Sending);
    let begun = communication::Model { status: between, ..message.clone() };
    crate::domain::message::communication::emit(tx, viewer, run, "communication.sending", &begun, from, None);
    let kind = if to == CommunicationStatus::Sent { "communication.sent" } else { "communication.failed" };
    crate::domain::message::communication::emit(tx, viewer, run, kind, &message, between, reason);
    Ok(Some(message))
}
