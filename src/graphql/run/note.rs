//! Notes about runs: the object, its lists and its mutations.

use async_graphql::{Context, ID, InputObject, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::id::{RunId, RunNoteId};
use entity::run_note::RunNoteSubject;

use super::Run;
use crate::domain::run::note::{self as noun, NotesOf};
use crate::graphql::campaign::Campaign;
use crate::graphql::counted::Counted;
use crate::graphql::definition::{DeleteInput, DeletePayload};
use crate::graphql::goal::Goal;
use crate::graphql::list::{List, Totals, list};
use crate::graphql::loader::{load, must_load, nested_page};
use crate::graphql::selection::RowFields;
use crate::graphql::{Actor, db, viewer};
use crate::kernel::error::Error;
use crate::kernel::page::Args;
use crate::kernel::validate;

/// A note about a run: a lesson, for the campaign, for its goal or for this execution.
pub struct RunNote(pub entity::run_note::Model);

impl RowFields for RunNote {}

/// A note about a run: a lesson, for the campaign, for its goal or for this execution.
#[Object]
impl RunNote {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The run that it is about.
    async fn run(&self, ctx: &Context<'_>) -> Result<Run> {
        Ok(must_load(ctx, self.0.run_id).await?.into())
    }

    /// The campaign of the run; null for guided work.
    async fn campaign(&self, ctx: &Context<'_>) -> Result<Option<Campaign>> {
        Ok(load(ctx, self.0.campaign_id).await?.map(Campaign::from))
    }

    /// The goal of the run; null if it has none, and if the goal was deleted.
    async fn goal(&self, ctx: &Context<'_>) -> Result<Option<Goal>> {
        Ok(load(ctx, self.0.goal_id).await?.map(Goal))
    }

    /// The object that it belongs to.
    async fn belongs_to(&self) -> RunNoteSubject {
        self.0.belongs_to
    }

    /// The text, which may have several lines.
    async fn text(&self) -> Counted<&str> {
        Counted(&self.0.text)
    }

    /// The actor that added it.
    async fn created_by(&self) -> Actor {
        self.0.created_by.clone().into()
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

/// Returns one page of an object's notes.
pub(in crate::graphql) async fn notes(
    ctx: &Context<'_>,
    of: NotesOf,
    args: Args,
    alone: bool,
) -> Result<List<RunNote>> {
    let page = nested_page(ctx, noun::window(viewer(ctx), of, args)?, alone).await?;
    Ok(list(page, Totals::RunNotes(of), RunNote))
}

/// Query fields for notes about runs.
#[derive(Default)]
pub struct RunNoteQuery;

#[Object]
impl RunNoteQuery {
    /// Returns the note with this id; null if the org has none.
    async fn run_note(&self, ctx: &Context<'_>, id: ID) -> Result<Option<RunNote>> {
        Ok(noun::find(db(ctx).read(), viewer(ctx), validate::id::<RunNoteId>("id", &id)?).await?.map(RunNote))
    }
}

/// A new note about a run.
#[derive(InputObject)]
pub struct AddRunNoteInput {
    /// Id of the run, in any status.
    run_id: ID,
    /// The object that the note belongs to. CAMPAIGN requires a run of a campaign, GOAL one whose
    /// campaign has a goal.
    belongs_to: RunNoteSubject,
    /// The text, at most 10,000 characters, with line breaks where wanted.
    text: String,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to a note about a run. Omitted fields stay as they are.
#[derive(InputObject)]
pub struct UpdateRunNoteInput {
    /// Id of the note.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the note has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The object that the note belongs to from now on; null leaves it unchanged.
    belongs_to: Option<RunNoteSubject>,
    /// The new text; null leaves it unchanged.
    text: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The note that was added or changed.
#[derive(SimpleObject)]
pub struct RunNotePayload {
    /// The note after the change.
    run_note: RunNote,
}

/// Mutations for notes about runs.
#[derive(Default)]
pub struct RunNoteMutation;

#[Object]
impl RunNoteMutation {
    /// Adds a note about a run, which may have ended. Rejected with NOT_FOUND; with BAD_USER_INPUT,
    /// naming the field, for a blank text and for a campaign or goal that the run does not have; with
    /// LIMIT_EXCEEDED for more than 2,000 notes about one run.
    async fn add_run_note(&self, ctx: &Context<'_>, input: AddRunNoteInput) -> Result<RunNotePayload> {
        let run = validate::id::<RunId>("runId", &input.run_id)?;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::add(
            db,
            viewer(ctx),
            run,
            input.belongs_to,
            &input.text
        ));
        Ok(RunNotePayload { run_note: RunNote(row) })
    }

    /// Changes the given fields of a note: of the viewer's own, or with the role MANAGER of any.
    /// Rejected with NOT_FOUND, FORBIDDEN, CONFLICT or BAD_USER_INPUT.
    async fn update_run_note(&self, ctx: &Context<'_>, input: UpdateRunNoteInput) -> Result<RunNotePayload> {
        let id = validate::id::<RunNoteId>("id", &input.id)?;
        let changes = noun::Changes { belongs_to: input.belongs_to, text: input.text };
        let expected = input.expected_revision;
        let row = idempotent!(ctx, input.idempotency_key, |db| noun::update(db, viewer(ctx), id, expected, &changes));
        Ok(RunNotePayload { run_note: RunNote(row) })
    }

    /// Deletes a note: the viewer's own, or with the role MANAGER any. Rejected with NOT_FOUND,
    /// FORBIDDEN or CONFLICT.
    async fn delete_run_note(&self, ctx: &Context<'_>, input: DeleteInput) -> Result<DeletePayload> {
        let id = validate::id::<RunNoteId>("id", &input.id)?;
        let (viewer, expected) = (viewer(ctx), input.expected_revision);
        let deleted = idempotent!(
            ctx,
            input.idempotency_key,
            |db| async { noun::delete(db, viewer, id, expected).await.map(|was| was.id) },
            |again| std::future::ready(Ok::<RunNoteId, Error>(again))
        );
        Ok(DeletePayload { deleted_id: deleted.to_string().into() })
    }
}
