//! Limits a channel's rate: an even flow of messages per minute, over all nodes. It uses the
//! generic cell rate algorithm, which stores a single time: that of the next message if all before
//! it kept to the rate.

use chrono::{DateTime, Duration, Utc};
use entity::Channel;
use entity::channel_rate::{ActiveModel, COLUMN, Entity};
use entity::org::PLATFORM;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect, Set};

use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// A channel's rate.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The channel.
    pub channel: Channel,
    /// Messages per minute.
    pub per_minute: u32,
}

/// The number of messages that a rate allows, and the time of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateAllowance {
    /// Number of messages that may be sent now.
    pub count: u64,
    /// The time of the next message after these.
    pub next_at: DateTime<Utc>,
}

impl Rate {
    fn between(self) -> Duration {
        Duration::microseconds(60_000_000 / i64::from(self.per_minute.max(1)))
    }

    /// The number of `wanted` messages that may be sent now. A channel that was idle may catch up,
    /// by at most `limits::RATE_CATCH_UP`.
    fn allowance(self, next_at: Option<DateTime<Utc>>, now: DateTime<Utc>, wanted: u64) -> RateAllowance {
        let earliest = now - limits::RATE_CATCH_UP;
        let next_at = next_at.map_or(now, |next_at| next_at.max(earliest));
        let between = self.between().num_microseconds().unwrap_or(1).max(1);
        let free = match (now - next_at).num_microseconds() {
            Some(since) if since >= 0 => u64::try_from(since / between).unwrap_or(0) + 1,
            _ => 0,
        };
        let count = free.min(wanted);
        RateAllowance { count, next_at: next_at + self.between() * i32::try_from(count).unwrap_or(i32::MAX) }
    }

    /// The number of messages that may be sent now, without taking them from the rate.
    pub async fn available(self, db: &Db, wanted: u64) -> Result<RateAllowance> {
        let row = Entity::find_by_id((PLATFORM, self.channel)).one(db.read()).await?;
        Ok(self.allowance(row.map(|row| row.next_at), db.now(), wanted))
    }

    /// Takes up to `wanted` messages from the rate.
    pub async fn take(self, tx: &Tx, wanted: u64) -> Result<RateAllowance> {
        let first = ActiveModel { org_id: Set(PLATFORM), channel: Set(self.channel), next_at: Set(tx.now()) };
        let keys = [entity::channel_rate::Column::OrgId, entity::channel_rate::Column::Channel];
        let insert = Entity::insert(first).on_conflict(OnConflict::columns(keys).do_nothing().to_owned());
        insert.exec_without_returning(tx.db()).await?;
        let row = Entity::find_by_id((PLATFORM, self.channel)).lock_exclusive().one(tx.db()).await?;
        let row = row.ok_or_else(|| Error::internal("a channel's rate was deleted concurrently"))?;
        let allowance = self.allowance(Some(row.next_at), tx.now(), wanted);
        if allowance.count > 0 {
            Entity::update_many()
                .set(ActiveModel { next_at: Set(allowance.next_at), ..Default::default() })
                .filter(COLUMN.org_id.eq(PLATFORM))
                .filter(COLUMN.channel.eq(self.channel))
                .exec(tx.db())
                .await?;
        }
        Ok(allowance)
    }
}
