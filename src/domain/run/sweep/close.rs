//! Sets the outcome of recipients that have none when their run ends, from their steps and
//! messages; updates it when the outcome of a message becomes known later.

use entity::id::*;
use entity::run_record::{Outcome, RecipientReason};
use entity::sweep::Model;
use entity::{CommunicationStatus, run, run_record};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use serde_json::json;

use crate::domain::message::communication::IS_OWN;
use crate::domain::plan::run_template;
use crate::domain::run::recipients;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Type;
use crate::kernel::error::Result;
use crate::kernel::limits;

/// True if a recipient of the run has no outcome.
pub(in crate::domain::run) async fn is_any(tx: &Tx, run: &run::Model) -> Result<bool> {
    let open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .limit(1)
        .into_tuple::<RunRecordId>()
        .one(tx.db())
        .await?;
    Ok(open.is_some())
}

/// Returns the next chunk of recipients without an outcome.
pub(super) async fn open(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Vec<RunRecordId>> {
    let mut open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null());
    if let Some(key) = sweep.last_key {
        open = open.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    Ok(open.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).into_tuple().all(tx.db()).await?)
}

/// Closes a chunk of recipients; their unsent messages are cancelled before.
pub(super) async fn chunk(tx: &Tx, open: &[RunRecordId]) -> Result<Option<uuid::Uuid>> {
    let Some(last) = open.last() else { return Ok(None) };
    set_outcomes(tx, open).await?;
    Ok(Some(last.0))
}

/// Skips recipients that an event interrupted. Recipients with a message that was, may have been,
/// or is being sent keep a null outcome, which is set when the run ends.
pub(in crate::domain::run) async fn interrupted(tx: &Tx, recipients: &[RunRecordId], event: &str) -> Result<()> {
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value(RecipientReason::Interrupted.with(Some(event))))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, recipients.iter().copied()))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(nothing_sent())
        .exec(tx.db())
        .await?;
    Ok(())
}

/// SQL condition: no message to the recipient was, may have been, or is being sent.
pub(in crate::domain::run) fn nothing_sent() -> Expr {
    let any = recipients::has_sent().or(recipients::has_message(CommunicationStatus::Sending));
    any.or(recipients::has_message(CommunicationStatus::Unknown)).not()
}

/// Closes all recipients at once; for guided work, which has few.
pub(in crate::domain::run) async fn all(tx: &Tx, run: &run::Model) -> Result<()> {
    let open: Vec<RunRecordId> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .into_tuple()
        .all(tx.db())
        .await?;
    if open.is_empty() { Ok(()) } else { set_outcomes(tx, &open).await }
}

async fn set_outcomes(tx: &Tx, open: &[RunRecordId]) -> Result<()> {
    let (failed, completed, any) = (step("AND s.status = 'FAILED'"), step("AND s.status = 'COMPLETED'"), step(""));
    let sql = format!(
        "UPDATE run_record SET outcome = CASE WHEN {unknown} THEN 'UNKNOWN' WHEN {failed} THEN 'FAILED' \
         WHEN {missed} THEN 'SKIPPED' WHEN {sent} THEN 'SENT' WHEN {suppressed} THEN 'SUPPRESSED' WHEN {refused} THEN 'FAILED' \
         WHEN {dropped} THEN 'SKIPPED' WHEN {completed} THEN 'DONE' WHEN {any} THEN 'SKIPPED' ELSE 'DONE' END, \
         reason = CASE WHEN {unknown} THEN 'OUTCOME_UNKNOWN' WHEN {failed} THEN 'STEP_FAILED' {missed_because} \
         WHEN {sent} THEN NULL WHEN {suppressed} THEN 'SUPPRESSED' WHEN {refused} THEN 'WORK_FAILED' \
         WHEN {dropped} THEN {not_sent} WHEN {any} AND NOT {completed} THEN 'ALL_SKIPPED' END \
         FROM {rows} WHERE run_record.id = v.of_id",
        unknown = message("= 'UNKNOWN'"),
        missed = any_missed(),
        missed_because = missed_because(),
        sent = message("= 'SENT'"),
        suppressed = message("= 'SUPPRESSED'"),
        // A message of guided work; for a campaign's message, the failed step decides.
        refused = message("= 'FAILED' AND c.occasion > 0"),
        dropped = message("= 'CANCELLED' AND c.meeting_id IS NULL"),
        not_sent = no_message(),
        rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid)]),
    );
    write(tx, sql, open).await
}

/// Updates the outcome of recipients of an ended run after the status of one of their messages
/// changed: a message open at the end of the run may be sent, fail or get lost later.
pub(crate) async fn update_outcomes(tx: &Tx, recipients: &[RunRecordId]) -> Result<()> {
    if recipients.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE run_record SET outcome = CASE WHEN {unknown} THEN 'UNKNOWN' WHEN {failed} THEN 'FAILED' \
         WHEN {missed} THEN 'SKIPPED' WHEN {sent} THEN 'SENT' WHEN {open} THEN NULL WHEN {refused} THEN 'FAILED' WHEN {suppressed} THEN 'SUPPRESSED' \
         WHEN outcome IS NULL OR outcome = 'UNKNOWN' THEN 'SKIPPED' ELSE outcome END, \
         reason = CASE WHEN {unknown} THEN 'OUTCOME_UNKNOWN' WHEN {failed} THEN 'STEP_FAILED' {missed_because} \
         WHEN {sent} OR {open} THEN NULL \
         WHEN {not_sent} THEN 'PERSON' WHEN {refused} THEN 'WORK_FAILED' \
         WHEN {suppressed} THEN 'SUPPRESSED' WHEN outcome IS NULL OR outcome = 'UNKNOWN' THEN 'NO_MESSAGE' ELSE reason END \
         FROM {rows} WHERE run_record.id = v.of_id",
        unknown = message("= 'UNKNOWN'"),
        failed = step("AND s.status = 'FAILED'"),
        missed = any_missed(),
        missed_because = missed_because(),
        sent = message("= 'SENT'"),
        open = message("IN ('SENDING', 'APPROVED')"),
        not_sent = message("= 'FAILED' AND c.error = '{NOT_SENT}'")
            .replace("{NOT_SENT}", crate::domain::message::communication::NOT_SENT),
        refused = message("= 'FAILED'"),
        suppressed = message("= 'SUPPRESSED'"),
        rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid)]),
    );
    write(tx, sql, recipients).await
}

/// Skip reasons that leave a recipient unreached even if another of its messages was sent; a repeat
/// may reach it.
const MISSED: [RecipientReason; 3] =
    [RecipientReason::NoAddress, RecipientReason::DuplicateAddress, RecipientReason::RunCancelled];

/// SQL condition: a message step of the recipient was skipped for one of these reasons, and its
/// message was not sent otherwise.
fn missed(reasons: &[RecipientReason]) -> String {
    let quoted = |all: &[String]| all.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let kinds = run_template::MESSAGES.map(str::to_owned);
    let (reasons, kinds) = (quoted(&reasons), quoted(&kinds));
    step(&format!(
        "AND s.status = 'SKIPPED' AND s.reason IN ({reasons}) AND s.kind IN ({kinds}) AND NOT EXISTS (SELECT 1 \
         FROM communication c LEFT JOIN step d ON d.id = c.step_id WHERE c.run_record_id = run_record.id AND {IS_OWN} \
         AND c.status = 'SENT' \
         AND (c.step_id = s.id OR (s.kind <> 'email' AND d.kind <> 'email')))"
    ))
}

/// SQL condition: one of the recipient's messages is missing for such a reason.
pub(super) fn any_missed() -> String {
    missed(&MISSED)
}

/// SQL branches of a CASE that yield the reason to store.
pub(super) fn missed_because() -> String {
    MISSED.map(|reason| format!("WHEN {} THEN '{reason}'", missed(&[reason]))).join(" ")
}

/// SQL expression for the reason of a recipient whose message was cancelled: that of the step which
/// would have sent it, if one was skipped.
fn no_message() -> String {
    let kinds = run_template::MESSAGES.map(|kind| format!("'{kind}'")).join(", ");
    let skipped = format!(
        "SELECT s.error FROM step s WHERE s.run_record_id = run_record.id AND s.kind IN ({kinds}) \
         AND s.status = 'SKIPPED' AND s.error IS NOT NULL ORDER BY s.id LIMIT 1"
    );
    format!("'{}' || COALESCE(': ' || ({skipped}), '')", RecipientReason::NoMessage)
}

/// SQL condition: the recipient has a matching step.
fn step(condition: &str) -> String {
    format!("EXISTS (SELECT 1 FROM step s WHERE s.run_record_id = run_record.id {condition})")
}

/// SQL condition: the recipient has a message with a matching status. What people wrote from within a
/// campaign's run decides nothing about its recipients.
fn message(condition: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM communication c WHERE c.run_record_id = run_record.id AND {IS_OWN} AND c.status {condition})"
    )
}

async fn write(tx: &Tx, sql: String, recipients: &[RunRecordId]) -> Result<()> {
    let rows: Vec<_> = recipients.iter().map(|id| json!({ "of_id": id.0.simple().to_string() })).collect();
    let backend = tx.db().get_database_backend();
    tx.db().execute_raw(Statement::from_sql_and_values(backend, sql, [json!(rows).into()])).await?;
    Ok(())
}
