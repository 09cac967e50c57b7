//! Message templates.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::Channel;
use entity::id::MessageTemplateId;

use super::list::{List, Totals, args, list};
use super::loader::below;
use super::version::MessageTemplateVersion;
use super::viewer;
use crate::domain::content::message_template as noun;
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// Subject and body with named placeholders, per channel, versioned.
pub struct MessageTemplate(pub entity::message_template::Model);

/// Subject and body with named placeholders, per channel, versioned.
#[Object]
impl MessageTemplate {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Which channel it is for.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The subject, with placeholders; null where the channel has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The body, with placeholders like `{{ first_name }}`.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Rises when subject or body change.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// What changed, who changed it, when; the newest first. What was there before versions were kept has its last one alone.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<MessageTemplateVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::MessageTemplateVersions(self.0.id), MessageTemplateVersion))
    }

    /// When it was made.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(MessageTemplateQuery: message_template, message_templates of MessageTemplate, MessageTemplateId, MessageTemplates);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateMessageTemplateInput {
    /// The name.
    name: String,
    /// Which channel it is for; EMAIL unless said.
    channel: Option<Channel>,
    /// The subject, with placeholders; mail needs one.
    subject: Option<String>,
    /// The body, with placeholders like `{{ first_name }}`.
    body: String,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateMessageTemplateInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another subject.
    subject: Option<String>,
    /// Another body.
    body: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct MessageTemplatePayload {
    /// As it is now.
    message_template: MessageTemplate,
}

deletion!(MessageTemplateDeletion: delete_message_template of MessageTemplateId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct MessageTemplateMutation;

#[Object]
impl MessageTemplateMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
    async fn create_message_template(
        &self,
        ctx: &Context<'_>,
        input: CreateMessageTemplateInput,
    ) -> Result<MessageTemplatePayload> {
        let fields = noun::Fields {
            name: Some(input.name),
            channel: input.channel,
            subject: input.subject,
            body: Some(input.body),
        };
        Ok(MessageTemplatePayload {
            message_template: MessageTemplate(idempotent!(ctx, input.idempotency_key, |db| noun::create(
                db,
                viewer(ctx),
                &fields
            ))),
        })
    }

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
    async fn update_message_template(
        &self,
        ctx: &Context<'_>,
        input: UpdateMessageTemplateInput,
    ) -> Result<MessageTemplatePayload> {
        let id = validate::id::<MessageTemplateId>("id", &input.id)?;
        let fields = noun::Fields { name: input.name, channel: None, subject: input.subject, body: input.body };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(MessageTemplatePayload { message_template: MessageTemplate(changed) })
    }
}
