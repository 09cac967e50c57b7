//! Phone calls made by people: checks that the number may be called, and records the call's outcome
//! in the same ledger as all messages.

use entity::communication::{self, CommunicationStatus};
use entity::run_record::{Outcome, RecipientReason};
use entity::step::{Model, StepStatus};
use entity::{ActivityKind, Channel, RunType, record, run, run_record};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel, JoinType,
    QueryFilter, QuerySelect, QueryTrait, Set,
};
use serde_json::json;

use super::Action;
use super::outcome::{person_reason, set_outcome};
use crate::domain::audience::record::{find as find_record, unsubscribe};
use crate::domain::audience::suppression;
use crate::domain::message::activity::{self, NewActivity};
use crate::kernel::db::Tx;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;

/// Column of a statement: true if records of the org are being opted out in the background.
const OPTING_OUT: &str = "opting_out";

/// The message with the call's script, drafted for the step's recipient.
async fn find_message(tx: &Tx, step: &Model) -> Result<Option<communication::Model>> {
    let Some(recipient_id) = step.run_record_id else { return Ok(None) };
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.run_record_id.eq(recipient_id))
        .filter(communication::COLUMN.channel.eq(Channel::Phone))
        .filter(communication::COLUMN.action_number.eq(0))
        .one(tx.db())
        .await?)
}

/// Begins a call to the record's current number. Errors: CONFLICT if it no longer has one, or if
/// the number was suppressed after the recipient was added.
pub(super) async fn begin(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<()> {
    let Some(recipient) = step.run_record_id else { return Ok(()) };
    // Taken before the record is read: an opt-out that has committed is seen.
    suppression::lock_shared(tx, run.org_id).await?;
    let of_record = run_record::Entity::belongs_to(record::Entity).from(run_record::Column::RecordId);
    let mut found = run_record::Entity::find_by_id(recipient)
        .filter(run_record::COLUMN.org_id.eq(viewer.org_id))
        .join(JoinType::LeftJoin, of_record.to(record::Column::Id).into())
        .select_also(record::Entity)
        .into_query();
    found.expr_as(unsubscribe::is_open(run.org_id), OPTING_OUT);
    let Some(found) = tx.db().query_one(&found).await? else { return Ok(()) };
    let recipient = run_record::Model::from_query_result(&found, "A_")?;
    let record = record::Model::from_query_result_optional(&found, "B_")?;
    // A test run calls the number given for the test.
    let record = record.filter(|_| run.run_type != RunType::TestRun);
    let number = match &record {
        Some(record) => record.phone.clone(),
        None => recipient.address.clone(),
    };
    let Some(number) = number else {
        let message = "its record has no telephone number any more: skip this step";
        return Err(Refusal::conflict(message).with("reason", json!(RecipientReason::NoAddress)).into());
    };
    check_call_allowed(tx, run, record.as_ref(), &number, found.try_get("", OPTING_OUT)?).await?;
    let is_current = recipient.address.as_deref() == Some(&number) && recipient.address_key.is_some();
    if run.run_type == RunType::TestRun || is_current {
        return Ok(());
    }
    readdress(tx, viewer, run, step, recipient, &number).await
}

/// Updates message and recipient to a number that was corrected after they were created. Errors:
/// CONFLICT if another record of the run has the number, or was called at it.
async fn readdress(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    recipient: run_record::Model,
    number: &str,
) -> Result<()> {
    let key = suppression::key(number);
    let duplicate = run_record::Entity::find()
        .filter(run_record::COLUMN.run_id.eq(recipient.run_id))
        .filter(run_record::Column::AddressKey.eq(key.clone()))
        .filter(run_record::COLUMN.id.ne(recipient.id))
        .one(tx.db())
        .await?;
    if let Some(other) = duplicate {
        let current = match other.record_id {
            Some(id) => find_record(tx.db(), &Viewer::engine(run.org_id), id).await?.and_then(|record| record.phone),
            None => other.address.clone(),
        };
        let open = other.outcome.is_none() && current.as_deref().map(suppression::key) != Some(key.clone());
        if !open {
            let message = format!("another record of the run has {number}, or was called at it: skip this step");
            return Err(Refusal::conflict(message).with("reason", json!(RecipientReason::DuplicateAddress)).into());
        }
        // The other record's number has changed too: its recipient is updated when it is called.
        let mut row = other.into_active_model();
        row.address_key = Set(None);
        row.update(tx.db()).await?;
    }
    let mut row = recipient.into_active_model();
    row.address = Set(Some(number.to_owned()));
    row.address_key = Set(Some(key));
    row.update(tx.db()).await?;
    if let Some(message) =
        find_message(tx, step).await?.filter(|message| message.status == CommunicationStatus::Approved)
    {
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

/// Rejects a call to a suppressed number, and one to a record that has opted out. Errors: CONFLICT.
async fn check_call_allowed(
    tx: &Tx,
    run: &run::Model,
    record: Option<&record::Model>,
    number: &str,
    opting_out: bool,
) -> Result<()> {
    let keys = [suppression::key(number)];
    let mut closed = suppression::find_suppressed(tx.db(), run.org_id, Channel::Phone, &keys).await?.remove(&keys[0]);
    if closed.is_none() {
        let ids: Vec<_> = record.iter().map(|record| record.id).collect();
        let has_opted_out = record.is_some_and(|record| record.unsubscribed_at.is_some())
            || (opting_out && unsubscribe::is_awaited(tx, run.org_id, &ids, Channel::Phone, &keys).await?);
        closed = has_opted_out.then(|| suppression::UNSUBSCRIBED.to_owned());
    }
    match closed {
        Some(why) => {
            let message = format!("{number} must not be called ({why}): skip this step");
            Err(Refusal::conflict(message).with("reason", json!(why)).into())
        }
        None => Ok(()),
    }
}

/// True if the step's call was already made.
pub(super) async fn is_made(tx: &Tx, step: &Model) -> Result<bool> {
    Ok(find_message(tx, step).await?.is_some_and(|message| message.status == CommunicationStatus::Sent))
}

/// Updates ledger and recipient after a person's action on a call.
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
            record_call(tx, viewer, run, step).await?;
            set_outcome(tx, step, Some(Outcome::Sent), None).await
        }
        Action::Fail if step.status == StepStatus::Failed => {
            settle(tx, viewer, run, step, CommunicationStatus::Failed, reason).await?;
            set_outcome(tx, step, Some(Outcome::Failed), Some(&person_reason(reason))).await
        }
        Action::Reset | Action::Restart => {
            let outcome = is_made(tx, step).await?.then_some(Outcome::Sent);
            set_outcome(tx, step, outcome, None).await
        }
        _ => Ok(()),
    }
}

/// Records a completed call: the message is sent, the record contacted, and the record's timeline
/// has an entry. A test run changes no record.
async fn record_call(tx: &Tx, viewer: &Viewer, run: &run::Model, step: &Model) -> Result<()> {
    let message = settle(tx, viewer, run, step, CommunicationStatus::Sent, None).await?;
    let Some(id) = step.record_id.filter(|_| run.run_type != RunType::TestRun) else { return Ok(()) };
    crate::domain::audience::record::set_last_contacted(tx, &[id]).await?;
    let record_name = find_record(tx.db(), viewer, id).await?.map(|record| record.name).unwrap_or_default();
    let to = message.as_ref().map(|message| &message.to_address);
    let done = NewActivity {
        record_id: Some(id),
        kind: ActivityKind::CallMade,
        summary: format!("Called {record_name}"),
        details: json!({ "communicationId": message.as_ref().map(|message| message.id), "to": to }),
    };
    activity::write(tx, &viewer.actor(), run, step.id, vec![done], &[]).await?;
    Ok(())
}

/// Approved → sending → sent or failed: a call is its own dispatch, reserved when the person began
/// it.
async fn settle(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    step: &Model,
    to: CommunicationStatus,
    reason: Option<&str>,
) -> Result<Option<communication::Model>> {
    let Some(found) = find_message(tx, step).await? else { return Ok(None) };
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
    // Two transitions in one write: begun and ended.
    let (from, between) = (CommunicationStatus::Approved, CommunicationStatus::Sending);
    let begun = communication::Model { status: between, ..message.clone() };
    crate::domain::message::communication::emit(tx, viewer, run, "communication.sending", &begun, from, None);
    let kind = if to == CommunicationStatus::Sent { "communication.sent" } else { "communication.failed" };
    crate::domain::message::communication::emit(tx, viewer, run, kind, &message, between, reason);
    Ok(Some(message))
}
