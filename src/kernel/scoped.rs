//! Macros for the queries that every table needs. Each takes the viewer, so that no query exists
//! without the org.
//!
//! They are macros because they declare functions in each noun's module, with concrete types:
//! callers write `goal::must_find(db, viewer, id)`, and the id's type is inferred from it. Generic
//! functions would need a trait with a table's columns, implemented as often as the macros are
//! called, and wrappers of the same length around them.

use entity::id::Id;
use serde_json::{Value, json};

use crate::kernel::db::Tx;
use crate::kernel::event::{self, Event};
use crate::kernel::viewer::Viewer;

/// Declares `find`, `find_all` and `must_find` for the rows of one table, and `NEWEST_FIRST`, their
/// default order.
macro_rules! scoped {
    ($table:ident, $id:ty, $noun:literal) => {
        /// The row, if it is in the viewer's org.
        pub async fn find(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::kernel::viewer::Viewer,
            id: $id,
        ) -> $crate::kernel::error::Result<Option<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            Ok(entity::$table::Entity::find_by_id(id)
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .one(db)
                .await?)
        }

        /// The rows that are in the viewer's org, in no order.
        pub async fn find_all(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::kernel::viewer::Viewer,
            ids: &[$id],
        ) -> $crate::kernel::error::Result<Vec<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            if ids.is_empty() {
                return Ok(Vec::new());
            }
            Ok(entity::$table::Entity::find()
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .filter($crate::kernel::db::batch::any_of(
                    db.get_database_backend(),
                    entity::$table::COLUMN.id,
                    ids.iter().copied(),
                ))
                .all(db)
                .await?)
        }

        /// The row. Errors: NOT_FOUND.
        pub async fn must_find(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::kernel::viewer::Viewer,
            id: $id,
        ) -> $crate::kernel::error::Result<entity::$table::Model> {
            find(db, viewer, id).await?.ok_or_else(|| $crate::kernel::error::Refusal::not_found($noun, id).into())
        }

        /// Order by id, newest first.
        pub const NEWEST_FIRST: $crate::kernel::page::Order<entity::$table::Entity> = $crate::kernel::page::Order {
            by: None,
            id: entity::$table::Column::Id,
            id_of: |row| row.id.0,
            descending: true,
            nulls_apart: false,
        };
    };
}

/// Declares `must_lock`, for rows whose changes depend on their state.
macro_rules! locked {
    ($table:ident, $id:ty, $noun:literal) => {
        /// The row, locked until the transaction ends. Errors: NOT_FOUND, CONFLICT if it is no
        /// longer at revision `expected`.
        pub(crate) async fn must_lock(
            tx: &$crate::kernel::db::Tx,
            viewer: &$crate::kernel::viewer::Viewer,
            id: $id,
            expected: Option<i32>,
        ) -> $crate::kernel::error::Result<entity::$table::Model> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
            let found = entity::$table::Entity::find_by_id(id)
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .lock_exclusive()
                .one(tx.db())
                .await?
                .ok_or_else(|| $crate::kernel::error::Refusal::not_found($noun, id))?;
            $crate::kernel::validate::expect($noun, found.revision, expected)?;
            Ok(found)
        }
    };
}

/// Declares `must_lock` and `save`, for rows that people change.
macro_rules! saved {
    ($table:ident, $id:ty, $noun:literal) => {
        locked!($table, $id, $noun);

        /// Persists the row and increments `revision` if something changed.
        pub(crate) async fn save(
            tx: &$crate::kernel::db::Tx,
            mut row: entity::$table::ActiveModel,
            revision: i32,
        ) -> $crate::kernel::error::Result<entity::$table::Model> {
            use sea_orm::{ActiveModelTrait, Set};
            if row.is_changed() {
                row.updated_at = Set(tx.now());
                row.revision = Set(revision + 1);
            }
            let saved = row.update(tx.db()).await?;
            tx.set_result(saved.id);
            Ok(saved)
        }
    };
}

/// Declares `must_lock` and `save` for a definition, whose changes have events without details, and
/// `created`, which announces a new one.
macro_rules! defined {
    ($table:ident, $id:ty, $noun:literal) => {
        locked!($table, $id, $noun);

        /// Persists the row, increments `revision` if something changed, and announces that.
        pub(crate) async fn save(
            tx: &$crate::kernel::db::Tx,
            viewer: &$crate::kernel::viewer::Viewer,
            mut row: entity::$table::ActiveModel,
            revision: i32,
        ) -> $crate::kernel::error::Result<entity::$table::Model> {
            use sea_orm::{ActiveModelTrait, Set};
            let is_changed = row.is_changed();
            if is_changed {
                row.updated_at = Set(tx.now());
                row.revision = Set(revision + 1);
            }
            let saved = row.update(tx.db()).await?;
            if is_changed {
                $crate::kernel::scoped::announce(tx, viewer, concat!(stringify!($table), ".updated"), saved.id, &saved);
            }
            tx.set_result(saved.id);
            Ok(saved)
        }

        /// Announces a row that was created.
        fn created(tx: &$crate::kernel::db::Tx, viewer: &$crate::kernel::viewer::Viewer, row: &entity::$table::Model) {
            $crate::kernel::scoped::announce(tx, viewer, concat!(stringify!($table), ".created"), row.id, row);
            tx.set_result(row.id);
        }
    };
}

/// Appends the event of a definition, with its id and its name.
pub(crate) fn announce(tx: &Tx, viewer: &Viewer, kind: &'static str, id: impl Id, row: &impl Named) {
    let payload = json!({ "id": id.to_string(), "name": row.named() });
    event::append(tx, Event::new(viewer.org_id, kind, &viewer.actor()).payload(payload));
}

/// Declares `delete`: rejected while one of the tables named uses the row, each with its column and
/// its noun; deletes the rows of the tables after `with`, too; the function after `before` runs
/// first; the function after `if` may reject it.
macro_rules! deleted {
    ($table:ident, $id:ty, $noun:literal;
     used by $($user:ident as $word:literal where $of_user:expr),* $(,)?;
     with $($own:ident.$of:ident),*
     $(; before $first:path)?
     $(; if $still:path)?) => {
        /// Deletes the row if nothing uses it, and returns it. Errors: NOT_FOUND; CONFLICT, naming
        /// its uses.
        pub async fn delete(
            db: &$crate::kernel::db::WriteContext,
            viewer: &$crate::kernel::viewer::Viewer,
            id: $id,
            expected: Option<i32>,
        ) -> $crate::kernel::error::Result<entity::$table::Model> {
            $crate::transact!(db, |tx| {
                let found = must_lock(tx, viewer, id, expected).await?;
                #[allow(unused_mut, reason = "not every noun is used by others")]
                let mut uses = $crate::kernel::references::References::default();
                $(
                    let org = (entity::$user::Column::OrgId, viewer.org_id);
                    let of = $of_user(id);
                    uses.look::<entity::$user::Entity>(tx.db(), org, of, $word, |row| {
                        (row.id.to_string(), $crate::kernel::scoped::Named::named(row))
                    })
                    .await?;
                )*
                uses.none($noun)?;
                $($first(tx, viewer, id).await?;)?
                $(
                    sea_orm::QueryFilter::filter(
                        <entity::$own::Entity as sea_orm::EntityTrait>::delete_many(),
                        $crate::kernel::references::is(entity::$own::Column::$of, id),
                    )
                    .exec(tx.db())
                    .await?;
                )*
                sea_orm::ModelTrait::delete(found.clone(), tx.db()).await?;
                $($still(tx, db, viewer, &found).await?;)?
                let payload = serde_json::json!({ "id": id, "name": $crate::kernel::scoped::Named::named(&found) });
                let kind = concat!(stringify!($table), ".deleted");
                let event = $crate::kernel::event::Event::new(viewer.org_id, kind, &viewer.actor()).payload(payload);
                $crate::kernel::event::append(tx, event);
                tx.set_result(id);
                Ok(found)
            })
        }
    };
}

/// The name of a row in messages that it uses another.
pub(crate) trait Named {
    /// Returns the name.
    fn named(&self) -> String;
}

// A macro because the rows share no trait for their names.
macro_rules! named {
    ($($table:ident: |$row:ident| $name:expr),* $(,)?) => {$(
        impl Named for entity::$table::Model {
            fn named(&self) -> String {
                let $row = self;
                $name
            }
        }
    )*};
}

named! {
    agent: |row| row.name.clone(),
    api_key: |row| row.name.clone(),
    campaign: |row| row.name.clone(),
    follow_up: |row| row.title.clone(),
    reply: |row| row.subject.clone().unwrap_or_else(|| row.id.to_string()),
    goal: |row| row.name.clone(),
    meeting: |row| row.title.clone(),
    member: |row| row.name.clone(),
    message_template: |row| row.name.clone(),
    record: |row| row.name.clone(),
    reviewer: |row| row.name.clone(),
    run_template: |row| row.name.clone(),
    run: |row| row.name.clone(),
    saved_view: |row| row.name.clone(),
    schedule: |row| row.name.clone().or_else(|| row.cron.clone()).unwrap_or_else(|| "once".into()),
    segment: |row| row.name.clone(),
    step: |row| row.name.clone(),
    writer: |row| row.name.clone(),
}

/// Declares `window` and `keep` for the versions of a noun.
macro_rules! versioned {
    ($table:ident, $of:ident, $of_id:ident: $id:ty, $version_id:ident) => {
        /// A window of the versions, newest first.
        pub fn window(
            viewer: &$crate::kernel::viewer::Viewer,
            id: $id,
            args: $crate::kernel::page::Args,
        ) -> $crate::kernel::error::Result<$crate::kernel::page::Window<entity::$table::Entity>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            let select = entity::$table::Entity::find()
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .filter(entity::$table::COLUMN.$of_id.eq(id));
            let fingerprint = $crate::kernel::page::fingerprint(&(stringify!($table), id))?;
            Ok($crate::kernel::page::Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
        }

        /// Stores the row's current version with the changes that led to it.
        pub(super) async fn keep(
            tx: &$crate::kernel::db::Tx,
            viewer: &$crate::kernel::viewer::Viewer,
            of: &entity::$of::Model,
            changes: serde_json::Value,
        ) -> $crate::kernel::error::Result<()> {
            use sea_orm::{ActiveModelTrait, Set};
            let row = entity::$table::ActiveModel {
                id: Set(entity::id::$version_id::new()),
                org_id: Set(of.org_id),
                $of_id: Set(of.id),
                version: Set(of.version),
                changes: Set(changes),
                actor: Set(viewer.actor()),
                created_at: Set(tx.now()),
            };
            row.insert(tx.db()).await?;
            Ok(())
        }
    };
}

/// The differences between two rows' fields, given by name, as a list of `{field, from, to}`.
pub(crate) fn differences<const N: usize>(before: [(&str, Value); N], after: [(&str, Value); N]) -> Value {
    let changed = before.into_iter().zip(after).filter(|((_, from), (_, to))| from != to);
    changed.map(|((field, from), (_, to))| json!({ "field": field, "from": from, "to": to })).collect()
}

/// Declares `page` and `count`: all rows of the viewer's org, newest first.
macro_rules! paged {
    ($table:ident) => {
        /// All rows of the viewer's org, newest first.
        pub async fn page(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::kernel::viewer::Viewer,
            args: &$crate::kernel::page::Args,
        ) -> $crate::kernel::error::Result<$crate::kernel::page::Page<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            let select = entity::$table::Entity::find().filter(entity::$table::COLUMN.org_id.eq(viewer.org_id));
            $crate::kernel::page::page(db, select, &NEWEST_FIRST, stringify!($table), args).await
        }

        paged!($table, count);
    };
    ($table:ident, $count:ident) => {
        /// Number of rows of the viewer's org.
        pub async fn $count(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::kernel::viewer::Viewer,
        ) -> $crate::kernel::error::Result<u64> {
            use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
            let select = entity::$table::Entity::find().filter(entity::$table::COLUMN.org_id.eq(viewer.org_id));
            Ok(select.count(db).await?)
        }
    };
}
