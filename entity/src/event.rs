//! The durable event log: every status change, in commit order, without gaps per org.

use std::borrow::Cow;

use sea_orm::FromJsonQueryResult;
use sea_orm::entity::prelude::*;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::actor::Actor;
use crate::id::*;

/// One event.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "event")]
pub struct Model {
    /// The org that the log belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// Position within the org, from 1, in commit order.
    #[sea_orm(primary_key, auto_increment = false)]
    pub position: i64,
    /// `noun.what_happened`, e.g. `step.completed`.
    pub kind: String,
    /// The campaign, if the event is about one.
    pub campaign_id: Option<CampaignId>,
    /// The run.
    pub run_id: Option<RunId>,
    /// The phase.
    pub phase_id: Option<PhaseId>,
    /// The task.
    pub task_id: Option<TaskId>,
    /// The step.
    pub step_id: Option<StepId>,
    /// The record.
    pub record_id: Option<RecordId>,
    /// The actor.
    pub actor: Actor,
    /// Data for filters and readers: from, to, reason, names.
    pub payload: Payload,
    /// Time of the event.
    pub at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}

partial_model! {
    org_id, position, kind, campaign_id, run_id, phase_id, task_id, step_id, record_id, actor, payload, at,
}

/// The data of an event, as JSON text. Many events are kept in memory, and most of their readers
/// need a field of it or nothing, while parsed it may take twenty times as much.
#[derive(Clone, Debug, PartialEq, Eq, FromJsonQueryResult)]
pub struct Payload(Box<str>);

impl Default for Payload {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl Payload {
    /// The parsed data.
    pub fn value(&self) -> Json {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// One field, without parsing the others; none if it is missing.
    pub fn field(&self, name: &str) -> Option<Json> {
        Field(name).deserialize(&mut serde_json::Deserializer::from_str(&self.0)).ok().flatten()
    }

    /// The JSON text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Length of the text in bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}

/// Reads the field with a name from an object.
struct Field<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<Json>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<Json>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = fields.next_key::<Cow<'de, str>>()? {
            if name == self.0 {
                found = Some(fields.next_value::<Json>()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}
