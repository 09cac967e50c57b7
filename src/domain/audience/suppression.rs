//! Finds, lists, adds, removes and looks up the addresses of the suppression list, which receive no
//! messages.
//!
//! One list applies to every way of sending. An entry added by a member or a worker (a bounce, a
//! complaint) blocks one channel. A record's opt-out adds its addresses and blocks every channel of
//! each, for every record with that address. Of an erased person only digests of the addresses are
//! kept.

pub(crate) mod erased;

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::suppression::{ActiveModel, COLUMN, Column, Entity, Model};
use entity::{Channel, record};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{
    ActiveEnum, ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, ModelTrait,
    QueryFilter, Set, Statement,
};
use serde_json::json;

use crate::kernel::db::batch::{any_of, insert_new};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext, error_codes};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(suppression, SuppressionId, "suppression");
paged!(suppression);

/// Skip reason of a recipient whose address was opted out.
pub const UNSUBSCRIBED: &str = "UNSUBSCRIBED";

/// Adds an address. Errors: BAD_USER_INPUT; CONFLICT if it is on the list already.
pub async fn create(
    db: &WriteContext,
    viewer: &Viewer,
    channel: Channel,
    address: &str,
    reason: &str,
) -> Result<Model> {
    let address = match channel {
        Channel::Email if address.contains(['*', '%']) => {
            let message =
                format!("`{}`: must be one address; patterns are not supported", validate::printable(address));
            return Err(Refusal::input("address", message).into());
        }
        Channel::Email => validate::email("address", address)?,
        Channel::Sms | Channel::Phone => validate::phone("address", address)?,
    };
    let reason = validate::name("reason", reason)?;
    transact!(db, |tx| {
        lock_exclusive(tx, viewer.org_id).await?;
        let row = ActiveModel {
            id: Set(SuppressionId::new()),
            org_id: Set(viewer.org_id),
            channel: Set(channel),
            address: Set(address.clone()),
            address_key: Set(key(&address)),
            reason: Set(reason.clone()),
            record_id: Set(None),
            created_by: Set(viewer.actor()),
            created_at: Set(tx.now_locked()),
        };
        let suppression = match row.insert(tx.db()).await {
            Err(err) if error_codes::is_duplicate(&err) => {
                return Err(Refusal::conflict(format!("{address} is on the list already")).into());
            }
            other => other?,
        };
        emit(tx, viewer, "suppression.created", &suppression);
        tx.set_result(suppression.id);
        Ok(suppression)
    })
}

/// Removes an address from the list and returns its entry. A former address of an opted-out record
/// can be removed; its current address can't. Errors: NOT_FOUND; CONFLICT for an opted-out record's
/// current address.
pub async fn delete(db: &WriteContext, viewer: &Viewer, id: SuppressionId) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_find(tx.db(), viewer, id).await?;
        let opted_out = |id| {
            let record = record::Entity::find_by_id(id).filter(record::COLUMN.org_id.eq(viewer.org_id));
            record.filter(record::COLUMN.unsubscribed_at.is_not_null())
        };
        if let Some(record_id) = found.record_id
            && let Some(record) = opted_out(record_id).one(tx.db()).await?
            && keys(std::slice::from_ref(&record)).contains(&found.address_key)
        {
            let message = format!(
                "{} was opted out with the record {record_id}: `updateRecord` with `unsubscribed: false` lifts it",
                found.address
            );
            return Err(Refusal::conflict(message).with("recordId", json!(record_id)).into());
        }
        found.clone().delete(tx.db()).await?;
        emit(tx, viewer, "suppression.deleted", &found);
        Ok(found)
    })
}

/// The normalised form in which addresses are compared.
pub fn key(address: &str) -> String {
    address.to_lowercase()
}

/// The records' normalised addresses on every channel.
pub(crate) fn keys(records: &[record::Model]) -> Vec<String> {
    let each = records.iter().flat_map(|record| [&record.email, &record.phone]);
    each.flatten().map(|address| key(address)).collect()
}

/// Adds the addresses of the opted-out records among `records`; existing entries of a record stay
/// as they are. Call it in the transaction that writes `unsubscribed_at`, or that changes the
/// address of an opted-out record.
pub(crate) async fn opt_out(tx: &Tx, viewer: &Viewer, records: &[record::Model]) -> Result<()> {
    let opted_out = || records.iter().filter(|record| record.unsubscribed_at.is_some());
    if opted_out().next().is_none() {
        return Ok(());
    }
    lock_exclusive(tx, viewer.org_id).await?;
    let at = tx.now_locked();
    let rows = opted_out().flat_map(|record| {
        let each = [(Channel::Email, &record.email), (Channel::Phone, &record.phone)];
        each.into_iter().filter_map(move |(channel, address)| {
            let address = address.as_ref()?;
            Some(ActiveModel {
                id: Set(SuppressionId::new()),
                org_id: Set(viewer.org_id),
                channel: Set(channel),
                address: Set(address.clone()),
                address_key: Set(key(address)),
                reason: Set(UNSUBSCRIBED.to_owned()),
                record_id: Set(Some(record.id)),
                created_by: Set(viewer.actor()),
                created_at: Set(at),
            })
        })
    });
    let once = OnConflict::columns([Column::OrgId, Column::AddressKey, Column::RecordId])
        .target_and_where(Expr::col(Column::RecordId).is_not_null())
        .do_nothing()
        .to_owned();
    let rows: Vec<ActiveModel> = rows.collect();
    insert_new(tx, rows, once).await
}

/// The record with the address that it had before the change that opted it out: that one is closed,
/// too.
pub(crate) fn as_before(before: &record::Model, after: &record::Model) -> record::Model {
    record::Model { unsubscribed_at: after.unsubscribed_at, ..before.clone() }
}

/// Returns those of the addresses that may still receive messages on their channel, each once.
pub(crate) async fn unlisted(tx: &Tx, viewer: &Viewer, all: &[(Channel, String)]) -> Result<Vec<(Channel, String)>> {
    let mut known: HashSet<(Channel, String)> = HashSet::new();
    for channel in [Channel::Email, Channel::Sms, Channel::Phone] {
        let of_it = all.iter().filter(|(of, _)| *of == channel).map(|(_, address)| key(address));
        let listed = find_suppressed(tx.db(), viewer.org_id, channel, &of_it.collect::<Vec<_>>()).await?;
        known.extend(listed.into_keys().map(|key| (channel, key)));
    }
    Ok(all.iter().filter(|(channel, address)| known.insert((*channel, key(address)))).cloned().collect())
}

/// Adds addresses that opted out without a record of their own.
pub(crate) async fn close(tx: &Tx, viewer: &Viewer, addresses: &[(Channel, String)]) -> Result<()> {
    if addresses.is_empty() {
        return Ok(());
    }
    lock_exclusive(tx, viewer.org_id).await?;
    let row = |(channel, address): &(Channel, String)| Model {
        id: SuppressionId::new(),
        org_id: viewer.org_id,
        channel: *channel,
        address: address.clone(),
        address_key: key(address),
        reason: UNSUBSCRIBED.to_owned(),
        record_id: None,
        created_by: viewer.actor(),
        created_at: tx.now_locked(),
    };
    let rows: Vec<Model> = addresses.iter().map(row).collect();
    let once = OnConflict::columns([Column::OrgId, Column::Channel, Column::AddressKey])
        .target_and_where(Expr::col(Column::RecordId).is_null())
        .do_nothing()
        .to_owned();
    rows.iter().for_each(|row| emit(tx, viewer, "suppression.created", row));
    insert_new(tx, rows.into_iter().map(|row| row.into_active_model().reset_all()), once).await
}

/// Removes the entries of one record's opt-out only: an address that another record opted out stays
/// blocked.
pub(crate) async fn remove_opt_out(tx: &Tx, id: RecordId) -> Result<()> {
    Entity::delete_many().filter(COLUMN.record_id.eq(id)).exec(tx.db()).await?;
    Ok(())
}

/// Returns the suppressed addresses among `keys` (normalised) on a channel, with the recipient's
/// skip reason.
pub(crate) async fn find_suppressed(
    db: &impl ConnectionTrait,
    org_id: OrgId,
    channel: Channel,
    keys: &[String],
) -> Result<HashMap<String, String>> {
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let digests = erased::by_digest(org_id, keys);
    let compared = keys.iter().chain(digests.keys()).cloned();
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(org_id))
        .filter(blocks(channel))
        .filter(any_of(db.get_database_backend(), COLUMN.address_key, compared))
        .all(db)
        .await?;
    let mut closed = HashMap::new();
    for row in found {
        let key = digests.get(&row.address_key).map_or(row.address_key, |key| (*key).clone());
        match row.record_id {
            Some(_) => drop(closed.insert(key, UNSUBSCRIBED.to_owned())),
            None => drop(closed.entry(key).or_insert_with(|| format!("SUPPRESSED: {}", row.reason))),
        }
    }
    Ok(closed)
}

/// A condition on the entries that block a channel: its own entries, and opt-outs of any channel.
fn blocks(channel: Channel) -> Condition {
    Condition::any().add(COLUMN.channel.eq(channel)).add(Column::RecordId.is_not_null())
}

/// An SQL condition: the record's address is on the list, by an opt-out or by an entry for the
/// channel.
pub(crate) fn is_suppressed(channel: Channel, address: &str, opted_out: bool) -> String {
    let entry = if opted_out {
        "s.record_id IS NOT NULL".to_owned()
    } else {
        format!("s.record_id IS NULL AND s.channel = '{}'", channel.to_value())
    };
    format!(
        "EXISTS (SELECT 1 FROM suppression s WHERE s.org_id = record.org_id AND s.address_key = LOWER({address}) AND {entry})"
    )
}

/// Takes the org's suppression lock exclusively until the transaction ends: no reservation commits
/// in the meantime, so entries added now apply to every later dispatch. Lock order: runs come
/// before it.
pub(crate) async fn lock_exclusive(tx: &Tx, org_id: OrgId) -> Result<()> {
    lock(tx, org_id, "pg_advisory_xact_lock").await
}

/// Takes the org's suppression lock in shared mode until the transaction ends: other reservations
/// go on, exclusive holders wait.
pub(crate) async fn lock_shared(tx: &Tx, org_id: OrgId) -> Result<()> {
    lock(tx, org_id, "pg_advisory_xact_lock_shared").await
}

async fn lock(tx: &Tx, org_id: OrgId, function: &str) -> Result<()> {
    if tx.dialect() == Dialect::Sqlite {
        // SQLite has one writer: its transactions are serial.
        return Ok(());
    }
    let (_, low) = org_id.0.as_u64_pair();
    let values = [low.cast_signed().into()];
    let sql = format!("SELECT {function}($1)");
    tx.db().execute_raw(Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values)).await?;
    Ok(())
}

fn emit(tx: &Tx, viewer: &Viewer, kind: &str, row: &Model) {
    let payload = json!({ "suppressionId": row.id, "channel": row.channel, "reason": row.reason });
    event::append(tx, Event::new(viewer.org_id, kind, &viewer.actor()).payload(payload));
}
