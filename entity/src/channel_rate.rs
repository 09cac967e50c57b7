//! Rate limits of channels: the time at which the next message may be sent at the channel's rate.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One channel's row. It belongs to the built-in org, because all orgs share the server's channels.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "channel_rate")]
pub struct Model {
    /// The tenant.
    #[sea_orm(primary_key, auto_increment = false)]
    pub org_id: OrgId,
    /// The channel.
    #[sea_orm(primary_key, auto_increment = false)]
    pub channel: Channel,
    /// Time at which the next message may be sent.
    pub next_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
