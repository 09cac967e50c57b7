//! Brings forward messages that were put off because their channel refused them: one as the probe of
//! a paused channel, and all once the channel accepts messages again.

use chrono::{DateTime, Duration, Utc};
use entity::Channel;
use entity::id::*;
use sea_orm::{ConnectionTrait, Statement, Value};

use crate::channel::pause;
use crate::domain::plan::run_template::{self, kind};
use crate::kernel::db::{Db, WriteContext};
use crate::kernel::error::Result;
use crate::kernel::{limits, storable};
use crate::transact;

/// The condition on steps that were put off until a time between `$1` and `$2`.
const PUT_OFF: &str = "s.status = 'QUEUED' AND s.assigned_to = 'WORKFLOW' AND s.reason = 'PUT_OFF' \
     AND s.available_at > $1 AND s.available_at <= $2";

/// The condition on released messages that were put off until a time between `$1` and `$2`.
const PUT_BACK: &str = "q.lease_owner IS NULL AND q.available_at > $1 AND q.available_at <= $2 AND (q.failures = 0 \
     OR EXISTS (SELECT 1 FROM communication c WHERE c.id = q.communication_id AND c.refusals > 0))";

/// Makes the messages due that were put off while their channel was paused, or while it went into
/// its pause. A message that was refused again and again before waits longer than any pause between
/// two probes, and keeps its time.
pub(super) async fn all(db: &WriteContext) -> Result<()> {
    let steps = format!(
        "UPDATE step SET available_at = $1 WHERE id IN (SELECT s.id FROM step s WHERE s.kind IN ($3, $4) AND {PUT_OFF})"
    );
    let released = format!(
        "UPDATE posting SET available_at = $1 WHERE communication_id IN \
         (SELECT q.communication_id FROM posting q WHERE {PUT_BACK})"
    );
    transact!(db, |tx| {
        let backend = tx.db().get_database_backend();
        let [now, until] = window(tx.now(), limits::CHANNEL_PROBE_DELAY_MAX);
        let kinds = [Value::from(run_template::SEND), Value::from(kind::EMAIL)];
        let values = [now.clone(), until.clone()].into_iter().chain(kinds);
        tx.db().execute_raw(Statement::from_sql_and_values(backend, &steps, values)).await?;
        tx.db().execute_raw(Statement::from_sql_and_values(backend, &released, [now, until])).await?;
        Ok(())
    })
}

/// Makes the step of a kind due that is due next of those put off, if its channel is paused and a
/// probe is due. Returns true if there was one.
pub(crate) async fn probe(db: &WriteContext, kind: &str) -> Result<bool> {
    if !pause::is_probe_due(db, Channel::Email).await? {
        return Ok(false);
    }
    let next = format!(
        "SELECT s.id FROM step s JOIN run r ON r.id = s.run_id LEFT JOIN campaign c ON c.id = r.campaign_id \
         JOIN phase p ON p.id = s.phase_id WHERE s.kind = $3 AND {PUT_OFF} AND r.status = 'IN_PROGRESS' \
         AND (c.id IS NULL OR c.status <> 'PAUSED') AND p.status = 'ACTIVE' AND s.run_id NOT IN \
         (SELECT subject FROM stuck WHERE next_try_at > $1 AND work IN ('CLAIM', 'RESCUE', 'SETTLE')) \
         ORDER BY s.available_at, s.id LIMIT 1"
    );
    let Some(id) = first::<StepId>(db, &next, Some(kind)).await? else { return Ok(false) };
    let update = "UPDATE step SET available_at = $1 WHERE id = $2 AND status = 'QUEUED' AND available_at > $1";
    make_due(db, update, id.into()).await
}

/// Makes the released message due that is due next of those put back, if its channel is paused and
/// a probe is due. Returns true if there was one.
pub(crate) async fn probe_released(db: &WriteContext) -> Result<bool> {
    if !pause::is_probe_due(db, Channel::Email).await? {
        return Ok(false);
    }
    let next = format!(
        "SELECT q.communication_id FROM posting q JOIN run r ON r.id = q.run_id WHERE {PUT_BACK} \
         AND r.status IN ('IN_PROGRESS', 'COMPLETED') AND q.run_id NOT IN \
         (SELECT subject FROM stuck WHERE next_try_at > $1 AND work = 'SETTLE') \
         ORDER BY q.available_at, q.communication_id LIMIT 1"
    );
    let Some(id) = first::<CommunicationId>(db, &next, None).await? else { return Ok(false) };
    let update = "UPDATE posting SET available_at = $1 WHERE communication_id = $2 AND lease_owner IS NULL \
                  AND available_at > $1";
    make_due(db, update, id.into()).await
}

/// The first id that a query finds.
async fn first<I: sea_orm::TryGetable>(db: &Db, sql: &str, kind: Option<&str>) -> Result<Option<I>> {
    let values = window(db.now(), limits::MAIL_RETRY_DELAY_MAX).into_iter().chain(kind.map(Value::from));
    let statement = Statement::from_sql_and_values(db.read().get_database_backend(), sql, values);
    let found = db.read().query_one_raw(statement).await?;
    Ok(found.map(|row| row.try_get_by_index(0)).transpose()?)
}

/// Runs the update of a row's time. Returns true if the row still waited.
async fn make_due(db: &WriteContext, sql: &str, id: Value) -> Result<bool> {
    transact!(db, |tx| {
        let values = [tx.now().into(), id.clone()];
        let update = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
        Ok(tx.db().execute_raw(update).await?.rows_affected() > 0)
    })
}

/// The parameters of the time between now and the end of a wait.
fn window(now: DateTime<Utc>, wait: Duration) -> [Value; 2] {
    [now.into(), storable::after(now, wait).into()]
}
