//! Links between records: directed, with a role ("lead → partnership"). Find, page, link, unlink.
//!
//! A role is a word like a kind of records, not free text: filters and templates name it, so it has
//! one spelling. Linking locks both records, so that neither is erased or deleted meanwhile and each
//! has at most [`limits::LINKS_OF_RECORD`] links in each direction. Links go with their records.

use std::collections::{BTreeSet, HashMap};

use async_graphql::Enum;
use entity::id::*;
use entity::record;
use entity::record_link::{COLUMN, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};
use serde::Serialize;
use serde_json::json;

use super::erasure::check_not_erased;
use crate::kernel::db::batch::{any_of, insert_all};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Code, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::limits;
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(record_link, RecordLinkId, "link");

/// The end of a link at which a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Enum, Serialize)]
#[graphql(name = "RecordLinkDirection")]
pub enum LinkDirection {
    /// Links that go from the record to others.
    From,
    /// Links that lead to the record from others.
    To,
}

/// The links that are listed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinksOf {
    /// The record.
    pub record_id: RecordId,
    /// End of the links at which the record stands.
    pub direction: LinkDirection,
    /// Only links with one of these roles; `None`: with any.
    pub roles: Option<Vec<String>>,
}

/// A window of a record's links, newest first. Errors: BAD_USER_INPUT for what is no role.
pub fn window(dialect: Dialect, viewer: &Viewer, of: &LinksOf, args: Args) -> Result<Window<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    select = match of.direction {
        LinkDirection::From => select.filter(COLUMN.from_id.eq(of.record_id)),
        LinkDirection::To => select.filter(COLUMN.to_id.eq(of.record_id)),
    };
    if let Some(roles) = &of.roles {
        select = select.filter(any_of(dialect, COLUMN.role, check_roles("roles", roles)?));
    }
    let fingerprint = page::fingerprint(&("record_link", of))?;
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// Validates a role: at most [`limits::LINK_ROLE_CHARS`] lower-case letters and `_`, the first a letter.
pub fn check_role(field: &str, role: &str) -> Result<String> {
    let fits = role.starts_with(|c: char| c.is_ascii_lowercase())
        && role.len() <= limits::LINK_ROLE_CHARS
        && role.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if fits {
        return Ok(role.to_owned());
    }
    let most = limits::LINK_ROLE_CHARS;
    let message = format!("must be 1 to {most} lower-case letters or `_`, the first a letter, like `partnership`");
    Err(Refusal::input(field, message).into())
}

/// Validates a list of roles. Errors: BAD_USER_INPUT naming the item.
pub(super) fn check_roles(path: &str, roles: &[String]) -> Result<Vec<String>> {
    roles.iter().enumerate().map(|(i, role)| check_role(&format!("{path}[{i}]"), role)).collect()
}

/// Links a record to another one, with a role. Without effect if it is linked so already: returns that
/// link. Errors: NOT_FOUND; BAD_USER_INPUT for a record and itself, and for what is no role; CONFLICT
/// with RECORD_ERASED; LIMIT_EXCEEDED.
pub async fn link(db: &WriteContext, viewer: &Viewer, from: RecordId, to: RecordId, role: &str) -> Result<Model> {
    let role = check_role("role", role)?;
    if from == to {
        return Err(Refusal::input("toId", "must be another record than `fromId`").into());
    }
    transact!(db, |tx| {
        hold(tx, viewer, &BTreeSet::from([from, to])).await?;
        let link = match of_ends(tx.db(), viewer, from, to, &role).await? {
            Some(link) => link,
            None => insert(tx, viewer, &BTreeSet::from([from]), to, &role, ("fromId", "toId")).await?.remove(0),
        };
        tx.set_result(link.id);
        Ok(link)
    })
}

/// Removes the link with a role between two records. Errors: NOT_FOUND; BAD_USER_INPUT for what is no
/// role.
pub async fn unlink(db: &WriteContext, viewer: &Viewer, from: RecordId, to: RecordId, role: &str) -> Result<Model> {
    let role = check_role("role", role)?;
    let missing = || Refusal::new(Code::NotFound, format!("no link {role} leads from {from} to {to}"));
    transact!(db, |tx| {
        let found = of_ends(tx.db(), viewer, from, to, &role).await?.ok_or_else(missing)?;
        // A concurrent request may have removed it since.
        if Entity::delete_by_id(found.id).exec(tx.db()).await?.rows_affected == 0 {
            return Err(missing().into());
        }
        tx.set_result(found.id);
        emit(tx, viewer, "record.unlinked", &found);
        Ok(found)
    })
}

/// Locks records that are to be linked, in the order of their ids. Call it after the runs are locked.
/// Errors: NOT_FOUND; CONFLICT with RECORD_ERASED.
pub(crate) async fn hold(tx: &Tx, viewer: &Viewer, ids: &BTreeSet<RecordId>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let held = record::Entity::find()
        .filter(record::COLUMN.org_id.eq(viewer.org_id))
        .filter(any_of(tx.dialect(), record::COLUMN.id, ids.iter().copied()))
        .order_by_asc(record::COLUMN.id)
        .lock_exclusive()
        .all(tx.db())
        .await?;
    if let Some(missing) = ids.iter().find(|id| !held.iter().any(|row| row.id == **id)) {
        return Err(Refusal::not_found("record", missing).into());
    }
    held.iter().try_for_each(check_not_erased)
}

/// Creates links from some records to one. Requires the locks of all of them, and that none is linked
/// so. `fields` are the names of both ends in errors. Errors: LIMIT_EXCEEDED.
pub(crate) async fn insert(
    tx: &Tx,
    viewer: &Viewer,
    from: &BTreeSet<RecordId>,
    to: RecordId,
    role: &str,
    fields: (&str, &str),
) -> Result<Vec<Model>> {
    let (of_from, of_to) = (counts(tx, Column::FromId, from).await?, counts(tx, Column::ToId, &[to].into()).await?);
    let most = limits::LINKS_OF_RECORD;
    if from.iter().any(|id| of_from.get(id).copied().unwrap_or_default() >= most) {
        return Err(Refusal::limit_for_field(fields.0, format!("at most {most} links from one record")).into());
    }
    if of_to.get(&to).copied().unwrap_or_default() + from.len() as u64 > most {
        return Err(Refusal::limit_for_field(fields.1, format!("at most {most} links to one record")).into());
    }
    let links: Vec<Model> = from
        .iter()
        .map(|from| Model {
            id: RecordLinkId::new(),
            org_id: viewer.org_id,
            from_id: *from,
            to_id: to,
            role: role.to_owned(),
            created_by: viewer.actor(),
            created_at: tx.now(),
        })
        .collect();
    insert_all(tx, links.iter().map(|link| link.clone().into_active_model().reset_all())).await?;
    for link in &links {
        emit(tx, viewer, "record.linked", link);
    }
    Ok(links)
}

/// Removes the links of a record that is erased. The event of the erasure stands for them. Requires the
/// record's lock.
pub(crate) async fn forget(tx: &Tx, id: RecordId) -> Result<()> {
    let of_record = Condition::any().add(COLUMN.from_id.eq(id)).add(COLUMN.to_id.eq(id));
    Entity::delete_many().filter(of_record).exec(tx.db()).await?;
    Ok(())
}

/// The number of links with each of some records at one end; records without links are omitted.
async fn counts(tx: &Tx, end: Column, ids: &BTreeSet<RecordId>) -> Result<HashMap<RecordId, u64>> {
    let found: Vec<(RecordId, i64)> = Entity::find()
        .select_only()
        .column(end)
        .column_as(Column::Id.count(), "count")
        .filter(any_of(tx.dialect(), end, ids.iter().copied()))
        .group_by(end)
        .into_tuple()
        .all(tx.db())
        .await?;
    Ok(found.into_iter().map(|(id, count)| (id, u64::try_from(count).unwrap_or_default())).collect())
}

async fn of_ends(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    from: RecordId,
    to: RecordId,
    role: &str,
) -> Result<Option<Model>> {
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.from_id.eq(from))
        .filter(COLUMN.to_id.eq(to))
        .filter(COLUMN.role.eq(role));
    Ok(found.one(db).await?)
}

/// Appends an event about a link; its record is the one that the link goes from.
fn emit(tx: &Tx, viewer: &Viewer, kind: &str, link: &Model) {
    let payload = json!({ "recordLinkId": link.id, "fromId": link.from_id, "toId": link.to_id, "role": link.role });
    event::append(tx, Event::new(viewer.org_id, kind, &viewer.actor()).record(Some(link.from_id)).payload(payload));
}
