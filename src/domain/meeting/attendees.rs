//! The attendees of a meeting: who may be invited, and at which address.

use std::collections::HashMap;

use entity::id::*;
use entity::meeting::{Attendee, Model};
use entity::{RunType, record as row, run, run_record};
use serde_json::json;

use super::Invitee;
use crate::domain::audience::record;
use crate::domain::run::guided;
use crate::kernel::db::Db;
use crate::kernel::error::{Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Validates the invitees. Returns the attendees, and the records among them.
pub(super) async fn of(db: &Db, viewer: &Viewer, guests: &[Invitee]) -> Result<(Vec<Attendee>, Vec<row::Model>)> {
    if guests.is_empty() || guests.len() > limits::NODES {
        return Err(Refusal::input("attendees", format!("must have 1 to {} entries", limits::NODES)).into());
    }
    let ids: Vec<RecordId> = guests.iter().filter_map(|guest| guest.record_id).collect();
    let records = record::find_all(db.read(), viewer, &ids).await?;
    records.iter().try_for_each(record::erasure::check_not_erased)?;
    let mut all: Vec<Attendee> = Vec::new();
    for (i, guest) in guests.iter().enumerate() {
        let at = |field: &str| format!("attendees[{i}].{field}");
        let record = match guest.record_id {
            Some(id) => Some(records.iter().find(|row| row.id == id).ok_or_else(|| Refusal::not_found("record", id))?),
            None => None,
        };
        let email = guest.email.clone().or_else(|| record.and_then(|record| record.email.clone()));
        let email = match (email, record) {
            (Some(email), _) => validate::email(&at("email"), &email)?,
            (None, Some(record)) => {
                return Err(Refusal::input(&at("recordId"), format!("{}: it has no mail address", record.name)).into());
            }
            (None, None) => return Err(Refusal::input(&at("email"), "give a recordId or an email").into()),
        };
        if guest.record_id.is_some() && all.iter().any(|one| one.record_id == guest.record_id) {
            return Err(Refusal::input(&at("recordId"), format!("{email} is invited twice")).into());
        }
        if all.iter().any(|one| one.email.eq_ignore_ascii_case(&email)) {
            return Err(Refusal::input(&at("email"), format!("{email} is invited twice")).into());
        }
        let name = guest.name.clone().or_else(|| record.map(|record| record.name.clone())).unwrap_or_default();
        if !name.is_empty() {
            validate::name(&at("name"), &name)?;
        }
        all.push(Attendee { name, email, record_id: guest.record_id });
    }
    Ok((all, records))
}

/// Rejects attendees that are not in the audience of a campaign's run.
pub(super) fn in_audience(
    run: &run::Model,
    meeting: &Model,
    records: &[row::Model],
    recipients: &HashMap<RecordId, run_record::Model>,
) -> Result<()> {
    if run.run_type == RunType::Guided {
        return Ok(());
    }
    for (i, one) in meeting.attendees.0.iter().enumerate() {
        let Some(id) = one.record_id else {
            let message = format!("{} is not in the run's audience: invite it from guided work", one.email);
            return Err(Refusal::conflict(message).with("field", json!(format!("attendees[{i}].email"))).into());
        };
        // A record deleted since stays in the audience without an id.
        if let Some(record) = records.iter().find(|record| record.id == id) {
            guided::must_be_recipient(recipients, record, &format!("attendees[{i}].recordId"))?;
        }
    }
    Ok(())
}
