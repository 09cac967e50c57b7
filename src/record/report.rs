//! The reports of imports: find, page, and what was wrong with each line.

use entity::id::ImportId;
use entity::import_problem::{COLUMN, Entity, Model};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::db::Db;
use crate::error::Result;
use crate::viewer::Viewer;

scoped!(import, ImportId, "import");
paged!(import);

/// What was wrong, in order of lines, from behind a problem's number on.
pub async fn problems(db: &Db, viewer: &Viewer, id: ImportId, after: i64, most: u64) -> Result<Vec<Model>> {
    Ok(Entity::find()
        .filter(COLUMN.org_id.eq(viewer.org_id))
        .filter(COLUMN.import_id.eq(id))
        .filter(COLUMN.number.gt(after))
        .order_by_asc(COLUMN.number)
        .limit(most)
        .all(db.read())
        .await?)
}
