//! Brings forward messages that were put off because their channel refused them: one as the probe of
//! a paused channel, and all once the channel accepts messages again.
//!
//! A look for a probe reads a few rows of each org, and passes over a paused run in one step; it is
//! repeated often while nothing can be sent. All are brought forward in chunks, org by org.

use chrono::{DateTime, Duration, Utc};
use entity::Channel;
use entity::id::*;
use sea_orm::{ConnectionTrait, Statement, TryGetable, Value};

use crate::channel::pause;
use crate::domain::plan::run_template::{self, kind};
use crate::kernel::db::WriteContext;
use crate::kernel::db::fair::queue::Queue;
use crate::kernel::error::Result;
use crate::kernel::{limits, storable};
use crate::transact;

/// The condition on a step that was put off until a time between `$2` and `$1`.
const PUT_OFF: &str =
    "AND assigned_to = 'WORKFLOW' AND reason = 'PUT_OFF' AND available_at > $2 AND available_at <= $1";

/// The condition on a released message that was put off until a time between `$2` and `$1`.
const PUT_BACK: &str = "AND lease_owner IS NULL AND available_at > $2 AND available_at <= $1 AND (failures = 0 \
     OR EXISTS (SELECT 1 FROM communication c WHERE c.id = posting.communication_id AND c.refusals > 0))";

/// The joins of a released message `q` with its run and campaign.
pub(crate) const OF_RUN: &str = "JOIN run r ON r.id = q.run_id LEFT JOIN campaign c ON c.id = r.campaign_id";

/// The condition on the run of a released message: it may send it now.
pub(crate) const MAY_SEND: &str =
    "r.status IN ('IN_PROGRESS', 'COMPLETED', 'FAILED') AND (c.id IS NULL OR c.status <> 'PAUSED')";

/// Makes the messages due that were put off while their channel was paused, or while it went into
/// its pause. A message that was refused again and again before waits longer than any pause between
/// two probes, and keeps its time.
pub(super) async fn all(db: &WriteContext) -> Result<()> {
    let window = window(db.now(), limits::CHANNEL_PROBE_DELAY_MAX);
    for kind in [run_template::SEND, kind::EMAIL] {
        let queue = steps(&window, kind);
        for org in queue.orgs(db.read()).await? {
            while make_due(db, &queue, org, limits::CHUNK).await? {}
        }
    }
    let admitted = may_send();
    let queue = released(&window, &admitted);
    for org in queue.orgs(db.read()).await? {
        while make_due(db, &queue, org, limits::CHUNK).await? {}
    }
    // They lie in the queues of several loops, and no event tells of their new time.
    db.wake();
    Ok(())
}

/// Makes the step of a kind due that is due next of those put off, if its channel is paused and a
/// probe is due. Returns true if there was one.
pub(crate) async fn probe(db: &WriteContext, kind: &str) -> Result<bool> {
    if !pause::is_probe_due(db, Channel::Email).await? {
        return Ok(false);
    }
    let Some(id) = next_step(db.read(), db.now(), kind).await? else { return Ok(false) };
    let update = "UPDATE step SET available_at = $1 WHERE id = $2 AND status = 'QUEUED' AND available_at > $1";
    make_one_due(db, update, id.into()).await
}

/// Makes the released message due that is due next of those put back, if its channel is paused and
/// a probe is due. Returns true if there was one.
pub(crate) async fn probe_released(db: &WriteContext) -> Result<bool> {
    if !pause::is_probe_due(db, Channel::Email).await? {
        return Ok(false);
    }
    let Some(id) = next_released(db.read(), db.now()).await? else { return Ok(false) };
    let update = "UPDATE posting SET available_at = $1 WHERE communication_id = $2 AND lease_owner IS NULL \
                  AND available_at > $1";
    make_one_due(db, update, id.into()).await
}

/// The step of a kind that is due next of those put off, as a look for a probe finds it through a
/// connection.
pub async fn next_step(connection: &impl ConnectionTrait, now: DateTime<Utc>, kind: &str) -> Result<Option<StepId>> {
    first(connection, &steps(&window(now, limits::MAIL_RETRY_DELAY_MAX), kind)).await
}

/// The released message that is due next of those put back, as a look for a probe finds it through
/// a connection.
pub async fn next_released(connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Option<CommunicationId>> {
    first(connection, &released(&window(now, limits::MAIL_RETRY_DELAY_MAX), &may_send())).await
}

/// The steps of a kind that were put off until a time in the window.
fn steps(window: &[Value; 2], kind: &str) -> Queue<'static> {
    let [until, now] = window.clone();
    Queue {
        table: "step",
        id: "id",
        queued: "status = 'QUEUED' AND kind = $3",
        // The engine's own kinds are outside only where an agent does them.
        grouped: "AND outside = FALSE",
        group: &["phase_id"],
        fit: PUT_OFF,
        columns: "id, run_id, phase_id, org_id, available_at",
        joins: "JOIN run r ON r.id = q.run_id LEFT JOIN campaign c ON c.id = r.campaign_id JOIN phase p ON p.id = q.phase_id",
        admitted: "r.status = 'IN_PROGRESS' AND (c.id IS NULL OR c.status <> 'PAUSED') AND p.status = 'ACTIVE' \
                   AND q.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $2 AND work IN ('CLAIM', 'RESCUE', 'SETTLE'))",
        wanted: "q.id, q.available_at, q.org_id AS org_id",
        latest_first: false,
        values: vec![until, now, kind.into()],
    }
}

/// The condition on the run of a message that was put back: it may send it now, and its settling does
/// not fail.
fn may_send() -> String {
    format!("{MAY_SEND} AND q.run_id NOT IN (SELECT subject FROM stuck WHERE next_try_at > $2 AND work = 'SETTLE')")
}

/// The released messages that were put back until a time in the window.
fn released<'a>(window: &[Value; 2], admitted: &'a str) -> Queue<'a> {
    Queue {
        table: "posting",
        id: "communication_id",
        queued: "org_id IS NOT NULL",
        grouped: "",
        group: &["run_id"],
        fit: PUT_BACK,
        columns: "communication_id, run_id, org_id, available_at",
        joins: OF_RUN,
        admitted,
        wanted: "q.communication_id, q.available_at, q.org_id AS org_id",
        latest_first: false,
        values: window.to_vec(),
    }
}

/// The row of a queue that is due next, of the orgs that this look reaches.
async fn first<I: TryGetable>(connection: &impl ConnectionTrait, queue: &Queue<'_>) -> Result<Option<I>> {
    let mut next: Option<(DateTime<Utc>, I)> = None;
    for row in queue.take(connection, 1, &[]).await? {
        let at: DateTime<Utc> = row.try_get_by_index(1)?;
        if next.as_ref().is_none_or(|(earliest, _)| at < *earliest) {
            next = Some((at, row.try_get_by_index(0)?));
        }
    }
    Ok(next.map(|(_, id)| id))
}

/// Makes a chunk of an org's rows in a queue due at the window's begin. Returns true if there were
/// some: they have left the window.
async fn make_due(db: &WriteContext, queue: &Queue<'_>, org: OrgId, chunk: u64) -> Result<bool> {
    let Queue { table, id, queued, fit, .. } = queue;
    let mut values = queue.values.clone();
    values.push(org.into());
    let of_org = format!("{queued} {fit} AND org_id = ${}", values.len());
    let update = format!(
        "UPDATE {table} SET available_at = $2 WHERE {id} IN \
         (SELECT {id} FROM {table} WHERE {of_org} ORDER BY available_at, {id} LIMIT {chunk}) AND available_at > $2"
    );
    transact!(db, |tx| {
        let update = Statement::from_sql_and_values(tx.db().get_database_backend(), &update, values.clone());
        Ok(tx.db().execute_raw(update).await?.rows_affected() > 0)
    })
}

/// Runs the update of a row's time. Returns true if the row still waited.
async fn make_one_due(db: &WriteContext, sql: &str, id: Value) -> Result<bool> {
    transact!(db, |tx| {
        let values = [tx.now().into(), id.clone()];
        let update = Statement::from_sql_and_values(tx.db().get_database_backend(), sql, values);
        Ok(tx.db().execute_raw(update).await?.rows_affected() > 0)
    })
}

/// The parameters of the end of a wait from now on, and of now.
fn window(now: DateTime<Utc>, wait: Duration) -> [Value; 2] {
    [storable::after(now, wait).into(), now.into()]
}
