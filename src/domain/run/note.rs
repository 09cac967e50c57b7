//! Notes about runs: lessons that people write down, for the campaign, for its goal or for the one
//! execution. Campaigns and goals list theirs, for those who plan the next run.
//!
//! A note carries the campaign and the goal of its run, so that these lists are read from an index; the
//! run is locked while a note is written, and takes its notes along when it gets another goal
//! (`snapshot`).

use entity::id::*;
use entity::member::Role;
use entity::run;
use entity::run_note::{ActiveModel, COLUMN, Column, Entity, Model, RunNoteSubject};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, PaginatorTrait, QueryFilter, Set};
use serde_json::{Value, json};

use crate::kernel::db::{Tx, WriteContext};
use crate::kernel::error::{Code, Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, quote, storable, validate};
use crate::transact;

scoped!(run_note, RunNoteId, "note");
saved!(run_note, RunNoteId, "note");

/// The object whose notes are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotesOf {
    /// All notes about a run.
    Run(RunId),
    /// The notes about a campaign's runs that belong to the campaign.
    Campaign(CampaignId),
    /// The notes about a goal's runs that belong to the goal.
    Goal(GoalId),
}

/// A window of an object's notes, newest first.
pub fn window(viewer: &Viewer, of: NotesOf, args: Args) -> Result<Window<Entity>> {
    let all = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    let (select, id) = match of {
        NotesOf::Run(id) => (all.filter(COLUMN.run_id.eq(id)), id.to_string()),
        NotesOf::Campaign(id) => {
            let its_own = all.filter(Column::CampaignId.eq(id));
            (its_own.filter(COLUMN.belongs_to.eq(RunNoteSubject::Campaign)), id.to_string())
        }
        NotesOf::Goal(id) => {
            let its_own = all.filter(Column::GoalId.eq(id));
            (its_own.filter(COLUMN.belongs_to.eq(RunNoteSubject::Goal)), id.to_string())
        }
    };
    let fingerprint = page::fingerprint(&("run_note", id))?;
    Ok(Window { select, order: NEWEST_FIRST, fingerprint, args, part: None })
}

/// Adds a note about a run, in any status. Errors: NOT_FOUND; BAD_USER_INPUT for a text that is blank
/// or too long, and for a campaign or goal that the run does not have; LIMIT_EXCEEDED.
pub async fn add(
    db: &WriteContext,
    viewer: &Viewer,
    run_id: RunId,
    belongs_to: RunNoteSubject,
    text: &str,
) -> Result<Model> {
    let text = check_text(text)?;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        check_subject(&run, belongs_to)?;
        let most = limits::NOTES_OF_RUN;
        if Entity::find().filter(COLUMN.run_id.eq(run_id)).count(tx.db()).await? >= most {
            return Err(Refusal::limit_for_field("runId", format!("at most {most} notes about one run")).into());
        }
        let row = ActiveModel {
            id: Set(RunNoteId::new()),
            org_id: Set(run.org_id),
            run_id: Set(run.id),
            campaign_id: Set(run.campaign_id),
            goal_id: Set(run.goal_id),
            belongs_to: Set(belongs_to),
            text: Set(text.clone()),
            created_by: Set(viewer.actor()),
            created_at: Set(tx.now()),
            updated_at: Set(tx.now()),
            revision: Set(1),
        };
        let row = row.insert(tx.db()).await?;
        tx.set_result(row.id);
        emit(tx, viewer, "run_note.created", &run, &row, json!({}));
        Ok(row)
    })
}

/// The changes to a note; only the given fields change.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The object that it belongs to.
    pub belongs_to: Option<RunNoteSubject>,
    /// The text.
    pub text: Option<String>,
}

/// Changes a note. Errors: NOT_FOUND; FORBIDDEN for the note of somebody else; CONFLICT; BAD_USER_INPUT
/// as for [`add`].
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: RunNoteId,
    expected: Option<i32>,
    changes: &Changes,
) -> Result<Model> {
    let text = changes.text.as_deref().map(check_text).transpose()?;
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_author(viewer, &found)?;
        let (former, revision) = (found.belongs_to, found.revision);
        let mut row = found.into_active_model();
        if let Some(belongs_to) = changes.belongs_to {
            check_subject(&run, belongs_to)?;
            row.belongs_to.set_if_not_equals(belongs_to);
        }
        if let Some(text) = &text {
            row.text.set_if_not_equals(text.clone());
        }
        let is_changed = row.is_changed();
        let row = save(tx, row, revision).await?;
        if is_changed {
            emit(tx, viewer, "run_note.updated", &run, &row, json!({ "formerlyBelongedTo": former }));
        }
        Ok(row)
    })
}

/// Deletes a note. Errors: NOT_FOUND; FORBIDDEN for the note of somebody else; CONFLICT.
pub async fn delete(db: &WriteContext, viewer: &Viewer, id: RunNoteId, expected: Option<i32>) -> Result<Model> {
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = super::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_author(viewer, &found)?;
        Entity::delete_by_id(id).exec(tx.db()).await?;
        tx.set_result(id);
        emit(tx, viewer, "run_note.deleted", &run, &found, json!({}));
        Ok(found)
    })
}

/// Validates the text: some lines with a visible character, bounded. Returns it unchanged.
fn check_text(text: &str) -> Result<String> {
    if !text.chars().any(storable::is_visible) {
        return Err(Refusal::input("text", "must not be blank").into());
    }
    storable::text(text).map_err(|unfit| unfit.of("text"))?;
    validate::text("text", text)
}

/// Checks that the run has the object that a note is to belong to.
fn check_subject(run: &run::Model, belongs_to: RunNoteSubject) -> Result<()> {
    let problem = match belongs_to {
        RunNoteSubject::Execution => None,
        _ if run.campaign_id.is_none() => {
            Some("the run is guided work and has no campaign: its notes belong to the EXECUTION")
        }
        RunNoteSubject::Goal if run.goal_id.is_none() => {
            Some("the run has no goal: its notes belong to the CAMPAIGN or the EXECUTION")
        }
        RunNoteSubject::Campaign | RunNoteSubject::Goal => None,
    };
    problem.map_or(Ok(()), |problem| Err(Refusal::input("belongsTo", problem).into()))
}

/// Checks that the viewer may change a note: its author, and managers.
fn check_author(viewer: &Viewer, note: &Model) -> Result<()> {
    let author = note.created_by.member_id;
    if (author.is_some() && author == viewer.member_id()) || viewer.role.covers(Role::Manager) {
        return Ok(());
    }
    let message =
        format!("changing somebody else's note requires the role {}; your role is {}", Role::Manager, viewer.role);
    let refusal = Refusal::new(Code::Forbidden, message).with("role", json!(viewer.role));
    Err(refusal.with("needed", json!(Role::Manager)).into())
}

/// Appends an event about a note; `payload` is added to what all have.
fn emit(tx: &Tx, viewer: &Viewer, kind: &str, run: &run::Model, note: &Model, mut payload: Value) {
    payload["runNoteId"] = json!(note.id);
    payload["belongsTo"] = json!(note.belongs_to);
    payload["goalId"] = json!(note.goal_id);
    payload["summary"] = json!(quote::first_line(&note.text));
    event::append(tx, Event::new(run.org_id, kind, &viewer.actor()).run(run).payload(payload));
}
