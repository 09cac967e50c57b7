//! Subject and body with named blanks, per channel, versioned.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One template, at its newest version.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "message_template")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: MessageTemplateId,
    /// The tenant.
    pub org_id: OrgId,
    /// Its name.
    pub name: String,
    /// Which channel it is for.
    pub channel: Channel,
    /// The subject, with blanks; none where the channel has none.
    pub subject: Option<String>,
    /// The body, with blanks.
    pub body: String,
    /// Rises when subject or body change.
    pub version: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
