//! Messages: find, page, a reviewer's verdicts and edits, and what became of the unknown ones.

pub(crate) mod new_message;
mod resolve;

pub(crate) use resolve::NOT_SENT;
pub use resolve::{Resolution, resolve};

use async_graphql::{Enum, ID, InputObject};
use entity::communication::{COLUMN, Column, CommunicationStatus, CommunicationTransition, Entity, Model};
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::{Channel, RunStatus, StateMachine, run};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ActiveEnum, ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde::Serialize;
use serde_json::json;

use crate::domain::audience::suppression;
use crate::domain::content::templating;
use crate::domain::plan::run_template;
use crate::domain::run as runs;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::event::{self, Event};
use crate::kernel::page::{self, Args, Page, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

scoped!(communication, CommunicationId, "communication");
saved!(communication, CommunicationId, "communication");

/// Which messages; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "CommunicationFilter")]
pub struct Filter {
    /// Of one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Of one of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// To one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// In one of these statuses.
    pub statuses: Option<Vec<CommunicationStatus>>,
    /// About one of these meetings.
    pub meeting_ids: Option<Vec<ID>>,
}

/// A window of those that the filter lets through, in order of making.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    let fingerprint = page::fingerprint(&("communication", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order, fingerprint, args })
}

/// The same, the newest first.
pub fn latest(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("communication", "latest", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order: NEWEST_FIRST, fingerprint, args })
}

/// The messages about one meeting in the order in which they were written: by the action of its step that wrote them, and
/// among those of one action as its guests stand. Neither the clock nor the process that wrote them matters.
pub fn of_meeting(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.by = Some((Column::Occasion, |row| page::Key::Count(row.occasion), false));
    order.descending = false;
    let fingerprint = page::fingerprint(&("communication", "of a meeting", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order, fingerprint, args })
}

/// One page of them.
pub async fn page(db: &Db, viewer: &Viewer, filter: &Filter, args: &Args) -> Result<Page<Model>> {
    window(db, viewer, filter, args.clone())?.read(db.read()).await
}

fn select(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<sea_orm::Select<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(given, "filter", "runIds")?));
    }
    if let Some(given) = &filter.campaign_ids {
        let given = validate::ids::<CampaignId>(given, "filter", "campaignIds")?;
        select = select.filter(any_of(db.dialect(), COLUMN.campaign_id, given));
    }
    if let Some(given) = &filter.record_ids {
        let given = validate::ids::<RecordId>(given, "filter", "recordIds")?;
        select = select.filter(any_of(db.dialect(), Column::RecordId, given));
    }
    if let Some(given) = &filter.meeting_ids {
        let given = validate::ids::<MeetingId>(given, "filter", "meetingIds")?;
        select = select.filter(any_of(db.dialect(), Column::MeetingId, given));
    }
    if let Some(statuses) = &filter.statuses {
        select = select.filter(any_of(db.dialect(), COLUMN.status, statuses.clone()));
    }
    Ok(select)
}

/// What can be done with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "CommunicationAction")]
pub enum Action {
    /// Let it out.
    Approve,
    /// Hold it back.
    Reject,
    /// Change it.
    Edit,
    /// Say what became of it.
    Resolve,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::Edit, Self::Resolve];

    fn act(self) -> CommunicationTransition {
        match self {
            Self::Approve => CommunicationTransition::Approve,
            Self::Reject => CommunicationTransition::Reject,
            Self::Edit => CommunicationTransition::Edit,
            Self::Resolve => CommunicationTransition::ResolveSent,
        }
    }
}

/// What surrounds a message, for judging what can be done with it.
#[derive(Clone, Debug)]
pub struct MessageContext {
    run: run::Model,
    under_review: bool,
}

impl MessageContext {
    /// From what is at hand: a message's run with its tasks.
    pub fn of(run: run::Model, tasks: &[entity::task::Model]) -> Self {
        let under_review = tasks.iter().any(|task| task.key == run_template::REVIEW_TASK && task.awaiting_approval > 0);
        Self { run, under_review }
    }
}

async fn context_of(tx: &Tx, viewer: &Viewer, communication: &Model) -> Result<MessageContext> {
    let run = runs::must_find(tx.db(), viewer, communication.run_id).await?;
    Ok(MessageContext::of(run, &runs::task::of_runs(tx.db(), viewer, &[communication.run_id]).await?))
}

/// Whether an action would be carried out now; the refusal tells why not. The verbs ask the same.
pub fn check_allowed(communication: &Model, around: &MessageContext, action: Action) -> Result<()> {
    let act = action.act();
    if communication.status.next(act).is_none() && action == Action::Resolve {
        return Err(resolve::refused(communication, act).into());
    }
    if communication.status.next(act).is_none() {
        return Err(Refusal::transition("communication", communication.status, act).into());
    }
    // What became of a message can be told whatever became of its run.
    if action == Action::Resolve {
        return Ok(());
    }
    if around.run.status != RunStatus::InProgress {
        let status = around.run.status;
        return Err(Refusal::conflict(format!(
            "messages are judged only in a run that is IN_PROGRESS; this one is {status}"
        ))
        .into());
    }
    if !around.under_review {
        return Err(Refusal::conflict("messages are judged while their review awaits approval").into());
    }
    Ok(())
}

/// What a reviewer changes in a message.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// Another subject.
    pub subject: Option<String>,
    /// Another text.
    pub body: Option<String>,
}

/// Approves, rejects (with a reason) or edits. Errors: NOT_FOUND, CONFLICT, INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn judge(
    db: &Db,
    viewer: &Viewer,
    id: CommunicationId,
    expected: Option<i32>,
    action: Action,
    reason: Option<&str>,
    edit: &Edit,
) -> Result<Model> {
    let reason = reason.map(|reason| validate::text("reason", reason)).transpose()?;
    if action == Action::Reject && reason.as_deref().is_none_or(|reason| reason.trim().is_empty()) {
        return Err(Refusal::input("reason", "say why it is rejected").into());
    }
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, &context_of(tx, viewer, &found).await?, action)?;
        let (from, revision, place) = (found.status, found.revision, found.run_record_id);
        let to = from.next(action.act()).unwrap_or(from);
        let mut row = found.clone().into_active_model();
        row.status.set_if_not_equals(to);
        if action == Action::Edit {
            edited(&mut row, &found, edit)?;
            row.edited_by = Set(Some(viewer.actor()));
        } else {
            row.reviewed_by = Set(Some(viewer.actor()));
            row.rejected_because = Set(reason.clone());
        }
        let communication = save(tx, row, revision).await?;
        if action == Action::Reject {
            let why = reason.as_deref().unwrap_or_default();
            let left_out = run_record::ActiveModel {
                id: Set(place),
                outcome: Set(Some(Outcome::Skipped)),
                reason: Set(Some(format!("REJECTED: {why}"))),
                ..Default::default()
            };
            left_out.update(tx.db()).await?;
        }
        let kind = match action {
            Action::Approve => "communication.approved",
            Action::Reject => "communication.rejected",
            Action::Edit | Action::Resolve => "communication.edited",
        };
        emit(tx, viewer, &run, kind, &communication, from, reason.as_deref());
        Ok(communication)
    })
}

fn edited(row: &mut entity::communication::ActiveModel, found: &Model, edit: &Edit) -> Result<()> {
    if edit.subject.is_none() && edit.body.is_none() {
        return Err(Refusal::input("body", "give a subject or a body").into());
    }
    if let Some(subject) = &edit.subject {
        if found.channel != Channel::Email {
            return Err(Refusal::input("subject", "only mail has a subject").into());
        }
        let subject = templating::one_line(subject).map_err(|why| Refusal::input("subject", why))?;
        row.subject = Set(Some(subject));
    }
    if let Some(body) = &edit.body {
        if body.trim().is_empty() || body.len() > limits::RENDERED_BYTES {
            return Err(
                Refusal::input("body", format!("must not be blank, at most {} bytes", limits::RENDERED_BYTES)).into()
            );
        }
        row.body = Set(body.clone());
    }
    Ok(())
}

/// Lets drafts out, with their events.
pub(crate) async fn release(tx: &Tx, viewer: &Viewer, run: &run::Model, ids: &[CommunicationId]) -> Result<()> {
    let rows = Entity::update_many()
        .col_expr(Column::Status, Expr::value(CommunicationStatus::Approved.to_value()))
        .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(any_of(tx.dialect(), COLUMN.id, ids.iter().copied()))
        .filter(COLUMN.status.eq(CommunicationStatus::Draft))
        .exec_with_returning(tx.db())
        .await?;
    for row in &rows {
        emit(tx, viewer, run, "communication.approved", row, CommunicationStatus::Draft, None);
    }
    Ok(())
}

/// Cancels what was not sent to some places of the audience.
pub(crate) async fn drop_of_places(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    places: &[RunRecordId],
    reason: &str,
) -> Result<()> {
    for from in [CommunicationStatus::Draft, CommunicationStatus::Approved] {
        let rows = Entity::update_many()
            .col_expr(Column::Status, Expr::value(CommunicationStatus::Cancelled.to_value()))
            .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), COLUMN.run_record_id, places.iter().copied()))
            .filter(COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            emit(tx, viewer, run, "communication.cancelled", row, from, Some(reason));
        }
    }
    Ok(())
}

/// Closes what was not sent to some places whose addresses were opted out. Says of which places something was closed.
pub(crate) async fn suppress_of_places(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    places: &[RunRecordId],
) -> Result<Vec<RunRecordId>> {
    let mut closed = Vec::new();
    for from in [CommunicationStatus::Draft, CommunicationStatus::Approved] {
        let rows = Entity::update_many()
            .col_expr(Column::Status, Expr::value(CommunicationStatus::Suppressed.to_value()))
            .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), COLUMN.run_record_id, places.iter().copied()))
            .filter(COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            emit(tx, viewer, run, "communication.suppressed", row, from, Some(suppression::UNSUBSCRIBED));
        }
        closed.extend(rows.into_iter().map(|row| row.run_record_id));
    }
    Ok(closed)
}

/// Tells that a message goes to another address than the one that it was drafted for.
pub(crate) fn emit_readdressed(tx: &Tx, viewer: &Viewer, run: &run::Model, row: &Model) {
    let told = json!({ "communicationId": row.id, "channel": row.channel, "test": row.test });
    let event = Event::new(row.org_id, "communication.readdressed", &viewer.actor());
    event::append(tx, event.run(run).record(row.record_id).payload(told));
}

/// The address of a message as it is compared.
pub(crate) fn compared() -> Expr {
    Expr::expr(Func::lower(Expr::col(Column::ToAddress)))
}

/// The error of a message that is lost with whoever had it in hand.
const LOST: &str = "whoever sent it did not come back";

/// Messages whose hand-over was cut short by a worker that did not come back, and that nobody will take up again: their
/// fate is unknown. Says of which places.
pub(crate) async fn mark_unknown(tx: &Tx, viewer: &Viewer, run: &run::Model, which: Expr) -> Result<Vec<RunRecordId>> {
    let rows = Entity::update_many()
        .col_expr(Column::Status, Expr::value(CommunicationStatus::Unknown.to_value()))
        .col_expr(Column::Error, Expr::value(LOST))
        .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(which)
        .filter(COLUMN.status.eq(CommunicationStatus::Sending))
        .exec_with_returning(tx.db())
        .await?;
    for row in &rows {
        emit(tx, viewer, run, "communication.unknown", row, CommunicationStatus::Sending, Some(LOST));
    }
    Ok(rows.into_iter().map(|row| row.run_record_id).collect())
}

/// An event about a message.
pub(crate) fn emit(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    kind: &str,
    row: &Model,
    from: CommunicationStatus,
    reason: Option<&str>,
) {
    let told = json!({
        "from": from,
        "to": row.status,
        "reason": reason,
        "communicationId": row.id,
        "channel": row.channel,
        "test": row.test,
    });
    event::append(tx, Event::new(row.org_id, kind, &viewer.actor()).run(run).record(row.record_id).payload(told));
}
