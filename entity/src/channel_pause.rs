//! Pauses of channels that refuse every message: the whole channel waits, and one message at a time
//! probes whether it accepts again.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One channel's refusals since it last accepted a message; the row is deleted when it accepts one.
/// The row belongs to the built-in org, like the channel's rate.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "channel_pause")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// The channel.
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: Channel,
    /// Addresses that were refused temporarily since then, each once; at most as many as it takes
    /// to pause.
    pub refused: Json,
    /// The last error of the upstream.
    pub error: String,
    /// Number of probes since the pause began.
    pub tries: i32,
    /// Start of the pause; null while it is not paused.
    pub since: Option<DateTimeUtc>,
    /// Time of the next probe; null while it is not paused.
    pub next_try_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
