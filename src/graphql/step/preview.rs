//! Preview of a guided step's email, as `sendStepEmail` would send it.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};

use super::guided::MailDraft;
use crate::domain::run::guided::mail::{self, GuidedMail};
use crate::graphql::counted::Counted;
use crate::graphql::record::Record;
use crate::graphql::{db, viewer};
use crate::kernel::validate;

/// The email to preview, and its recipients.
#[derive(InputObject)]
pub struct PreviewStepEmailInput {
    /// Id of the step.
    step_id: ID,
    /// Ids of the recipients, at most 500.
    record_ids: Vec<ID>,
    /// The subject, with placeholders like `{{ name }}`; requires `body`.
    subject: Option<String>,
    /// The text; requires `subject`.
    body: Option<String>,
    /// Message template, by id or name, instead of subject and body. Without any of them: as the
    /// step's config says.
    message_template: Option<String>,
}

/// The email that one record would receive.
#[derive(SimpleObject)]
pub struct StepEmailPreview {
    /// The recipient.
    record: Record,
    /// The rendered email.
    mail: MailDraft,
    /// Reason why it would be suppressed; null if it would be sent.
    suppressed: Option<String>,
    /// Time at which this step last wrote to the address; null if it never did. If set,
    /// `sendStepEmail` requires `again: true`.
    written_at: Option<DateTime<Utc>>,
}

/// Query fields for previews of step emails.
#[derive(Default)]
pub struct StepEmailQuery;

#[Object]
impl StepEmailQuery {
    /// Returns what `sendStepEmail` would send, without sending anything.
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
            is_repeat: false,
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
