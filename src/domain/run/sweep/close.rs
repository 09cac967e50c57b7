//! What came of the places of a run that is through, where nothing has been said yet: from the steps and messages of each;
//! and what is said anew once the fate of a message is known that was open when its run ended.

use entity::id::*;
use entity::run_record::{Outcome, RecipientReason};
use entity::sweep::Model;
use entity::{CommunicationStatus, run, run_record};
use sea_orm::sea_query::{Expr, ExprTrait};
use sea_orm::{ActiveEnum, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Statement};
use serde_json::json;

use crate::domain::plan::run_template;
use crate::kernel::db::Tx;
use crate::kernel::db::batch::any_of;
use crate::kernel::db::dialect::Type;
use crate::kernel::error::Result;
use crate::kernel::limits;

/// Whether there is a place of which nothing has been said.
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

/// Closes a chunk of them.
pub(super) async fn chunk(tx: &Tx, run: &run::Model, sweep: &Model) -> Result<Option<uuid::Uuid>> {
    let mut open = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null());
    if let Some(key) = sweep.last_key {
        open = open.filter(run_record::COLUMN.id.gt(RunRecordId(key)));
    }
    let open: Vec<RunRecordId> =
        open.order_by_asc(run_record::COLUMN.id).limit(limits::CHUNK).into_tuple().all(tx.db()).await?;
    let Some(last) = open.last() else { return Ok(None) };
    say(tx, &open).await?;
    Ok(Some(last.0))
}

/// Closes some places that an event stopped. Where something went out before, or may have, or is in hand, that is what comes
/// of the place; it is said at the end.
pub(in crate::domain::run) async fn interrupted(tx: &Tx, places: &[RunRecordId], said: &str) -> Result<()> {
    run_record::Entity::update_many()
        .col_expr(run_record::Column::Outcome, Expr::value(Outcome::Skipped.to_value()))
        .col_expr(run_record::Column::Reason, Expr::value(RecipientReason::Interrupted.with(Some(said))))
        .filter(any_of(tx.dialect(), run_record::COLUMN.id, places.iter().copied()))
        .filter(run_record::COLUMN.outcome.is_null())
        .filter(nothing_went())
        .exec(tx.db())
        .await?;
    Ok(())
}

/// The condition that no message to a place has gone out, is in hand, or may have gone out.
pub(in crate::domain::run) fn nothing_went() -> Expr {
    let any = super::has_sent().or(super::has_message(CommunicationStatus::Sending));
    any.or(super::has_message(CommunicationStatus::Unknown)).not()
}

/// Closes all of them: of guided work, whose places are few.
pub(in crate::domain::run) async fn all(tx: &Tx, run: &run::Model) -> Result<()> {
    let open: Vec<RunRecordId> = run_record::Entity::find()
        .select_only()
        .column(run_record::Column::Id)
        .filter(run_record::COLUMN.run_id.eq(run.id))
        .filter(run_record::COLUMN.outcome.is_null())
        .into_tuple()
        .all(tx.db())
        .await?;
    if open.is_empty() { Ok(()) } else { say(tx, &open).await }
}

async fn say(tx: &Tx, open: &[RunRecordId]) -> Result<()> {
    let (failed, completed, any) = (step("AND s.status = 'FAILED'"), step("AND s.status = 'COMPLETED'"), step(""));
    let sql = format!(
        "UPDATE run_record SET outcome = CASE WHEN {unknown} THEN 'UNKNOWN' WHEN {failed} THEN 'FAILED' \
         WHEN {missed} THEN 'SKIPPED' WHEN {sent} THEN 'SENT' WHEN {suppressed} THEN 'SUPPRESSED' WHEN {refused} THEN 'FAILED' \
         WHEN {dropped} THEN 'SKIPPED' WHEN {completed} THEN 'DONE' WHEN {any} THEN 'SKIPPED' ELSE 'DONE' END, \
         reason = CASE WHEN {unknown} THEN 'OUTCOME_UNKNOWN' WHEN {failed} THEN 'STEP_FAILED' {missed_because} \
         WHEN {sent} THEN NULL WHEN {suppressed} THEN 'SUPPRESSED' WHEN {refused} THEN 'WORK_FAILED' \
         WHEN {dropped} THEN 'NO_MESSAGE' WHEN {any} AND NOT {completed} THEN 'ALL_SKIPPED' END \
         FROM {rows} WHERE run_record.id = v.of_id",
        unknown = message("= 'UNKNOWN'"),
        missed = any_missed(),
        missed_because = missed_because(),
        sent = message("= 'SENT'"),
        suppressed = message("= 'SUPPRESSED'"),
        // A letter of a person: of a campaign's step that failed, the step tells.
        refused = message("= 'FAILED' AND c.occasion > 0"),
        dropped = message("= 'CANCELLED' AND c.occasion > 0 AND c.meeting_id IS NULL"),
        rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid)]),
    );
    write(tx, sql, open).await
}

/// Says anew what came of some places of a run that has ended, once the fate of a message of theirs is known. A message that
/// was open then may go out, be refused or be lost since: its place follows, and nothing else changes.
pub(crate) async fn follow(tx: &Tx, places: &[RunRecordId]) -> Result<()> {
    if places.is_empty() {
        return Ok(());
    }
    let sql = format!(
        "UPDATE run_record SET outcome = CASE WHEN {unknown} THEN 'UNKNOWN' WHEN {failed} THEN 'FAILED' \
         WHEN {missed} THEN 'SKIPPED' WHEN {sent} THEN 'SENT' WHEN {open} THEN NULL WHEN {refused} THEN 'FAILED' WHEN {suppressed} THEN 'SUPPRESSED' \
         WHEN outcome IS NULL OR outcome = 'UNKNOWN' THEN 'SKIPPED' ELSE outcome END, \
         reason = CASE WHEN {unknown} THEN 'OUTCOME_UNKNOWN' WHEN {failed} THEN 'STEP_FAILED' {missed_because} \
         WHEN {sent} OR {open} THEN NULL \
         WHEN {told} THEN 'PERSON' WHEN {refused} THEN 'WORK_FAILED' \
         WHEN {suppressed} THEN 'SUPPRESSED' WHEN outcome IS NULL OR outcome = 'UNKNOWN' THEN 'NO_MESSAGE' ELSE reason END \
         FROM {rows} WHERE run_record.id = v.of_id",
        unknown = message("= 'UNKNOWN'"),
        failed = step("AND s.status = 'FAILED'"),
        missed = any_missed(),
        missed_because = missed_because(),
        sent = message("= 'SENT'"),
        open = message("IN ('SENDING', 'APPROVED')"),
        told = message("= 'FAILED' AND c.error = '{NOT_SENT}'")
            .replace("{NOT_SENT}", crate::domain::message::communication::NOT_SENT),
        refused = message("= 'FAILED'"),
        suppressed = message("= 'SUPPRESSED'"),
        rows = tx.dialect().rows("$1", "v", &[("of_id", Type::Uuid)]),
    );
    write(tx, sql, places).await
}

/// The reasons for which one message of a recipient does not go though another one did: it is not reached then, and a repeat
/// may reach it.
const MISSED: [RecipientReason; 3] =
    [RecipientReason::NoAddress, RecipientReason::DuplicateAddress, RecipientReason::RunCancelled];

/// The condition that a message step of a place was skipped for one of these reasons, and that its message did not go out all
/// the same.
fn missed(reasons: &[RecipientReason]) -> String {
    let quoted = |all: &[String]| all.iter().map(|one| format!("'{one}'")).collect::<Vec<_>>().join(", ");
    let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    let kinds = run_template::MESSAGES.map(str::to_owned);
    let (reasons, kinds) = (quoted(&reasons), quoted(&kinds));
    step(&format!(
        "AND s.status = 'SKIPPED' AND s.reason IN ({reasons}) AND s.kind IN ({kinds}) AND NOT EXISTS (SELECT 1 \
         FROM communication c LEFT JOIN step d ON d.id = c.step_id WHERE c.run_record_id = run_record.id AND c.status = 'SENT' \
         AND (c.step_id = s.id OR (s.kind <> 'email' AND d.kind <> 'email')))"
    ))
}

/// The condition that one of a place's messages does not go for such a reason.
pub(super) fn any_missed() -> String {
    missed(&MISSED)
}

/// The reason to keep then, as branches of a CASE.
pub(super) fn missed_because() -> String {
    MISSED.map(|reason| format!("WHEN {} THEN '{reason}'", missed(&[reason]))).join(" ")
}

/// The condition that a place has a step of a kind.
fn step(which: &str) -> String {
    format!("EXISTS (SELECT 1 FROM step s WHERE s.run_record_id = run_record.id {which})")
}

/// The condition that a place has a message of some statuses.
fn message(which: &str) -> String {
    format!("EXISTS (SELECT 1 FROM communication c WHERE c.run_record_id = run_record.id AND c.status {which})")
}

async fn write(tx: &Tx, sql: String, places: &[RunRecordId]) -> Result<()> {
    let rows: Vec<_> = places.iter().map(|id| json!({ "of_id": id.0.simple().to_string() })).collect();
    let backend = tx.db().get_database_backend();
    tx.db().execute_raw(Statement::from_sql_and_values(backend, sql, [json!(rows).into()])).await?;
    Ok(())
}
