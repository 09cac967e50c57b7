//! The mail of a step of guided work, as it would be sent.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::guided::MailDraft;
use crate::domain::run::guided::mail::{self, GuidedMail};
use crate::graphql::counted::Counted;
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::validate;

/// What is written, and to whom, to be looked at.
#[derive(InputObject)]
pub struct PreviewStepEmailInput {
    /// From within which step.
    step_id: ID,
    /// To these records, at most 500.
    record_ids: Vec<ID>,
    /// The subject, with placeholders like `{{ name }}` …
    subject: Option<String>,
    /// … and the text; both, or neither.
    body: Option<String>,
    /// In place of both: a message template, by id or name. Without either: as the step says.
    message_template: Option<String>,
}

/// What a record would be sent.
#[derive(SimpleObject)]
pub struct StepEmailPreview {
    /// To whom.
    record: Record,
    /// What.
    mail: MailDraft,
    /// Why it would be held back on its way; null where it would not.
    suppressed: Option<String>,
    /// When this step wrote to the address last; null where it did not. `sendStepEmail` then wants `again: true`.
    written_at: Option<DateTime<Utc>>,
}

/// The noun's part of the query root.
#[derive(Default)]
pub struct StepEmailQuery;

#[Object]
impl StepEmailQuery {
    /// Shows what `sendStepEmail` would send, and sends nothing.
    async fn preview_step_email(
        &self,
        ctx: &Context<'_>,
        input: PreviewStepEmailInput,
    ) -> Result<Counted<Vec<StepEmailPreview>>> {
        let letter = GuidedMail {
            step_id: validate::id("stepId", &input.step_id)?,
            record_ids: validate::ids(&input.record_ids, "input", "recordIds")?,
            subject: input.subject,
            body: input.body,
            message_template: input.message_template,
            again: false,
        };
        let all = Box::pin(mail::preview(db(ctx), viewer(ctx), &letter)).await?;
        let each = all.into_iter().map(|one| StepEmailPreview {
            record: Record(one.record),
            mail: one.draft.into(),
            suppressed: one.suppressed,
            written_at: one.written_at,
        });
        Ok(Counted(each.collect()))
    }
}
