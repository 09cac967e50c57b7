//! A channel that refuses everything is paused as a whole, over all nodes: messages wait, and one at a time finds out
//! whether it takes any again. Their own patience and their steps' attempts are not used up by that.

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
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};
use crate::transact;

/// The messages that may go through a channel now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelAllowance {
    /// How many.
    pub count: u64,
    /// True if those that were refused before go first.
    pub latest_first: bool,
}

/// What a paused channel lets through.
#[derive(Debug)]
pub(crate) struct ProbeAllowance {
    /// What goes now.
    pub(crate) go: Vec<communication::Model>,
    /// What waits.
    pub(crate) held: Vec<communication::Model>,
    /// Until when; none where the channel is not paused.
    pub(crate) until: Option<DateTime<Utc>>,
    /// Those of `go` whose patience is at its end: when they are refused now, they have failed.
    pub(crate) last_time: HashSet<CommunicationId>,
    /// Whether the channel has refused something since it last took a message.
    pub(crate) refusing: bool,
}

/// The pause between two tries of a paused channel: 15 seconds, doubled with each, ten minutes at most.
pub fn between(tries: i32) -> Duration {
    (limits::CHANNEL_AGAIN * (1 << (tries - 1).clamp(0, 10))).min(limits::CHANNEL_AGAIN_MOST)
}

/// The pause of a message that was refused for now so often: a minute, doubled with each, half an hour at most.
pub fn of_message(refusals: i32) -> Duration {
    (limits::MAIL_AGAIN * (1 << (refusals - 1).clamp(0, 10))).min(limits::MAIL_AGAIN_MOST)
}

/// The channel's row, without a lock; none where it took the last message.
pub async fn look(db: &Db, channel: Channel) -> Result<Option<Model>> {
    Ok(Entity::find_by_id((PLATFORM, channel)).one(db.read()).await?)
}

/// The room of a channel, which may be paused: all of `most`, one to find out, or none.
pub fn room(row: Option<&Model>, now: DateTime<Utc>, most: u64, patience: Duration) -> ChannelAllowance {
    let Some((since, next, tries)) = row.and_then(|row| Some((row.since?, row.next_try_at?, row.tries))) else {
        return ChannelAllowance { count: most, latest_first: false };
    };
    // What has waited for too long has its last try.
    if storable::after(since, patience) <= now {
        return ChannelAllowance { count: most, latest_first: false };
    }
    ChannelAllowance { count: u64::from(next <= now), latest_first: known_goes(tries) }
}

/// True if the next try is with a message that was refused before, as a server wants it that lets nobody in at the first
/// try; else with one that was not, since a few recipients may be refused for ever.
fn known_goes(tries: i32) -> bool {
    tries % 2 == 1
}

/// Of messages that are about to be reserved, those that go now. Under a lock: of all nodes, one finds out.
pub(crate) async fn take(
    tx: &Tx,
    channel: Channel,
    patience: Duration,
    messages: Vec<communication::Model>,
) -> Result<ProbeAllowance> {
    let through =
        |go, refusing| ProbeAllowance { go, held: Vec::new(), until: None, last_time: HashSet::new(), refusing };
    if messages.is_empty() {
        return Ok(through(messages, false));
    }
    let row = Entity::find_by_id((PLATFORM, channel)).lock_exclusive().one(tx.db()).await?;
    let refusing = row.is_some();
    let Some((row, since, next)) = row.and_then(|row| Some((row.since?, row.next_try_at?)).map(|(s, n)| (row, s, n)))
    else {
        return Ok(through(messages, refusing));
    };
    let began = |message: &communication::Model| message.refused_since.unwrap_or(since.max(message.updated_at));
    let over = |message: &communication::Model| storable::after(began(message), patience) <= tx.now();
    let (mut go, mut held): (Vec<_>, Vec<_>) = messages.into_iter().partition(over);
    let last_time = go.iter().map(|message| message.id).collect();
    let mut until = next;
    if next <= tx.now() {
        if go.is_empty() {
            let known = known_goes(row.tries);
            let at = held.iter().position(|message| message.refused_since.is_some() == known).unwrap_or_default();
            go.push(held.remove(at));
        }
        until = storable::after(tx.now(), between(row.tries));
        let mut row = row.into_active_model();
        row.next_try_at = Set(Some(until));
        row.update(tx.db()).await?;
    }
    Ok(ProbeAllowance { go, held, until: Some(until), last_time, refusing })
}

/// The order of hand-overs and answers over a channel in this process. Messages that were reserved together are answered one
/// by one, and say one thing about the channel: it takes messages, if it took one of them; else it refuses them, once.
#[derive(Debug, Default)]
pub struct AnswerOrder {
    begun: AtomicU64,
    /// The first turn that had not begun when a message was taken last.
    taken: AtomicU64,
    /// The first turn that had not begun when the pause was lengthened last.
    paused: AtomicU64,
    /// Whether a refusal was kept since a message was taken last.
    refused: AtomicBool,
    noting: Mutex<()>,
}

/// The outcome of one message at a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelOutcome<'a> {
    /// The turn of the message.
    pub(crate) turn: u64,
    /// Whether the channel had refused something before.
    pub(crate) refusing: bool,
    /// The address.
    pub(crate) to: &'a str,
    /// What it did.
    pub(crate) delivery: &'a Delivery,
}

impl AnswerOrder {
    /// A turn begins: messages are reserved.
    pub(crate) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, SeqCst)
    }

    /// Keeps what came of a message of a turn. Until when the channel is paused comes back, where it is.
    pub(crate) async fn note(
        &self,
        db: &Db,
        channel: Channel,
        came: ChannelOutcome<'_>,
    ) -> Result<Option<DateTime<Utc>>> {
        let one = [(came.to.to_owned(), came.delivery.clone())];
        match came.delivery {
            Delivery::Lost { .. } => Ok(None),
            Delivery::Accepted | Delivery::Refused { term: RefusalPeriod::ForGood, .. } => {
                self.taken.fetch_max(self.begun.load(SeqCst), SeqCst);
                if !came.refusing && !self.refused.load(SeqCst) {
                    return Ok(None);
                }
                let _in_turn = self.noting.lock().await;
                let refused = self.refused.swap(false, SeqCst);
                note(db, channel, came.refusing || refused, &one).await
            }
            Delivery::Refused { .. } => {
                let _in_turn = self.noting.lock().await;
                if came.turn < self.taken.load(SeqCst) {
                    return Ok(None);
                }
                if came.turn < self.paused.load(SeqCst) {
                    return Ok(look(db, channel).await?.and_then(|row| row.next_try_at));
                }
                self.refused.store(true, SeqCst);
                let until = note(db, channel, came.refusing, &one).await?;
                if until.is_some() {
                    self.paused.store(self.begun.load(SeqCst), SeqCst);
                }
                Ok(until)
            }
        }
    }
}

/// Keeps what a channel did with messages: it takes them, or it refuses them for now; who refuses so many in a row pauses.
/// Until when comes back, where it is paused.
async fn note(db: &Db, channel: Channel, refusing: bool, came: &[(String, Delivery)]) -> Result<Option<DateTime<Utc>>> {
    let answers = |delivery: &Delivery| {
        matches!(delivery, Delivery::Accepted | Delivery::Refused { term: RefusalPeriod::ForGood, .. })
    };
    if came.iter().any(|(_, delivery)| answers(delivery)) {
        if refusing {
            transact!(db, |tx| {
                let mine = Entity::delete_many().filter(COLUMN.org_id.eq(PLATFORM)).filter(COLUMN.channel.eq(channel));
                Ok(mine.exec(tx.db()).await?)
            })?;
            tracing::info!(%channel, "the channel takes messages again");
        }
        return Ok(None);
    }
    let refused = came.iter().filter_map(|(to, delivery)| match delivery {
        Delivery::Refused { why, term } => Some((to, why, *term)),
        Delivery::Accepted | Delivery::Lost { .. } => None,
    });
    let refused: Vec<(&String, &String, RefusalPeriod)> = refused.collect();
    let Some((_, why, _)) = refused.last() else { return Ok(None) };
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
        let row = row.ok_or_else(|| Error::ours("a channel's pause went away"))?;
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
            row.next_try_at = Set(Some(storable::after(tx.now(), between(tries))));
        }
        Ok(row.update(tx.db()).await?)
    })?;
    if let (Some(since), Some(next)) = (row.since, row.next_try_at) {
        tracing::warn!(%channel, %since, next_try_at = %next, because = row.error, "the channel is paused");
    }
    Ok(row.next_try_at)
}
