//! `send_message`: sends drafted messages. Each is reserved, handed over to its channel and
//! settled; a send begins when its reservation commits.

mod elsewhere;
pub mod forward;
mod lease;
pub(crate) mod meeting_turns;
mod message_lookup;
mod readdress;
mod reserve;
mod settle;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run_record::Outcome as RecipientOutcome;
use entity::step::{StepReason, StepStatus};
use entity::{Channel, RunType, run, step};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

pub(crate) use lease::LeasedMessage;
pub(crate) use message_lookup::MessageLookup;
pub(crate) use settle::{contacted, row, settle};

use super::{Answer, Claimed, Outcome, Work};
use crate::channel::pause::{self, ChannelAllowance};
use crate::channel::{Delivery, Mail, MailTransport, RefusalPeriod};
use crate::domain::audience::suppression;
use crate::domain::plan::run_template;
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::{failpoint, storable};

/// The kind `send_message`.
#[derive(Debug)]
pub struct Send {
    /// The mail transport.
    pub mail: Arc<Mail>,
}

impl Work for Send {
    type Outcome = (CommunicationId, Delivery);
    const KIND: &'static str = run_template::SEND;

    fn batch(&self) -> u64 {
        self.mail.batch()
    }

    async fn allowance(&self, db: &Db) -> Result<ChannelAllowance> {
        self.channel_allowance(db).await
    }

    async fn bring_forward(&self, db: &WriteContext) -> Result<bool> {
        forward::probe(db, Self::KIND).await
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(
        &'a self,
        db: &'a WriteContext,
        claimed: &'a [Claimed],
    ) -> Result<Vec<Answer<'a, Self::Outcome>>> {
        let mut mixed = false;
        for claim in claimed {
            mixed |= crate::domain::run::snapshot::of(db.read(), &claim.run).await?.graph.emails;
        }
        let runs: Vec<RunId> = claimed.iter().map(|claim| claim.run.id).collect();
        let of_recipient = |claim: &Claimed| {
            LeasedMessage::of_step(&claim.step, claim.step.run_record_id.map(|recipient| recipient.0))
        };
        let messages: Vec<LeasedMessage> = claimed.iter().map(of_recipient).collect();
        self.hand_over(db, &runs, MessageLookup::Recipient { mixed }, &messages).await
    }

    fn unstorable(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        unstorable(outcome, why)
    }

    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        let mut outcomes = Vec::new();
        for (step, outcome) in settled {
            let recipient_outcome = match (step.status, outcome.data()) {
                (StepStatus::Completed, _) => Some((Some(RecipientOutcome::Sent), None)),
                (StepStatus::Failed, _) => Some((Some(RecipientOutcome::Failed), step.error.clone())),
                (StepStatus::AwaitingApproval, _) | (_, Some((_, Delivery::Unknown { .. }))) => {
                    Some((Some(RecipientOutcome::Unknown), step.error.clone()))
                }
                // Closed with its run, or by an event: these set the outcome, which is sent if
                // another message was.
                (StepStatus::Skipped, _)
                    if matches!(step.reason, Some(StepReason::RunCancelled | StepReason::Interrupted)) =>
                {
                    None
                }
                (StepStatus::Skipped, _) => Some((Some(skipped(step)), step.error.clone())),
                (StepStatus::Pending | StepStatus::Queued | StepStatus::InProgress, _) => None,
            };
            if let Some((recipient_outcome, why)) = recipient_outcome {
                outcomes.push((step, recipient_outcome, why));
            }
        }
        super::set_recipient_outcomes(tx, &outcomes).await?;
        record(tx, run, settled).await
    }
}

/// The outcome to settle instead of one that can't be stored: unknown if the message was handed
/// over, which a person resolves, else failed.
pub(crate) fn unstorable(
    outcome: &Outcome<(CommunicationId, Delivery)>,
    why: &str,
) -> Outcome<(CommunicationId, Delivery)> {
    match outcome.data() {
        Some((id, _)) => {
            Outcome::Unknown { why: why.to_owned(), data: (*id, Delivery::Unknown { why: why.to_owned() }) }
        }
        None => Outcome::Failed { why: why.to_owned(), retryable: false, after: None, data: None },
    }
}

/// Settles the messages of settled steps.
pub(super) async fn record(
    tx: &Tx,
    run: &run::Model,
    settled: &[(step::Model, &Outcome<(CommunicationId, Delivery)>)],
) -> Result<()> {
    let delivered = settled.iter().filter_map(|(step, outcome)| Some((step, outcome.data()?)));
    // A temporarily refused message of a step that was interrupted meanwhile is returned to the
    // queue first, and cancelled then.
    let as_settled = |step: &step::Model| match step.reason {
        Some(StepReason::Interrupted) => StepStatus::Queued,
        _ => step.status,
    };
    let rows = delivered.map(|(step, (id, delivery))| row(*id, delivery, as_settled(step), tx)).collect();
    let sent = settle(tx, run, rows).await?;
    if run.run_type != RunType::TestRun {
        contacted(tx, &sent).await?;
    }
    Ok(())
}

/// The shared state of messages that were reserved together.
#[derive(Debug)]
struct ReservedBatch {
    /// Their turn at the channel.
    turn: u64,
    /// True if the channel had refused something since it last accepted a message.
    refusing: bool,
    /// True if the channel has accepted one of them; `None` while that is unknown.
    opened: watch::Sender<Option<bool>>,
    /// Messages that are tried for the last time.
    last_time: HashSet<CommunicationId>,
}

impl Send {
    /// The number of messages that may be sent now: up to a batch, within the channel's rate and
    /// pause.
    pub(crate) async fn channel_allowance(&self, db: &Db) -> Result<ChannelAllowance> {
        let paused = pause::read(db, Channel::Email).await?;
        let mut room = pause::allowance(paused.as_ref(), db.now(), self.mail.batch(), self.mail.retry_period);
        if let Some(rate) = self.mail.rate {
            room.count = room.count.min(rate.available(db, self.mail.batch()).await?.count);
        }
        Ok(room)
    }

    /// Reserves and hands over messages of some runs. Returns one future outcome each, which resolves
    /// when the channel has answered. A message whose lease is lost is left to the lease's new owner.
    pub(crate) async fn hand_over<'a>(
        &'a self,
        db: &'a WriteContext,
        runs: &[RunId],
        by: MessageLookup,
        each: &[LeasedMessage],
    ) -> Result<Vec<Answer<'a, (CommunicationId, Delivery)>>> {
        let keys: Vec<Uuid> = each.iter().filter_map(|message| message.key).collect();
        // Messages that an earlier, crashed attempt had reserved, read before this one reserves
        // more.
        let leftover = messages(db, by, &keys, CommunicationStatus::Sending).await?;
        failpoint::reach("reserving");
        readdress::follow(db, by, &keys).await?;
        let reserved = reserve::reserve(db, &self.mail, runs, by, each).await?;
        failpoint::reach("reserved");
        // Nothing may fail from here to the hand-over: a message that is reserved but not handed
        // over would have an unknown outcome.
        let mut leftover: HashMap<_, _> = leftover
            .into_iter()
            .map(|row| (by.key(&row), row))
            .filter(|(key, _)| reserved.held.contains(key))
            .collect();
        let others: HashMap<_, _> =
            reserved.all.iter().map(|row| (by.key(row), (row.id, row.status, row.error.clone()))).collect();
        let fresh = reserved.all.into_iter().filter(|row| row.status == CommunicationStatus::Sending);
        let mut fresh: HashMap<_, _> =
            fresh.filter(|row| !leftover.contains_key(&by.key(row))).map(|row| (by.key(&row), row)).collect();
        let batch = Arc::new(ReservedBatch {
            turn: self.mail.answer_order.begin(),
            refusing: reserved.refusing,
            opened: watch::Sender::new(None),
            last_time: reserved.last_time,
        });
        let waits = batch.refusing && !(fresh.is_empty() && leftover.is_empty());
        let answers = each.iter().map(|message| {
            let key = message.key;
            if key.is_some_and(|key| !reserved.held.contains(&key)) {
                let why = "its lease was lost: another process has taken it over".into();
                return std::future::ready(Outcome::Later { at: db.now(), why, data: None }).boxed();
            }
            let fresh = key.and_then(|id| fresh.remove(&id));
            let old = key.and_then(|id| leftover.remove(&id));
            match (fresh, old) {
                (Some(message), _) => self.answer(db, message, false, batch.clone()).boxed(),
                (None, Some(message)) => self.answer(db, message, true, batch.clone()).boxed(),
                (None, None) if key.is_some_and(|id| reserved.carried.contains_key(&id)) => {
                    let why = key.and_then(|id| reserved.carried.get(&id)).cloned().unwrap_or_default();
                    std::future::ready(Outcome::Skipped { reason: StepReason::CarriedOver, why }).boxed()
                }
                (None, None) => {
                    let other = key.and_then(|id| others.get(&id)).cloned();
                    let why = key.and_then(|id| reserved.suppressed.get(&id));
                    let behind = other.as_ref().and_then(|(id, ..)| reserved.behind.get(id)).copied();
                    let outcome = unreserved(other, why, behind.unwrap_or(reserved.again_at));
                    match outcome {
                        Outcome::Later { at, why, data } if waits && behind.is_none() => {
                            // Messages held by the pause are sent at once if the channel accepts
                            // messages again.
                            let mut opened = batch.opened.subscribe();
                            let later = async move {
                                let opened =
                                    opened.wait_for(Option::is_some).await.is_ok_and(|opened| *opened == Some(true));
                                Outcome::Later { at: if opened { db.now() } else { at }, why, data }
                            };
                            later.boxed()
                        }
                        outcome => std::future::ready(outcome).boxed(),
                    }
                }
            }
        });
        Ok(answers.collect())
    }

    /// Hands over a message, or looks up one that an earlier attempt had in flight, and returns its
    /// outcome.
    async fn answer(
        &self,
        db: &WriteContext,
        message: communication::Model,
        is_repeat: bool,
        batch: Arc<ReservedBatch>,
    ) -> Outcome<(CommunicationId, Delivery)> {
        let delivery = if is_repeat { self.resume(&message).await } else { self.mail.deliver(&message).await };
        let observed = pause::ChannelOutcome {
            turn: batch.turn,
            refusing: batch.refusing,
            to: &message.to_address,
            delivery: &delivery,
        };
        let after = self.mail.answer_order.record(db, Channel::Email, observed).await.unwrap_or_else(|err| {
            log_failure!(warn, err, "the channel's state could not be stored");
            pause::ChannelAfter::default()
        });
        if after.reopened
            && let Err(err) = forward::all(db).await
        {
            log_failure!(warn, err, "waiting messages could not be brought forward; each goes at its own time");
        }
        let paused = after.paused_until;
        let opens = paused.is_none() && delivery == Delivery::Accepted;
        batch.opened.send_modify(|opened| *opened = Some(opens || *opened == Some(true)));
        let (now, retry_period) = (db.now(), self.mail.retry_period);
        let is_last_time = batch.last_time.contains(&message.id)
            || message.refused_since.is_some_and(|since| storable::after(since, retry_period) <= now);
        outcome(&message, delivery, is_last_time.then_some(retry_period), paused, now)
    }

    /// Resumes a hand-over that was cut short: looks the message up, and never repeats the
    /// hand-over if it can't be looked up.
    async fn resume(&self, message: &communication::Model) -> Delivery {
        match self.mail.look_up(message).await {
            Some(true) => Delivery::Accepted,
            Some(false) => self.mail.deliver(message).await,
            None => {
                Delivery::Unknown { why: "sending was cut short, and the mail server can't be asked about it".into() }
            }
        }
    }
}

/// The outcome of a hand-over. A temporarily refused message is retried, after its own backoff or
/// the channel's pause, without using up an attempt of its step; once its retry period is over it
/// has failed.
fn outcome(
    message: &communication::Model,
    delivery: Delivery,
    exhausted: Option<chrono::Duration>,
    paused: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Outcome<(CommunicationId, Delivery)> {
    let id = message.id;
    match delivery.clone() {
        Delivery::Accepted => Outcome::Done { result: json!({ "communicationId": id }), data: (id, delivery) },
        Delivery::Refused { why, term: RefusalPeriod::ForGood } => {
            Outcome::Failed { why, retryable: false, after: None, data: Some((id, delivery)) }
        }
        Delivery::Refused { why, term } => {
            if let Some(retry_period) = exhausted {
                let why = format!("{why} (it was tried for {} hours)", retry_period.num_hours());
                let data = Some((id, Delivery::Refused { why: why.clone(), term: RefusalPeriod::ForGood }));
                return Outcome::Failed { why, retryable: false, after: None, data };
            }
            let at = match (paused, term) {
                // The channel refuses everybody: the message waits for the channel's next probe.
                (Some(until), _) => until,
                (None, RefusalPeriod::Channel) => storable::after(now, pause::probe_interval(1)),
                (None, _) => storable::after(now, pause::message_backoff(message.refusals + 1)),
            };
            Outcome::Later { at, why, data: Some((id, delivery)) }
        }
        Delivery::Unknown { why } => Outcome::Unknown { why, data: (id, delivery) },
    }
}

/// The outcome of a recipient whose step was skipped: suppressed, or skipped for another reason.
fn skipped(step: &step::Model) -> RecipientOutcome {
    if step.reason == Some(StepReason::Suppressed) { RecipientOutcome::Suppressed } else { RecipientOutcome::Skipped }
}

/// The outcome of a step without a reservation. Its message is skipped if its address is
/// suppressed, or it was rejected or cancelled. It is postponed if the run is on hold, or the
/// channel is paused or its rate is used up.
fn unreserved(
    message: Option<(CommunicationId, CommunicationStatus, Option<String>)>,
    suppressed: Option<&String>,
    again_at: DateTime<Utc>,
) -> Outcome<(CommunicationId, Delivery)> {
    match message {
        _ if suppressed.is_some() => {
            Outcome::Skipped { reason: StepReason::Suppressed, why: suppressed.cloned().unwrap_or_default() }
        }
        Some((_, CommunicationStatus::Approved, _)) => Outcome::Later {
            at: again_at,
            why: "not sent now: its run is on hold, its channel is paused, or the channel's rate is used up".into(),
            data: None,
        },
        // A person has resolved it meanwhile.
        Some((id, CommunicationStatus::Sent, _)) => {
            Outcome::Done { result: json!({ "communicationId": id }), data: (id, Delivery::Accepted) }
        }
        // The recipient opted out while the message waited.
        Some((_, CommunicationStatus::Suppressed, _)) => {
            Outcome::Skipped { reason: StepReason::Suppressed, why: suppression::UNSUBSCRIBED.to_owned() }
        }
        Some((_, status, error)) => match readdress::reason(error.as_deref()) {
            Some(reason) => Outcome::Skipped { reason, why: error.unwrap_or_default() },
            None => Outcome::Skipped { reason: StepReason::NoMessage, why: format!("its message is {status}") },
        },
        None => Outcome::Skipped { reason: StepReason::NoMessage, why: "there is no message for this record".into() },
    }
}

async fn messages(
    db: &Db,
    by: MessageLookup,
    keys: &[Uuid],
    status: CommunicationStatus,
) -> Result<Vec<communication::Model>> {
    Ok(communication::Entity::find()
        .filter(by.of(db.dialect(), keys))
        .filter(communication::COLUMN.status.eq(status))
        .all(db.read())
        .await?)
}
