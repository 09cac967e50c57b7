//! Writers.

use async_graphql::MaybeUndefined;
use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use entity::id::WriterId;
use entity::writer::WriterKind;

use super::list::{List, Totals, args, list};
use super::loader::below;
use super::version::WriterVersion;
use super::viewer;
use crate::domain::content::writer as noun;
use crate::graphql::counted::Counted;
use crate::kernel::validate;

/// Where content comes from: instructions plus a way of writing.
pub struct Writer(pub entity::writer::Model);

/// Where content comes from: instructions plus a way of writing.
#[Object]
impl Writer {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// How it writes.
    async fn kind(&self) -> WriterKind {
        self.0.kind
    }

    /// What it is told; empty where nothing was said.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// A template of its own, for campaigns without a message template; null where it has none.
    async fn body(&self) -> Option<Counted<&str>> {
        self.0.body.as_deref().map(Counted)
    }

    /// What changed, who changed it, when; the newest first. What was there before versions were kept has its last one alone.
    #[graphql(complexity = "crate::graphql::list::cost(first, None, child_complexity)")]
    async fn versions(
        &self,
        ctx: &Context<'_>,
        first: Option<i32>,
        after: Option<String>,
    ) -> Result<List<WriterVersion>> {
        let window = noun::version::window(viewer(ctx), self.0.id, args(first, after, None, None))?;
        let page = below(ctx, window, false).await?;
        Ok(list(page, Totals::WriterVersions(self.0.id), WriterVersion))
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

definition!(WriterQuery: writer, writers of Writer, WriterId, Writers);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateWriterInput {
    /// The name.
    name: String,
    /// How it writes; TEMPLATED unless said.
    kind: Option<WriterKind>,
    /// What it is told.
    instructions: Option<String>,
    /// A template of its own, with placeholders like `{{ first_name }}`.
    body: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given.
#[derive(InputObject)]
pub struct UpdateWriterInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another way of writing.
    kind: Option<WriterKind>,
    /// Other instructions.
    instructions: Option<String>,
    /// Another template of its own; null takes it away.
    body: MaybeUndefined<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct WriterPayload {
    /// As it is now.
    writer: Writer,
}

deletion!(WriterDeletion: delete_writer of WriterId);

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct WriterMutation;

#[Object]
impl WriterMutation {
    /// Makes one. Refused with BAD_USER_INPUT, naming the field.
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

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT.
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
