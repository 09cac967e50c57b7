//! Where content comes from: instructions, and a way of writing.

use entity::id::WriterId;
use entity::writer::{ActiveModel, Model, WriterKind};
use sea_orm::{ActiveModelTrait, IntoActiveModel, Set};

use crate::db::Db;
use crate::error::Result;
use crate::viewer::Viewer;
use crate::{content, input, transact};

scoped!(writer, WriterId, "writer");
paged!(writer);
saved!(writer, WriterId, "writer");

/// What a writer is made of; in a change, only what is given.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Its name.
    pub name: Option<String>,
    /// How it writes; TEMPLATED unless said.
    pub kind: Option<WriterKind>,
    /// What it is told.
    pub instructions: Option<String>,
    /// A template of its own; `Some(None)` takes it away.
    pub body: Option<Option<String>>,
}

/// Makes one; without a name it is refused, and so is a body that does not parse.
pub async fn create(db: &Db, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = input::name("name", fields.name.as_deref().unwrap_or_default())?;
    let instructions = input::text("instructions", fields.instructions.as_deref().unwrap_or_default())?;
    let body = fields.body.clone().flatten();
    content::check("body", body.as_deref().unwrap_or_default())?;
    transact!(db, |tx| {
        let row = ActiveModel {
            id: Set(WriterId::new()),
            org_id: Set(viewer.org_id),
            name: Set(name.clone()),
            kind: Set(fields.kind.unwrap_or(WriterKind::Templated)),
            instructions: Set(instructions.clone()),
            body: Set(body.clone()),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let writer = row.insert(tx.db()).await?;
        tx.made(writer.id);
        Ok(writer)
    })
}

/// Changes what is given. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(db: &Db, viewer: &Viewer, id: WriterId, expected: Option<i32>, fields: &Fields) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_lock(tx, viewer, id, expected).await?;
        let revision = found.revision;
        let mut row = found.into_active_model();
        if let Some(name) = &fields.name {
            row.name.set_if_not_equals(input::name("name", name)?);
        }
        if let Some(kind) = fields.kind {
            row.kind.set_if_not_equals(kind);
        }
        if let Some(text) = &fields.instructions {
            row.instructions.set_if_not_equals(input::text("instructions", text)?);
        }
        if let Some(body) = &fields.body {
            content::check("body", body.as_deref().unwrap_or_default())?;
            row.body.set_if_not_equals(body.clone());
        }
        save(tx, row, revision).await
    })
}
