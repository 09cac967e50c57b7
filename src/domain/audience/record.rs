//! Records, the objects that campaigns work on: find, page, create. Runs react to updates, which
//! are in `run::record_change`.

pub mod erasure;
pub(crate) mod external_ids;
pub mod filter;
pub(crate) mod kept;
pub mod link;
pub mod timeline;
pub mod unsubscribe;

use chrono::{DateTime, Utc};
use entity::Channel;
use entity::id::RecordId;
use entity::record::{ActiveModel, COLUMN, Column, Entity, Model};
use entity::run_record::{Column as Place, Entity as InRun};
use entity::segment_record::{Column as Listed, Entity as OnList};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, Set,
};
use serde_json::{Value, json};

use crate::domain::audience::{kind, stage, suppression};
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, WriteContext, error_codes};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Key, Window};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable, validate};
use crate::transact;
use filter::ResolvedFilter;

scoped!(record, RecordId, "record");
saved!(record, RecordId, "record");
deleted!(record, RecordId, "record";
    used by campaign as "campaign" where |id: RecordId| is(entity::campaign::Column::RecordId, id),
        segment as "segment" where |id: RecordId| on_list(entity::segment::Column::Id, OnList, Listed::SegmentId, Listed::RecordId, id),
        run as "run" where |id: RecordId| on_list(entity::run::Column::Id, InRun, Place::RunId, Place::RecordId, id);
    with record_link.FromId, record_link.ToId;
    before erasure::keep_erased);

/// Sort key of a list of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, async_graphql::Enum, serde::Serialize)]
#[graphql(name = "RecordOrderField")]
pub enum SortBy {
    /// Time of creation.
    CreatedAt,
    /// Name.
    Name,
    /// Time of the last contact; records that were never contacted come last.
    LastContactedAt,
}

/// Returns a window of the records that match the filter. Errors: BAD_USER_INPUT, LIMIT_EXCEEDED.
pub fn window(
    db: &Db,
    viewer: &Viewer,
    filter: &ResolvedFilter,
    by: SortBy,
    descending: bool,
    args: Args,
) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = descending;
    order.by = match by {
        SortBy::CreatedAt => None,
        SortBy::Name => Some((Column::Name, |row| Key::Text(row.name.clone()), false)),
        SortBy::LastContactedAt => Some((Column::LastContactedAt, |row| row.last_contacted_at.into(), true)),
    };
    let select = Entity::find().filter(condition(db, viewer, filter)?);
    let fingerprint = page::fingerprint(&("record", by, descending, &filter.filter))?;
    Ok(Window { select, order, fingerprint, args, part: None })
}

/// Counts the records that match the filter.
pub async fn count(db: &Db, viewer: &Viewer, filter: &ResolvedFilter) -> Result<u64> {
    Ok(Entity::find().filter(condition(db, viewer, filter)?).count(db.read()).await?)
}

/// Returns the first `most` matching records, oldest first.
pub async fn sample(db: &Db, viewer: &Viewer, filter: &ResolvedFilter, most: u64) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(condition(db, viewer, filter)?)
        .order_by_asc(Column::Id)
        .limit(most)
        .all(db.read())
        .await?)
}

fn condition(db: &Db, viewer: &Viewer, filter: &ResolvedFilter) -> Result<Condition> {
    let met = filter.condition(db.dialect(), db.now())?;
    Ok(Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(met))
}

/// Builds a condition on the owners (segments, runs) whose list contains the record.
fn on_list<L: EntityTrait>(column: impl ColumnTrait, list: L, of: L::Column, record: L::Column, id: RecordId) -> Expr {
    let lists = Query::select().column(of).from(list).and_where(is(record, id)).to_owned();
    Expr::col(column.as_column_ref()).in_subquery(lists)
}

/// The record's address on a channel, as written and normalised. `None` if it has none.
pub fn address(record: &Model, channel: Channel) -> Option<(String, String)> {
    let address = match channel {
        Channel::Email => record.email.as_ref()?,
        Channel::Sms | Channel::Phone => record.phone.as_ref()?,
    };
    Some((address.clone(), suppression::key(address)))
}

/// The column that holds a channel's addresses.
pub(crate) fn address_column(channel: Channel) -> Column {
    match channel {
        Channel::Email => Column::Email,
        Channel::Sms | Channel::Phone => Column::Phone,
    }
}

/// The fields of a record. In an update, `None` leaves a field as it is and `Some(None)` clears it.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// `lead`, `contact` …; immutable after creation.
    pub kind: Option<String>,
    /// The record's id in the system it came from; immutable after creation.
    pub external_id: Option<String>,
    /// Name.
    pub name: Option<String>,
    /// Mail address.
    pub email: Option<Option<String>>,
    /// Telephone number.
    pub phone: Option<Option<String>>,
    /// IANA time zone.
    pub time_zone: Option<Option<String>>,
    /// Stage in the pipeline of its kind.
    pub stage: Option<Option<String>>,
    /// Time of the last contact.
    pub last_contacted_at: Option<Option<DateTime<Utc>>>,
    /// All attributes, a flat object that replaces the previous one.
    pub attributes: Option<Value>,
    /// True if the record has opted out of all messages.
    pub unsubscribed: Option<bool>,
}

impl Fields {
    /// Validates and normalises every field. Errors: BAD_USER_INPUT naming the field.
    pub fn checked(&self) -> Result<Self> {
        let each = |value: &Option<Option<String>>, check: &dyn Fn(&str) -> Result<String>| {
            value.as_ref().map(|inner| inner.as_deref().map(check).transpose()).transpose()
        };
        Ok(Self {
            kind: self.kind.as_deref().map(|kind| kind::check("kind", kind)).transpose()?,
            external_id: self.external_id.as_deref().map(|id| validate::key("externalId", id)).transpose()?,
            name: self.name.as_deref().map(|name| validate::name("name", name)).transpose()?,
            email: each(&self.email, &|text| validate::email("email", text))?,
            phone: each(&self.phone, &|text| validate::phone("phone", text))?,
            time_zone: each(&self.time_zone, &|text| Ok(validate::time_zone("timeZone", text)?.to_string()))?,
            stage: each(&self.stage, &|text| validate::name("stage", text))?,
            last_contacted_at: self.last_contacted_at,
            attributes: self.attributes.as_ref().map(|value| check_attributes("attributes", value)).transpose()?,
            unsubscribed: self.unsubscribed,
        })
    }
}

/// Validates attributes: a flat JSON object of bounded size.
pub fn check_attributes(field: &str, value: &Value) -> Result<Value> {
    let Some(object) = value.as_object() else {
        return Err(Refusal::input(field, "must be a JSON object").into());
    };
    if let Some((name, _)) = object.iter().find(|(_, value)| value.is_object() || value.is_array()) {
        return Err(Refusal::input(&format!("{field}.{name}"), "must be a string, a number, a boolean or null").into());
    }
    if serde_json::to_vec(value)?.len() > limits::ATTRIBUTES_BYTES {
        return Err(Refusal::input(field, format!("at most {} bytes", limits::ATTRIBUTES_BYTES)).into());
    }
    Ok(normalized(value.clone()))
}

/// Normalises attributes, or one value, to the stored form: names and strings in NFC, and integers
/// as integers however they are written: `1e3` and `-0.0` become 1000 and 0.
pub(crate) fn normalized(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(storable::plain(&number)),
        Value::String(text) => Value::String(storable::nfc(&text).into_owned()),
        Value::Object(fields) => Value::Object(
            fields.into_iter().map(|(name, value)| (storable::nfc(&name).into_owned(), normalized(value))).collect(),
        ),
        other => other,
    }
}

/// Creates a record. Errors: BAD_USER_INPUT; CONFLICT if one of this kind has the same external id.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Creates a record within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let fields = fields.checked()?;
    let missing = |field| Refusal::input(field, "is required");
    let (kind, name) = (fields.kind.ok_or_else(|| missing("kind"))?, fields.name.ok_or_else(|| missing("name"))?);
    if let Some(Some(stage)) = &fields.stage {
        stage::check_one(tx.db(), viewer, "stage", &kind, stage).await?;
    }
    let (email, external_id) = (fields.email.flatten(), fields.external_id);
    let row = ActiveModel {
        id: Set(RecordId::new()),
        org_id: Set(viewer.org_id),
        kind: Set(kind.clone()),
        external_id: Set(external_id.clone()),
        name: Set(name.clone()),
        email: Set(email.clone()),
        phone: Set(fields.phone.clone().flatten()),
        time_zone: Set(fields.time_zone.clone().flatten()),
        stage: Set(fields.stage.clone().flatten()),
        last_contacted_at: Set(fields.last_contacted_at.flatten()),
        priority: Set(fields.attributes.as_ref().map_or(0, priority)),
        last_replied_at: Set(None),
        unsubscribed_at: Set(fields.unsubscribed.unwrap_or(false).then_some(tx.now())),
        erased_at: Set(None),
        erasure_completed_at: Set(None),
        attributes: Set(fields.attributes.clone().unwrap_or_else(|| json!({}))),
        search: Set(search(&name, email.as_deref(), external_id.as_deref())),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    if external_id.is_some() {
        external_ids::lock(tx, viewer, &kind).await?;
    }
    let record = match row.insert(tx.db()).await {
        Err(err) if error_codes::is_duplicate(&err) => {
            return Err(Refusal::conflict(format!("another {kind} has this externalId already")).into());
        }
        other => other?,
    };
    suppression::opt_out(tx, viewer, std::slice::from_ref(&record)).await?;
    suppression::erased::recall(tx, viewer, std::slice::from_ref(&record)).await?;
    emit(tx, viewer, "record.created", &record, json!({}));
    tx.set_result(record.id);
    Ok(record)
}

/// Writes the given fields, which are checked, to a locked record, with its entries in the
/// suppression list. The caller announces the change. Errors: BAD_USER_INPUT.
pub(crate) async fn update_locked(tx: &Tx, viewer: &Viewer, before: &Model, fields: &Fields) -> Result<Model> {
    erasure::check_not_erased(before)?;
    if fields.kind.as_ref().is_some_and(|kind| *kind != before.kind) {
        return Err(Refusal::input("kind", "can't be changed after creation").into());
    }
    if fields.external_id.is_some() && fields.external_id != before.external_id {
        return Err(Refusal::input("externalId", "can't be changed after creation").into());
    }
    if let Some(Some(stage)) = fields.stage.as_ref().filter(|stage| **stage != before.stage) {
        stage::check_one(tx.db(), viewer, "stage", &before.kind, stage).await?;
    }
    let mut row = before.clone().into_active_model();
    apply(&mut row, before, fields, tx.now());
    let changed = row.is_changed();
    let record = save(tx, row, before.revision).await?;
    match (before.unsubscribed_at, record.unsubscribed_at) {
        (Some(_), None) => suppression::remove_opt_out(tx, before.id).await?,
        (_, Some(_)) if changed => {
            let former = suppression::as_before(before, &record);
            suppression::opt_out(tx, viewer, &[former, record.clone()]).await?;
        }
        _ => {}
    }
    if (&record.email, &record.phone) != (&before.email, &before.phone) {
        suppression::erased::recall(tx, viewer, std::slice::from_ref(&record)).await?;
    }
    Ok(record)
}

/// Sets `last_replied_at`, unless it is later already.
pub(crate) async fn set_last_replied(tx: &Tx, id: RecordId, at: DateTime<Utc>) -> Result<()> {
    Entity::update_many()
        .col_expr(Column::LastRepliedAt, Expr::value(at))
        .filter(COLUMN.id.eq(id))
        .filter(COLUMN.last_replied_at.is_null().or(COLUMN.last_replied_at.lt(at)))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Sets `last_contacted_at` to now for records that were just written to or called.
pub(crate) async fn set_last_contacted(tx: &Tx, ids: &[RecordId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    Entity::update_many()
        .col_expr(Column::LastContactedAt, Expr::value(tx.now()))
        .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
        .filter(COLUMN.last_contacted_at.is_null().or(COLUMN.last_contacted_at.lt(tx.now())))
        .exec(tx.db())
        .await?;
    Ok(())
}

fn apply(row: &mut ActiveModel, before: &Model, fields: &Fields, now: DateTime<Utc>) {
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(name.clone());
    }
    if let Some(email) = &fields.email {
        row.email.set_if_not_equals(email.clone());
    }
    if let Some(phone) = &fields.phone {
        row.phone.set_if_not_equals(phone.clone());
    }
    if let Some(zone) = &fields.time_zone {
        row.time_zone.set_if_not_equals(zone.clone());
    }
    if let Some(stage) = &fields.stage {
        row.stage.set_if_not_equals(stage.clone());
    }
    if let Some(at) = fields.last_contacted_at {
        row.last_contacted_at.set_if_not_equals(at);
    }
    if let Some(attributes) = &fields.attributes {
        row.attributes.set_if_not_equals(attributes.clone());
        row.priority.set_if_not_equals(priority(attributes));
    }
    match fields.unsubscribed {
        Some(true) if before.unsubscribed_at.is_none() => row.unsubscribed_at = Set(Some(now)),
        Some(false) => row.unsubscribed_at.set_if_not_equals(None),
        _ => {}
    }
    let name = fields.name.as_deref().unwrap_or(&before.name);
    let email = fields.email.clone().unwrap_or_else(|| before.email.clone());
    row.search.set_if_not_equals(search(name, email.as_deref(), before.external_id.as_deref()));
}

/// A record's priority: its attribute `priority` if that is a number or a numeric string, else 0.
pub fn priority(attributes: &Value) -> i32 {
    let number = match &attributes["priority"] {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    // Saturates at the bounds, as `as` does.
    number.filter(|number: &f64| number.is_finite()).map_or(0, |number| number as i32)
}

/// The case-folded text that searches look through.
pub fn search(name: &str, email: Option<&str>, external_id: Option<&str>) -> String {
    storable::folded(&format!("{name} {} {}", email.unwrap_or_default(), external_id.unwrap_or_default()))
}

/// Appends an event about a record.
pub(crate) fn emit(tx: &Tx, viewer: &Viewer, kind: &str, record: &Model, payload: Value) {
    let event = Event::new(viewer.org_id, kind, &viewer.actor()).record(Some(record.id)).payload(payload);
    event::append(tx, event);
}

/// Returns the ids that are not records of the viewer's org.
pub(crate) async fn missing(db: &impl ConnectionTrait, viewer: &Viewer, ids: &[RecordId]) -> Result<Vec<RecordId>> {
    let found: Vec<RecordId> = find_all(db, viewer, ids).await?.into_iter().map(|row| row.id).collect();
    Ok(ids.iter().copied().filter(|id| !found.contains(id)).collect())
}
