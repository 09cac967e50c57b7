//! `email`: renders one mail from the step's own settings and sends it, by the same way as all mail: drafted, reserved,
//! handed over, settled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::{Channel, RunStatus, run, run_record, step};
use sea_orm::sea_query::OnConflict;
use sea_orm::{EntityTrait, QueryFilter};
use serde_json::{Map, Value};

use super::send::{self, By, Send};
use super::{Claimed, Outcome, Work, told};
use crate::channel::pause::Room;
use crate::channel::{Delivery, Mail};
use crate::communication::fresh::Fresh;
use crate::content::{self, Message};
use crate::db::batch::{any_of, insert_returning};
use crate::db::{Db, Tx};
use crate::error::Result;
use crate::run_template::kind;
use crate::transact;
use crate::viewer::Viewer;

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
    type Note = (CommunicationId, Delivery);
    const KIND: &'static str = kind::EMAIL;

    fn batch(&self) -> u64 {
        self.send.batch()
    }

    async fn room(&self, db: &Db) -> Result<Room> {
        self.send.room(db).await
    }

    async fn perform(&self, db: &Db, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Note>>> {
        let drafted = self.draft(db, claimed).await?;
        // Only what has a message is handed over.
        let ready = claimed.iter().zip(&drafted).filter(|(_, why)| why.is_none()).map(|(claim, _)| claim.clone());
        let ready: Vec<Claimed> = ready.collect();
        let runs: Vec<RunId> = ready.iter().map(|claim| claim.run.id).collect();
        let keys: Vec<_> = ready.iter().map(|claim| Some(claim.step.id.0)).collect();
        let mut sent = self.send.hand_over(db, &runs, By::Step, &keys).await?.into_iter();
        let lost = || Outcome::Failed { why: "was not handed over".into(), again: true, after: None, note: None };
        let each = drafted.into_iter().map(|why| match why {
            Some(why) => Outcome::Failed { why, again: false, after: None, note: None },
            None => sent.next().unwrap_or_else(lost),
        });
        Ok(each.collect())
    }

    fn unkept(&self, outcome: &Outcome<Self::Note>, why: &str) -> Outcome<Self::Note> {
        send::unkept(outcome, why)
    }

    /// What came of the place is said at the run's end: more may follow for it.
    async fn record(&self, tx: &Tx, run: &run::Model, settled: &[(step::Model, &Outcome<Self::Note>)]) -> Result<()> {
        send::record(tx, run, settled).await
    }
}

impl Email {
    /// Writes the message of each step that has none yet. For each step why it has none; none where it has.
    async fn draft(&self, db: &Db, claimed: &[Claimed]) -> Result<Vec<Option<String>>> {
        let ids: Vec<RunRecordId> = claimed.iter().filter_map(|claim| claim.step.run_record_id).collect();
        let places =
            run_record::Entity::find().filter(any_of(db.dialect(), run_record::COLUMN.id, ids)).all(db.read()).await?;
        let places: HashMap<RunRecordId, run_record::Model> = places.into_iter().map(|row| (row.id, row)).collect();
        let batch = told::of_batch(db, claimed).await?;
        let (mut rows, mut whys): (HashMap<RunId, Vec<_>>, Vec<Option<String>>) = (HashMap::new(), Vec::new());
        let messages = told::evaluated(&batch, claimed, message).await?;
        for ((claim, (brief, values)), message) in claimed.iter().zip(batch.iter()).zip(messages) {
            let place = claim.step.run_record_id.and_then(|id| places.get(&id));
            // Of a campaign over another channel, the place's address is of that one.
            let address = match claim.run.channel {
                Channel::Email => place.and_then(|place| place.address.clone()),
                // A test has no mail address then, and never goes to the record's own.
                Channel::Sms | Channel::Phone if brief.test.is_some() => None,
                Channel::Sms | Channel::Phone => values["record"]["email"].as_str().map(str::to_owned),
            };
            match (place, address, message) {
                (Some(place), Some(address), Ok(message)) => {
                    let name = values["record"]["name"].as_str().unwrap_or_default().to_owned();
                    let fresh = Fresh {
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
                        test: brief.test.is_some(),
                        domain: &self.domain,
                    };
                    let row = fresh.row(CommunicationStatus::Approved, db.now());
                    rows.entry(claim.run.id).or_default().push(row);
                    whys.push(None);
                }
                (_, _, Err(why)) => whys.push(Some(why)),
                _ => whys.push(Some("there is no address to write to".into())),
            }
        }
        for (run_id, rows) in rows {
            let run = claimed.iter().find(|claim| claim.run.id == run_id).map(|claim| claim.run.clone());
            let Some(run) = run else { continue };
            transact!(db, |tx| insert(tx, &run, rows.clone()).await)?;
        }
        Ok(whys)
    }
}

/// Inserts messages, each once: an earlier attempt's stays as it is. Under the run's lock, and not for one that is over.
async fn insert(tx: &Tx, run: &run::Model, rows: Vec<communication::ActiveModel>) -> Result<()> {
    let engine = Viewer::engine(run.org_id);
    let run = crate::run::must_lock(tx, &engine, run.id, None).await?;
    if !matches!(run.status, RunStatus::InProgress | RunStatus::Paused) {
        return Ok(());
    }
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
        return Ok(());
    }
    let made = insert_returning(tx, fresh, Some(once)).await?;
    for row in &made {
        let draft = communication::Model { status: CommunicationStatus::Draft, ..row.clone() };
        crate::communication::tell(
            tx,
            &engine,
            &run,
            "communication.drafted",
            &draft,
            CommunicationStatus::Draft,
            None,
        );
        crate::communication::tell(tx, &engine, &run, "communication.approved", row, CommunicationStatus::Draft, None);
    }
    Ok(())
}

fn message(settings: &Value, values: &Map<String, Value>, until: Instant) -> std::result::Result<Message, String> {
    let source = |field: &str| settings[field].as_str().unwrap_or_default();
    let subject = content::one_line(&content::text("subject", source("subject"), values, until)?)?;
    let body = content::text("body", source("body"), values, until)?;
    if body.trim().is_empty() {
        return Err("the body renders to nothing".into());
    }
    Ok(Message { subject: Some(subject), body })
}
