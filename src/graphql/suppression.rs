//! Suppressed addresses: nothing is sent to them on the suppressed channel.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::Channel;
use entity::id::SuppressionId;

use super::{Actor, viewer};
use crate::domain::audience::suppression as noun;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// An address to which nothing is sent, on one channel.
pub struct Suppression(pub entity::suppression::Model);

impl RowFields for Suppression {}

/// An address to which nothing is sent, on one channel.
#[Object]
impl Suppression {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The channel on which the address is suppressed.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The address; `[erased]` for that of an erased record, of which only a one-way digest is kept.
    async fn address(&self) -> &str {
        &self.0.address
    }

    /// Reason for the suppression.
    async fn reason(&self) -> &str {
        &self.0.reason
    }

    /// Id of the record whose opt-out suppressed the address, on all its channels; null if it was
    /// suppressed directly.
    async fn record_id(&self) -> Option<ID> {
        self.0.record_id.map(|id| id.to_string().into())
    }

    /// The actor that suppressed the address.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Time of the suppression.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }
}

definition!(SuppressionQuery: suppression, suppressions of Suppression, SuppressionId, Suppressions);

/// Address to suppress.
#[derive(InputObject)]
pub struct SuppressAddressInput {
    /// The channel on which the address is suppressed.
    channel: Channel,
    /// The address.
    address: String,
    /// Reason for the suppression.
    reason: String,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Identifies the suppression to remove.
#[derive(InputObject)]
pub struct UnsuppressAddressInput {
    /// Id of the suppression.
    id: ID,
}

/// The suppression that was added or removed.
#[derive(SimpleObject)]
pub struct SuppressionPayload {
    /// The suppression; after a removal, as it last was.
    suppression: Suppression,
}

/// Mutations for suppressions.
#[derive(Default)]
pub struct SuppressionMutation;

#[Object]
impl SuppressionMutation {
    /// Suppresses an address: no run sends to it any more, and messages that are still queued for
    /// it are skipped when they are due. Rejected with BAD_USER_INPUT, or with CONFLICT if it is
    /// already suppressed.
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

    /// Removes a suppression. Rejected with NOT_FOUND, and with CONFLICT for an opt-out that is in
    /// force, which `updateRecord` with `unsubscribed: false` lifts.
    async fn unsuppress_address(&self, ctx: &Context<'_>, input: UnsuppressAddressInput) -> Result<SuppressionPayload> {
        let id = validate::id("id", &input.id)?;
        let row = noun::delete(&super::idempotent::keyed(ctx, None)?, viewer(ctx), id).await?;
        Ok(SuppressionPayload { suppression: Suppression(row) })
    }
}
