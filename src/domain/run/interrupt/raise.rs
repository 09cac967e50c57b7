//! Custom events raised by clients.

use entity::id::*;
use entity::run_record;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::Value;

use super::{interrupt, interrupt_records, store_early};
use crate::domain::run::must_lock;
use crate::kernel::db::WriteContext;
use crate::kernel::db::batch::any_of;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event, kinds};
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// Raises an event about records or about a run as a whole: appends it to the log, wakes the steps
/// that wait for it, and interrupts phases. Errors: NOT_FOUND; BAD_USER_INPUT for a name that is
/// not `noun.what_happened`, or that is reserved; LIMIT_EXCEEDED for a large payload about many
/// records.
pub async fn raise(
    db: &WriteContext,
    viewer: &Viewer,
    name: &str,
    run: Option<RunId>,
    records: &[RecordId],
    payload: Value,
) -> Result<()> {
    let name = check_name(name)?;
    if records.len() > limits::NODES {
        return Err(Refusal::limit_for_field("recordIds", format!("at most {}", limits::NODES)).into());
    }
    if run.is_none() && records.is_empty() {
        return Err(Refusal::input("recordIds", "name at least one record, or a run").into());
    }
    crate::domain::audience::record::check_attributes("payload", &payload)?;
    // Each record gets an event of its own, with the payload.
    let bytes = payload.to_string().len() * records.len();
    if bytes > limits::RAISED_BYTES {
        let message = format!(
            "the payload of all {} records together exceeds {} bytes: raise the event for fewer records at once, or with a \
             smaller payload",
            records.len(),
            limits::RAISED_BYTES
        );
        return Err(Refusal::limit_for_field("payload", message).into());
    }
    transact!(db, |tx| {
        if let Some(id) = crate::domain::audience::record::missing(tx.db(), viewer, records).await?.first() {
            return Err(Refusal::not_found("record", id).into());
        }
        if let Some(id) = run {
            let run = must_lock(tx, viewer, id, None).await?;
            if records.is_empty() {
                let event = Event::raised(viewer.org_id, name.clone(), &viewer.actor()).run(&run);
                event::append(tx, event.payload(payload.clone()));
            }
            let mut recipients = run_record::Entity::find().filter(run_record::COLUMN.run_id.eq(id));
            recipients = recipients.filter(any_of(tx.dialect(), run_record::COLUMN.record_id, records.iter().copied()));
            let recipients: Vec<RunRecordId> =
                recipients.all(tx.db()).await?.into_iter().map(|recipient| recipient.id).collect();
            store_early(tx, &run, records, &name).await?;
            // An event about records of which none is a recipient yet is not one about the whole run.
            if records.is_empty() || !recipients.is_empty() {
                interrupt(tx, run, &recipients, &name).await?;
            }
        }
        for id in records {
            let event = Event::raised(viewer.org_id, name.clone(), &viewer.actor()).record(Some(*id));
            event::append(tx, event.payload(payload.clone()));
        }
        if run.is_none() {
            interrupt_records(tx, viewer, records, &name, None).await?;
        }
        match (run, records.first()) {
            (Some(id), _) => tx.set_result(id),
            (None, Some(id)) => tx.set_result(*id),
            (None, None) => {}
        }
        Ok(())
    })
}

fn check_name(name: &str) -> Result<String> {
    let word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    match name.split_once('.') {
        Some((noun, _)) if kinds::is_ours(name) => {
            let message = format!("events of a {noun} are emitted by the server only; use a noun of your own");
            Err(Refusal::input("name", message).into())
        }
        Some((noun, what)) if name.len() <= limits::EVENT_NAME_BYTES && word(noun) && word(what) => Ok(name.to_owned()),
        _ => {
            let limit = limits::EVENT_NAME_BYTES;
            let message =
                format!("a noun and what happened, like `payment.received`: a-z, 0-9 and _, at most {limit} in all");
            Err(Refusal::input("name", message).into())
        }
    }
}
