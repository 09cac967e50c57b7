//! Writers: the object, its queries and its mutations.

use async_graphql::MaybeUndefined;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::WriterId;
use entity::writer::WriterKind;

use super::campaign::Campaign;
use super::campaign::list::{CampaignOrder, campaigns};
use super::list::{List, Totals, args, list};
use super::loader::nested_page;
use super::version::WriterVersion;
use super::viewer;
use crate::domain::content::writer as noun;
use crate::domain::plan::campaign::list::Filter as CampaignFilter;
use crate::graphql::counted::Counted;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// The source of a campaign's content: instructions, and the way of writing.
pub struct Writer(pub entity::writer::Model);

impl RowFields for Writer {}

/// The source of a campaign's content: instructions, and the way of writing.
#[Object]
impl Writer {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// The way of writing: from templates, or by an agent.
    async fn kind(&self) -> WriterKind {
        self.0.kind
    }

    /// Instructions for the agent that writes; empty if none were given.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// Template used by campaigns without a message template; null if the writer has none.
    async fn body(&self) -> Option<Counted<&str>> {
        self.0.body.as_deref().map(Counted)
    }

    /// The versions, newest first, each with its author, time and changes. An object that is older
    /// than version keeping has its latest version only.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<WriterVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = nested_page(ctx, window, false).await?;
        Ok(list(page, Totals::WriterVersions(self.0.id), WriterVersion))
    }

    /// The campaigns that it writes for now, newest first by default; empty if there is none.
    /// `filter.writerIds` is ignored. Page with `first` and `after`, or `last` and `before`.
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
        filter.writer_ids = Some(vec![self.0.id.to_string().into()]);
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

definition!(WriterQuery: writer, writers of Writer, WriterId, Writers);

/// Fields of a new writer.
#[derive(InputObject)]
pub struct CreateWriterInput {
    /// The name.
    name: String,
    /// The way of writing; TEMPLATED by default.
    kind: Option<WriterKind>,
    /// Instructions for the agent that writes.
    instructions: Option<String>,
    /// Template for campaigns without a message template, with placeholders like `{{ first_name
    /// }}`.
    body: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a writer. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateWriterInput {
    /// Id of the writer.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the writer has changed since. Null: not
    /// checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new way of writing.
    kind: Option<WriterKind>,
    /// The new instructions.
    instructions: Option<String>,
    /// The new template; null removes it.
    body: MaybeUndefined<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed writer.
#[derive(SimpleObject)]
pub struct WriterPayload {
    /// The writer after the change.
    writer: Writer,
}

deletion!(WriterDeletion: delete_writer of WriterId);

/// Mutations for writers.
#[derive(Default)]
pub struct WriterMutation;

#[Object]
impl WriterMutation {
    /// Creates a writer. Rejected with BAD_USER_INPUT, naming the field.
    async fn create_writer(&self, ctx: &Context<'_>, input: CreateWriterInput) -> Result<WriterPayload> {
        let fields = noun::Fields {
            name: Some(input.name),
            kind: input.kind,
            instructions: input.instructions,
            body: input.body.map(Some),
        };
        Ok(WriterPayload {
            writer: Writer(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT.
    async fn update_writer(&self, ctx: &Context<'_>, input: UpdateWriterInput) -> Result<WriterPayload> {
        let id = validate::id::<WriterId>("id", &input.id)?;
        let fields = noun::Fields {
            name: input.name,
            kind: input.kind,
            instructions: input.instructions,
            body: input.body.as_opt_ref().map(|body| body.cloned()),
        };
        let changed = idempotent!(ctx, input.idempotency_key, |db| noun::update(
            db,
            viewer(ctx),
            id,
            input.expected_revision,
            &fields
        ));
        Ok(WriterPayload { writer: Writer(changed) })
    }
}
