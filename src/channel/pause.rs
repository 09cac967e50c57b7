//! Pauses a channel that refuses everything, over all nodes. Its messages wait, and one at a time
//! probes whether the channel accepts messages again. The wait uses up neither the messages' own
//! retry period nor their steps' attempts.

use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};

use chrono::{DateTime, Duration, Utc};
use entity::channel_pause::{ActiveModel, COLUMN, Entity, Model};
use entity::id::CommunicationId;
use entity::org::PLATFORM;
use entity::{Channel, communication};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Set};
use serde_json::json;
use tokio::sync::Mutex;

use super::{Delivery, RefusalPeriod};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};
use crate::transact;

/// The number of messages that may be sent over a channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelAllowance {
    /// Number of messages.
    pub count: u64,
    /// True if messages that were refused before are sent first.
    pub latest_first: bool,
}

/// The messages that a channel, which may be paused, lets through.
#[derive(Debug)]
pub(crate) struct ProbeAllowance {
    /// Messages to send now.
    pub(crate) ready: Vec<communication::Model>,
    /// Messages that wait.
    pub(crate) held: Vec<communication::Model>,
    /// The end of the wait; `None` if the channel is not paused.
    pub(crate) until: Option<DateTime<Utc>>,
    /// Messages of `ready` whose retry period is over: if refused now, they have failed.
    pub(crate) last_time: HashSet<CommunicationId>,
    /// True if the channel has refused something since it last accepted a message.
    pub(crate) refusing: bool,
}

/// The pause between two probes of a paused channel: 15 seconds, doubled with each, ten minutes at
/// most.
pub fn probe_interval(tries: i32) -> Duration {
    (limits::CHANNEL_PROBE_DELAY * (1 << (tries - 1).clamp(0, 10))).min(limits::CHANNEL_PROBE_DELAY_MAX)
}

/// The backoff of a temporarily refused message: a minute, doubled with each refusal, half an hour
/// at most.
pub fn message_backoff(refusals: i32) -> Duration {
    (limits::MAIL_RETRY_DELAY * (1 << (refusals - 1).clamp(0, 10))).min(limits::MAIL_RETRY_DELAY_MAX)
}

/// The channel's row, read without a lock; `None` if the channel accepted the last message.
pub async fn read(db: &Db, channel: Channel) -> Result<Option<Model>> {
    Ok(Entity::find_by_id((PLATFORM, channel)).one(db.read()).await?)
}

/// The allowance of a channel, which may be paused: all of `most`, one as a probe, or none.
pub fn allowance(row: Option<&Model>, now: DateTime<Utc>, most: u64, retry_period: Duration) -> ChannelAllowance {
    let Some((since, next, tries)) = row.and_then(|row| Some((row.since?, row.next_try_at?, row.tries))) else {
        return ChannelAllowance { count: most, latest_first: false };
    };
    // The retry period of waiting messages is over: all get their last try.
    if storable::after(since, retry_period) <= now {
        return ChannelAllowance { count: most, latest_first: false };
    }
    ChannelAllowance { count: u64::from(next <= now), latest_first: probes_refused(tries) }
}

/// True if the next probe is a message that was refused before, for servers that refuse everybody's
/// first try (greylisting). Otherwise it is another one, since a few recipients may be refused
/// forever.
fn probes_refused(tries: i32) -> bool {
    tries % 2 == 1
}

/// True if a channel is paused and its next probe is due.
pub(crate) async fn is_probe_due(db: &Db, channel: Channel) -> Result<bool> {
    Ok(read(db, channel).await?.and_then(|row| row.next_try_at).is_some_and(|next| next <= db.now()))
}

/// Selects those of some messages, which are about to be reserved, that are sent now. Locks the
/// channel's row, so that only one node probes.
pub(crate) async fn take(
    tx: &Tx,
    channel: Channel,
    retry_period: Duration,
    messages: Vec<communication::Model>,
) -> Result<ProbeAllowance> {
    let through =
        |ready, refusing| ProbeAllowance { ready, held: Vec::new(), until: None, last_time: HashSet::new(), refusing };
    if messages.is_empty() {
        return Ok(through(messages, false));
    }
    let row = Entity::find_by_id((PLATFORM, channel)).lock_exclusive().one(tx.db()).await?;
    let refusing = row.is_some();
    let Some((row, since, next)) = row.and_then(|row| Some((row.since?, row.next_try_at?)).map(|(s, n)| (row, s, n)))
    else {
        return Ok(through(messages, refusing));
    };
    let waits_since = |message: &communication::Model| message.refused_since.unwrap_or(since.max(message.updated_at));
    let is_last_time = |message: &communication::Model| storable::after(waits_since(message), retry_period) <= tx.now();
    let (mut ready, mut held): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_last_time);
    let last_time = ready.iter().map(|message| message.id).collect();
    let mut until = next;
    if next <= tx.now() {
        if ready.is_empty() {
            let refused = probes_refused(row.tries);
            let at = held.iter().position(|message| message.refused_since.is_some() == refused).unwrap_or_default();
            ready.push(held.remove(at));
        }
        until = storable::after(tx.now(), probe_interval(row.tries));
        let mut row = row.into_active_model();
        row.next_try_at = Set(Some(until));
        row.update(tx.db()).await?;
    }
    Ok(ProbeAllowance { ready, held, until: Some(until), last_time, refusing })
}

/// The order of hand-overs and answers over a channel in this process. Messages that were reserved
/// together form a turn. They are answered one by one, but count as one observation of the channel:
/// it accepts messages if it accepted one of them; otherwise it refuses them, counted once.
#[derive(Debug, Default)]
pub struct AnswerOrder {
    begun: AtomicU64,
    /// The first turn that had not begun when a message was last accepted.
    taken: AtomicU64,
    /// The first turn that had not begun when the pause was last extended.
    paused: AtomicU64,
    /// True if a refusal was stored since a message was last accepted.
    refused: AtomicBool,
    storing: Mutex<()>,
}

/// The state of a channel after the outcome of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelAfter {
    /// The end of the channel's pause; `None` if it is not paused.
    pub(crate) paused_until: Option<DateTime<Utc>>,
    /// True if this outcome ended its pause.
    pub(crate) reopened: bool,
}

impl ChannelAfter {
    fn paused(until: Option<DateTime<Utc>>) -> Self {
        Self { paused_until: until, reopened: false }
    }
}

/// The outcome of one message at a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelOutcome<'a> {
    /// The message's turn.
    pub(crate) turn: u64,
    /// True if the channel had refused something before.
    pub(crate) refusing: bool,
    /// The recipient's address.
    pub(crate) to: &'a str,
    /// The result of the hand-over.
    pub(crate) delivery: &'a Delivery,
}

impl AnswerOrder {
    /// Begins a turn, when messages are reserved.
    pub(crate) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, SeqCst)
    }

    /// Stores the outcome of one message of a turn. Returns the channel's state after it.
    pub(crate) async fn record(
        &self,
        db: &WriteContext,
        channel: Channel,
        outcome: ChannelOutcome<'_>,
    ) -> Result<ChannelAfter> {
        let deliveries = [(outcome.to.to_owned(), outcome.delivery.clone())];
        match outcome.delivery {
            Delivery::Unknown { .. } => Ok(ChannelAfter::default()),
            Delivery::Accepted | Delivery::Refused { term: RefusalPeriod::ForGood, .. } => {
                self.taken.fetch_max(self.begun.load(SeqCst), SeqCst);
                if !outcome.refusing && !self.refused.load(SeqCst) {
                    return Ok(ChannelAfter::default());
                }
                let _guard = self.storing.lock().await;
                let refused = self.refused.swap(false, SeqCst);
                store_outcomes(db, channel, outcome.refusing || refused, &deliveries).await
            }
            Delivery::Refused { .. } => {
                let _guard = self.storing.lock().await;
                if outcome.turn < self.taken.load(SeqCst) {
                    return Ok(ChannelAfter::default());
                }
                if outcome.turn < self.paused.load(SeqCst) {
                    return Ok(ChannelAfter::paused(read(db, channel).await?.and_then(|row| row.next_try_at)));
                }
                self.refused.store(true, SeqCst);
                let after = store_outcomes(db, channel, outcome.refusing, &deliveries).await?;
                if after.paused_until.is_some() {
                    self.paused.store(self.begun.load(SeqCst), SeqCst);
                }
                Ok(after)
            }
        }
    }
}

/// Stores whether a channel accepts messages or temporarily refuses them. A channel that refuses
/// `limits::CHANNEL_REFUSALS` addresses in a row is paused. Returns the channel's state after it.
async fn store_outcomes(
    db: &WriteContext,
    channel: Channel,
    refusing: bool,
    deliveries: &[(String, Delivery)],
) -> Result<ChannelAfter> {
    let answers = |delivery: &Delivery| {
        matches!(delivery, Delivery::Accepted | Delivery::Refused { term: RefusalPeriod::ForGood, .. })
    };
    if deliveries.iter().any(|(_, delivery)| answers(delivery)) {
        if !refusing {
            return Ok(ChannelAfter::default());
        }
        let row = transact!(db, |tx| {
            let row = Entity::find_by_id((PLATFORM, channel)).lock_exclusive().one(tx.db()).await?;
            let delete = Entity::delete_many().filter(COLUMN.org_id.eq(PLATFORM)).filter(COLUMN.channel.eq(channel));
            delete.exec(tx.db()).await?;
            Ok(row)
        })?;
        tracing::info!(%channel, "the channel accepts messages again");
        return Ok(ChannelAfter { paused_until: None, reopened: row.is_some_and(|row| row.since.is_some()) });
    }
    let refused = deliveries.iter().filter_map(|(to, delivery)| match delivery {
        Delivery::Refused { why, term } => Some((to, why, *term)),
        Delivery::Accepted | Delivery::Unknown { .. } => None,
    });
    let refused: Vec<(&String, &String, RefusalPeriod)> = refused.collect();
    let Some((_, why, _)) = refused.last() else { return Ok(ChannelAfter::default()) };
    let away = refused.iter().any(|(_, _, term)| *term == RefusalPeriod::Channel);
    let row = transact!(db, |tx| {
        let first = ActiveModel {
            org_id: Set(PLATFORM),
            channel: Set(channel),
            refused: Set(json!([])),
            error: Set(String::new()),
            tries: Set(0),
            since: Set(None),
            next_try_at: Set(None),
        };
        let keys = [entity::channel_pause::Column::OrgId, entity::channel_pause::Column::Channel];
        let insert = Entity::insert(first).on_conflict(OnConflict::columns(keys).do_nothing().to_owned());
        insert.exec_without_returning(tx.db()).await?;
        let row = Entity::find_by_id((PLATFORM, channel)).lock_exclusive().one(tx.db()).await?;
        let row = row.ok_or_else(|| Error::internal("a channel's pause was deleted concurrently"))?;
        let mut addresses: Vec<String> = serde_json::from_value(row.refused.clone()).unwrap_or_default();
        for (to, _, term) in &refused {
            let key = to.to_lowercase();
            if *term == RefusalPeriod::ForNow && addresses.len() < limits::CHANNEL_REFUSALS && !addresses.contains(&key)
            {
                addresses.push(key);
            }
        }
        let paused = row.since.is_some() || away || addresses.len() >= limits::CHANNEL_REFUSALS;
        let (tries, since) = (row.tries.saturating_add(1), row.since.unwrap_or_else(|| tx.now()));
        let mut row = row.into_active_model();
        row.refused = Set(json!(addresses));
        row.error = Set(storable::reason(why));
        if paused {
            row.tries = Set(tries);
            row.since = Set(Some(since));
            row.next_try_at = Set(Some(storable::after(tx.now(), probe_interval(tries))));
        }
        Ok(row.update(tx.db()).await?)
    })?;
    if let (Some(since), Some(next)) = (row.since, row.next_try_at) {
        tracing::warn!(%channel, %since, next_try_at = %next, because = row.error, "the channel is paused");
    }
    Ok(ChannelAfter::paused(row.next_try_at))
}
