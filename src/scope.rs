//! `scoped!`: the finders that every noun has. Each takes the viewer; there is none without the org.

/// Declares `find`, `find_all` and `must_find` for the rows of one table, and `NEWEST_FIRST`, their plainest order.
macro_rules! scoped {
    ($table:ident, $id:ty, $noun:literal) => {
        /// The row, if the viewer's org has it.
        pub async fn find(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::viewer::Viewer,
            id: $id,
        ) -> $crate::error::Result<Option<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            Ok(entity::$table::Entity::find_by_id(id)
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .one(db)
                .await?)
        }

        /// Those of the rows that the viewer's org has, in no order.
        pub async fn find_all(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::viewer::Viewer,
            ids: &[$id],
        ) -> $crate::error::Result<Vec<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            Ok(entity::$table::Entity::find()
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .filter(entity::$table::COLUMN.id.is_in(ids.iter().copied()))
                .all(db)
                .await?)
        }

        /// The row. Errors: NOT_FOUND.
        pub async fn must_find(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::viewer::Viewer,
            id: $id,
        ) -> $crate::error::Result<entity::$table::Model> {
            find(db, viewer, id).await?.ok_or_else(|| $crate::error::Refusal::not_found($noun, id).into())
        }

        /// By id, the newest first.
        pub const NEWEST_FIRST: $crate::page::Order<entity::$table::Entity> =
            $crate::page::Order { by: None, id: entity::$table::Column::Id, id_of: |row| row.id.0, descending: true };
    };
}

/// Declares `must_lock`, for rows whose changes are decided on what they are.
macro_rules! locked {
    ($table:ident, $id:ty, $noun:literal) => {
        /// The row, locked until the transaction ends. Errors: NOT_FOUND, CONFLICT when it is not at `expected` any more.
        pub(crate) async fn must_lock(
            tx: &$crate::db::Tx,
            viewer: &$crate::viewer::Viewer,
            id: $id,
            expected: Option<i32>,
        ) -> $crate::error::Result<entity::$table::Model> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
            let found = entity::$table::Entity::find_by_id(id)
                .filter(entity::$table::COLUMN.org_id.eq(viewer.org_id))
                .lock_exclusive()
                .one(tx.db())
                .await?
                .ok_or_else(|| $crate::error::Refusal::not_found($noun, id))?;
            $crate::input::expect($noun, found.revision, expected)?;
            Ok(found)
        }
    };
}

/// Declares `must_lock` and `save`, for rows that people change.
macro_rules! saved {
    ($table:ident, $id:ty, $noun:literal) => {
        locked!($table, $id, $noun);

        /// Writes what was changed, counts it as one revision, and has it shown to who asks again.
        async fn save(
            tx: &$crate::db::Tx,
            mut row: entity::$table::ActiveModel,
            revision: i32,
        ) -> $crate::error::Result<entity::$table::Model> {
            use sea_orm::{ActiveModelTrait, Set};
            if row.is_changed() {
                row.updated_at = Set(tx.now());
                row.revision = Set(revision + 1);
            }
            let saved = row.update(tx.db()).await?;
            tx.made(saved.id);
            Ok(saved)
        }
    };
}

/// Declares `page` and `count`: all rows of the viewer's org, the newest first.
macro_rules! paged {
    ($table:ident) => {
        /// All of the viewer's org, the newest first.
        pub async fn page(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::viewer::Viewer,
            args: &$crate::page::Args,
        ) -> $crate::error::Result<$crate::page::Page<entity::$table::Model>> {
            use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
            let select = entity::$table::Entity::find().filter(entity::$table::COLUMN.org_id.eq(viewer.org_id));
            $crate::page::page(db, select, &NEWEST_FIRST, stringify!($table), args).await
        }

        paged!($table, count);
    };
    ($table:ident, $count:ident) => {
        /// How many the viewer's org has.
        pub async fn $count(
            db: &impl sea_orm::ConnectionTrait,
            viewer: &$crate::viewer::Viewer,
        ) -> $crate::error::Result<u64> {
            use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
            let select = entity::$table::Entity::find().filter(entity::$table::COLUMN.org_id.eq(viewer.org_id));
            Ok(select.count(db).await?)
        }
    };
}
