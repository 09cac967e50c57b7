//! The attendees of a meeting: who may be invited, and at which address.

use entity::id::*;
use entity::meeting::Attendee;
use entity::record as row;
use entity::{RunType, run};

use super::Invitee;
use crate::domain::audience::record;
use crate::domain::run::guided;
use crate::kernel::db::{Db, Tx};
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

/// Rejects guests outside the audience of a campaign's run, which is fixed: an invitation is a message to
/// a recipient. Errors: BAD_USER_INPUT.
pub(super) async fn check_may_be_invited(tx: &Tx, run: &run::Model, guests: &[Attendee]) -> Result<()> {
    if run.run_type == RunType::Guided {
        return Ok(());
    }
    let writable = guided::writable(tx.db(), run, guests.iter().filter_map(|guest| guest.record_id)).await?;
    for (i, guest) in guests.iter().enumerate() {
        let why = match guest.record_id {
            Some(id) if writable.contains(&id) => continue,
            Some(_) => format!("{}: {}", guest.name, guided::NOT_IN_AUDIENCE),
            None => format!("{}: a campaign's run invites only records of its audience", guest.email),
        };
        return Err(Refusal::input(&format!("attendees[{i}].recordId"), why).into());
    }
    Ok(())
}
