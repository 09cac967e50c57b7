//! The list of addresses that are never written to.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::Channel;
use entity::id::SuppressionId;

use super::{Actor, viewer};
use crate::domain::audience::suppression as noun;
use crate::kernel::validate;

/// An address that is never written to.
pub struct Suppression(pub entity::suppression::Model);

/// An address that is never written to.
#[Object]
impl Suppression {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The way it would be written to.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The address.
    async fn address(&self) -> &str {
        &self.0.address
    }

    /// Why.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The record whose opt-out put it here, which closes every channel of the address; null where somebody put it here.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// Who said so.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// When it was put on the list.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

definition!(SuppressionQuery: suppression, suppressions of Suppression, SuppressionId, Suppressions);

/// Which address is never to be written to.
#[derive(InputObject)]
pub struct SuppressAddressInput {
    /// The way it would be written to.
    channel: Channel,
    /// The address.
    address: String,
    /// Why.
    reason: String,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// Which address may be written to again.
#[derive(InputObject)]
pub struct UnsuppressAddressInput {
    /// Its place on the list.
    id: ID,
}

/// What was put on the list, or taken off it.
#[derive(SimpleObject)]
pub struct SuppressionPayload {
    /// As it is, or was.
    suppression: Suppression,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct SuppressionMutation;

#[Object]
impl SuppressionMutation {
    /// Puts an address on the list of those that are never written to, whatever run it is in; what waits to be sent to it
    /// is left out when its turn comes. Refused with BAD_USER_INPUT, or CONFLICT where it is on the list already.
    async fn suppress_address(&self, ctx: &Context<'_>, input: SuppressAddressInput) -> Result<SuppressionPayload> {
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::create(
            db,
            viewer(ctx),
            input.channel,
            &input.address,
            &input.reason
        ));
        Ok(SuppressionPayload { suppression: Suppression(row) })
    }

    /// Takes an address off the list. Refused with NOT_FOUND; with CONFLICT for an opt-out that stands: it is lifted by
    /// `updateRecord` with `unsubscribed: false`.
    async fn unsuppress_address(&self, ctx: &Context<'_>, input: UnsuppressAddressInput) -> Result<SuppressionPayload> {
        let id = validate::id("id", &input.id)?;
        let row = noun::delete(&super::idempotent::keyed(ctx, None)?, viewer(ctx), id).await?;
        Ok(SuppressionPayload { suppression: Suppression(row) })
    }
}
