//! Records, the objects of the work: leads, contacts, partnerships, orders, tickets.

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
    /// Kind: `lead`, `contact`, `order` …
    pub kind: String,
    /// Id in the external system that it came from; unique per kind.
    pub external_id: Option<String>,
    /// Display name.
    pub name: String,
    /// Mail address, as it was given.
    pub email: Option<String>,
    /// Telephone number, in E.164 format.
    pub phone: Option<String>,
    /// IANA time zone.
    pub time_zone: Option<String>,
    /// Stage of the pipeline.
    pub stage: Option<String>,
    /// Time of the last message or call to it.
    pub last_contacted_at: Option<DateTimeUtc>,
    /// Priority, the greater the more urgent: the attribute `priority`, or 0 if that is not a
    /// number.
    pub priority: i32,
    /// Time of its last reply.
    pub last_replied_at: Option<DateTimeUtc>,
    /// Time of its opt-out; null if it did not opt out.
    pub unsubscribed_at: Option<DateTimeUtc>,
    /// Time of the erasure of what is personal; null if it was not erased.
    pub erased_at: Option<DateTimeUtc>,
    /// Time at which nothing personal was left in other tables; null until then.
    pub erasure_completed_at: Option<DateTimeUtc>,
    /// Custom attributes, as a flat JSON object.
    pub attributes: Json,
    /// Name, address and external id, case-folded for searches.
    pub search: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

partial_model! {
    id, org_id, kind, external_id, name, email, phone, time_zone, stage, last_contacted_at, priority, last_replied_at, unsubscribed_at, erased_at, erasure_completed_at, attributes, search, created_at, updated_at, revision,
}

impl ActiveModelBehavior for ActiveModel {}
