//! `email`: renders one mail from the step's own settings and sends it, by the same way as all mail: drafted, reserved,
//! handed over, settled.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::step::StepReason;
use entity::{Channel, RunStatus, run, run_record, step};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value};

use super::send::{self, MessageLookup, Send};
use super::{Answer, Claimed, Outcome, Work, batch_context};
use crate::channel::pause::ChannelAllowance;
use crate::channel::{Delivery, Mail};
use crate::domain::audience::suppression;
use crate::domain::content::templating::{self, Message};
use crate::domain::message::communication::compared;
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::plan::run_template::kind;
use crate::kernel::db::batch::{any_of, insert_returning};
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// The work.
#[derive(Debug)]
pub struct Email {
    /// The way out.
    pub send: Send,
    /// What stands behind the @ of a Message-ID.
    pub domain: String,
}

impl Email {
    /// Over a way out.
    pub fn new(mail: Arc<Mail>, domain: String) -> Self {
        Self { send: Send { mail }, domain }
    }
}

impl Work for Email {
    type Outcome = (CommunicationId, Delivery);
    const KIND: &'static str = kind::EMAIL;

    fn batch(&self) -> u64 {
        self.send.batch()
    }

    async fn room(&self, db: &Db) -> Result<ChannelAllowance> {
        self.send.room(db).await
    }

    async fn perform(&self, db: &Db, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(&'a self, db: &'a Db, claimed: &'a [Claimed]) -> Result<Vec<Answer<'a, Self::Outcome>>> {
        let drafted = self.draft(db, claimed).await?;
        // Only what has a message is handed over.
        let ready =
            claimed.iter().zip(&drafted).filter(|(_, unwritten)| unwritten.is_none()).map(|(claim, _)| claim.clone());
        let ready: Vec<Claimed> = ready.collect();
        let runs: Vec<RunId> = ready.iter().map(|claim| claim.run.id).collect();
        let keys: Vec<_> = ready.iter().map(|claim| Some(claim.step.id.0)).collect();
        let mut sent = self.send.hand_over(db, &runs, MessageLookup::Step, &keys).await?.into_iter();
        let lost = || Outcome::Failed { why: "was not handed over".into(), again: true, after: None, note: None };
        let answers = drafted.into_iter().map(|unwritten| match unwritten {
            Some(unwritten) => std::future::ready(unwritten).boxed(),
            None => sent.next().unwrap_or_else(|| std::future::ready(lost()).boxed()),
        });
        Ok(answers.collect())
    }

    fn unkept(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        send::unkept(outcome, why)
    }

    /// What came of the place is said at the run's end: more may follow for it.
    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        send::record(tx, run, settled).await
    }
}

impl Email {
    /// Writes the message of each step that has none yet. For each step what comes of it without one; none where it has one.
    async fn draft(&self, db: &Db, claimed: &[Claimed]) -> Result<Vec<Option<Came>>> {
        let ids: Vec<RunRecordId> = claimed.iter().filter_map(|claim| claim.step.run_record_id).collect();
        let places =
            run_record::Entity::find().filter(any_of(db.dialect(), run_record::COLUMN.id, ids)).all(db.read()).await?;
        let places: HashMap<RunRecordId, run_record::Model> = places.into_iter().map(|row| (row.id, row)).collect();
        let batch = batch_context::of_batch(db, claimed).await?;
        let (mut rows, mut whys): (HashMap<RunId, Vec<_>>, Vec<Option<Came>>) = (HashMap::new(), Vec::new());
        let failed = |why: String| Some(Outcome::Failed { why, again: false, after: None, note: None });
        let messages = batch_context::evaluated(&batch, claimed, message).await?;
        for ((claim, (snapshot, values)), message) in claimed.iter().zip(batch.iter()).zip(messages) {
            let Some(message) = message else {
                whys.push(Some(batch_context::not_yet(db)));
                continue;
            };
            let place = claim.step.run_record_id.and_then(|id| places.get(&id));
            // Of a campaign over another channel, the place's address is of that one.
            let address = match claim.run.channel {
                Channel::Email => place.and_then(|place| place.address.clone()),
                // A test has no mail address then, and never goes to the record's own.
                Channel::Sms | Channel::Phone if snapshot.test.is_some() => None,
                Channel::Sms | Channel::Phone => values["record"]["email"].as_str().map(str::to_owned),
            };
            match (place, address, message) {
                (Some(place), Some(address), Ok(message)) => {
                    let name = values["record"]["name"].as_str().unwrap_or_default().to_owned();
                    let fresh = NewMessage {
                        run: &claim.run,
                        step_id: claim.step.id,
                        place,
                        channel: Channel::Email,
                        to: address,
                        name,
                        message,
                        occasion: 0,
                        again: false,
                        acted_by: None,
                        meeting: None,
                        test: snapshot.test.is_some(),
                        domain: &self.domain,
                    };
                    let row = fresh.row(CommunicationStatus::Approved, db.now());
                    rows.entry(claim.run.id).or_default().push(row);
                    whys.push(None);
                }
                (_, _, Err(why)) => whys.push(failed(why)),
                _ => whys.push(failed("there is no address to write to".into())),
            }
        }
        for (run_id, rows) in rows {
            let run = claimed.iter().find(|claim| claim.run.id == run_id).map(|claim| claim.run.clone());
            let Some(run) = run else { continue };
            let doubles = transact!(db, |tx| insert(tx, &run, rows.clone()).await)?;
            for (claim, unwritten) in
                claimed.iter().zip(&mut whys).filter(|(claim, _)| doubles.contains(&claim.step.id))
            {
                let why = format!("another record has its address, and the mail of {}", claim.step.key);
                *unwritten = Some(Outcome::Skipped { reason: StepReason::DuplicateAddress, why });
            }
        }
        Ok(whys)
    }
}

/// What came of a step.
type Came = Outcome<(CommunicationId, Delivery)>;

/// Inserts messages, each once: an earlier attempt's stays as it is. Under the run's lock, and not for one that is over.
/// Returns the steps whose message another record's step of the same key has for the same address: they get none.
async fn insert(tx: &Tx, run: &run::Model, mut rows: Vec<communication::ActiveModel>) -> Result<HashSet<StepId>> {
    let engine = Viewer::engine(run.org_id);
    let run = crate::domain::run::must_lock(tx, &engine, run.id, None).await?;
    if !matches!(run.status, RunStatus::InProgress | RunStatus::Paused) {
        return Ok(HashSet::new());
    }
    // An audience over mail has each address once.
    let doubles = if run.channel == Channel::Email { HashSet::new() } else { doubles(tx, &run, &rows).await? };
    rows.retain(|row| row.step_id.try_as_ref().is_none_or(|id| !doubles.contains(id)));
    let steps: Vec<StepId> = rows.iter().filter_map(|row| row.step_id.try_as_ref().copied()).collect();
    let once = OnConflict::columns([
        communication::Column::StepId,
        communication::Column::RunRecordId,
        communication::Column::Occasion,
    ])
    .do_nothing()
    .to_owned();
    let there = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.step_id, steps))
        .all(tx.db())
        .await?;
    let fresh: Vec<_> = rows
        .into_iter()
        .filter(|row| !there.iter().any(|old| row.step_id.try_as_ref() == Some(&old.step_id)))
        .collect();
    if fresh.is_empty() {
        return Ok(doubles);
    }
    let made = insert_returning(tx, fresh, Some(once)).await?;
    for row in &made {
        let draft = communication::Model { status: CommunicationStatus::Draft, ..row.clone() };
        crate::domain::message::communication::emit(
            tx,
            &engine,
            &run,
            "communication.drafted",
            &draft,
            CommunicationStatus::Draft,
            None,
        );
        crate::domain::message::communication::emit(
            tx,
            &engine,
            &run,
            "communication.approved",
            row,
            CommunicationStatus::Draft,
            None,
        );
    }
    Ok(doubles)
}

/// The steps of new messages whose address has a message of the same step already, of another record: in the run, or before
/// it among the new ones. Tests go to one address over and over.
async fn doubles(tx: &Tx, run: &run::Model, rows: &[communication::ActiveModel]) -> Result<HashSet<StepId>> {
    let mine = |row: &communication::ActiveModel| {
        Some((*row.step_id.try_as_ref()?, suppression::key(row.to_address.try_as_ref()?), *row.test.try_as_ref()?))
    };
    let new: Vec<(StepId, String)> =
        rows.iter().filter_map(mine).filter(|(_, _, test)| !test).map(|(id, address, _)| (id, address)).collect();
    let there: Vec<(StepId, String)> = communication::Entity::find()
        .select_only()
        .column(communication::Column::StepId)
        .column(communication::Column::ToAddress)
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.occasion.eq(0))
        .filter(any_of(tx.dialect(), compared(), new.iter().map(|(_, address)| address.clone())))
        .into_tuple()
        .all(tx.db())
        .await?;
    let all = new.iter().chain(&there).map(|(id, _)| *id);
    let keys: Vec<(StepId, String)> = step::Entity::find()
        .select_only()
        .column(step::Column::Id)
        .column(step::Column::Key)
        .filter(any_of(tx.dialect(), step::COLUMN.id, all))
        .into_tuple()
        .all(tx.db())
        .await?;
    let keys: HashMap<StepId, String> = keys.into_iter().collect();
    let of = |id: &StepId, address: &str| (keys.get(id).cloned(), suppression::key(address));
    let has_one: HashSet<StepId> = there.iter().map(|(id, _)| *id).collect();
    let mut taken: HashSet<_> = there.iter().map(|(id, address)| of(id, address)).collect();
    let each = new.into_iter().filter(|(id, address)| !taken.insert(of(id, address)) && !has_one.contains(id));
    Ok(each.map(|(id, _)| id).collect())
}

fn message(settings: &Value, values: &Map<String, Value>, until: Instant) -> std::result::Result<Message, String> {
    let source = |field: &str| settings[field].as_str().unwrap_or_default();
    templating::letter(source("subject"), source("body"), values, until)
}
