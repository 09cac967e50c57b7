//! Writers, the sources of content: instructions and a way of writing; versioned.

pub mod version;

use entity::campaign::Column as Campaign;
use entity::id::WriterId;
use entity::writer::{ActiveModel, Model, WriterKind};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};
use serde_json::json;

use crate::domain::content::templating;
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::references::is;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;
use crate::transact;

scoped!(writer, WriterId, "writer");
paged!(writer);
defined!(writer, WriterId, "writer");
deleted!(writer, WriterId, "writer"; used by campaign as "campaign" where |id: WriterId| is(Campaign::WriterId, id); with writer_version.WriterId);

/// The fields of a writer; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name.
    pub name: Option<String>,
    /// The kind of writer; default TEMPLATED.
    pub kind: Option<WriterKind>,
    /// The instructions.
    pub instructions: Option<String>,
    /// The own template; `Some(None)` removes it.
    pub body: Option<Option<String>>,
}

/// Creates a writer. Errors: BAD_USER_INPUT for a missing name, or a body that does not parse.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = validate::name("name", fields.name.as_deref().unwrap_or_default())?;
    let instructions = validate::text("instructions", fields.instructions.as_deref().unwrap_or_default())?;
    let body = fields.body.clone().flatten();
    templating::check("body", body.as_deref().unwrap_or_default())?;
    let row = ActiveModel {
        id: Set(WriterId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        kind: Set(fields.kind.unwrap_or(WriterKind::Templated)),
        instructions: Set(instructions.clone()),
        body: Set(body.clone()),
        version: Set(1),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let writer = row.insert(tx.db()).await?;
    version::keep(tx, viewer, &writer, json!([])).await?;
    created(tx, viewer, &writer);
    Ok(writer)
}

/// Updates the given fields; a change creates a version. Errors: NOT_FOUND, CONFLICT,
/// BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: WriterId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: WriterId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    let mut row = found.clone().into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(validate::name("name", name)?);
    }
    if let Some(kind) = fields.kind {
        row.kind.set_if_not_equals(kind);
    }
    if let Some(text) = &fields.instructions {
        row.instructions.set_if_not_equals(validate::text("instructions", text)?);
    }
    if let Some(body) = &fields.body {
        templating::check("body", body.as_deref().unwrap_or_default())?;
        row.body.set_if_not_equals(body.clone());
    }
    if !row.is_changed() {
        return save(tx, viewer, row, found.revision).await;
    }
    row.version = Set(found.version + 1);
    let writer = save(tx, viewer, row, found.revision).await?;
    version::keep(tx, viewer, &writer, version::changes(&found, &writer)).await?;
    Ok(writer)
}
