//! Synchronizes the rows of the built-in templates with the program.

use entity::definition::Overrides;
use entity::id::RunTemplateId;
use entity::run_template::{ActiveModel, COLUMN, Entity, Model};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};

use super::built_in;
use crate::kernel::db::{WriteContext, dialect};
use crate::kernel::error::Result;
use crate::transact;

/// Returns the rows of the built-in templates.
pub async fn built_in_rows(db: &impl ConnectionTrait) -> Result<Vec<Model>> {
    let all = Entity::find().filter(COLUMN.org_id.eq(entity::org::PLATFORM)).filter(COLUMN.built_in.eq(true));
    Ok(all.all(db).await?)
}

/// Inserts or updates the rows of the built-in templates to match the program.
pub async fn sync_built_in(db: &WriteContext) -> Result<()> {
    transact!(db, |tx| {
        // Two nodes that start at once write each row once.
        dialect::lock_name(tx, "built-in templates").await?;
        let mine = built_in_rows(tx.db()).await?;
        for one in built_in::all() {
            let name = one.definition.template.clone();
            match mine.iter().find(|row| row.key == one.key) {
                Some(row)
                    if row.definition.as_ref() == Some(&one.definition)
                        && row.name == name
                        && row.description == one.description
                        && row.kind == one.kind => {}
                Some(row) => {
                    let revision = row.revision;
                    let mut row = row.clone().into_active_model();
                    row.name = Set(name);
                    row.description = Set(one.description.to_owned());
                    row.kind = Set(one.kind);
                    row.definition = Set(Some(one.definition));
                    row.updated_at = Set(tx.now());
                    row.revision = Set(revision + 1);
                    row.update(tx.db()).await?;
                }
                None => {
                    let row = ActiveModel {
                        id: Set(RunTemplateId::new()),
                        org_id: Set(entity::org::PLATFORM),
                        key: Set(one.key.to_owned()),
                        name: Set(name),
                        description: Set(one.description.to_owned()),
                        kind: Set(one.kind),
                        built_in: Set(true),
                        base_id: Set(None),
                        definition: Set(Some(one.definition)),
                        overrides: Set(Overrides::default()),
                        created_at: Set(tx.now()),
                        updated_at: Set(tx.now()),
                        revision: Set(1),
                    };
                    row.insert(tx.db()).await?;
                }
            }
        }
        Ok(())
    })
}
