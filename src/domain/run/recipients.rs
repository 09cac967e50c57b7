//! Recipients of a run: its audience with addresses and outcomes.

use async_graphql::InputObject;
use entity::communication::{self, CommunicationStatus};
use entity::id::RunRecordId;
use entity::run_record::{COLUMN, Column, Entity, Outcome, RecipientReason};
use entity::{Channel, RunStatus, id::RunId, record, run, run_record};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde::Serialize;

use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx};
use crate::kernel::error::Result;
use crate::kernel::page::{self, Args, Window};
use crate::kernel::viewer::Viewer;

scoped!(run_record, RunRecordId, "recipient");

/// Filter for recipients. All given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "RunRecordFilter")]
pub struct Filter {
    /// Only recipients with one of these outcomes.
    pub outcomes: Option<Vec<Outcome>>,
    /// True: only recipients with an outcome. False: only those without one.
    pub closed: Option<bool>,
}

/// Returns a window of a run's recipients, in the order in which they were added.
pub fn window(db: &Db, viewer: &Viewer, run: RunId, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.descending = false;
    let fingerprint = page::fingerprint(&("run_record", run, filter))?;
    Ok(Window { select: select(db, viewer, run, filter), order, fingerprint, args, part: None })
}

fn select(db: &Db, viewer: &Viewer, run: RunId, filter: &Filter) -> sea_orm::Select<run_record::Entity> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.run_id.eq(run));
    if let Some(outcomes) = &filter.outcomes {
        select = select.filter(any_of(db.dialect(), Column::Outcome, outcomes.clone()));
    }
    match filter.closed {
        Some(true) => select.filter(Column::Outcome.is_not_null()),
        Some(false) => select.filter(Column::Outcome.is_null()),
        None => select,
    }
}

/// SQL condition: a message by which the recipient's outcome goes was sent.
pub(crate) fn has_sent() -> Expr {
    has_message(CommunicationStatus::Sent)
}

/// SQL condition: the recipient has a message with this status, of those by which its outcome goes.
pub(crate) fn has_message(status: CommunicationStatus) -> Expr {
    let mut sent = Query::select();
    sent.expr(Expr::val(1))
        .from(communication::Entity)
        .and_where(
            Expr::col((communication::Entity, communication::Column::RunRecordId))
                .eq(Expr::col((run_record::Entity, run_record::Column::Id))),
        )
        .and_where(crate::domain::message::communication::is_own())
        .and_where(communication::COLUMN.status.eq(status));
    Expr::exists(sent)
}

/// Replaces a record's addresses the way a test run does: the test address on its channel, none on
/// the other.
pub(crate) fn use_test_address(record: &mut record::Model, channel: Channel, address: Option<String>) {
    (record.email, record.phone) = match channel {
        Channel::Email => (address, None),
        Channel::Sms | Channel::Phone => (None, address),
    };
}

/// Clears the outcomes of skipped recipients that have work again.
pub(in crate::domain::run) async fn clear_skipped(
    tx: &Tx,
    recipients: impl IntoIterator<Item = RunRecordId>,
) -> Result<()> {
    let recipients: Vec<RunRecordId> = recipients.into_iter().collect();
    if recipients.is_empty() {
        return Ok(());
    }
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Option::<String>::None))
        .col_expr(run_record::Column::Reason, Expr::value(Option::<String>::None))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients))
        .filter(run_record::COLUMN.outcome.eq(run_record::Outcome::Skipped))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Sets the outcome of recipients that an event had interrupted before anything was sent to them, and
/// to which the event's own mail went, or may have gone. They stay out of what follows in the run.
pub(crate) async fn written_to_by_event(tx: &Tx, recipients: Vec<RunRecordId>, outcome: Outcome) -> Result<()> {
    if recipients.is_empty() {
        return Ok(());
    }
    let reason = (outcome == Outcome::Unknown).then(|| RecipientReason::OutcomeUnknown.to_string());
    run_record::Entity::update_many()
        .col_expr(Column::Outcome, Expr::value(Some(outcome)))
        .col_expr(Column::Reason, Expr::value(reason))
        .filter(any_of(tx.dialect(), COLUMN.id, recipients))
        .filter(COLUMN.outcome.eq(Outcome::Skipped))
        .filter(Column::Reason.starts_with(RecipientReason::Interrupted.to_string()))
        .exec(tx.db())
        .await?;
    Ok(())
}

/// Clears the outcomes of recipients that a mail goes to now, though they could not be reached
/// before: the end of their run sets them again. Runs that have ended keep theirs.
pub(crate) async fn clear_unreached(tx: &Tx, recipients: impl IntoIterator<Item = RunRecordId>) -> Result<()> {
    let recipients: Vec<RunRecordId> = recipients.into_iter().collect();
    if recipients.is_empty() {
        return Ok(());
    }
    let mut running = Query::select();
    running
        .column(run::Column::Id)
        .from(run::Entity)
        .and_where(run::COLUMN.status.is_in([RunStatus::InProgress, RunStatus::Paused]));
    let no_address = Column::Reason.starts_with(RecipientReason::NoAddress.to_string());
    let no_address = COLUMN.outcome.eq(Outcome::Skipped).and(no_address);
    run_record::Entity::update_many()
        .col_expr(Column::Outcome, Expr::value(Option::<String>::None))
        .col_expr(Column::Reason, Expr::value(Option::<String>::None))
        .filter(any_of(tx.dialect(), COLUMN.id, recipients))
        .filter(COLUMN.outcome.eq(Outcome::Suppressed).or(no_address))
        .filter(Column::RunId.in_subquery(running))
        .exec(tx.db())
        .await?;
    Ok(())
}
