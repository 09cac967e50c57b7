//! Saved views: find, page, save and delete. A view keeps what a page of a front end shows; its
//! filter, order and settings are the front end's own, and nothing here interprets them.
//!
//! A private view exists for its owner alone: every query has this condition, not only the org's.
//! A member's private views go with the member; the shared ones stay, without an owner.

use entity::id::{MemberId, SavedViewId};
use entity::member::Role;
use entity::saved_view::{ActiveModel, COLUMN, Column, Entity, Model};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QuerySelect, Set,
};
use serde_json::{Value, json};

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Tx, WriteContext, error_codes};
use crate::kernel::error::{Code, Error, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Key, Order, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, row_limit, storable, validate};
use crate::transact;

/// Role of those who share a view, or change what a shared one shows.
const SHARES: Role = Role::Manager;

/// Alphabetical order, bytewise.
pub const BY_NAME: Order<Entity> = Order {
    by: Some((Column::Name, |row| Key::Text(row.name.clone()), false)),
    id: Column::Id,
    id_of: |row| row.id.0,
    descending: false,
    nulls_apart: false,
};

/// The views that the viewer sees: the org's shared ones and the viewer's own.
fn visible(viewer: &Viewer) -> Condition {
    let own = viewer.member_id().map(|id| Column::OwnerId.eq(id));
    let any = Condition::any().add(Column::Shared.eq(true)).add_option(own);
    Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(any)
}

/// The view, if the viewer sees it.
pub async fn find(db: &impl ConnectionTrait, viewer: &Viewer, id: SavedViewId) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(id).filter(visible(viewer)).one(db).await?)
}

/// The views with these ids that the viewer sees, in no order.
pub async fn find_all(db: &impl ConnectionTrait, viewer: &Viewer, ids: &[SavedViewId]) -> Result<Vec<Model>> {
    let these = any_of(db.get_database_backend(), COLUMN.id, ids.iter().copied());
    Ok(Entity::find().filter(visible(viewer)).filter(these).all(db).await?)
}

/// The view. Errors: NOT_FOUND, also for the private view of another member.
pub async fn must_find(db: &impl ConnectionTrait, viewer: &Viewer, id: SavedViewId) -> Result<Model> {
    find(db, viewer, id).await?.ok_or_else(|| Refusal::not_found("saved view", id).into())
}

/// A window of the views that the viewer sees, of one page or of all, in alphabetical order. Errors:
/// BAD_USER_INPUT for a page that can't exist.
pub fn window(viewer: &Viewer, page: Option<&str>, args: Args) -> Result<Window<Entity>> {
    let page = page.map(|page| validate::key("page", page)).transpose()?;
    let fingerprint = page::fingerprint(&("saved_view", &page))?;
    let mut select = Entity::find().filter(visible(viewer));
    if let Some(page) = page {
        select = select.filter(COLUMN.page.eq(page));
    }
    Ok(Window { select, order: BY_NAME, fingerprint, args, part: None })
}

/// Number of the views that the viewer sees, of one page or of all.
pub async fn count(db: &impl ConnectionTrait, viewer: &Viewer, page: Option<&str>) -> Result<u64> {
    Ok(window(viewer, page, Args::default())?.select.count(db).await?)
}

/// The fields of a view. In an update, only the given fields change; `Some(None)` removes a value.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The page; fixed on creation.
    pub page: Option<String>,
    /// The name.
    pub name: Option<String>,
    /// The filter, an object.
    pub filter: Option<Option<Value>>,
    /// The order, of any form.
    pub order_by: Option<Option<Value>>,
    /// Further settings, an object.
    pub settings: Option<Option<Value>>,
    /// True to show it to the whole org.
    pub shared: Option<bool>,
}

impl Fields {
    /// Validates every field. Errors: BAD_USER_INPUT naming the field.
    fn checked(&self) -> Result<Self> {
        let each = |field: &str, value: &Option<Option<Value>>, object: bool| -> Result<Option<Option<Value>>> {
            value.as_ref().map(|value| check_json(field, value.as_ref(), object)).transpose()
        };
        Ok(Self {
            page: self.page.as_deref().map(|page| validate::key("page", page)).transpose()?,
            name: self.name.as_deref().map(|name| validate::name("name", name)).transpose()?,
            filter: each("filter", &self.filter, true)?,
            order_by: each("orderBy", &self.order_by, false)?,
            settings: each("settings", &self.settings, true)?,
            shared: self.shared,
        })
    }
}

fn check_json(field: &str, value: Option<&Value>, object: bool) -> Result<Option<Value>> {
    let Some(value) = value else { return Ok(None) };
    if object && !value.is_object() {
        return Err(Refusal::input(field, "must be a JSON object").into());
    }
    if serde_json::to_vec(value)?.len() > limits::SAVED_VIEW_BYTES {
        return Err(Refusal::input(field, format!("at most {} bytes", limits::SAVED_VIEW_BYTES)).into());
    }
    storable::json(value).map_err(|unfit| unfit.of(field))?;
    Ok(Some(plain(value)))
}

/// The value with its integers as such, however they were written: both databases return it alike.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(storable::plain(number)),
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(parts) => parts.iter().map(|(name, part)| (name.clone(), plain(part))).collect(),
        other => other.clone(),
    }
}

/// Creates a view of the viewer's member, or with an id updates the given fields of one. Errors:
/// NOT_FOUND; BAD_USER_INPUT; LIMIT_EXCEEDED; FORBIDDEN to share it, or to change that of another
/// member; CONFLICT for an outdated revision, and for a name that the owner has on this page.
pub async fn save(
    db: &WriteContext,
    viewer: &Viewer,
    id: Option<SavedViewId>,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let fields = fields.checked()?;
    if id.is_none() && expected.is_some() {
        return Err(Refusal::input("expectedRevision", "a new view has none: give the `id`, too").into());
    }
    transact!(db, |tx| {
        let saved = match id {
            Some(id) => update(tx, viewer, id, expected, &fields).await?,
            None => create(tx, viewer, &fields).await?,
        };
        tx.set_result(saved.id);
        Ok(saved)
    })
}

async fn create(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let owner = viewer.member_id().ok_or_else(|| Refusal::new(Code::Forbidden, "only members have saved views"))?;
    let missing = |field| Refusal::input(field, "is required for a new view");
    let page = fields.page.clone().ok_or_else(|| missing("page"))?;
    let name = fields.name.clone().ok_or_else(|| missing("name"))?;
    let shared = fields.shared.unwrap_or(false);
    if shared {
        require(viewer, SHARES, "sharing a view")?;
    }
    let (of_org, most) = (Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)), limits::SAVED_VIEWS_OF_ORG);
    row_limit::check_below(tx, viewer.org_id, of_org, most, "name", "saved views").await?;
    // The org's views are created one after the other from here on.
    let (own, most) = (Entity::find().filter(Column::OwnerId.eq(owner)), limits::SAVED_VIEWS_OF_MEMBER);
    if own.count(tx.db()).await? >= most {
        return Err(Refusal::limit_for_field("name", format!("at most {most} saved views of one member")).into());
    }
    let row = ActiveModel {
        id: Set(SavedViewId::new()),
        org_id: Set(viewer.org_id),
        owner_id: Set(Some(owner)),
        page: Set(page),
        name: Set(name.clone()),
        filter: Set(fields.filter.clone().flatten()),
        order_by: Set(fields.order_by.clone().flatten()),
        settings: Set(fields.settings.clone().flatten()),
        shared: Set(shared),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let row = row.insert(tx.db()).await.map_err(|err| taken(err, &name))?;
    if row.shared {
        emit(tx, viewer, "saved_view.created", &row, &row.name);
    }
    Ok(row)
}

async fn update(tx: &Tx, viewer: &Viewer, id: SavedViewId, expected: Option<i32>, fields: &Fields) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    if fields.page.as_ref().is_some_and(|page| *page != found.page) {
        let message = format!("the view belongs to the page `{}` and stays there", validate::printable(&found.page));
        return Err(Refusal::input("page", message).into());
    }
    let shared = fields.shared.unwrap_or(found.shared);
    if shared {
        require(viewer, SHARES, "changing a shared view")?;
    } else if !is_own(viewer, &found) {
        let message = "only its owner can make a view private; an admin can delete it";
        return Err(Refusal::input("shared", message).into());
    }
    let (revision, was_shared, former_name) = (found.revision, found.shared, found.name.clone());
    let name = fields.name.clone().unwrap_or_else(|| former_name.clone());
    let mut row = found.into_active_model();
    row.name.set_if_not_equals(name.clone());
    row.shared.set_if_not_equals(shared);
    if let Some(filter) = &fields.filter {
        row.filter.set_if_not_equals(filter.clone());
    }
    if let Some(order_by) = &fields.order_by {
        row.order_by.set_if_not_equals(order_by.clone());
    }
    if let Some(settings) = &fields.settings {
        row.settings.set_if_not_equals(settings.clone());
    }
    let is_changed = row.is_changed();
    if is_changed {
        row.updated_at = Set(tx.now());
        row.revision = Set(revision + 1);
    }
    let row = row.update(tx.db()).await.map_err(|err| taken(err, &name))?;
    if is_changed && (was_shared || row.shared) {
        // The new name of a view that becomes private is its owner's alone.
        emit(tx, viewer, "saved_view.updated", &row, if row.shared { &row.name } else { &former_name });
    }
    Ok(row)
}

/// Deletes a view. Errors: NOT_FOUND; FORBIDDEN for a shared one of another member, unless the viewer
/// is an admin; CONFLICT for an outdated revision.
pub async fn delete(db: &WriteContext, viewer: &Viewer, id: SavedViewId, expected: Option<i32>) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        Entity::delete_by_id(id).exec(tx.db()).await?;
        if found.shared {
            emit(tx, viewer, "saved_view.deleted", &found, &found.name);
        }
        tx.set_result(id);
        Ok(found)
    })
}

/// Runs before a member is deleted: deletes the member's private views, and leaves the shared ones to
/// the org. Their names may repeat from then on.
pub(crate) async fn leave(tx: &Tx, viewer: &Viewer, member: MemberId) -> Result<()> {
    let own = Condition::all().add(COLUMN.org_id.eq(viewer.org_id)).add(Column::OwnerId.eq(member));
    Entity::delete_many().filter(own.clone()).filter(Column::Shared.eq(false)).exec(tx.db()).await?;
    let left = Entity::update_many()
        .col_expr(Column::OwnerId, Expr::value(Option::<MemberId>::None))
        .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(own)
        .exec_with_returning(tx.db())
        .await?;
    for row in left {
        emit(tx, viewer, "saved_view.updated", &row, &row.name);
    }
    Ok(())
}

/// The view, locked until the transaction ends, if the viewer may change it: the owner, and an admin
/// if it is shared. Errors: NOT_FOUND, FORBIDDEN, CONFLICT.
async fn must_lock(tx: &Tx, viewer: &Viewer, id: SavedViewId, expected: Option<i32>) -> Result<Model> {
    let found = Entity::find_by_id(id).filter(visible(viewer)).lock_exclusive().one(tx.db()).await?;
    let found = found.ok_or_else(|| Refusal::not_found("saved view", id))?;
    if !is_own(viewer, &found) {
        require(viewer, Role::Admin, "changing another member's view")?;
    }
    validate::expect("saved view", found.revision, expected)?;
    Ok(found)
}

fn is_own(viewer: &Viewer, view: &Model) -> bool {
    view.owner_id.is_some() && view.owner_id == viewer.member_id()
}

fn require(viewer: &Viewer, needed: Role, what: &str) -> Result<()> {
    if viewer.role.covers(needed) {
        return Ok(());
    }
    let message = format!("{what} requires the role {needed}; your role is {}", viewer.role);
    Err(Refusal::new(Code::Forbidden, message).with("role", json!(viewer.role)).with("needed", json!(needed)).into())
}

fn taken(err: DbErr, name: &str) -> Error {
    match error_codes::is_duplicate(&err) {
        true => {
            let message = format!("its owner has another view `{}` of this page", validate::printable(name));
            Refusal::conflict(message).with("field", json!("name")).into()
        }
        false => err.into(),
    }
}

/// Appends the event of a view that the whole org sees or saw. A private view has none: all members
/// read the log.
fn emit(tx: &Tx, viewer: &Viewer, kind: &str, row: &Model, name: &str) {
    let payload = json!({ "id": row.id, "name": name, "page": row.page, "shared": row.shared });
    event::append(tx, Event::new(viewer.org_id, kind, &viewer.actor()).payload(payload));
}
