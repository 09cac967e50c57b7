//! Inserts a transaction's events into the log, in one statement per chunk.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use entity::Actor;
use entity::id::OrgId;
use sea_orm::{ConnectionTrait, Statement};
use serde::Serialize;
use serde_json::Value;
use uuid::fmt::Simple;

use super::new_event::Event;
use crate::kernel::db::dialect::{self, Dialect, Type};
use crate::kernel::error::{Error, Result};
use crate::kernel::limits;

/// Inserts the events that a transaction collected, as its last statements. On SQLite with their
/// positions, because there is one writer. On Postgres without: the sequencer assigns them after
/// the commit.
pub(crate) async fn write(
    db: &impl ConnectionTrait,
    dialect: Dialect,
    events: &[Event],
    at: DateTime<Utc>,
) -> Result<()> {
    let mut counts: BTreeMap<OrgId, i64> = BTreeMap::new();
    for event in events {
        *counts.entry(event.org_id).or_default() += 1;
    }
    let mut positions = BTreeMap::new();
    if dialect == Dialect::Sqlite {
        for (org_id, count) in counts {
            let counter = Statement::from_sql_and_values(
                db.get_database_backend(),
                "UPDATE event_counter SET position = position + $1 WHERE org_id = $2 RETURNING position",
                [count.into(), org_id.into()],
            );
            let row = db
                .query_one_raw(counter)
                .await?
                .ok_or_else(|| Error::internal(format!("{org_id} has no event counter")))?;
            positions.insert(org_id, row.try_get_by_index::<i64>(0)? - count);
        }
    }
    let at = dialect::time(at);
    for chunk in events.chunks(usize::try_from(limits::CHUNK).unwrap_or(500)) {
        let rows: Vec<Row<'_>> = chunk
            .iter()
            .map(|event| {
                let position = positions.get_mut(&event.org_id).map(|position| {
                    *position += 1;
                    *position
                });
                Row::of(event, position, &at)
            })
            .collect();
        // One JSON parameter for any number of rows: the statement's text is always the same.
        let statement = Statement::from_sql_and_values(
            db.get_database_backend(),
            insert(dialect),
            [serde_json::to_string(&rows)?.into()],
        );
        db.execute_raw(statement).await?;
    }
    Ok(())
}

/// An event as inserted; the fields match `COLUMNS`.
#[derive(Serialize)]
struct Row<'a> {
    org_id: Simple,
    position: Option<i64>,
    kind: &'a str,
    campaign_id: Option<Simple>,
    run_id: Option<Simple>,
    phase_id: Option<Simple>,
    task_id: Option<Simple>,
    step_id: Option<Simple>,
    record_id: Option<Simple>,
    actor: &'a Actor,
    payload: &'a Value,
    at: &'a str,
}

const COLUMNS: [(&str, Type); 12] = [
    ("org_id", Type::Uuid),
    ("position", Type::Int),
    ("kind", Type::Text),
    ("campaign_id", Type::Uuid),
    ("run_id", Type::Uuid),
    ("phase_id", Type::Uuid),
    ("task_id", Type::Uuid),
    ("step_id", Type::Uuid),
    ("record_id", Type::Uuid),
    ("actor", Type::Json),
    ("payload", Type::Json),
    ("at", Type::Time),
];

impl<'a> Row<'a> {
    fn of(event: &'a Event, position: Option<i64>, at: &'a str) -> Self {
        Self {
            org_id: event.org_id.0.simple(),
            position,
            kind: &event.kind,
            campaign_id: event.campaign_id.map(|id| id.0.simple()),
            run_id: event.run_id.map(|id| id.0.simple()),
            phase_id: event.phase_id.map(|id| id.0.simple()),
            task_id: event.task_id.map(|id| id.0.simple()),
            step_id: event.step_id.map(|id| id.0.simple()),
            record_id: event.record_id.map(|id| id.0.simple()),
            actor: &event.actor,
            payload: &event.payload,
            at,
        }
    }
}

fn insert(dialect: Dialect) -> String {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    format!("INSERT INTO event ({names}) SELECT {names} FROM {}", dialect.rows(dialect.written_json(), "v", &COLUMNS))
}
