//! Message templates: the object, its queries and its mutations.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::Channel;
use entity::id::MessageTemplateId;

use super::campaign::Campaign;
use super::campaign::list::{CampaignOrder, campaigns};
use super::list::{List, Totals, args, list};
use super::loader::nested_page;
use super::version::MessageTemplateVersion;
use super::viewer;
use crate::domain::content::message_template as noun;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A subject and body with named placeholders, for one channel, versioned.
pub struct MessageTemplate(pub entity::message_template::Model);

impl RowFields for MessageTemplate {}

/// A subject and body with named placeholders, for one channel, versioned.
#[Object]
impl MessageTemplate {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The channel that the template is for.
    async fn channel(&self) -> Channel {
        self.0.channel
    }

    /// The subject, with placeholders; null if the channel has none.
    async fn subject(&self) -> Option<&str> {
        self.0.subject.as_deref()
    }

    /// The body, with placeholders like `{{ first_name }}`.
    async fn body(&self) -> Counted<&str> {
        Counted(&self.0.body)
    }

    /// Version number; incremented when the name, the subject or the body changes.
    async fn version(&self) -> i32 {
        self.0.version
    }

    /// The versions, newest first, each with its author, time and changes. An object that is older
    /// than version keeping has its latest version only.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<MessageTemplateVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, Totals::MessageTemplateVersions(self.0.id), MessageTemplateVersion))
    }

    /// The campaigns that use it now, newest first by default; empty if none does.
    /// `filter.messageTemplateIds` is ignored. Page with `first` and `after`, or `last` and
    /// `before`.
    #[allow(clippy::too_many_arguments, reason = "each is an argument of the field")]
    #[graphql(complexity = "crate::graphql::list::cost(first, last, child_complexity)")]
    async fn campaigns(
        &self,
        ctx: &Context<'_>,
        filter: Option<CampaignFilter>,
        order_by: Option<CampaignOrder>,
        first: Option<i32>,
        after: Option<String>,
        last: Option<i32>,
        before: Option<String>,
    ) -> Result<List<Campaign>> {
        let mut filter = filter.unwrap_or_default();
        filter.message_template_ids = Some(vec![self.0.id.to_string().into()]);
        Box::pin(campaigns(ctx, filter, order_by, args(first, after, last, before), false)).await
    }

    /// Creation time.
    async fn created_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(MessageTemplateQuery: message_template, message_templates of MessageTemplate, MessageTemplateId, MessageTemplates);

/// Fields of a new message template.
#[derive(InputObject)]
pub struct CreateMessageTemplateInput {
    /// The name.
    name: String,
    /// The channel that the template is for; EMAIL by default.
    channel: Option<Channel>,
    /// The subject, with placeholders; required for EMAIL.
    subject: Option<String>,
    /// The body, with placeholders like `{{ first_name }}`.
    body: String,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a message template. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateMessageTemplateInput {
    /// Id of the message template.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the message template has changed since. Null:
    /// not checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new subject.
    subject: Option<String>,
    /// The new body.
    body: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed message template.
#[derive(SimpleObject)]
pub struct MessageTemplatePayload {
    /// The message template after the change.
    message_template: MessageTemplate,
}

deletion!(MessageTemplateDeletion: delete_message_template of MessageTemplateId);

/// Mutations for message templates.
#[derive(Default)]
pub struct MessageTemplateMutation;

#[Object]
impl MessageTemplateMutation {
    /// Creates a message template. Rejected with BAD_USER_INPUT, naming the field.
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

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
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
