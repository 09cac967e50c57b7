//! Suppressed addresses of erased people: only a one-way digest is kept, so that nobody writes to the
//! person again after a later import.
//!
//! Statements that compare addresses can't compute a digest. An address that comes back with a record
//! is therefore listed in plain again by `recall`; the digest blocks all other ways to use it.

use std::collections::{HashMap, HashSet};

use entity::id::*;
use entity::suppression::{ActiveModel, COLUMN, Column, Entity, Model};
use entity::{Channel, record};
use sea_orm::sea_query::{Expr, ExprTrait, Func, OnConflict};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect,
    Set,
};
use sha2::{Digest, Sha256};

use super::{UNSUBSCRIBED, key, lock_exclusive};
use crate::kernel::db::Tx;
use crate::kernel::db::batch::{any_of, insert_new};
use crate::kernel::error::Result;
use crate::kernel::limits;
use crate::kernel::viewer::Viewer;

/// Text in place of an erased one.
pub(crate) const ERASED: &str = "[erased]";

/// The one-way digest of a text, different in each org.
pub(crate) fn digest(org_id: OrgId, text: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(b"sortie.erased\0");
    hash.update(org_id.0.as_bytes());
    hash.update(text.as_bytes());
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// The normalised addresses by their digests.
pub(super) fn by_digest(org_id: OrgId, keys: &[String]) -> HashMap<String, &String> {
    keys.iter().map(|key| (digest(org_id, key), key)).collect()
}

/// Addresses among these that other records have which are not erased, each once. Reads all records:
/// call it before the transaction that erases.
pub(crate) async fn shared(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    id: RecordId,
    addresses: &[(Channel, String)],
) -> Result<Vec<(RecordId, String)>> {
    let mut found = Vec::new();
    for column in [record::Column::Email, record::Column::Phone] {
        let folded = || Expr::expr(Func::lower(Expr::col((record::Entity, column))));
        let keys = addresses.iter().map(|(_, address)| key(address));
        let of_others: Vec<(RecordId, Option<String>)> = record::Entity::find()
            .select_only()
            .columns([record::Column::Id, column])
            .filter(record::COLUMN.org_id.eq(viewer.org_id))
            .filter(record::COLUMN.id.ne(id))
            .filter(record::COLUMN.erased_at.is_null())
            .filter(any_of(db.get_database_backend(), folded(), keys))
            .limit(limits::CHUNK)
            .into_tuple()
            .all(db)
            .await?;
        found.extend(of_others.into_iter().filter_map(|(other, address)| Some((other, address?))));
    }
    Ok(found)
}

/// The addresses among these that still are a living record's, each once. Two records that share an
/// address may be erased at the same time.
async fn still_shared(tx: &Tx, share: &[(RecordId, String)]) -> Result<HashMap<String, String>> {
    if share.is_empty() {
        return Ok(HashMap::new());
    }
    let living = record::Entity::find()
        .filter(any_of(tx.dialect(), record::COLUMN.id, share.iter().map(|(other, _)| *other)))
        .filter(record::COLUMN.erased_at.is_null())
        .all(tx.db())
        .await?;
    let theirs = living.iter().flat_map(|record| [&record.email, &record.phone]).flatten();
    let theirs: HashSet<String> = theirs.map(|address| key(address)).collect();
    let share = share.iter().map(|(_, address)| (key(address), address.clone()));
    Ok(share.filter(|(key, _)| theirs.contains(key)).collect())
}

/// Replaces the entries of an erased record, and those of its addresses that refer to no record or to
/// another erased one, by digests. Opted out are the addresses given, which it has or had; those that
/// others `share` stay listed in plain, too. Requires the record's lock.
pub(crate) async fn close(
    tx: &Tx,
    viewer: &Viewer,
    id: RecordId,
    addresses: &[(Channel, String)],
    share: &[(RecordId, String)],
) -> Result<()> {
    lock_exclusive(tx, viewer.org_id).await?;
    let living = still_shared(tx, share).await?;
    let keys: HashSet<String> = addresses.iter().map(|(_, address)| key(address)).collect();
    let of_person = Condition::any().add(COLUMN.record_id.eq(id)).add(any_of(
        tx.dialect(),
        COLUMN.address_key,
        keys.iter().cloned(),
    ));
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(of_person).all(tx.db()).await?;
    let others: Vec<RecordId> = found.iter().filter_map(|row| row.record_id).collect();
    let others = record::Entity::find()
        .filter(any_of(tx.dialect(), record::COLUMN.id, others))
        .filter(record::COLUMN.erased_at.is_null())
        .all(tx.db())
        .await?;
    let kept: HashSet<RecordId> = others.iter().map(|row| row.id).filter(|other| *other != id).collect();
    let is_hidden = |row: &Model| match row.record_id {
        Some(of) => !kept.contains(&of),
        None => !living.contains_key(&row.address_key),
    };
    let found: Vec<Model> = found.into_iter().filter(is_hidden).collect();
    let ids = found.iter().map(|row| row.id);
    Entity::delete_many().filter(any_of(tx.dialect(), COLUMN.id, ids)).exec(tx.db()).await?;
    let mut rows: Vec<ActiveModel> = Vec::new();
    for row in found {
        let hidden = if row.address == ERASED { row.address_key.clone() } else { digest(row.org_id, &row.address_key) };
        let row = Model { address: ERASED.to_owned(), address_key: hidden, ..row };
        rows.push(row.into_active_model().reset_all());
    }
    let at = tx.now_locked();
    rows.extend(addresses.iter().map(|(channel, address)| ActiveModel {
        id: Set(SuppressionId::new()),
        org_id: Set(viewer.org_id),
        channel: Set(*channel),
        address: Set(ERASED.to_owned()),
        address_key: Set(digest(viewer.org_id, &key(address))),
        reason: Set(UNSUBSCRIBED.to_owned()),
        record_id: Set(Some(id)),
        created_by: Set(viewer.actor()),
        created_at: Set(at),
    }));
    insert(tx, rows).await?;
    list_again(tx, viewer, living.into_values().collect()).await
}

/// Lists the addresses of records in plain again that were suppressed for an erased person. Call it
/// in the transaction that writes the addresses.
pub(crate) async fn recall(tx: &Tx, viewer: &Viewer, records: &[record::Model]) -> Result<()> {
    let each = records.iter().flat_map(|record| [&record.email, &record.phone]).flatten();
    list_again(tx, viewer, each.cloned().collect()).await
}

/// Lists those of the addresses in plain that are listed by their digests.
async fn list_again(tx: &Tx, viewer: &Viewer, addresses: Vec<String>) -> Result<()> {
    let addresses: HashMap<String, String> =
        addresses.into_iter().map(|address| (digest(viewer.org_id, &key(&address)), address)).collect();
    if addresses.is_empty() {
        return Ok(());
    }
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(tx.dialect(), COLUMN.address_key, addresses.keys().cloned()))
        .all(tx.db())
        .await?;
    if found.is_empty() {
        return Ok(());
    }
    lock_exclusive(tx, viewer.org_id).await?;
    let at = tx.now_locked();
    let rows = found.into_iter().filter_map(|row| {
        let address = addresses.get(&row.address_key)?;
        let (id, address_key) = (SuppressionId::new(), key(address));
        // Without the erased record: its messages and runs are nobody's any more.
        let (record_id, address, created_by) = (None, address.clone(), viewer.actor());
        let row = Model { id, record_id, address, address_key, created_by, created_at: at, ..row };
        Some(row.into_active_model().reset_all())
    });
    insert(tx, rows.collect()).await
}

/// Inserts entries that are not on the list yet.
async fn insert(tx: &Tx, rows: Vec<ActiveModel>) -> Result<()> {
    let of_record = |row: &ActiveModel| row.record_id.try_as_ref().is_some_and(Option::is_some);
    let (opt_outs, listed): (Vec<ActiveModel>, Vec<ActiveModel>) = rows.into_iter().partition(of_record);
    let once = OnConflict::columns([Column::OrgId, Column::AddressKey, Column::RecordId])
        .target_and_where(Expr::col(Column::RecordId).is_not_null())
        .do_nothing()
        .to_owned();
    insert_new(tx, opt_outs, once).await?;
    let once = OnConflict::columns([Column::OrgId, Column::Channel, Column::AddressKey])
        .target_and_where(Expr::col(Column::RecordId).is_null())
        .do_nothing()
        .to_owned();
    insert_new(tx, listed, once).await
}
