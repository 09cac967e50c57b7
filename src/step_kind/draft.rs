//! `draft_message`: drafts one message from the run's instructions and the record's data, rendered
//! from a template or written by a language model.

use std::collections::HashMap;
use std::sync::Arc;

use entity::communication::{self, CommunicationStatus};
use entity::id::*;
use entity::run_record::{self, Outcome as RecipientOutcome};
use entity::step::StepStatus;
use entity::writer::WriterKind;
use entity::{record, run, step};
use futures_util::FutureExt;
use futures_util::future::join_all;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict};
use sea_orm::{ActiveEnum, EntityTrait, QueryFilter};
use serde_json::json;

use super::{Answer, Claimed, Outcome, Work, batch_context};
use crate::channel::language_model::LanguageModel;
use crate::domain::content::templating::{self, Message};
use crate::domain::message::communication::new_message::NewMessage;
use crate::domain::plan::campaign_snapshot::CampaignSnapshot;
use crate::domain::plan::run_template;
use crate::domain::run::snapshot;
use crate::kernel::db::batch::{any_of, insert_returning};
use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Error, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, storable};

/// The drafts that a loop claims. Rendered ones have loops of their own, so that they do not wait
/// for a language model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DraftSelection {
    /// Drafts of every run.
    All,
    /// Drafts that are rendered.
    Rendered,
    /// Drafts that a language model writes.
    Written,
}

/// The kind `draft_message`.
#[derive(Debug)]
pub struct Draft {
    /// The drafts to claim.
    pub takes: DraftSelection,
    /// The domain of Message-IDs, after the @.
    pub domain: String,
    /// The language model for writers that are agents.
    pub model: Option<Arc<LanguageModel>>,
}

/// A drafted message and its recipient.
#[derive(Clone, Debug)]
pub struct Drafted {
    recipient: run_record::Model,
    name: String,
    message: Message,
}

impl Draft {
    /// Has the language model write one message from the writer's instructions, the goal and the
    /// record.
    async fn written(
        &self,
        instructions: &CampaignSnapshot,
        run: &run::Model,
        recipient: Option<&run_record::Model>,
        record: Option<&record::Model>,
    ) -> Outcome<Drafted> {
        let never = |why: &str| Outcome::Failed { why: why.into(), retryable: false, after: None, data: None };
        let Some(model) = &self.model else { return never("no language model is configured") };
        let Some(recipient) = recipient else { return never("its recipient is no longer in the audience") };
        let mail = run.channel == entity::Channel::Email;
        let mut schema = json!({
            "type": "object", "required": ["body"], "properties": { "body": { "type": "string", "minLength": 1 } },
        });
        if mail {
            schema["required"] = json!(["subject", "body"]);
            schema["properties"]["subject"] = json!({ "type": "string", "minLength": 1, "maxLength": 200 });
        }
        let user = json!({
            "task": format!("Write one message over {}.", run.channel),
            "goal": instructions.goal.as_ref().map(|goal| json!({ "name": goal.name, "text": goal.text })),
            "record": templating::values(record), "variables": instructions.variables,
        });
        let system = crate::domain::plan::campaign_snapshot::system_prompt(Some(instructions), "");
        match model.ask(&system, &user.to_string(), Some(&schema)).await {
            Ok(answer) => {
                let text = |name: &str| answer.value[name].as_str().unwrap_or_default().to_owned();
                let subject = mail.then(|| templating::one_line(&text("subject"))).transpose();
                let subject = match subject {
                    Ok(subject) => subject,
                    Err(why) => return Outcome::Failed { why, retryable: true, after: None, data: None },
                };
                let name = record.map(|record| record.name.clone()).unwrap_or_default();
                let message = Message { subject, body: text("body") };
                let texts = [message.subject.as_deref().unwrap_or_default(), &message.body];
                if let Err(unfit) = texts.into_iter().try_for_each(storable::text) {
                    let why = format!("the language model's text {unfit}");
                    return Outcome::Failed { why, retryable: true, after: None, data: None };
                }
                Outcome::Done {
                    result: json!({ "usage": answer.usage }),
                    data: Drafted { recipient: recipient.clone(), name, message },
                }
            }
            Err(failed) => {
                Outcome::Failed { why: failed.why, retryable: failed.retryable, after: failed.after, data: None }
            }
        }
    }
}

impl Work for Draft {
    type Outcome = Drafted;
    const KIND: &'static str = run_template::DRAFT;

    fn batch(&self) -> u64 {
        if self.takes == DraftSelection::Written { limits::MODEL_BATCH } else { limits::WORK_BATCH }
    }

    fn is_shared(&self) -> bool {
        self.takes == DraftSelection::Written
    }

    fn run_condition(&self) -> &'static str {
        match self.takes {
            DraftSelection::All => "",
            DraftSelection::Rendered => "AND NOT r.by_model",
            DraftSelection::Written => "AND r.by_model",
        }
    }

    async fn perform(&self, db: &WriteContext, claimed: &[Claimed]) -> Result<Vec<Outcome<Drafted>>> {
        Ok(join_all(self.begin(db, claimed).await?).await)
    }

    async fn begin<'a>(&'a self, db: &'a WriteContext, claimed: &'a [Claimed]) -> Result<Vec<Answer<'a, Drafted>>> {
        let at_once = |outcome| std::future::ready(outcome).boxed();
        let ids: Vec<RunRecordId> = claimed.iter().filter_map(|claim| claim.step.run_record_id).collect();
        let recipients =
            run_record::Entity::find().filter(any_of(db.dialect(), run_record::COLUMN.id, ids)).all(db.read()).await?;
        let records: Vec<RecordId> = recipients.iter().filter_map(|recipient| recipient.record_id).collect();
        let records =
            record::Entity::find().filter(any_of(db.dialect(), record::COLUMN.id, records)).all(db.read()).await?;
        let recipients: HashMap<RunRecordId, run_record::Model> =
            recipients.into_iter().map(|row| (row.id, row)).collect();
        let records: HashMap<RecordId, record::Model> = records.into_iter().map(|row| (row.id, row)).collect();
        let mut answers: Vec<Option<Answer<'a, Drafted>>> = claimed.iter().map(|_| None).collect();
        let mut by_run: HashMap<RunId, Vec<usize>> = HashMap::new();
        for (i, claim) in claimed.iter().enumerate() {
            by_run.entry(claim.run.id).or_default().push(i);
        }
        for indices in by_run.into_values() {
            let run = &claimed[indices[0]].run;
            let snapshot = snapshot::of(db.read(), run).await?;
            let instructions = snapshot.instructions.as_ref();
            let recipient = |i: &usize| claimed[*i].step.run_record_id.and_then(|id| recipients.get(&id));
            let record = |recipient: &run_record::Model| recipient.record_id.and_then(|id| records.get(&id));
            let is_erased = |i: &usize| {
                recipient(i)
                    .and_then(record)
                    .is_some_and(|record| record.erased_at.is_some() && snapshot.test.is_none())
            };
            if let Some(instructions) = instructions.filter(|of| of.writer_kind == Some(WriterKind::Agent)) {
                let instructions = Arc::new(instructions.clone());
                for i in indices {
                    if is_erased(&i) {
                        answers[i] = Some(at_once(batch_context::erased()));
                        continue;
                    }
                    let (instructions, recipient) = (instructions.clone(), recipient(&i).cloned());
                    let record = recipient.as_ref().and_then(record).cloned();
                    let answer =
                        async move { self.written(&instructions, run, recipient.as_ref(), record.as_ref()).await };
                    answers[i] = Some(answer.boxed());
                }
                continue;
            }
            let source = instructions.and_then(|of| of.source(&run.campaign_name, &run.created_by.name));
            let Some(source) = source else {
                for i in indices {
                    let why = "there is nothing to render".into();
                    answers[i] = Some(at_once(Outcome::Failed { why, retryable: false, after: None, data: None }));
                }
                continue;
            };
            let values = indices.iter().map(|i| match recipient(i).and_then(record) {
                Some(record) => templating::values(Some(record)),
                None => templating::placeholders(&source),
            });
            let rendered = templating::render_in_time(Some(run.org_id), source.clone(), values.collect());
            let rendered = match rendered.await {
                Ok(rendered) => rendered,
                // All evaluation threads are busy.
                Err(Error::Refused(_)) => indices.iter().map(|_| None).collect(),
                Err(err) => return Err(err),
            };
            for (i, rendered) in indices.iter().zip(rendered) {
                answers[*i] = Some(at_once(match (rendered, recipient(i)) {
                    (None, _) => batch_context::not_yet(db),
                    _ if is_erased(i) => batch_context::erased(),
                    (Some(Ok(message)), Some(recipient)) => {
                        let name = record(recipient).map(|record| record.name.clone()).unwrap_or_default();
                        let data = Drafted { recipient: recipient.clone(), name, message };
                        Outcome::Done { result: json!({}), data }
                    }
                    (Some(Err(why)), _) => Outcome::Failed { why, retryable: false, after: None, data: None },
                    (Some(Ok(_)), None) => Outcome::Failed {
                        why: "its recipient is no longer in the audience".into(),
                        retryable: false,
                        after: None,
                        data: None,
                    },
                }));
            }
        }
        let lost =
            || at_once(Outcome::Failed { why: "it was not rendered".into(), retryable: true, after: None, data: None });
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect())
    }

    async fn record(&self, tx: &Tx, run: &run::Model, settled: &[(step::Model, &Outcome<Drafted>)]) -> Result<()> {
        let snapshot = snapshot::of(tx.db(), run).await?;
        let test = snapshot.test.as_ref();
        let reviewed = run_template::has_review(&snapshot.definition) && test.is_none_or(|test| test.review);
        let mut rows = Vec::new();
        for (step, outcome) in settled {
            let Some(drafted) = outcome.data().filter(|_| step.status == StepStatus::Completed) else { continue };
            let fresh = NewMessage {
                run,
                step_id: step.id,
                recipient: &drafted.recipient,
                channel: run.channel,
                to: drafted.recipient.address.clone().unwrap_or_default(),
                name: drafted.name.clone(),
                message: drafted.message.clone(),
                action_number: 0,
                is_repeat: false,
                acted_by: None,
                meeting: None,
                test: test.is_some(),
                domain: &self.domain,
            };
            rows.push(fresh.row(CommunicationStatus::Draft, tx.now()));
        }
        let engine = Viewer::engine(run.org_id);
        if !rows.is_empty() {
            // A message that is drafted again gets the new text and keeps its identity.
            let update = OnConflict::columns([
                communication::Column::StepId,
                communication::Column::RunRecordId,
                communication::Column::ActionNumber,
            ])
            .update_columns([
                communication::Column::ToName,
                communication::Column::Subject,
                communication::Column::Body,
                communication::Column::Search,
                communication::Column::UpdatedAt,
            ])
            .value(
                communication::Column::Revision,
                Expr::col((communication::Entity, communication::Column::Revision)).add(1),
            )
            .action_and_where(
                Expr::col((communication::Entity, communication::Column::Status))
                    .eq(CommunicationStatus::Draft.to_value()),
            )
            .to_owned();
            let drafted = insert_returning(tx, rows, Some(update)).await?;
            for row in &drafted {
                crate::domain::message::communication::emit(
                    tx,
                    &engine,
                    run,
                    "communication.drafted",
                    row,
                    CommunicationStatus::Draft,
                    None,
                );
            }
            if !reviewed {
                let ids: Vec<CommunicationId> = drafted.iter().map(|row| row.id).collect();
                crate::domain::message::communication::release(tx, &engine, run, &ids).await?;
            }
        }
        let failed: Vec<_> = settled
            .iter()
            .filter(|(step, _)| step.status == StepStatus::Failed)
            .map(|(step, _)| (step, Some(RecipientOutcome::Failed), step.error.clone()))
            .collect();
        super::set_recipient_outcomes(tx, &failed).await
    }
}
