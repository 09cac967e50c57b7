//! `email`: renders one mail from the step's own settings and sends it as all mail is sent:
//! drafted, reserved, handed over, settled.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run_record::Outcome as RecipientOutcome;
use entity::step::{StepReason, StepStatus};
use entity::{Channel, RunStatus, run, run_record, step};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};
use serde_json::{Map, Value};

use super::send::{self, LeasedMessage, MessageLookup, Send};
use super::{Answer, Claimed, Outcome, Work, batch_context};
use crate::channel::pause::ChannelAllowance;
use crate::channel::{Delivery, Mail};
use crate::domain::audience::suppression;
use crate::domain::content::templating::{self, Message};
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::message::communication::normalized_address;
use crate::domain::plan::run_template::kind;
use crate::domain::run::recipients;
use crate::kernel::db::batch::{any_of, insert_returning};
use crate::kernel::db::{Db, Tx, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;
use crate::transact;

/// The kind `email`.
#[derive(Debug)]
pub struct Email {
    /// The sending of mail.
    pub send: Send,
    /// The domain of Message-IDs, after the @.
    pub domain: String,
}

impl Email {
    /// Sends over a mail transport.
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

    async fn allowance(&self, db: &Db) -> Result<ChannelAllowance> {
        self.send.allowance(db).await
    }

    async fn bring_forward(&self, db: &WriteContext) -> Result<bool> {
        send::forward::probe(db, Self::KIND).await
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Self::Outcome>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(
        &'a self,
        db: &'a WriteContext,
        claimed: &'a [Claimed],
    ) -> Result<Vec<Answer<'a, Self::Outcome>>> {
        let drafted = self.draft(db, claimed).await?;
        // Only steps with a message are handed over.
        let ready =
            claimed.iter().zip(&drafted).filter(|(_, undrafted)| undrafted.is_none()).map(|(claim, _)| claim.clone());
        let ready: Vec<Claimed> = ready.collect();
        let runs: Vec<RunId> = ready.iter().map(|claim| claim.run.id).collect();
        let messages: Vec<LeasedMessage> =
            ready.iter().map(|claim| LeasedMessage::of_step(&claim.step, Some(claim.step.id.0))).collect();
        let mut sent = self.send.hand_over(db, &runs, MessageLookup::Step, &messages).await?.into_iter();
        let lost = || Outcome::Failed { why: "it was not sent".into(), retryable: true, after: None, data: None };
        let answers = drafted.into_iter().map(|undrafted| match undrafted {
            Some(undrafted) => std::future::ready(undrafted).boxed(),
            None => sent.next().unwrap_or_else(|| std::future::ready(lost()).boxed()),
        });
        Ok(answers.collect())
    }

    fn unstorable(&self, outcome: &Outcome<Self::Outcome>, why: &str) -> Outcome<Self::Outcome> {
        send::unstorable(outcome, why)
    }

    /// Records the messages. The recipients' outcomes are set at the run's end, since more steps may
    /// follow for them, but for those that an event has interrupted.
    async fn record(
        &self,
        tx: &Tx,
        run: &run::Model,
        settled: &[(step::Model, &Outcome<Self::Outcome>)],
    ) -> Result<()> {
        send::record(tx, run, settled).await?;
        let of = |is: &dyn Fn(&step::Model) -> bool| {
            settled.iter().filter(|(step, _)| is(step)).filter_map(|(step, _)| step.run_record_id).collect()
        };
        let sent = of(&|step| step.status == StepStatus::Completed);
        let unknown = of(&|step| step.reason == Some(StepReason::OutcomeUnknown));
        recipients::written_to_by_event(tx, sent, RecipientOutcome::Sent).await?;
        recipients::written_to_by_event(tx, unknown, RecipientOutcome::Unknown).await
    }
}

impl Email {
    /// Drafts the message of each step that has none yet. Returns, for each step, its outcome if it
    /// gets no message, else `None`.
    async fn draft(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Option<EmailOutcome>>> {
        let ids: Vec<RunRecordId> = claimed.iter().filter_map(|claim| claim.step.run_record_id).collect();
        let recipients =
            run_record::Entity::find().filter(any_of(db.dialect(), run_record::COLUMN.id, ids)).all(db.read()).await?;
        let recipients: HashMap<RunRecordId, run_record::Model> =
            recipients.into_iter().map(|row| (row.id, row)).collect();
        let batch = batch_context::of_batch(db, claimed).await?;
        let erased = batch_context::erased_among(db, claimed).await?;
        let (mut rows, mut undrafted): (HashMap<RunId, Vec<_>>, Vec<Option<EmailOutcome>>) =
            (HashMap::new(), Vec::new());
        let failed = |why: String| Some(Outcome::Failed { why, retryable: false, after: None, data: None });
        let messages = batch_context::evaluated(&batch, claimed, message).await?;
        for ((claim, context), message) in claimed.iter().zip(batch.iter()).zip(messages) {
            let Some(message) = message else {
                undrafted.push(Some(batch_context::not_yet(db)));
                continue;
            };
            let recipient = claim.step.run_record_id.and_then(|id| recipients.get(&id));
            let record = context.record();
            // The recipient's address is one of the campaign's channel, which may not be mail.
            let address = match claim.run.channel {
                Channel::Email => recipient.and_then(|recipient| recipient.address.clone()),
                // A test has no mail address then, and never goes to the record's own.
                Channel::Sms | Channel::Phone if context.snapshot.test.is_some() => None,
                Channel::Sms | Channel::Phone => record["email"].as_str().map(str::to_owned),
            };
            if claim.step.record_id.is_some_and(|id| erased.contains(&id)) && context.snapshot.test.is_none() {
                undrafted.push(Some(batch_context::erased()));
                continue;
            }
            match (recipient, address, message) {
                (Some(recipient), Some(address), Ok(message)) => {
                    let name = record["name"].as_str().unwrap_or_default().to_owned();
                    let fresh = NewMessage {
                        run: &claim.run,
                        step_id: claim.step.id,
                        recipient,
                        channel: Channel::Email,
                        to: address,
                        name,
                        message,
                        action_number: 0,
                        is_repeat: false,
                        acted_by: None,
                        meeting: None,
                        test: context.snapshot.test.is_some(),
                        domain: &self.domain,
                    };
                    let row = fresh.row(CommunicationStatus::Approved, db.now());
                    rows.entry(claim.run.id).or_default().push(row);
                    undrafted.push(None);
                }
                (_, _, Err(why)) => undrafted.push(failed(why)),
                _ => undrafted.push(failed("its record has no email address".into())),
            }
        }
        for (run_id, rows) in rows {
            let run = claimed.iter().find(|claim| claim.run.id == run_id).map(|claim| claim.run.clone());
            let Some(run) = run else { continue };
            let duplicates = transact!(db, |tx| insert(tx, &run, rows.clone()).await)?;
            for (claim, outcome) in
                claimed.iter().zip(&mut undrafted).filter(|(claim, _)| duplicates.contains(&claim.step.id))
            {
                let why = format!("another record with its address gets the mail of {}", claim.step.key);
                *outcome = Some(Outcome::Skipped { reason: StepReason::DuplicateAddress, why });
            }
        }
        Ok(undrafted)
    }
}

type EmailOutcome = Outcome<(CommunicationId, Delivery)>;

/// Inserts messages under the run's lock, unless the run has ended. A message of an earlier attempt
/// stays as it is. Returns the duplicates, which get no message: steps for whose address another
/// record's step of the same key has one.
async fn insert(tx: &Tx, run: &run::Model, mut rows: Vec<communication::ActiveModel>) -> Result<HashSet<StepId>> {
    let engine = Viewer::engine(run.org_id);
    let run = crate::domain::run::must_lock(tx, &engine, run.id, None).await?;
    if !matches!(run.status, RunStatus::InProgress | RunStatus::Paused) {
        return Ok(HashSet::new());
    }
    // The audience of a mail campaign has no duplicate addresses.
    let duplicates = if run.channel == Channel::Email { HashSet::new() } else { duplicates(tx, &run, &rows).await? };
    rows.retain(|row| row.step_id.try_as_ref().is_none_or(|id| !duplicates.contains(id)));
    let steps: Vec<StepId> = rows.iter().filter_map(|row| row.step_id.try_as_ref().copied()).collect();
    let keep_existing = OnConflict::columns([
        communication::Column::StepId,
        communication::Column::RunRecordId,
        communication::Column::ActionNumber,
    ])
    .do_nothing()
    .to_owned();
    let existing = communication::Entity::find()
        .filter(any_of(tx.dialect(), communication::COLUMN.step_id, steps))
        .all(tx.db())
        .await?;
    let fresh: Vec<_> = rows
        .into_iter()
        .filter(|row| !existing.iter().any(|old| row.step_id.try_as_ref() == Some(&old.step_id)))
        .collect();
    if fresh.is_empty() {
        return Ok(duplicates);
    }
    let inserted = insert_returning(tx, fresh, Some(keep_existing)).await?;
    for row in &inserted {
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
    Ok(duplicates)
}

/// The steps of duplicate messages: another record has a message of the same step key to the same
/// address, in the run or earlier among the new ones. Tests are exempt, since they all go to the
/// test addresses.
async fn duplicates(tx: &Tx, run: &run::Model, rows: &[communication::ActiveModel]) -> Result<HashSet<StepId>> {
    let identity = |row: &communication::ActiveModel| {
        Some((*row.step_id.try_as_ref()?, suppression::key(row.to_address.try_as_ref()?), *row.test.try_as_ref()?))
    };
    let new: Vec<(StepId, String)> =
        rows.iter().filter_map(identity).filter(|(_, _, test)| !test).map(|(id, address, _)| (id, address)).collect();
    let existing: Vec<(StepId, String)> = communication::Entity::find()
        .select_only()
        .column(communication::Column::StepId)
        .column(communication::Column::ToAddress)
        .filter(communication::COLUMN.run_id.eq(run.id))
        .filter(communication::COLUMN.action_number.eq(0))
        .filter(any_of(tx.dialect(), normalized_address(), new.iter().map(|(_, address)| address.clone())))
        .into_tuple()
        .all(tx.db())
        .await?;
    let all = new.iter().chain(&existing).map(|(id, _)| *id);
    let keys: Vec<(StepId, String)> = step::Entity::find()
        .select_only()
        .column(step::Column::Id)
        .column(step::Column::Key)
        .filter(any_of(tx.dialect(), step::COLUMN.id, all))
        .into_tuple()
        .all(tx.db())
        .await?;
    let keys: HashMap<StepId, String> = keys.into_iter().collect();
    let target = |id: &StepId, address: &str| (keys.get(id).cloned(), suppression::key(address));
    let has_message: HashSet<StepId> = existing.iter().map(|(id, _)| *id).collect();
    let mut taken: HashSet<_> = existing.iter().map(|(id, address)| target(id, address)).collect();
    let duplicates =
        new.into_iter().filter(|(id, address)| !taken.insert(target(id, address)) && !has_message.contains(id));
    Ok(duplicates.map(|(id, _)| id).collect())
}

fn message(settings: &Value, values: &Map<String, Value>, until: Instant) -> std::result::Result<Message, String> {
    let source = |field: &str| settings[field].as_str().unwrap_or_default();
    templating::render_mail(source("subject"), source("body"), values, until)
}
