//! Addresses that are never written to: find, page, add, take off; and what of a batch must not go.

use std::collections::HashMap;

use entity::Channel;
use entity::id::*;
use entity::suppression::{ActiveModel, COLUMN, Entity, Model};
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, ModelTrait, QueryFilter, Set};
use serde_json::json;

use crate::db::{Db, Tx, dialect};
use crate::error::{Refusal, Result};
use crate::event::{self, Event};
use crate::viewer::Viewer;
use crate::{input, transact};

scoped!(suppression, SuppressionId, "suppression");
paged!(suppression);

/// Why a place is left out whose record asked to be left alone.
pub const UNSUBSCRIBED: &str = "UNSUBSCRIBED";

/// Adds an address. Errors: BAD_USER_INPUT; CONFLICT when it is on the list already.
pub async fn create(db: &Db, viewer: &Viewer, channel: Channel, address: &str, reason: &str) -> Result<Model> {
    let address = match channel {
        Channel::Email => input::email("address", address)?,
        Channel::Sms | Channel::Phone => input::phone("address", address)?,
    };
    let reason = input::name("reason", reason)?;
    transact!(db, |tx| {
        let row = ActiveModel {
            id: Set(SuppressionId::new()),
            org_id: Set(viewer.org_id),
            channel: Set(channel),
            address: Set(address.clone()),
            address_key: Set(key(&address)),
            reason: Set(reason.clone()),
            created_by: Set(viewer.actor()),
            created_at: Set(tx.now()),
        };
        let suppression = match row.insert(tx.db()).await {
            Err(err) if dialect::is_duplicate(&err) => {
                return Err(Refusal::conflict(format!("{address} is on the list already")).into());
            }
            other => other?,
        };
        tell(tx, viewer, "suppression.created", &suppression);
        tx.made(suppression.id);
        Ok(suppression)
    })
}

/// Takes an address off the list; what it was. Errors: NOT_FOUND.
pub async fn delete(db: &Db, viewer: &Viewer, id: SuppressionId) -> Result<Model> {
    transact!(db, |tx| {
        let found = must_find(tx.db(), viewer, id).await?;
        found.clone().delete(tx.db()).await?;
        tell(tx, viewer, "suppression.deleted", &found);
        Ok(found)
    })
}

/// The address as it is compared.
pub fn key(address: &str) -> String {
    address.to_lowercase()
}

/// Those of some normalised addresses that are on an org's list, with the reason as it is told on a place.
pub(crate) async fn among(
    db: &impl ConnectionTrait,
    org_id: OrgId,
    channel: Channel,
    keys: &[String],
) -> Result<HashMap<String, String>> {
    let found = Entity::find()
        .filter(COLUMN.org_id.eq(org_id))
        .filter(COLUMN.channel.eq(channel))
        .filter(COLUMN.address_key.is_in(keys.iter().cloned()))
        .all(db)
        .await?;
    Ok(found.into_iter().map(|row| (row.address_key, format!("SUPPRESSED: {}", row.reason))).collect())
}

fn tell(tx: &Tx, viewer: &Viewer, kind: &str, row: &Model) {
    let told = json!({ "suppressionId": row.id, "channel": row.channel, "reason": row.reason });
    event::append(tx, Event::new(viewer.org_id, kind, &viewer.actor()).payload(told));
}
