//! Records replies. A reply interrupts the record's open work and wakes the steps that wait for it;
//! if no step handles it, it becomes a follow-up. Either is stored with it.

use chrono::{DateTime, Utc};
use entity::communication::CommunicationStatus;
use entity::id::*;
use entity::reply::{ActiveModel, COLUMN, Entity, Model};
use entity::{ReplyStatus, StepStatus, communication};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, Set};
use serde_json::json;

use super::unreached::Family;
use super::{carried_replies, interrupt, must_find, must_lock};
use crate::domain::message::communication as ledger;
use crate::domain::message::reply::{ON_REPLY, SEARCH, follow_up, message_ids};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, WriteContext, error_codes};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable, validate};
use crate::transact;

/// A reply as received from the client.
#[derive(Clone, Debug)]
pub struct IncomingReply {
    /// Id of the message it answers; excludes the two headers.
    pub communication_id: Option<CommunicationId>,
    /// The header In-Reply-To, unparsed.
    pub message_id: Option<String>,
    /// The header References, used if In-Reply-To names none of our messages.
    pub references: Option<String>,
    /// The reply's id in the external system; each id is recorded once.
    pub external_id: Option<String>,
    /// Subject.
    pub subject: Option<String>,
    /// Text.
    pub body: String,
    /// Time of receipt; defaults to now.
    pub received_at: Option<DateTime<Utc>>,
}

/// Records a reply. Errors: NOT_FOUND, BAD_USER_INPUT; CONFLICT for a message that was never sent, or
/// of an erased record.
pub async fn record(db: &WriteContext, viewer: &Viewer, incoming: &IncomingReply) -> Result<Model> {
    if incoming.body.len() > limits::RENDERED_BYTES {
        return Err(Refusal::input("body", format!("at most {} bytes", limits::RENDERED_BYTES)).into());
    }
    if let Some(at) = incoming.received_at.filter(|at| *at > db.now() + limits::CLOCKS_APART) {
        let message = format!(
            "{} is more than {} s in the future, the allowed clock difference",
            at.to_rfc3339(),
            limits::CLOCKS_APART.num_seconds()
        );
        return Err(Refusal::input("receivedAt", message).into());
    }
    let subject = incoming.subject.as_deref().map(subject).transpose()?;
    let external_id = incoming.external_id.as_deref().map(|id| validate::name("externalId", id)).transpose()?;
    let found = answered(db, viewer, incoming).await?;
    transact!(db, |tx| {
        if !found.test {
            let answered = must_find(tx.db(), viewer, found.run_id).await?;
            Family::of(tx.db(), viewer, &answered).await?.lock(tx).await?;
        }
        let run = must_lock(tx, viewer, found.run_id, None).await?;
        crate::domain::audience::record::erasure::hold_off(tx, viewer, found.record_id.filter(|_| !found.test)).await?;
        if let Some(id) = &external_id {
            let before =
                Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.external_id.eq(id.clone()));
            if let Some(before) = before.one(tx.db()).await? {
                return same(before, found.id, id);
            }
        }
        let row = ActiveModel {
            id: Set(ReplyId::new()),
            org_id: Set(viewer.org_id),
            communication_id: Set(found.id),
            campaign_id: Set(found.campaign_id),
            run_id: Set(found.run_id),
            record_id: Set(found.record_id),
            channel: Set(found.channel),
            external_id: Set(external_id.clone()),
            subject: Set(subject.clone()),
            body: Set(incoming.body.clone()),
            received_at: Set(incoming.received_at.unwrap_or_else(|| tx.now())),
            recorded_by: Set(viewer.actor()),
            created_at: Set(tx.now()),
            test: Set(found.test),
            status: Set(ReplyStatus::Open),
            assignee_id: Set(None),
            handled_at: Set(None),
            handled_by: Set(None),
            note: Set(None),
            step_id: Set(None),
            follow_up_id: Set(None),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let mut reply = match row.insert(tx.db()).await {
            Err(err) if error_codes::is_duplicate(&err) => {
                return Err(
                    Refusal::conflict("a reply with this externalId is being recorded by another request").into()
                );
            }
            other => other?,
        };
        let search = format!("{}\n{}", reply.subject.as_deref().unwrap_or_default(), reply.body);
        Entity::update_many()
            .col_expr(SEARCH, Expr::value(storable::folded(&search)))
            .filter(COLUMN.id.eq(reply.id))
            .exec(tx.db())
            .await?;
        // A reply to a test message comes from the tester, not from the record.
        if let Some(id) = reply.record_id.filter(|_| !found.test) {
            crate::domain::audience::record::set_last_replied(tx, id, reply.received_at).await?;
        }
        let payload = json!({ "replyId": reply.id, "communicationId": found.id, "channel": reply.channel });
        let event = Event::new(run.org_id, "reply.received", &viewer.actor()).run(&run).record(reply.record_id);
        event::append(tx, event.payload(payload));
        interrupt::interrupt(tx, run.clone(), &[found.run_record_id], "reply.received").await?;
        if let Some(id) = reply.record_id.filter(|_| !found.test) {
            carried_replies::in_repeats(tx, viewer, &run, id).await?;
        }
        if let Some(step) = step_for(tx, &found).await? {
            let mut row = reply.into_active_model();
            row.step_id = Set(Some(step));
            reply = row.update(tx.db()).await?;
        } else if !found.test && found.campaign_id.is_some() {
            reply = follow_up::create(tx, viewer, &run, &found, reply).await?;
        }
        tx.set_result(reply.id);
        Ok(reply)
    })
}

/// Returns the reply recorded earlier with this id, if it answers the same message. Errors:
/// CONFLICT if it answers another one.
fn same(before: Model, communication_id: CommunicationId, external_id: &str) -> Result<Model> {
    if before.communication_id == communication_id {
        return Ok(before);
    }
    let message = format!(
        "externalId: `{}` is the id of a reply to {}: each reply needs its own id",
        validate::printable(external_id),
        before.communication_id
    );
    let refusal = Refusal::conflict(message).with("field", json!("externalId"));
    Err(refusal.with("replyId", json!(before.id)).with("communicationId", json!(before.communication_id)).into())
}

async fn answered(db: &Db, viewer: &Viewer, incoming: &IncomingReply) -> Result<communication::Model> {
    let found = match &incoming.communication_id {
        Some(_) if incoming.message_id.is_some() || incoming.references.is_some() => return Err(one_way().into()),
        Some(id) => ledger::must_find(db.read(), viewer, *id).await?,
        None => by_headers(db, viewer, incoming).await?,
    };
    let sent = [CommunicationStatus::Sending, CommunicationStatus::Sent, CommunicationStatus::Unknown];
    if !sent.contains(&found.status) && found.channel != entity::Channel::Phone {
        return Err(Refusal::conflict(format!("this message was never sent: it is {}", found.status)).into());
    }
    Ok(found)
}

fn one_way() -> Refusal {
    Refusal::input("communicationId", "give either communicationId, or messageId and references")
}

async fn by_headers(db: &Db, viewer: &Viewer, incoming: &IncomingReply) -> Result<communication::Model> {
    let mut seen = Vec::new();
    for (field, header) in [("messageId", &incoming.message_id), ("references", &incoming.references)] {
        let Some(header) = header else { continue };
        if header.len() > limits::HEADER_BYTES {
            return Err(Refusal::input(field, format!("at most {} bytes", limits::HEADER_BYTES)).into());
        }
        let ids = message_ids::of_header(header);
        if let Some(found) = message_ids::find(db.read(), viewer, &ids).await? {
            return Ok(found);
        }
        seen.extend(ids);
    }
    match (seen.first(), &incoming.message_id, &incoming.references) {
        (Some(first), ..) => {
            Err(Refusal::not_found("communication with Message-ID", validate::printable(first)).into())
        }
        (None, None, None) => Err(one_way().into()),
        (None, given, _) => {
            let field = if given.is_some() { "messageId" } else { "references" };
            Err(Refusal::input(
                field,
                "must contain a Message-ID, for example <communication_01h455vb4pex5vsknk084sn02q@mail.example>",
            )
            .into())
        }
    }
}

/// Unfolds a subject to one line. Errors: BAD_USER_INPUT if it is too long.
fn subject(text: &str) -> Result<String> {
    let most = limits::REPLY_SUBJECT_CHARS;
    let unfolded: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()).collect();
    let line = unfolded.join(" ");
    if line.chars().nth(most).is_some() {
        return Err(Refusal::input("subject", format!("at most {most} characters")).into());
    }
    Ok(line)
}

/// The open step that handles the reply: the newest one created for the recipient by this event, else
/// a single step that it woke.
async fn step_for(tx: &Tx, message: &communication::Model) -> Result<Option<StepId>> {
    use entity::step::{COLUMN as STEP, Column as Step, Entity as Steps};
    let woken = [StepStatus::Queued, StepStatus::InProgress, StepStatus::AwaitingApproval];
    let own = STEP.run_record_id.eq(message.run_record_id).and(STEP.status.is_in(StepStatus::OPEN));
    let single = Step::RunRecordId.is_null().and(any_of(tx.dialect(), STEP.status, woken));
    let steps = Steps::find()
        .filter(STEP.run_id.eq(message.run_id))
        .filter(STEP.trigger.eq(ON_REPLY))
        .filter(own.or(single))
        .order_by_asc(STEP.id)
        .all(tx.db())
        .await?;
    let found = steps.iter().rev().find(|step| step.run_record_id.is_some()).or(steps.first());
    Ok(found.map(|step| step.id))
}
