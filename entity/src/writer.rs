//! Writers, the sources of content.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// The way in which a writer produces content.
    pub enum WriterKind {
        /// Renders the message template, or the writer's own body.
        Templated,
        /// A language model or an external worker writes the content; requires one of them.
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
    /// Display name.
    pub name: String,
    /// The kind of writer.
    pub kind: WriterKind,
    /// Instructions for the agent.
    pub instructions: String,
    /// Body that a TEMPLATED writer renders if the campaign has no message template.
    pub body: Option<String>,
    /// Version number, incremented when instructions or body change.
    pub version: i32,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
