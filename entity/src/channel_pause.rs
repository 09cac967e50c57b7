//! A channel that refuses everything: paused as a whole, with one message at a time to find out whether it takes any.

use sea_orm::entity::prelude::*;

use crate::Channel;
use crate::id::*;

/// One channel's refusals since it last took a message; the row goes when it takes one. The built-in org has it, as it has
/// the channel's rate.
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
    /// The addresses that were refused for now since then, each once; no more than it takes to pause.
    pub refused: Json,
    /// What was said last.
    pub error: String,
    /// How often it was tried since it paused.
    pub tries: i32,
    /// Since when it is paused; none while it is not.
    pub since: Option<DateTimeUtc>,
    /// When the next message goes, to find out; none while it is not paused.
    pub next_try_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
