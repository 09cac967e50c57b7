//! Communications: find, page, review (approve, reject, edit), release, cancel, and resolve unknown
//! outcomes.

mod events;
pub(crate) mod new_message;
mod resolve;

pub(crate) use events::{emit, emit_readdressed};
pub(crate) use resolve::NOT_SENT;
pub use resolve::{Resolution, resolve};

use async_graphql::{Enum, ID, InputObject};
use entity::communication::{COLUMN, Column, CommunicationStatus, CommunicationTransition, Entity, Model};
use entity::id::*;
use entity::run_record::{self, Outcome};
use entity::{Channel, RunStatus, StateMachine, run};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ActiveEnum, ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde::Serialize;

use crate::domain::audience::suppression;
use crate::domain::content::templating;
use crate::domain::plan::run_template;
use crate::domain::run as runs;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::page::{self, Args, Page, Window};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};
use crate::transact;

scoped!(communication, CommunicationId, "communication");
saved!(communication, CommunicationId, "communication");

/// A filter over communications; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "CommunicationFilter")]
pub struct Filter {
    /// Communications of one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Communications of one of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Communications to one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Communications with one of these statuses.
    pub statuses: Option<Vec<CommunicationStatus>>,
    /// Communications about one of these meetings.
    pub meeting_ids: Option<Vec<ID>>,
}

/// A window of the matching communications, oldest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    let fingerprint = page::fingerprint(&("communication", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order, fingerprint, args })
}

/// A window of the matching communications, newest first.
pub fn latest(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("communication", "latest", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order: NEWEST_FIRST, fingerprint, args })
}

/// A window of the messages about one meeting, ordered by the action that wrote them and then by
/// guest. The order is independent of clocks and of the process that wrote them.
pub fn of_meeting(viewer: &Viewer, meeting: MeetingId, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.by = Some((Column::Occasion, |row| page::Key::Count(row.occasion), false));
    order.descending = false;
    let fingerprint = page::fingerprint(&("communication", "of a meeting", meeting))?;
    // By this one id, not by a list of one: an index has the order of one only.
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(Column::MeetingId.eq(meeting));
    Ok(Window { select, order, fingerprint, args })
}

/// Returns one page of the matching communications, oldest first.
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

/// An action of a person on a communication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "CommunicationAction")]
pub enum Action {
    /// Approve it for sending.
    Approve,
    /// Reject it: it is not sent.
    Reject,
    /// Change its subject or body before it is sent.
    Edit,
    /// Report the outcome of a message that is UNKNOWN.
    Resolve,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 4] = [Self::Approve, Self::Reject, Self::Edit, Self::Resolve];

    fn transition(self) -> CommunicationTransition {
        match self {
            Self::Approve => CommunicationTransition::Approve,
            Self::Reject => CommunicationTransition::Reject,
            Self::Edit => CommunicationTransition::Edit,
            Self::Resolve => CommunicationTransition::ResolveSent,
        }
    }
}

/// A message's run and review state, on which its allowed actions depend.
#[derive(Clone, Debug)]
pub struct MessageContext {
    run: run::Model,
    under_review: bool,
}

impl MessageContext {
    /// Builds the context from a message's run and its tasks.
    pub fn of(run: run::Model, tasks: &[entity::task::Model]) -> Self {
        let under_review = tasks.iter().any(|task| task.key == run_template::REVIEW_TASK && task.awaiting_approval > 0);
        Self { run, under_review }
    }
}

async fn context_of(tx: &Tx, viewer: &Viewer, communication: &Model) -> Result<MessageContext> {
    let run = runs::must_find(tx.db(), viewer, communication.run_id).await?;
    Ok(MessageContext::of(run, &runs::task::of_runs(tx.db(), viewer, &[communication.run_id]).await?))
}

/// Checks if an action is allowed now; the error says why not. The mutations use the same check.
pub fn check_allowed(communication: &Model, context: &MessageContext, action: Action) -> Result<()> {
    let transition = action.transition();
    if communication.status.next(transition).is_none() && action == Action::Resolve {
        return Err(resolve::refused(communication, transition).into());
    }
    if communication.status.next(transition).is_none() {
        return Err(Refusal::transition("communication", communication.status, transition).into());
    }
    // An unknown outcome can be resolved in any status of the run.
    if action == Action::Resolve {
        return Ok(());
    }
    if context.run.status != RunStatus::InProgress {
        let status = context.run.status;
        return Err(Refusal::conflict(format!(
            "messages can be reviewed only while their run is IN_PROGRESS; it is {status}"
        ))
        .into());
    }
    if !context.under_review {
        return Err(Refusal::conflict("messages can be reviewed only while their review awaits approval").into());
    }
    Ok(())
}

/// A reviewer's changes to a message.
#[derive(Clone, Debug, Default)]
pub struct Edit {
    /// New subject.
    pub subject: Option<String>,
    /// New body.
    pub body: Option<String>,
}

/// Approves, rejects (with a reason) or edits a message. Errors: NOT_FOUND, CONFLICT,
/// INVALID_TRANSITION, BAD_USER_INPUT.
pub async fn review(
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
        return Err(Refusal::input("reason", "is required to reject a message").into());
    }
    let run_id = must_find(db.read(), viewer, id).await?.run_id;
    transact!(db, |tx| {
        let run = runs::must_lock(tx, viewer, run_id, None).await?;
        let found = must_lock(tx, viewer, id, expected).await?;
        check_allowed(&found, &context_of(tx, viewer, &found).await?, action)?;
        let (from, revision, recipient_id) = (found.status, found.revision, found.run_record_id);
        let to = from.next(action.transition()).unwrap_or(from);
        let mut row = found.clone().into_active_model();
        row.status.set_if_not_equals(to);
        if action == Action::Edit {
            edited(&mut row, &found, edit)?;
            row.edited_by = Set(Some(viewer.actor()));
        } else {
            row.reviewed_by = Set(Some(viewer.actor()));
            row.rejected_because = Set(reason.clone().filter(|_| action == Action::Reject));
        }
        let communication = save(tx, row, revision).await?;
        if action == Action::Reject {
            let why = reason.as_deref().unwrap_or_default();
            let skipped = run_record::ActiveModel {
                id: Set(recipient_id),
                outcome: Set(Some(Outcome::Skipped)),
                reason: Set(Some(format!("REJECTED: {why}"))),
                ..Default::default()
            };
            skipped.update(tx.db()).await?;
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
        return Err(Refusal::input("body", "give a subject, a body, or both").into());
    }
    if let Some(subject) = &edit.subject {
        if found.channel != Channel::Email {
            return Err(Refusal::input("subject", "only messages over EMAIL have a subject").into());
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

/// Approves drafts for sending, and emits their events.
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

/// Cancels the unsent messages to some recipients.
pub(crate) async fn cancel_unsent(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    recipients: &[RunRecordId],
    reason: &str,
) -> Result<()> {
    let theirs = any_of(tx.dialect(), COLUMN.run_record_id, recipients.iter().copied());
    let unsent = [CommunicationStatus::Draft, CommunicationStatus::Approved];
    cancel_matching(tx, viewer, run, &Condition::all().add(theirs), &unsent, reason).await
}

/// Cancels the messages of a run that match a condition and have one of these statuses.
pub(crate) async fn cancel_matching(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    which: &Condition,
    statuses: &[CommunicationStatus],
    reason: &str,
) -> Result<()> {
    for from in statuses.iter().copied() {
        let rows = Entity::update_many()
            .col_expr(Column::Status, Expr::value(CommunicationStatus::Cancelled.to_value()))
            .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(COLUMN.run_id.eq(run.id))
            .filter(which.clone())
            .filter(COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            emit(tx, viewer, run, "communication.cancelled", row, from, Some(reason));
        }
    }
    Ok(())
}

/// Suppresses the unsent messages to recipients whose addresses were opted out. Returns the
/// recipients of the suppressed messages.
pub(crate) async fn suppress_unsent(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    recipients: &[RunRecordId],
) -> Result<Vec<RunRecordId>> {
    let mut suppressed = Vec::new();
    for from in [CommunicationStatus::Draft, CommunicationStatus::Approved] {
        let rows = Entity::update_many()
            .col_expr(Column::Status, Expr::value(CommunicationStatus::Suppressed.to_value()))
            .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
            .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
            .filter(COLUMN.run_id.eq(run.id))
            .filter(any_of(tx.dialect(), COLUMN.run_record_id, recipients.iter().copied()))
            .filter(COLUMN.status.eq(from))
            .exec_with_returning(tx.db())
            .await?;
        for row in &rows {
            emit(tx, viewer, run, "communication.suppressed", row, from, Some(suppression::UNSUBSCRIBED));
        }
        suppressed.extend(rows.into_iter().map(|row| row.run_record_id));
    }
    Ok(suppressed)
}

/// A message's address in the normalised form for comparisons, as SQL.
pub(crate) fn normalized_address() -> Expr {
    Expr::expr(Func::lower(Expr::col(Column::ToAddress)))
}

/// The error of a message whose sender's lease expired.
const LOST: &str = "the worker that was sending it stopped responding";

/// Marks messages as UNKNOWN whose dispatch was interrupted and that no worker will resume. Returns
/// their recipients.
pub(crate) async fn mark_unknown(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    condition: Expr,
) -> Result<Vec<RunRecordId>> {
    let rows = Entity::update_many()
        .col_expr(Column::Status, Expr::value(CommunicationStatus::Unknown.to_value()))
        .col_expr(Column::Error, Expr::value(LOST))
        .col_expr(Column::UpdatedAt, Expr::value(tx.now()))
        .col_expr(Column::Revision, Expr::col(Column::Revision).add(1))
        .filter(condition)
        .filter(COLUMN.status.eq(CommunicationStatus::Sending))
        .exec_with_returning(tx.db())
        .await?;
    for row in &rows {
        emit(tx, viewer, run, "communication.unknown", row, CommunicationStatus::Sending, Some(LOST));
    }
    Ok(rows.into_iter().map(|row| row.run_record_id).collect())
}
