//! `send_message`: reserves, hands over, settles. A send begins when its reservation commits.

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

pub(crate) use message_lookup::MessageLookup;
pub(crate) use settle::{contacted, row, settle};

use super::{Answer, Claimed, Outcome, Work};
use crate::channel::pause::{self, ChannelAllowance};
use crate::channel::{Delivery, Mail, MailTransport, RefusalPeriod};
use crate::domain::audience::suppression;
use crate::domain::plan::run_template;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;
use crate::kernel::{failpoint, storable};
use crate::transact;

/// The work.
#[derive(Debug)]
pub struct Send {
    /// The way out.
    pub mail: Arc<Mail>,
}

impl Work for Send {
    type Outcome = (CommunicationId, Delivery);
    const KIND: &'static str = run_template::SEND;

    fn batch(&self) -> u64 {
        self.mail.batch()
    }

    async fn room(&self, db: &Db) -> Result<ChannelAllowance> {
        self.free(db).await
    }

    async fn perform(&self, db: &Db, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(&'a self, db: &'a Db, claimed: &'a [Claimed]) -> Result<Vec<Answer<'a, Self::Outcome>>> {
        let mut mixed = false;
        for claim in claimed {
            mixed |= crate::domain::run::snapshot::of(db.read(), &claim.run).await?.graph.emails;
        }
        let runs: Vec<RunId> = claimed.iter().map(|claim| claim.run.id).collect();
        let keys: Vec<Option<Uuid>> =
            claimed.iter().map(|claim| claim.step.run_record_id.map(|place| place.0)).collect();
        self.hand_over(db, &runs, MessageLookup::Place { mixed }, &keys).await
    }

    fn unkept(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        unkept(outcome, why)
    }

    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        let mut fates = Vec::new();
        for (step, outcome) in settled {
            let fate = match (step.status, outcome.note()) {
                (StepStatus::Completed, _) => Some((Some(RecipientOutcome::Sent), None)),
                (StepStatus::Failed, _) => Some((Some(RecipientOutcome::Failed), step.error.clone())),
                (StepStatus::AwaitingApproval, _) | (_, Some((_, Delivery::Lost { .. }))) => {
                    Some((Some(RecipientOutcome::Unknown), step.error.clone()))
                }
                // Closed with its run, or by an event: sent, where something else went out before.
                (StepStatus::Skipped, _)
                    if matches!(step.reason, Some(StepReason::RunCancelled | StepReason::Interrupted)) =>
                {
                    None
                }
                (StepStatus::Skipped, _) => Some((Some(skipped(step)), step.error.clone())),
                (StepStatus::Pending | StepStatus::Queued | StepStatus::InProgress, _) => None,
            };
            if let Some((fate, why)) = fate {
                fates.push((step, fate, why));
            }
        }
        super::fates(tx, &fates).await?;
        record(tx, run, settled).await
    }
}

/// A message that was handed over, and of which that can't be kept: its fate is for a person to say.
pub(crate) fn unkept(
    outcome: &Outcome<(CommunicationId, Delivery)>,
    why: &str,
) -> Outcome<(CommunicationId, Delivery)> {
    match outcome.note() {
        Some((id, _)) => Outcome::Unknown { why: why.to_owned(), note: (*id, Delivery::Lost { why: why.to_owned() }) },
        None => Outcome::Failed { why: why.to_owned(), again: false, after: None, note: None },
    }
}

/// Writes what came of the messages.
pub(super) async fn record(
    tx: &Tx,
    run: &run::Model,
    settled: &[(step::Model, &Outcome<(CommunicationId, Delivery)>)],
) -> Result<()> {
    let told = settled.iter().filter_map(|(step, outcome)| Some((step, outcome.note()?)));
    // What was refused for now of a step that was interrupted meanwhile is let go of first, and called off then.
    let as_settled = |step: &step::Model| match step.reason {
        Some(StepReason::Interrupted) => StepStatus::Queued,
        _ => step.status,
    };
    let rows = told.map(|(step, (id, delivery))| row(*id, delivery, as_settled(step), tx)).collect();
    let sent = settle(tx, run, rows).await?;
    if run.run_type != RunType::TestRun {
        contacted(tx, &sent).await?;
    }
    Ok(())
}

/// What messages that were reserved together have in common.
#[derive(Debug)]
struct ReservedBatch {
    /// Their turn at the channel.
    turn: u64,
    /// Whether the channel had refused something since it last took a message.
    refusing: bool,
    /// Whether it has taken one of them; none while nobody knows.
    opened: watch::Sender<Option<bool>>,
    /// Those that are tried for the last time.
    last_time: HashSet<CommunicationId>,
}

impl Send {
    /// The messages that may go now: as many as are taken at once, within the channel's rate, unless it is paused.
    pub(crate) async fn free(&self, db: &Db) -> Result<ChannelAllowance> {
        let paused = pause::look(db, Channel::Email).await?;
        let mut room = pause::room(paused.as_ref(), db.now(), self.mail.batch(), self.mail.patience);
        if let Some(rate) = self.mail.rate {
            room.count = room.count.min(rate.look(db, self.mail.batch()).await?.count);
        }
        Ok(room)
    }

    /// Reserves and hands over the messages of some runs, found by what is given for each; one answer each, which comes when
    /// the outside has given it.
    pub(crate) async fn hand_over<'a>(
        &'a self,
        db: &'a Db,
        runs: &[RunId],
        by: MessageLookup,
        each: &[Option<Uuid>],
    ) -> Result<Vec<Answer<'a, (CommunicationId, Delivery)>>> {
        let keys: Vec<Uuid> = each.iter().copied().flatten().collect();
        // What an earlier attempt had reserved when it died, before ours is added to it.
        let left_over = messages(db, by, &keys, CommunicationStatus::Sending).await?;
        failpoint::reach("reserving");
        readdress::follow(db, by, &keys).await?;
        let reserved = self.reserve(db, runs, by, &keys).await?;
        failpoint::reach("reserved");
        // From here to the hand-over nothing may fail: what is reserved and not handed over would be unknown.
        let mut left_over: HashMap<_, _> = left_over.into_iter().map(|row| (by.key(&row), row)).collect();
        let others: HashMap<_, _> =
            reserved.all.iter().map(|row| (by.key(row), (row.id, row.status, row.error.clone()))).collect();
        let fresh = reserved.all.into_iter().filter(|row| row.status == CommunicationStatus::Sending);
        let mut fresh: HashMap<_, _> =
            fresh.filter(|row| !left_over.contains_key(&by.key(row))).map(|row| (by.key(&row), row)).collect();
        let trial = Arc::new(ReservedBatch {
            turn: self.mail.turns.begin(),
            refusing: reserved.refusing,
            opened: watch::Sender::new(None),
            last_time: reserved.last_time,
        });
        let waits = trial.refusing && !(fresh.is_empty() && left_over.is_empty());
        let answers = each.iter().map(|key| {
            let fresh = key.and_then(|id| fresh.remove(&id));
            let old = key.and_then(|id| left_over.remove(&id));
            match (fresh, old) {
                (Some(message), _) => self.answer(db, message, false, trial.clone()).boxed(),
                (None, Some(message)) => self.answer(db, message, true, trial.clone()).boxed(),
                (None, None) => {
                    let other = key.and_then(|id| others.get(&id)).cloned();
                    let why = key.and_then(|id| reserved.left_out.get(&id));
                    let outcome = unreserved(other, why, reserved.again_at);
                    match outcome {
                        Outcome::Later { at, why, note } if waits => {
                            // Where the channel takes messages again, those that were held for it go at once.
                            let mut opened = trial.opened.subscribe();
                            let later = async move {
                                let opened =
                                    opened.wait_for(Option::is_some).await.is_ok_and(|told| *told == Some(true));
                                Outcome::Later { at: if opened { db.now() } else { at }, why, note }
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

    /// Hands a message over, or looks it up that an earlier attempt had in hand; and what follows from that.
    async fn answer(
        &self,
        db: &Db,
        message: communication::Model,
        old: bool,
        trial: Arc<ReservedBatch>,
    ) -> Outcome<(CommunicationId, Delivery)> {
        let delivery = if old { self.again(&message).await } else { self.mail.deliver(&message).await };
        let came = pause::ChannelOutcome {
            turn: trial.turn,
            refusing: trial.refusing,
            to: &message.to_address,
            delivery: &delivery,
        };
        let paused = self.mail.turns.note(db, Channel::Email, came).await.unwrap_or_else(|err| {
            log_failure!(warn, err, "what the channel did could not be kept");
            None
        });
        let opens = paused.is_none() && delivery == Delivery::Accepted;
        trial.opened.send_modify(|told| *told = Some(opens || *told == Some(true)));
        let (now, patience) = (db.now(), self.mail.patience);
        let tired = trial.last_time.contains(&message.id)
            || message.refused_since.is_some_and(|since| storable::after(since, patience) <= now);
        told(&message, delivery, tired.then_some(patience), paused, now)
    }

    /// Reserves; when the database goes away meanwhile, again: what a commit reserved that was not answered is found
    /// SENDING then, and nobody else has our steps.
    async fn reserve(&self, db: &Db, runs: &[RunId], by: MessageLookup, keys: &[Uuid]) -> Result<reserve::Reservation> {
        let mut tries = 0;
        loop {
            match transact!(db, |tx| reserve::reserve(tx, &self.mail, runs, by, keys).await) {
                Err(err) if err.passes() && tries < 6 => {
                    log_failure!(warn, err, "messages could not be reserved; trying again");
                    tokio::time::sleep(std::time::Duration::from_millis(50 << tries)).await;
                    tries += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// A hand-over that was cut short: looked up where that can be done, and never repeated where it can't.
    async fn again(&self, message: &communication::Model) -> Delivery {
        match self.mail.look_up(message).await {
            Some(true) => Delivery::Accepted,
            Some(false) => self.mail.deliver(message).await,
            None => Delivery::Lost { why: "the hand-over was cut short, and the server can't be asked".into() },
        }
    }
}

/// What follows from a hand-over. What is refused for now goes again, with a pause of its own or the channel's, and no
/// attempt of its step is used up; unless it was tried for so long that it has failed.
fn told(
    message: &communication::Model,
    delivery: Delivery,
    tired: Option<chrono::Duration>,
    paused: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Outcome<(CommunicationId, Delivery)> {
    let id = message.id;
    match delivery.clone() {
        Delivery::Accepted => Outcome::Done { result: json!({ "communicationId": id }), note: (id, delivery) },
        Delivery::Refused { why, term: RefusalPeriod::ForGood } => {
            Outcome::Failed { why, again: false, after: None, note: Some((id, delivery)) }
        }
        Delivery::Refused { why, term } => {
            if let Some(patience) = tired {
                let why = format!("{why} (it was tried for {} hours)", patience.num_hours());
                let note = Some((id, Delivery::Refused { why: why.clone(), term: RefusalPeriod::ForGood }));
                return Outcome::Failed { why, again: false, after: None, note };
            }
            let at = match term {
                RefusalPeriod::Channel => paused.unwrap_or_else(|| storable::after(now, pause::between(1))),
                _ => storable::after(now, pause::of_message(message.refusals + 1)),
            };
            Outcome::Later { at, why, note: Some((id, delivery)) }
        }
        Delivery::Lost { why } => Outcome::Unknown { why, note: (id, delivery) },
    }
}

/// What came of a place whose step was skipped: its address asked to be left alone, or another reason.
fn skipped(step: &step::Model) -> RecipientOutcome {
    if step.reason == Some(StepReason::Suppressed) { RecipientOutcome::Suppressed } else { RecipientOutcome::Skipped }
}

/// No reservation: its address asked to be left alone, it was rejected or cancelled, or the run is held or the channel's
/// rate is used up; what is unsent then goes back.
fn unreserved(
    message: Option<(CommunicationId, CommunicationStatus, Option<String>)>,
    left_out: Option<&String>,
    again_at: DateTime<Utc>,
) -> Outcome<(CommunicationId, Delivery)> {
    match message {
        _ if left_out.is_some() => {
            Outcome::Skipped { reason: StepReason::Suppressed, why: left_out.cloned().unwrap_or_default() }
        }
        Some((_, CommunicationStatus::Approved, _)) => Outcome::Later {
            at: again_at,
            why: "it does not go now: its run is held, its channel is paused, or the channel's rate is used up".into(),
            note: None,
        },
        // Somebody said so meanwhile.
        Some((id, CommunicationStatus::Sent, _)) => {
            Outcome::Done { result: json!({ "communicationId": id }), note: (id, Delivery::Accepted) }
        }
        // Opted out while it waited.
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
