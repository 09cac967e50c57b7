//! Reads record timelines: communications, replies, activities, stage changes and runs in one
//! order. Keyset-paged by (time, id), for many records in one statement.

use async_graphql::Enum;
use chrono::{DateTime, Utc};
use entity::id::RecordId;
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use std::collections::HashMap;
use uuid::Uuid;

use crate::kernel::db::dialect::{Dialect, Type};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// The kind of a timeline entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[graphql(name = "TimelineKind")]
pub enum Kind {
    /// A message, at the time it was sent; an unsent one at the time it was created.
    Communication,
    /// A reply from the record.
    Reply,
    /// An action taken within a step: a note, a meeting, a follow-up. Mails, calls and stage
    /// changes have entries of their own.
    Activity,
    /// A change of the record's stage.
    StageChange,
    /// A run that includes the record, at its start.
    Run,
}

/// One timeline entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The kind of object behind the entry.
    pub kind: Kind,
    /// The time of the entry.
    pub at: DateTime<Utc>,
    /// The object's id; for a stage change, its position in the event log.
    pub id: Uuid,
    /// The event's payload; set only for stage changes.
    pub payload: Option<serde_json::Value>,
}

/// Returns the newest `count` entries of each record, older than `after` if given, in one
/// statement.
pub async fn of(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    records: &[RecordId],
    after: Option<(DateTime<Utc>, Uuid)>,
    count: u64,
) -> Result<HashMap<RecordId, Vec<Entry>>> {
    let mut all: HashMap<RecordId, Vec<Entry>> = records.iter().map(|id| (*id, Vec::new())).collect();
    let backend = db.get_database_backend();
    let mut values: Vec<Value> = vec![viewer.org_id.into()];
    let mut put = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let listed: Vec<String> = records.iter().map(|id| id.0.simple().to_string()).collect();
    let ids = put(serde_json::json!(listed).into());
    let behind = match after {
        Some((at, id)) => format!("WHERE (t.at, t.id) < ({}, {})", put(at.into()), put(id.into())),
        None => String::new(),
    };
    let most = put(i64::try_from(count).unwrap_or(i64::MAX).into());
    let sql = format!(
        "SELECT record_id, kind, at, id, told FROM (SELECT t.*, ROW_NUMBER() OVER (PARTITION BY t.record_id \
         ORDER BY t.at DESC, t.id DESC) AS nth FROM ({}) t {behind}) n WHERE nth <= {most} ORDER BY record_id, nth",
        union(backend, &ids)
    );
    for row in db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
        let payload: Option<String> = row.try_get_by_index(4)?;
        let kind = match row.try_get_by_index::<String>(1)?.as_str() {
            "C" => Kind::Communication,
            "R" => Kind::Reply,
            "A" => Kind::Activity,
            "S" => Kind::StageChange,
            _ => Kind::Run,
        };
        let entry = Entry {
            kind,
            at: row.try_get_by_index(2)?,
            id: row.try_get_by_index(3)?,
            payload: payload.map(|payload| serde_json::from_str(&payload)).transpose()?,
        };
        all.entry(row.try_get_by_index(0)?).or_default().push(entry);
    }
    Ok(all)
}

/// Counts the entries of each record, in one statement.
pub async fn count(db: &impl ConnectionTrait, viewer: &Viewer, records: &[RecordId]) -> Result<HashMap<RecordId, u64>> {
    let backend = db.get_database_backend();
    let sql = format!("SELECT record_id, COUNT(*) FROM ({}) t GROUP BY record_id", union(backend, "$2"));
    let listed: Vec<String> = records.iter().map(|id| id.0.simple().to_string()).collect();
    let values: [Value; 2] = [viewer.org_id.into(), serde_json::json!(listed).into()];
    let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    let each = rows.iter().map(|row| {
        let count = u64::try_from(row.try_get_by_index::<i64>(1)?).unwrap_or_default();
        Ok((row.try_get_by_index(0)?, count))
    });
    each.collect()
}

fn union(backend: DbBackend, ids: &str) -> String {
    let among = Dialect::from(backend).among(ids, Type::Uuid);
    // A log position is encoded as a UUID, so that one pair (time, id) orders all kinds.
    let (position_id, payload) = match backend {
        DbBackend::Postgres => ("lpad(to_hex(position), 32, '0')::uuid", "payload::text"),
        _ => ("unhex(printf('%032x', position))", "payload"),
    };
    [
        format!("SELECT record_id, 'C' AS kind, COALESCE(sent_at, created_at) AS at, id, NULL AS told FROM communication WHERE org_id = $1 AND record_id {among}"),
        format!("SELECT record_id, 'R', received_at, id, NULL FROM reply WHERE org_id = $1 AND record_id {among}"),
        format!("SELECT record_id, 'A', at, id, NULL FROM activity WHERE org_id = $1 AND record_id {among} AND kind NOT IN ('EMAIL_SENT', 'STAGE_CHANGED', 'CALL_MADE')"),
        format!("SELECT record_id, 'S', at, {position_id}, {payload} FROM event WHERE kind = 'record.stage_changed' AND org_id = $1 AND position IS NOT NULL AND record_id {among}"),
        format!("SELECT p.record_id, 'X', COALESCE(r.started_at, r.created_at), r.id, NULL FROM run_record p JOIN run r ON r.id = p.run_id WHERE p.org_id = $1 AND p.record_id {among}"),
    ]
    .join(" UNION ALL ")
}
