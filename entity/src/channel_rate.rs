//! How fast a channel may be used: when the next message may go, if all before it went at the channel's rate.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One channel's row. The built-in org has it: a channel is the server's, whoever's messages go through it.
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
    /// When the next message may go.
    pub next_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
