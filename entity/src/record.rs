//! What work is done on: a lead, contact, partnership, order, ticket.

use sea_orm::entity::prelude::*;

use crate::id::*;

/// One record.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "record")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RecordId,
    /// The tenant.
    pub org_id: OrgId,
    /// `lead`, `contact`, `order` …
    pub kind: String,
    /// Its id where it came from; unique per kind.
    pub external_id: Option<String>,
    /// Its name.
    pub name: String,
    /// Its mail address, as it was given.
    pub email: Option<String>,
    /// Its telephone number, E.164.
    pub phone: Option<String>,
    /// Its IANA time zone.
    pub time_zone: Option<String>,
    /// Where it stands in its pipeline.
    pub stage: Option<String>,
    /// When it was last written to or called.
    pub last_contacted_at: Option<DateTimeUtc>,
    /// How urgent it is, the greater the more; its attribute `priority`, and 0 where that is no number.
    pub priority: i32,
    /// When it last replied.
    pub last_replied_at: Option<DateTimeUtc>,
    /// When it asked to be left alone.
    pub unsubscribed_at: Option<DateTimeUtc>,
    /// Everything else, as a flat JSON object.
    pub attributes: Json,
    /// Name, address and external id, case-folded, for searching.
    pub search: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
