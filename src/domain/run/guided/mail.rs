//! `sendStepEmail`: mail to one record or many, from within a step; through the same ledger, suppression and limits as a
//! campaign's.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::{Channel, record};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::json;

use super::active_step;
use super::suggestions::{self, Draft};
use crate::domain::audience::suppression;
use crate::domain::content::templating::{self, Message, Source};
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::message::send_queue;
use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{failpoint, limits};
use crate::transact;

/// What is written, and to whom.
#[derive(Clone, Debug)]
pub struct GuidedMail {
    /// From within which step.
    pub step_id: StepId,
    /// To these records.
    pub record_ids: Vec<RecordId>,
    /// The subject, with placeholders …
    pub subject: Option<String>,
    /// … and the text; both, or neither.
    pub body: Option<String>,
    /// In place of both: a message template, by id or name. Without either: as the step says.
    pub message_template: Option<String>,
    /// Whether an address that the step has written to may be written to once more.
    pub again: bool,
}

/// What a record would be sent.
#[derive(Clone, Debug)]
pub struct Preview {
    /// To whom.
    pub record: record::Model,
    /// What.
    pub draft: Draft,
    /// Why it would be held back on its way; none where it would not.
    pub suppressed: Option<String>,
    /// When the step wrote to the record or its address last; none where it did not.
    pub written_at: Option<DateTime<Utc>>,
}

/// Shows what would be sent, and sends nothing. Errors: as for sending, but for what is wrong with a single record.
pub async fn preview(db: &Db, viewer: &Viewer, letter: &GuidedMail) -> Result<Vec<Preview>> {
    let (records, drafts) = written(db, viewer, letter).await?;
    let keys: Vec<String> = records.iter().filter_map(|record| record.email.as_deref()).map(suppression::key).collect();
    let suppressed = suppression::among(db.read(), viewer.org_id, Channel::Email, &keys).await?;
    let before = before(db.read(), letter.step_id).await?;
    let each = records.into_iter().zip(drafts).map(|(record, draft)| {
        let written_at = before.to(&record).map(|message| message.sent_at.unwrap_or(message.created_at));
        let listed = record.email.as_deref().and_then(|email| suppressed.get(&suppression::key(email))).cloned();
        let unsubscribed = record.unsubscribed_at.map(|_| suppression::UNSUBSCRIBED.to_owned());
        Preview { suppressed: unsubscribed.or(listed), record, draft, written_at }
    });
    Ok(each.collect())
}

/// Lets the mails out: they go by themselves from then on, and what came of each is counted on the step. All or none.
/// Errors: NOT_FOUND; CONFLICT where the step is not in progress, or has written to one of the addresses and `again` does not
/// say that it may once more; BAD_USER_INPUT naming the record that has no address, or
/// for which a placeholder has no value.
pub async fn send(db: &Db, viewer: &Viewer, letter: &GuidedMail) -> Result<Vec<communication::Model>> {
    // Told before anything is rendered.
    let step = crate::domain::run::step::must_find(db.read(), viewer, letter.step_id).await?;
    let run = crate::domain::run::must_find(db.read(), viewer, step.run_id).await?;
    active_step::open(viewer, &run, &step)?;
    let (records, drafts) = written(db, viewer, letter).await?;
    for (i, (record, draft)) in records.iter().zip(&drafts).enumerate() {
        if let Some(problem) = &draft.problem {
            return Err(Refusal::input(&format!("recordIds[{i}]"), format!("{}: {problem}", record.name)).into());
        }
    }
    let sent = transact!(db, |tx| {
        let within = active_step::enter(tx, viewer, letter.step_id).await?;
        // Under the run's lock: of two who send at once, the second sees what the first has let out.
        let before = before(tx.db(), within.step.id).await?;
        let mut addressed: HashMap<String, &record::Model> = HashMap::new();
        let mut repeats = HashSet::new();
        for (i, record) in records.iter().enumerate() {
            let Some(key) = record.email.as_deref().map(suppression::key) else { continue };
            let (earlier, twin) = (before.to(record), addressed.insert(key, record));
            if (earlier.is_some() || twin.is_some()) && !letter.again {
                return Err(twice(i, record, earlier, twin).into());
            }
            if earlier.is_some() || twin.is_some() {
                repeats.insert(record.id);
            }
        }
        let occasion = send_queue::next_occasion(tx, within.step.id).await?;
        let (run, places) = super::places(tx, within.run, &records, false).await?;
        let mut messages = Vec::new();
        for (record, draft) in records.iter().zip(&drafts) {
            let (Some(place), Some(to)) = (places.get(&record.id), &draft.to) else { continue };
            let fresh = NewMessage {
                run: &run,
                step_id: within.step.id,
                place,
                channel: Channel::Email,
                to: to.clone(),
                name: record.name.clone(),
                message: Message { subject: Some(draft.subject.clone()), body: draft.body.clone() },
                occasion,
                again: repeats.contains(&record.id),
                acted_by: Some(viewer.actor()),
                meeting: None,
                test: false,
                domain: db.domain(),
            };
            messages.push(fresh.row(CommunicationStatus::Approved, tx.now()));
        }
        let (_, made) = send_queue::release(tx, viewer, run, messages).await?;
        failpoint::reach("posting");
        if let Some(first) = made.first() {
            tx.set_result(first.id);
        }
        Ok(made)
    })?;
    db.wake();
    Ok(sent)
}

/// The last message that a step has written to each address and to each record: on its way, gone, or of unknown fate.
struct Before {
    addresses: HashMap<String, communication::Model>,
    records: HashMap<RecordId, communication::Model>,
}

impl Before {
    /// What was written to a record, or to its address.
    fn to(&self, record: &record::Model) -> Option<&communication::Model> {
        let address = record.email.as_deref().and_then(|email| self.addresses.get(&suppression::key(email)));
        address.or_else(|| self.records.get(&record.id))
    }
}

/// What a step has written. Invitations to meetings are no letters.
async fn before(db: &impl ConnectionTrait, step: StepId) -> Result<Before> {
    use CommunicationStatus::{Approved, Sending, Sent, Unknown};
    let all = communication::Entity::find()
        .filter(communication::COLUMN.step_id.eq(step))
        .filter(communication::Column::MeetingId.is_null())
        .filter(communication::COLUMN.status.is_in([Approved, Sending, Sent, Unknown]))
        .order_by_asc(communication::COLUMN.id)
        .all(db)
        .await?;
    let mut before = Before { addresses: HashMap::new(), records: HashMap::new() };
    for message in all {
        if let Some(id) = message.record_id {
            before.records.insert(id, message.clone());
        }
        before.addresses.insert(suppression::key(&message.to_address), message);
    }
    Ok(before)
}

/// The refusal of a second letter to one address: by whom and when the first was let out, or which record shares it.
fn twice(
    i: usize,
    record: &record::Model,
    earlier: Option<&communication::Model>,
    twin: Option<&record::Model>,
) -> Refusal {
    let field = format!("recordIds[{i}]");
    let say = "; say `again: true` to write once more";
    let Some(earlier) = earlier else {
        let other = twin.map(|twin| twin.name.as_str()).unwrap_or_default();
        let told = format!("{} has the same address as {other}{say}", record.name);
        return Refusal::conflict(told).with("field", json!(field)).with("recordId", json!(record.id));
    };
    let by = earlier.acted_by.as_ref();
    let name = by.map_or("somebody", |by| by.name.as_str());
    let at = earlier.sent_at.unwrap_or(earlier.created_at);
    let told = format!("{name} wrote to {} from within this step at {}{say}", record.name, at.to_rfc3339());
    Refusal::conflict(told)
        .with("field", json!(field))
        .with("recordId", json!(record.id))
        .with("communicationId", json!(earlier.id))
        .with("sentBy", json!(by.map(|by| json!({ "kind": by.kind, "memberId": by.member_id, "name": by.name }))))
        .with("sentAt", json!(at))
}

/// What an earlier action sent: all messages of it, by one of them.
pub async fn again(db: &Db, viewer: &Viewer, id: CommunicationId) -> Result<Vec<communication::Model>> {
    let first = crate::domain::message::communication::must_find(db.read(), viewer, id).await?;
    Ok(communication::Entity::find()
        .filter(communication::COLUMN.org_id.eq(viewer.org_id))
        .filter(communication::COLUMN.step_id.eq(first.step_id))
        .filter(communication::COLUMN.occasion.eq(first.occasion))
        .order_by_asc(communication::COLUMN.id)
        .all(db.read())
        .await?)
}

/// The records in the order given, and what each would be sent.
async fn written(db: &Db, viewer: &Viewer, letter: &GuidedMail) -> Result<(Vec<record::Model>, Vec<Draft>)> {
    let records = records(db, viewer, ("recordIds", ""), &letter.record_ids).await?;
    let source = source(db, viewer, letter).await?;
    let drafts = suggestions::drafts(&source, &records).await?;
    Ok((records, drafts))
}

/// Records by their ids, in that order; told are the list of the input that has them, and what of each is its id. Errors:
/// BAD_USER_INPUT for none, or one that comes twice; LIMIT_EXCEEDED; NOT_FOUND.
pub(super) async fn records(
    db: &Db,
    viewer: &Viewer,
    (list, id_of): (&str, &str),
    ids: &[RecordId],
) -> Result<Vec<record::Model>> {
    if ids.is_empty() {
        return Err(Refusal::input(list, "say which records").into());
    }
    if ids.len() > limits::PAGE_MAX {
        return Err(Refusal::too_much(list, format!("at most {}", limits::PAGE_MAX)).into());
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
            return Err(Refusal::input(&format!("{list}[{i}]{id_of}"), format!("{id} comes twice")).into());
        }
        all.push(found.remove(id).ok_or_else(|| Refusal::not_found("record", id))?);
    }
    Ok(all)
}

async fn source(db: &Db, viewer: &Viewer, letter: &GuidedMail) -> Result<Source> {
    match (&letter.message_template, &letter.subject, &letter.body) {
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
            let step = crate::domain::run::step::must_find(db.read(), viewer, letter.step_id).await?;
            let run = crate::domain::run::must_find(db.read(), viewer, step.run_id).await?;
            let guide = active_step::guide(db.read(), &run, &step).await?;
            if guide.body.is_none() && guide.message_template.is_none() {
                return Err(Refusal::input("body", "this step says nothing to write: give subject and body").into());
            }
            suggestions::source(db, viewer, &guide).await
        }
        _ => Err(Refusal::input("body", "give subject and body, or messageTemplate, or neither").into()),
    }
}
