//! Communications, the ledger of messages: find, page, release, cancel, mark as unknown. People's
//! actions on them are in `run::review` and `run::resolve`.

mod events;
pub(crate) mod new_message;
pub(crate) mod search;

pub(crate) use events::{emit, emit_readdressed};

use async_graphql::{ID, InputObject};
use entity::communication::{COLUMN, Column, CommunicationStatus, Entity};
use entity::id::*;
use entity::{Channel, run};
use sea_orm::sea_query::{Expr, ExprTrait, Func};
use sea_orm::{ActiveEnum, ColumnTrait, Condition, EntityTrait, QueryFilter};
use serde::Serialize;

use crate::domain::audience::suppression;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::{Db, Tx, dialect};
use crate::kernel::error::{Refusal, Result};
use crate::kernel::nested_filter::NO_CONDITION;
use crate::kernel::page::{self, Args, Key, Order, Window};
use crate::kernel::period::DateTimeRange;
use crate::kernel::validate;
use crate::kernel::viewer::Viewer;

scoped!(communication, CommunicationId, "communication");
saved!(communication, CommunicationId, "communication");

/// A filter over communications; all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, InputObject)]
#[graphql(name = "CommunicationFilter")]
pub struct Filter {
    /// Only these communications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<ID>>,
    /// Communications of one of these runs.
    pub run_ids: Option<Vec<ID>>,
    /// Communications of one of these campaigns.
    pub campaign_ids: Option<Vec<ID>>,
    /// Communications to one of these records.
    pub record_ids: Option<Vec<ID>>,
    /// Communications with one of these statuses.
    pub statuses: Option<Vec<CommunicationStatus>>,
    /// Communications on one of these channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<Channel>>,
    /// Communications about one of these meetings.
    pub meeting_ids: Option<Vec<ID>>,
    /// True for test messages, false for all others. Null matches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<bool>,
    /// Communications drafted in this period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<DateTimeRange>,
    /// Part of the subject, or of the recipient's name or address, at most 1,000 characters; ignores
    /// case and Unicode normalization forms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
}

impl Filter {
    /// Rejects a filter that selects messages for a change if it has no condition, or a period without
    /// an end. Errors: BAD_USER_INPUT.
    pub(crate) fn require(&self, path: &str) -> Result<()> {
        if let Some(range) = &self.created_at {
            range.require_end(&format!("{path}.createdAt"))?;
        }
        let ids = [&self.ids, &self.run_ids, &self.campaign_ids, &self.record_ids, &self.meeting_ids];
        let has_condition = ids.into_iter().any(Option::is_some)
            || self.statuses.is_some()
            || self.channels.is_some()
            || self.test.is_some()
            || self.created_at.is_some()
            || self.search.as_ref().is_some_and(|text| !text.trim().is_empty());
        if has_condition { Ok(()) } else { Err(Refusal::input(path, NO_CONDITION).into()) }
    }
}

/// A window of the matching communications, oldest first.
pub fn window(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("communication", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order: by_creation(filter, false), fingerprint, args, part: None })
}

/// The order of creation. That of the ids is the same; a period is read from an index of the times.
fn by_creation(filter: &Filter, descending: bool) -> Order<Entity> {
    let mut order = Order { descending, ..NEWEST_FIRST };
    if filter.created_at.is_some() {
        order.by = Some((Column::CreatedAt, |row| Key::Time(row.created_at), false));
    }
    order
}

/// A window of the matching communications, newest first.
pub fn latest(db: &Db, viewer: &Viewer, filter: &Filter, args: Args) -> Result<Window<Entity>> {
    let fingerprint = page::fingerprint(&("communication", "latest", filter))?;
    Ok(Window { select: select(db, viewer, filter)?, order: by_creation(filter, true), fingerprint, args, part: None })
}

/// A window of the messages about one meeting, ordered by the action that wrote them and then by
/// guest. The order is independent of clocks and of the process that wrote them.
pub fn of_meeting(viewer: &Viewer, meeting: MeetingId, args: Args) -> Result<Window<Entity>> {
    let mut order = NEWEST_FIRST;
    order.by = Some((Column::ActionNumber, |row| page::Key::Count(row.action_number), false));
    order.descending = false;
    let fingerprint = page::fingerprint(&("communication", "of a meeting", meeting))?;
    // By this one id, not by a list of one: an index has the order of one only.
    let select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(Column::MeetingId.eq(meeting));
    Ok(Window { select, order, fingerprint, args, part: None })
}

fn select(db: &Db, viewer: &Viewer, filter: &Filter) -> Result<sea_orm::Select<Entity>> {
    select_at(db, viewer, filter, "filter")
}

/// The matching communications; errors name the filter's fields below `path`.
pub(crate) fn select_at(db: &Db, viewer: &Viewer, filter: &Filter, path: &str) -> Result<sea_orm::Select<Entity>> {
    let mut select = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    if let Some(given) = &filter.ids {
        select = select.filter(any_of(db.dialect(), COLUMN.id, validate::ids::<CommunicationId>(given, path, "ids")?));
    }
    if let Some(given) = &filter.run_ids {
        select = select.filter(any_of(db.dialect(), COLUMN.run_id, validate::ids::<RunId>(given, path, "runIds")?));
    }
    if let Some(given) = &filter.campaign_ids {
        let given = validate::ids::<CampaignId>(given, path, "campaignIds")?;
        select = select.filter(any_of(db.dialect(), COLUMN.campaign_id, given));
    }
    if let Some(given) = &filter.record_ids {
        let given = validate::ids::<RecordId>(given, path, "recordIds")?;
        select = select.filter(any_of(db.dialect(), Column::RecordId, given));
    }
    if let Some(given) = &filter.meeting_ids {
        let given = validate::ids::<MeetingId>(given, path, "meetingIds")?;
        select = select.filter(any_of(db.dialect(), Column::MeetingId, given));
    }
    if let Some(statuses) = &filter.statuses {
        select = select.filter(any_of(db.dialect(), COLUMN.status, statuses.clone()));
    }
    if let Some(channels) = &filter.channels {
        select = select.filter(any_of(db.dialect(), COLUMN.channel, channels.clone()));
    }
    if let Some(test) = filter.test {
        // The column itself: the index of test messages has it as its condition.
        let column = Expr::col((Entity, Column::Test));
        select = select.filter(if test { column } else { column.not() });
    }
    if let Some(range) = &filter.created_at {
        let within = range.narrow(Condition::all(), Column::CreatedAt, &format!("{path}.createdAt"))?;
        select = select.filter(within);
    }
    if let Some(text) = &filter.search {
        select = select.filter(dialect::search(search::searched(), &format!("{path}.search"), text)?);
    }
    Ok(select)
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

/// Condition for the messages by which the outcomes of a run's recipients go: in guided work all, in a
/// campaign's run those of its own steps, not those that people wrote or scheduled from within a step.
pub(crate) fn is_own() -> Expr {
    COLUMN.action_number.eq(0).or(Column::CampaignId.is_null())
}

/// The same condition as SQL, over the alias `c`.
pub(crate) const IS_OWN: &str = "(c.occasion = 0 OR c.campaign_id IS NULL)";

/// Cancels the unsent messages to some recipients, but those that people released in a campaign's run:
/// they go out whatever becomes of the run's own.
pub(crate) async fn cancel_unsent(
    tx: &Tx,
    viewer: &Viewer,
    run: &run::Model,
    recipients: &[RunRecordId],
    reason: &str,
) -> Result<()> {
    let theirs = any_of(tx.dialect(), COLUMN.run_record_id, recipients.iter().copied());
    let unsent = [CommunicationStatus::Draft, CommunicationStatus::Approved];
    cancel_matching(tx, viewer, run, &Condition::all().add(theirs).add(is_own()), &unsent, reason).await
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
/// recipients of the suppressed messages. Those that people released are suppressed when they are due.
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
            .filter(is_own())
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

/// The error of a message that a person has reported as not sent.
pub(crate) const NOT_SENT: &str = "a person reported that it was not sent";

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
