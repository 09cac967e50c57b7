//! Message templates: a subject and body with named placeholders, per channel, versioned.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One template, at its latest version.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "message_template")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageTemplateId,
    /// The tenant.
    pub org_id: OrgId,
    /// Display name.
    pub name: String,
    /// The channel that it is for.
    pub channel: Channel,
    /// Subject with placeholders; null for channels without one.
    pub subject: Option<String>,
    /// Body with placeholders.
    pub body: String,
    /// Version number, incremented when subject or body change.
    pub version: i32,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
