//! Adds the status of replies, their assignee, the step and the follow-up that handle them, and the
//! text that searches compare.
//!
//! Earlier replies were handled by a step of their run, or else by a follow-up that was created for
//! them: those whose step is completed or whose follow-up is done become HANDLED, those whose
//! follow-up was cancelled IGNORED, by the actor and at the time of that. All others are OPEN.

use std::collections::HashMap;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DatabaseBackend, Statement, Value};

use crate::m0010_folded::folded;

/// Number of rows read at once.
const ROWS: i64 = 500;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await?;
        link_follow_ups(manager).await?;
        fill_search(manager).await?;
        crate::run(manager, FILL).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN_INDEXES).await?;
        if manager.get_database_backend() == DatabaseBackend::Sqlite {
            // A column with a CHECK can't be dropped.
            crate::rebuild_table(manager, "reply", STATUS, "status {text}").await?;
        }
        crate::run(manager, DOWN).await
    }
}

const STATUS: &str = "status {text} NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'HANDLED', 'IGNORED'))";

const UP: &str = "
ALTER TABLE reply ADD COLUMN status {text} NOT NULL DEFAULT 'OPEN' CHECK (status IN ('OPEN', 'HANDLED', 'IGNORED'));
ALTER TABLE reply ADD COLUMN test {bool} NOT NULL DEFAULT FALSE;
ALTER TABLE reply ADD COLUMN assignee_id {uuid};
ALTER TABLE reply ADD COLUMN handled_at {time};
ALTER TABLE reply ADD COLUMN handled_by {json};
ALTER TABLE reply ADD COLUMN note {text};
ALTER TABLE reply ADD COLUMN step_id {uuid};
ALTER TABLE reply ADD COLUMN follow_up_id {uuid};
ALTER TABLE reply ADD COLUMN search {text} NOT NULL DEFAULT '';
ALTER TABLE reply ADD COLUMN updated_at {time} NOT NULL DEFAULT '1970-01-01T00:00:00+00:00';
ALTER TABLE reply ADD COLUMN revision {int} NOT NULL DEFAULT 1;
UPDATE reply SET updated_at = created_at,
    test = (SELECT c.test FROM communication c WHERE c.id = reply.communication_id);
CREATE INDEX reply_by_received ON reply (org_id, received_at, id);
CREATE INDEX reply_by_status ON reply (org_id, status, id);
CREATE INDEX reply_by_status_received ON reply (org_id, status, received_at, id);
CREATE INDEX reply_of_run_by_received ON reply (run_id, received_at, id);
CREATE INDEX reply_of_campaign_by_received ON reply (campaign_id, received_at, id);
CREATE INDEX reply_of_assignee ON reply (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX reply_of_assignee_by_received ON reply (assignee_id, received_at, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX reply_of_communication ON reply (communication_id, id);
CREATE INDEX reply_of_step ON reply (step_id, id) WHERE step_id IS NOT NULL;
CREATE INDEX reply_of_follow_up ON reply (follow_up_id) WHERE follow_up_id IS NOT NULL;
";

// The step is one of the record that was open at the time of receipt, else a single one of the run.
const FILL: &str = "
UPDATE reply SET step_id = COALESCE(
    (SELECT s.id FROM step s JOIN communication c ON c.run_record_id = s.run_record_id
        WHERE c.id = reply.communication_id AND s.run_id = reply.run_id AND s.\"trigger\" = 'event:reply.received'
        AND s.created_at <= reply.created_at AND (s.completed_at IS NULL OR s.completed_at >= reply.created_at)
        ORDER BY s.created_at DESC, s.id DESC LIMIT 1),
    (SELECT s.id FROM task t JOIN step s ON s.task_id = t.id AND s.run_record_id IS NULL
        WHERE t.run_id = reply.run_id AND reply.follow_up_id IS NULL AND s.\"trigger\" = 'event:reply.received'
        AND s.status <> 'PENDING' AND (s.completed_at IS NULL OR s.completed_at >= reply.created_at)
        ORDER BY s.id LIMIT 1));
UPDATE reply SET status = 'HANDLED',
    handled_at = (SELECT f.closed_at FROM follow_up f WHERE f.id = reply.follow_up_id),
    handled_by = (SELECT f.closed_by FROM follow_up f WHERE f.id = reply.follow_up_id)
    WHERE EXISTS (SELECT 1 FROM follow_up f WHERE f.id = reply.follow_up_id AND f.status = 'DONE'
        AND f.closed_at IS NOT NULL AND f.closed_by IS NOT NULL);
UPDATE reply SET status = 'IGNORED',
    handled_at = (SELECT f.closed_at FROM follow_up f WHERE f.id = reply.follow_up_id),
    handled_by = (SELECT f.closed_by FROM follow_up f WHERE f.id = reply.follow_up_id)
    WHERE EXISTS (SELECT 1 FROM follow_up f WHERE f.id = reply.follow_up_id AND f.status = 'CANCELLED'
        AND f.closed_at IS NOT NULL AND f.closed_by IS NOT NULL);
UPDATE reply SET status = 'HANDLED',
    handled_at = (SELECT s.completed_at FROM step s WHERE s.id = reply.step_id),
    handled_by = (SELECT s.completed_by FROM step s WHERE s.id = reply.step_id)
    WHERE follow_up_id IS NULL AND EXISTS (SELECT 1 FROM step s WHERE s.id = reply.step_id AND s.status = 'COMPLETED'
        AND s.completed_at IS NOT NULL AND s.completed_by IS NOT NULL);
";

const DOWN_INDEXES: &str = "
DROP INDEX reply_of_follow_up;
DROP INDEX reply_of_step;
DROP INDEX reply_of_communication;
DROP INDEX reply_of_assignee_by_received;
DROP INDEX reply_of_assignee;
DROP INDEX reply_of_campaign_by_received;
DROP INDEX reply_of_run_by_received;
DROP INDEX reply_by_status_received;
DROP INDEX reply_by_status;
DROP INDEX reply_by_received;
";

const DOWN: &str = "
ALTER TABLE reply DROP COLUMN revision;
ALTER TABLE reply DROP COLUMN updated_at;
ALTER TABLE reply DROP COLUMN search;
ALTER TABLE reply DROP COLUMN follow_up_id;
ALTER TABLE reply DROP COLUMN step_id;
ALTER TABLE reply DROP COLUMN note;
ALTER TABLE reply DROP COLUMN handled_by;
ALTER TABLE reply DROP COLUMN handled_at;
ALTER TABLE reply DROP COLUMN assignee_id;
ALTER TABLE reply DROP COLUMN test;
ALTER TABLE reply DROP COLUMN status;
";

const POSTGRES_IDS: (&str, &str) = ("CAST($1 AS uuid)", "CAST($2 AS uuid)");
const SQLITE_IDS: (&str, &str) = ("unhex($1)", "unhex($2)");

/// Stores with each reply the follow-up that was created for it; only the log has the link.
async fn link_follow_ups(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let (reply, follow_up, ids) = match backend {
        DatabaseBackend::Postgres => ("payload->>'replyId'", "payload->>'followUpId'", POSTGRES_IDS),
        _ => ("json_extract(payload, '$.replyId')", "json_extract(payload, '$.followUpId')", SQLITE_IDS),
    };
    let sql =
        format!("SELECT {reply}, {follow_up} FROM event WHERE kind = 'follow_up.created' AND {reply} IS NOT NULL");
    let mut links: HashMap<String, String> = HashMap::new();
    for row in db.query_all_raw(Statement::from_string(backend, sql)).await? {
        let (reply, follow_up): (String, String) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if let (Some(reply), Some(follow_up)) = (hex_of(&reply), hex_of(&follow_up)) {
            links.insert(reply, follow_up);
        }
    }
    for (reply, follow_up) in links {
        let sql = format!("UPDATE reply SET follow_up_id = {} WHERE id = {}", ids.1, ids.0);
        let values: [Value; 2] = [reply.into(), follow_up.into()];
        db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
    }
    Ok(())
}

/// Fills the text that searches compare.
async fn fill_search(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let (db, backend) = (manager.get_connection(), manager.get_database_backend());
    let (id, behind, this) = match backend {
        DatabaseBackend::Postgres => ("id::text", "id > CAST($1 AS uuid)", POSTGRES_IDS.0),
        _ => ("hex(id)", "id > unhex($1)", SQLITE_IDS.0),
    };
    let mut last = "0".repeat(32);
    loop {
        let sql = format!("SELECT {id}, subject, body FROM reply WHERE {behind} ORDER BY id LIMIT {ROWS}");
        let rows = db.query_all_raw(Statement::from_sql_and_values(backend, sql, [last.as_str().into()])).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let (subject, body): (Option<String>, String) = (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            last = row.try_get_by_index::<String>(0)?.replace('-', "");
            let search = folded(&format!("{}\n{body}", subject.unwrap_or_default()));
            let values: [Value; 2] = [last.as_str().into(), search.into()];
            let sql = format!("UPDATE reply SET search = $2 WHERE id = {this}");
            db.execute_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        }
    }
}

/// The UUID of a global id, as 32 hexadecimal digits: its 26 last characters are base 32 in
/// Crockford's alphabet.
fn hex_of(id: &str) -> Option<String> {
    const DIGITS: &str = "0123456789abcdefghjkmnpqrstvwxyz";
    let text = id.rsplit('_').next().filter(|text| text.len() == 26)?;
    let mut value = 0_u128;
    for c in text.chars() {
        let digit = u128::try_from(DIGITS.find(c)?).ok()?;
        value = value.checked_mul(32)?.checked_add(digit)?;
    }
    Some(format!("{value:032x}"))
}
