//! Where content comes from.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// How a writer makes content.
    pub enum WriterKind {
        /// Renders the message template, or the body of its own.
        Templated,
        /// A language model or an outside worker writes; needs an executor.
        Agent,
    }
}

/// One writer.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "writer")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: WriterId,
    /// The tenant.
    pub org_id: OrgId,
    /// Its name.
    pub name: String,
    /// How it writes.
    pub kind: WriterKind,
    /// What it is told.
    pub instructions: String,
    /// What a templated writer renders when the campaign has no message template.
    pub body: Option<String>,
    /// Rises when what it is told or renders changes.
    pub version: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
