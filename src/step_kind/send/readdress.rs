//! Updates messages to their records' current addresses before they are handed over. An address
//! that was corrected since the draft is used, and no address is written to twice because of that.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run_record::{self, RecipientReason};
use entity::step::StepReason;
use entity::{Channel, record, run};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveEnum, ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement,
};
use serde_json::json;
use uuid::Uuid;

use super::MessageLookup;
use crate::domain::audience::suppression::key;
use crate::domain::run::{self as runs, unreached};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Type;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// SQL condition: the address of a message's record differs from the message's, or its recipient
/// gave its address to another. A difference in case counts, too.
const MOVED: &str = "EXISTS (SELECT 1 FROM record r JOIN run u ON u.id = communication.run_id \
    LEFT JOIN run_record p ON p.id = communication.run_record_id WHERE r.id = communication.record_id \
    AND (r.email IS NULL OR r.email <> communication.to_address \
    OR (p.address_key IS NULL AND u.channel = 'EMAIL' AND communication.occasion = 0 AND NOT EXISTS (SELECT 1 \
    FROM communication w WHERE w.run_record_id = p.id AND w.occasion = 0 AND w.status IN ('SENDING', 'SENT', 'UNKNOWN')))))";

/// Updates mail that is about to be sent to its records' current addresses. A message whose record
/// has none, or one that another record of the run has or was written to at, is cancelled with the
/// reason. What a person wrote from within a step is compared with that step's messages alone. Tests and
/// messages of meetings keep their addresses.
pub(super) async fn follow(db: &WriteContext, by: MessageLookup, keys: &[Uuid]) -> Result<()> {
    let moved: Vec<(CommunicationId, OrgId, RunId)> = communication::Entity::find()
        .select_only()
        .columns([communication::Column::Id, communication::Column::OrgId, communication::Column::RunId])
        .filter(by.of(db.dialect(), keys))
        .filter(waits())
        .filter(Expr::cust(MOVED))
        .into_tuple()
        .all(db.read())
        .await?;
    for (org_id, run_id) in moved.iter().map(|(_, org_id, run_id)| (*org_id, *run_id)).collect::<BTreeSet<_>>() {
        let ids: Vec<CommunicationId> = moved.iter().filter(|row| row.2 == run_id).map(|row| row.0).collect();
        transact!(db, |tx| {
            // The run's lock: nothing else hands over its messages or moves its addresses
            // meanwhile.
            let run = runs::must_lock(tx, &Viewer::engine(org_id), run_id, None).await?;
            of_run(tx, &run, by, &ids).await
        })?;
    }
    Ok(())
}

/// The reason for which this module cancelled a message, parsed from the message's error.
pub(super) fn reason(error: Option<&str>) -> Option<StepReason> {
    match RecipientReason::of(error?) {
        RecipientReason::NoAddress => Some(StepReason::NoAddress),
        RecipientReason::DuplicateAddress => Some(StepReason::DuplicateAddress),
        _ => None,
    }
}

/// The condition for mail whose record has another address by now: it is postponed and updated at
/// once.
pub(super) fn has_moved() -> Condition {
    waits().add(Expr::cust(MOVED))
}

/// The condition for released mail of records that is not in flight.
fn waits() -> Condition {
    Condition::all()
        .add(communication::COLUMN.status.eq(CommunicationStatus::Approved))
        .add(communication::COLUMN.channel.eq(Channel::Email))
        .add(communication::COLUMN.test.eq(false))
        .add(communication::Column::MeetingId.is_null())
        .add(communication::Column::RecordId.is_not_null())
}

async fn of_run(tx: &Tx, run: &run::Model, by: MessageLookup, ids: &[CommunicationId]) -> Result<()> {
    let by_person = by == MessageLookup::Message;
    let messages = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.id, ids.iter().copied()))
        .filter(waits())
        .order_by_asc(communication::COLUMN.id)
        .all(tx.db())
        .await?;
    let emails = emails(tx, messages.iter().filter_map(|message| message.record_id)).await?;
    let current = |message: &communication::Model| message.record_id.and_then(|id| emails.get(&id)?.clone());
    let keys: Vec<String> = messages.iter().filter_map(current).map(|address| key(&address)).collect();
    let written = if by_person { released(tx, run, &keys).await? } else { written(tx, run, &keys).await? };
    let has_recipients = !by_person && run.channel == Channel::Email;
    let (held, stale) = if has_recipients { holders(tx, run, &keys).await? } else { Default::default() };
    let waiting = if has_recipients { Vec::new() } else { waiting(tx, run, by_person, &keys).await? };
    let (mut moved, mut cancelled) = (Vec::new(), Vec::new());
    let mut taken: HashMap<(Option<StepId>, String), Option<RecordId>> = HashMap::new();
    for message in &messages {
        let Some(address) = current(message) else {
            cancelled.push((message, RecipientReason::NoAddress, "its record no longer has an email address"));
            continue;
        };
        let to = key(&address);
        let others = written.iter().chain(&waiting).any(|other| other.is_twin(by_person, message, &to))
            || held.get(&to).is_some_and(|recipient| *recipient != message.run_record_id);
        let scope = by_person.then_some(message.step_id);
        // A record may get several messages, but of those that people write only one from each step.
        let is_duplicate = |of: &Option<RecordId>| *of != message.record_id || scope.is_some();
        if !message.is_repeat && (others || taken.get(&(scope, to.clone())).is_some_and(is_duplicate)) {
            let why = "another record of the run has its record's current address";
            cancelled.push((message, RecipientReason::DuplicateAddress, why));
        } else {
            taken.insert((scope, to), message.record_id);
            moved.push((message, address));
        }
    }
    if has_recipients {
        let new: BTreeMap<RunRecordId, &str> =
            moved.iter().map(|(message, address)| (message.run_record_id, address.as_str())).collect();
        // A recipient that has moved keeps its former address unless another takes it.
        let wanted: HashSet<String> = new.values().map(|address| key(address)).collect();
        let stale: Vec<RunRecordId> =
            stale.into_iter().filter(|(_, address)| wanted.contains(address)).map(|(id, _)| id).collect();
        give(tx, &stale, new.into_iter().collect()).await?;
    }
    write(tx, run, &moved).await?;
    cancel(tx, run, &cancelled).await?;
    Ok(())
}

/// The mail addresses of some records.
async fn emails(tx: &Tx, ids: impl Iterator<Item = RecordId>) -> Result<HashMap<RecordId, Option<String>>> {
    let rows: Vec<(RecordId, Option<String>)> = record::Entity::find()
        .select_only()
        .columns([record::Column::Id, record::Column::Email])
        .filter(any_of(tx.dialect(), record::COLUMN.id, ids))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(rows.into_iter().collect())
}

/// A message that was, may have been or will be sent to one of the addresses.
struct Written {
    id: CommunicationId,
    record_id: Option<RecordId>,
    step_id: StepId,
    to: String,
}

impl Written {
    /// True if a message to the address would duplicate this one.
    fn is_twin(&self, by_person: bool, message: &communication::Model, to: &str) -> bool {
        let same = if by_person { self.step_id == message.step_id } else { self.record_id != message.record_id };
        same && self.id != message.id && self.to == to
    }
}

/// Messages sent to some addresses by a run, or by the run whose failed recipients it repeats.
async fn written(tx: &Tx, run: &run::Model, keys: &[String]) -> Result<Vec<Written>> {
    let family = unreached::Family::of(tx.db(), &Viewer::engine(run.org_id), run).await?;
    let found = family.written(tx.db(), keys).await?;
    Ok(found.into_iter().map(|(id, record_id, step_id, to)| Written { id, record_id, step_id, to: key(&to) }).collect())
}

/// A run's waiting messages to some addresses, of records that still have those addresses: those that
/// people released, or those of its own steps.
async fn waiting(tx: &Tx, run: &run::Model, by_person: bool, keys: &[String]) -> Result<Vec<Written>> {
    let number = communication::COLUMN.action_number;
    let kind = if by_person { number.gt(0) } else { number.eq(0) };
    let found = to_addresses(tx, run, waits().add(kind), keys).await?;
    let emails = emails(tx, found.iter().filter_map(|found| found.record_id)).await?;
    let still_has = |id: Option<RecordId>, to: &str| id.is_none_or(|id| has(&emails, id, to));
    Ok(found.into_iter().filter(|found| still_has(found.record_id, &found.to)).collect())
}

/// A run's mail to some addresses that people released, and that was, or may have been, sent.
async fn released(tx: &Tx, run: &run::Model, keys: &[String]) -> Result<Vec<Written>> {
    use CommunicationStatus::{Sending, Sent, Unknown};
    let sent = Condition::all()
        .add(communication::COLUMN.action_number.gt(0))
        .add(communication::COLUMN.status.is_in([Sending, Sent, Unknown]))
        .add(communication::Column::MeetingId.is_null());
    to_addresses(tx, run, sent, keys).await
}

/// A run's messages to some addresses that match a condition.
async fn to_addresses(tx: &Tx, run: &run::Model, which: Condition, keys: &[String]) -> Result<Vec<Written>> {
    let found: Vec<(CommunicationId, Option<RecordId>, StepId, String)> = communication::Entity::find()
        .select_only()
        .columns([
            communication::Column::Id,
            communication::Column::RecordId,
            communication::Column::StepId,
            communication::Column::ToAddress,
        ])
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(which)
        .filter(any_of(tx.dialect(), crate::domain::message::communication::normalized_address(), keys.iter().cloned()))
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().map(|(id, record_id, step_id, to)| Written { id, record_id, step_id, to: key(&to) }).collect())
}

/// True if a record has an address, in the form that is compared. A deleted record counts as having
/// it.
fn has(emails: &HashMap<RecordId, Option<String>>, id: RecordId, to: &str) -> bool {
    emails.get(&id).is_none_or(|now| now.as_deref().is_some_and(|now| key(now) == to))
}

/// The recipients with some addresses in a run's audience: those whose records still have them, by
/// address, and those whose records don't.
async fn holders(
    tx: &Tx,
    run: &run::Model,
    keys: &[String],
) -> Result<(HashMap<String, RunRecordId>, Vec<(RunRecordId, String)>)> {
    let recipients: Vec<(RunRecordId, Option<RecordId>, String)> = run_record::Entity::find()
        .select_only()
        .columns([run_record::Column::Id, run_record::Column::RecordId, run_record::Column::AddressKey])
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(any_of(tx.dialect(), run_record::Column::AddressKey, keys.iter().cloned()))
        .into_tuple()
        .all(tx.db())
        .await?;
    let emails = emails(tx, recipients.iter().filter_map(|recipient| recipient.1)).await?;
    let (held, stale): (Vec<_>, Vec<_>) = recipients
        .into_iter()
        .partition(|(_, record_id, address)| record_id.is_none_or(|id| has(&emails, id, address)));
    let held = held.into_iter().map(|(id, _, address)| (address, id)).collect();
    Ok((held, stale.into_iter().map(|(id, _, address)| (id, address)).collect()))
}

/// Sets recipients' addresses to the current ones of their records. Recipients that had these
/// before lose them, and have none until their own messages are updated.
async fn give(tx: &Tx, stale: &[RunRecordId], new: Vec<(RunRecordId, &str)>) -> Result<()> {
    if !stale.is_empty() {
        run_record::Entity::update_many()
            .col_expr(run_record::Column::AddressKey, Expr::value(Option::<String>::None))
            .filter(any_of(tx.dialect(), run_record::COLUMN.id, stale.iter().copied()))
            .exec(tx.db())
            .await?;
    }
    let rows: Vec<_> = new
        .into_iter()
        .map(|(id, address)| json!({ "of_id": id.0.simple().to_string(), "to_address": address, "to_key": key(address) }))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let columns = [("of_id", Type::Uuid), ("to_address", Type::Text), ("to_key", Type::Text)];
    // A recipient that was written to keeps the address that was used; a person's mail is beside that.
    let sql = format!(
        "UPDATE run_record SET address = v.to_address, address_key = v.to_key FROM {} WHERE run_record.id = v.of_id \
         AND NOT EXISTS (SELECT 1 FROM communication c WHERE c.run_record_id = run_record.id AND c.occasion = 0 \
         AND c.status IN ('SENDING', 'SENT', 'UNKNOWN'))",
        tx.dialect().rows("$1", "v", &columns)
    );
    let backend = tx.db().get_database_backend();
    tx.db().execute_raw(Statement::from_sql_and_values(backend, sql, [json!(rows).into()])).await?;
    Ok(())
}

/// Sets the addresses of messages.
async fn write(tx: &Tx, run: &run::Model, moved: &[(&communication::Model, String)]) -> Result<()> {
    let moved: Vec<_> = moved.iter().filter(|(message, address)| message.to_address != *address).collect();
    if moved.is_empty() {
        return Ok(());
    }
    let rows = moved
        .iter()
        .map(|(message, address)| json!({ "of_id": message.id.0.simple().to_string(), "to_address": address }))
        .collect::<Vec<_>>();
    let columns = [("of_id", Type::Uuid), ("to_address", Type::Text)];
    let sql = format!(
        "UPDATE communication SET to_address = v.to_address, updated_at = $2, revision = revision + 1 FROM {} \
         WHERE communication.id = v.of_id",
        tx.dialect().rows("$1", "v", &columns)
    );
    let values = [json!(rows).into(), tx.now().into()];
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values)).await?;
    let engine = Viewer::engine(run.org_id);
    for (message, _) in moved {
        crate::domain::message::communication::emit_readdressed(tx, &engine, run, message);
    }
    Ok(())
}

/// Cancels approved messages, each with its reason, and returns them.
pub(super) async fn cancel(
    tx: &Tx,
    run: &run::Model,
    messages: &[(&communication::Model, RecipientReason, &'static str)],
) -> Result<Vec<communication::Model>> {
    let mut all = Vec::new();
    let engine = Viewer::engine(run.org_id);
    let mut by_reason: HashMap<String, Vec<CommunicationId>> = HashMap::new();
    for (message, reason, why) in messages {
        by_reason.entry(reason.with(Some(why))).or_default().push(message.id);
    }
    for (why, ids) in by_reason {
        let rows = communication::Entity::update_many()
            .col_expr(communication::Column::Status, Expr::value(CommunicationStatus::Cancelled.to_value()))
            .col_expr(communication::Column::Error, Expr::value(why.clone()))
            .col_expr(communication::Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(communication::Column::Revision, Expr::col(communication::Column::Revision).add(1))
            .filter(any_of(tx.dialect(), communication::COLUMN.id, ids))
            .filter(communication::COLUMN.status.eq(CommunicationStatus::Approved))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            let from = CommunicationStatus::Approved;
            crate::domain::message::communication::emit(
                tx,
                &engine,
                run,
                "communication.cancelled",
                row,
                from,
                Some(&why),
            );
        }
        all.extend(rows);
    }
    Ok(all)
}
