//! Implements `sendStepEmail`: mail to one or more records from within a step, with the same
//! ledger, suppression and limits as campaign mail.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::{Channel, record, run};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use super::suggestions::{self, Draft};
use super::{NOT_IN_AUDIENCE, active_step};
use crate::domain::audience::record::erasure::{check_not_erased, hold_off};
use crate::domain::audience::suppression;
use crate::domain::content::templating::{self, Message, Source};
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::message::send_queue;
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::transact;

/// Mail to be sent from a step.
#[derive(Clone, Debug)]
pub struct GuidedMail {
    /// Step that sends it.
    pub step_id: StepId,
    /// Records to write to.
    pub record_ids: Vec<RecordId>,
    /// Subject with placeholders; given together with `body`, or not at all.
    pub subject: Option<String>,
    /// Body with placeholders.
    pub body: Option<String>,
    /// Message template by id or name, instead of subject and body. If none of these is given, the
    /// step's configuration applies.
    pub message_template: Option<String>,
    /// True to write again to an address that the step has already written to.
    pub is_repeat: bool,
}

/// Preview of the mail to one record.
#[derive(Clone, Debug)]
pub struct Preview {
    /// Record.
    pub record: record::Model,
    /// Rendered mail.
    pub draft: Draft,
    /// Reason for which sending would be suppressed; none if it would not.
    pub suppressed: Option<String>,
    /// Time at which the step last wrote to the record or its address; none if it did not.
    pub written_at: Option<DateTime<Utc>>,
}

/// Renders the mails without sending them. Errors: as for [`send`], except problems of a single
/// record.
pub async fn preview(db: &Db, viewer: &Viewer, mail: &GuidedMail) -> Result<Vec<Preview>> {
    let step = crate::domain::run::step::must_find(db.read(), viewer, mail.step_id).await?;
    let run = crate::domain::run::must_find(db.read(), viewer, step.run_id).await?;
    let (records, drafts) = render_drafts(db, viewer, mail, &run).await?;
    let keys: Vec<String> = records.iter().filter_map(|record| record.email.as_deref()).map(suppression::key).collect();
    let suppressed = suppression::find_suppressed(db.read(), viewer.org_id, Channel::Email, &keys).await?;
    let earlier_messages = earlier_messages(db.read(), mail.step_id).await?;
    let each = records.into_iter().zip(drafts).map(|(record, draft)| {
        let written_at = earlier_messages.to(&record).map(|message| message.sent_at.unwrap_or(message.created_at));
        let listed = record.email.as_deref().and_then(|email| suppressed.get(&suppression::key(email))).cloned();
        let unsubscribed = record.unsubscribed_at.map(|_| suppression::UNSUBSCRIBED.to_owned());
        Preview { suppressed: unsubscribed.or(listed), record, draft, written_at }
    });
    Ok(each.collect())
}

/// Approves the mails for sending; outcomes are counted on the step. All or nothing. Errors:
/// NOT_FOUND; CONFLICT if the step is not in progress, its campaign is paused, or it has written to one
/// of the addresses and `again` is not set; BAD_USER_INPUT naming a record without an address, with a placeholder
/// that has no value, or outside the audience of a campaign's run.
pub async fn send(db: &WriteContext, viewer: &Viewer, mail: &GuidedMail) -> Result<Vec<communication::Model>> {
    // Fails before anything is rendered.
    let step = crate::domain::run::step::must_find(db.read(), viewer, mail.step_id).await?;
    let run = crate::domain::run::must_find(db.read(), viewer, step.run_id).await?;
    active_step::open(viewer, &run, &step)?;
    let (records, drafts) = render_drafts(db, viewer, mail, &run).await?;
    for (i, (record, draft)) in records.iter().zip(&drafts).enumerate() {
        if let Some(problem) = &draft.problem {
            return Err(problem_of(i, record, problem).into());
        }
    }
    let sent = transact!(db, |tx| {
        let active = active_step::enter(tx, viewer, mail.step_id).await?;
        hold_off(tx, viewer, mail.record_ids.iter().copied()).await?;
        // Under the run's lock: of two concurrent sends, the second sees the first one's messages.
        let earlier_messages = earlier_messages(tx.db(), active.step.id).await?;
        let mut addressed: HashMap<String, &record::Model> = HashMap::new();
        let mut repeats = HashSet::new();
        for (i, record) in records.iter().enumerate() {
            let Some(key) = record.email.as_deref().map(suppression::key) else { continue };
            let (earlier, twin) = (earlier_messages.to(record), addressed.insert(key, record));
            if (earlier.is_some() || twin.is_some()) && !mail.is_repeat {
                return Err(duplicate_error(i, record, earlier, twin).into());
            }
            if earlier.is_some() || twin.is_some() {
                repeats.insert(record.id);
            }
        }
        let action_number = send_queue::next_action_number(tx, active.step.id).await?;
        let (run, recipients) = super::recipients(tx, active.run, &records, false).await?;
        let mut messages = Vec::new();
        for (i, (record, draft)) in records.iter().zip(&drafts).enumerate() {
            let Some(to) = &draft.to else { continue };
            let recipient = recipients.get(&record.id).ok_or_else(|| problem_of(i, record, NOT_IN_AUDIENCE))?;
            let fresh = NewMessage {
                run: &run,
                step_id: active.step.id,
                recipient,
                channel: Channel::Email,
                to: to.clone(),
                name: record.name.clone(),
                message: Message { subject: Some(draft.subject.clone()), body: draft.body.clone() },
                action_number,
                is_repeat: repeats.contains(&record.id),
                acted_by: Some(viewer.actor()),
                meeting: None,
                test: false,
                domain: db.domain(),
            };
            messages.push(fresh.row(CommunicationStatus::Approved, tx.now()));
        }
        let (_, created) = send_queue::release(tx, viewer, run, messages).await?;
        failpoint::reach("posting");
        if let Some(first) = created.first() {
            tx.set_result(first.id);
        }
        Ok(created)
    })?;
    db.wake();
    Ok(sent)
}

/// Rejection of a record that can't be written to.
fn problem_of(i: usize, record: &record::Model, problem: &str) -> Refusal {
    Refusal::input(&format!("recordIds[{i}]"), format!("{}: {problem}", record.name))
}

/// Last message of a step per address and per record: in flight, sent, or of unknown outcome.
struct EarlierMessages {
    addresses: HashMap<String, communication::Model>,
    records: HashMap<RecordId, communication::Model>,
}

impl EarlierMessages {
    /// Last message to a record or its address.
    fn to(&self, record: &record::Model) -> Option<&communication::Model> {
        let address = record.email.as_deref().and_then(|email| self.addresses.get(&suppression::key(email)));
        address.or_else(|| self.records.get(&record.id))
    }
}

/// Loads a step's earlier messages. Excludes invitations to meetings.
async fn earlier_messages(db: &impl ConnectionTrait, step: StepId) -> Result<EarlierMessages> {
    use CommunicationStatus::{Approved, Sending, Sent, Unknown};
    let all = communication::Entity::find()
        .filter(communication::COLUMN.step_id.eq(step))
        .filter(communication::Column::MeetingId.is_null())
        .filter(communication::COLUMN.status.is_in([Approved, Sending, Sent, Unknown]))
        .order_by_asc(communication::COLUMN.id)
        .all(db)
        .await?;
    let mut earlier = EarlierMessages { addresses: HashMap::new(), records: HashMap::new() };
    for message in all {
        if let Some(id) = message.record_id {
            earlier.records.insert(id, message.clone());
        }
        earlier.addresses.insert(suppression::key(&message.to_address), message);
    }
    Ok(earlier)
}

/// Error of a second mail to one address: names the sender and time of the first, or the record
/// that shares the address.
fn duplicate_error(
    i: usize,
    record: &record::Model,
    earlier: Option<&communication::Model>,
    twin: Option<&record::Model>,
) -> Refusal {
    let field = format!("recordIds[{i}]");
    let hint = "; set `again: true` to write once more";
    let Some(earlier) = earlier else {
        let other = twin.map(|twin| twin.name.as_str()).unwrap_or_default();
        let message = format!("{} has the same address as {other}{hint}", record.name);
        return Refusal::conflict(message).with("field", json!(field)).with("recordId", json!(record.id));
    };
    let by = earlier.acted_by.as_ref();
    let name = by.map_or("somebody", |by| by.name.as_str());
    let at = earlier.sent_at.unwrap_or(earlier.created_at);
    let message = format!("{name} wrote to {} from within this step at {}{hint}", record.name, at.to_rfc3339());
    Refusal::conflict(message)
        .with("field", json!(field))
        .with("recordId", json!(record.id))
        .with("communicationId", json!(earlier.id))
        .with("sentBy", json!(by.map(|by| json!({ "kind": by.kind, "memberId": by.member_id, "name": by.name }))))
        .with("sentAt", json!(at))
}

/// Reloads all messages of an earlier send action, given one of them.
pub async fn replay(db: &Db, viewer: &Viewer, id: CommunicationId) -> Result<Vec<communication::Model>> {
    let first = crate::domain::message::communication::must_find(db.read(), viewer, id).await?;
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.org_id.eq(viewer.org_id))
        .filter(communication::COLUMN.step_id.eq(first.step_id))
        .filter(communication::COLUMN.action_number.eq(first.action_number))
        .order_by_asc(communication::COLUMN.id)
        .all(db.read())
        .await?)
}

/// Loads the records in the given order, and renders their mails.
async fn render_drafts(
    db: &Db,
    viewer: &Viewer,
    mail: &GuidedMail,
    run: &run::Model,
) -> Result<(Vec<record::Model>, Vec<Draft>)> {
    let records = records(db, viewer, ("recordIds", ""), &mail.record_ids).await?;
    let writable = super::writable(db.read(), run, mail.record_ids.iter().copied()).await?;
    let source = source(db, viewer, mail).await?;
    let mut drafts = suggestions::drafts(&source, &records).await?;
    for (record, draft) in records.iter().zip(&mut drafts) {
        if !writable.contains(&record.id) {
            draft.problem.get_or_insert_with(|| NOT_IN_AUDIENCE.to_owned());
        }
    }
    Ok((records, drafts))
}

/// Loads records by id, keeping the order. `list` and `id_of` locate an id in the input, for error
/// messages. Errors: BAD_USER_INPUT for an empty list or a duplicate; LIMIT_EXCEEDED; NOT_FOUND;
/// CONFLICT for an erased one.
pub(super) async fn records(
    db: &Db,
    viewer: &Viewer,
    (list, id_of): (&str, &str),
    ids: &[RecordId],
) -> Result<Vec<record::Model>> {
    if ids.is_empty() {
        return Err(Refusal::input(list, "name at least one record").into());
    }
    if ids.len() > limits::PAGE_MAX {
        return Err(Refusal::limit_for_field(list, format!("at most {}", limits::PAGE_MAX)).into());
    }
    let mut found: HashMap<RecordId, record::Model> = crate::domain::audience::record::find_all(db.read(), viewer, ids)
        .await?
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for (i, id) in ids.iter().enumerate() {
        if !seen.insert(*id) {
            return Err(Refusal::input(&format!("{list}[{i}]{id_of}"), format!("{id} is listed twice")).into());
        }
        let record = found.remove(id).ok_or_else(|| Refusal::not_found("record", id))?;
        check_not_erased(&record)?;
        all.push(record);
    }
    Ok(all)
}

async fn source(db: &Db, viewer: &Viewer, mail: &GuidedMail) -> Result<Source> {
    match (&mail.message_template, &mail.subject, &mail.body) {
        (Some(named), None, None) => {
            let template = suggestions::template(db, viewer, named).await?;
            Ok(suggestions::text(viewer, template.subject, template.body))
        }
        (None, Some(subject), Some(body)) => {
            templating::check("subject", subject)?;
            templating::check("body", body)?;
            Ok(suggestions::text(viewer, Some(subject.clone()), body.clone()))
        }
        (None, None, None) => {
            let step = crate::domain::run::step::must_find(db.read(), viewer, mail.step_id).await?;
            let run = crate::domain::run::must_find(db.read(), viewer, step.run_id).await?;
            let guide = active_step::guide(db.read(), &run, &step).await?;
            if guide.body.is_none() && guide.message_template.is_none() {
                return Err(Refusal::input("body", "this step has no default text: give subject and body").into());
            }
            suggestions::source(db, viewer, &guide).await
        }
        _ => Err(Refusal::input("body", "give subject and body, or messageTemplate, or neither").into()),
    }
}
