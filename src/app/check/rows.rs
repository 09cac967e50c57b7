//! Checks that single statements can express: messages, leases, schedules, tenancy, and the
//! database's own integrity.

use entity::org::PLATFORM;

use super::{CheckedSnapshot, Violations};
use crate::kernel::db::dialect::Dialect;
use crate::kernel::error::Result;

/// Invariant, statement that counts the rows checked, statement that selects one text per
/// violation, and the row's campaign or run if `sortie seed` creates such rows.
pub(super) type Rule<'a> = (&'static str, &'a str, &'a str);

const RULES: &[Rule<'_>] = &[
    (
        // A step that waits for another step, a delay or an event, in a run in which nothing is queued,
        // held or approvable, nobody can start anything, and no sweep, time or blocked task is left; or
        // an audience that nothing completes.
        "no run stands still for a reason that it does not show",
        "SELECT COUNT(*) FROM run WHERE status = 'IN_PROGRESS'",
        "SELECT r.name, r.id FROM run r JOIN phase p ON p.run_id = r.id JOIN step s ON s.phase_id = p.id JOIN task t ON t.id = s.task_id \
         WHERE r.status = 'IN_PROGRESS' AND r.type <> 'GUIDED' AND r.audience_done AND p.status = 'ACTIVE' \
         AND p.open_until IS NULL AND s.status = 'PENDING' AND t.status <> 'BLOCKED' AND (s.\"trigger\" LIKE 'after:%' \
         OR s.\"trigger\" LIKE 'delay:%' OR (s.\"trigger\" LIKE 'event:%' AND NOT t.fan_out)) \
         AND NOT EXISTS (SELECT 1 FROM step o JOIN task b ON b.id = o.task_id WHERE o.phase_id = p.id AND (o.status IN \
         ('QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL') OR (o.status = 'PENDING' AND (o.\"trigger\" IN ('immediate', 'manual') \
         OR (o.\"trigger\" LIKE 'event:%' AND b.fan_out))))) \
         AND NOT EXISTS (SELECT 1 FROM task b WHERE b.phase_id = p.id AND b.status = 'BLOCKED') \
         AND NOT EXISTS (SELECT 1 FROM sweep w WHERE w.run_id = r.id) AND NOT EXISTS (SELECT 1 FROM stuck k WHERE k.run_id = r.id) \
         AND NOT EXISTS (SELECT 1 FROM campaign c WHERE c.id = r.campaign_id AND c.status = 'PAUSED') GROUP BY r.name, r.id \
         UNION ALL SELECT r.name, r.id FROM run r WHERE r.status IN ('IN_PROGRESS', 'PAUSED') AND NOT r.audience_done \
         AND NOT EXISTS (SELECT 1 FROM sweep w WHERE w.run_id = r.id AND w.kind = 'AUDIENCE')",
    ),
    (
        "a sweep is held exactly while its run has failed",
        "SELECT COUNT(*) FROM sweep",
        "SELECT r.name, r.id FROM sweep w JOIN run r ON r.id = w.run_id WHERE w.held <> (r.status = 'FAILED')",
    ),
    (
        "nothing is sent without a reservation",
        "SELECT COUNT(*) FROM communication WHERE status IN ('SENDING', 'SENT', 'UNKNOWN')",
        "SELECT message_id FROM communication WHERE status IN ('SENDING', 'SENT', 'UNKNOWN') AND reserved_at IS NULL",
    ),
    (
        "a message that is being sent is in somebody's hands, or waits to be",
        "SELECT COUNT(*) FROM communication WHERE status = 'SENDING'",
        "SELECT c.message_id FROM communication c WHERE c.status = 'SENDING' \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.communication_id = c.id) \
         AND NOT EXISTS (SELECT 1 FROM step s WHERE s.status IN ('QUEUED', 'IN_PROGRESS') \
         AND c.occasion = 0 AND (s.id = c.step_id OR (s.run_record_id = c.run_record_id AND s.kind = 'send_message')))",
    ),
    (
        "an address gets one message per run and step",
        "SELECT COUNT(*) FROM communication WHERE NOT test",
        "SELECT LOWER(c.to_address) FROM communication c JOIN step s ON s.id = c.step_id WHERE NOT c.test AND c.occasion = 0 AND c.to_address <> '' \
         AND c.status IN ('SENDING', 'SENT', 'UNKNOWN') GROUP BY c.run_id, s.key, LOWER(c.to_address) HAVING COUNT(*) > 1",
    ),
    (
        "an address gets one email from a person's step, unless `again` was requested",
        "SELECT COUNT(*) FROM communication WHERE occasion > 0",
        "SELECT LOWER(c.to_address) FROM communication c WHERE c.occasion > 0 AND c.meeting_id IS NULL AND NOT c.again AND c.to_address <> '' \
         AND c.status IN ('APPROVED', 'SENDING', 'SENT', 'UNKNOWN') GROUP BY c.step_id, LOWER(c.to_address) HAVING COUNT(*) > 1",
    ),
    (
        "an address gets one message of a campaign's run from each step",
        "SELECT COUNT(*) FROM run_record WHERE address_key IS NOT NULL",
        "SELECT p.address_key FROM run_record p JOIN run r ON r.id = p.run_id WHERE r.campaign_id IS NOT NULL \
         AND p.address_key IS NOT NULL GROUP BY p.run_id, p.address_key HAVING COUNT(*) > 1",
    ),
    (
        "no message goes to an address that was suppressed when its reservation was made",
        "SELECT COUNT(*) FROM communication WHERE reserved_at IS NOT NULL",
        "SELECT c.message_id FROM communication c WHERE c.status IN ('SENDING', 'SENT', 'UNKNOWN') \
         AND EXISTS (SELECT 1 FROM suppression s WHERE s.org_id = c.org_id AND s.address_key = LOWER(c.to_address) \
         AND (s.channel = c.channel OR s.record_id IS NOT NULL) AND s.created_at < c.reserved_at)",
    ),
    (
        "each address of an unsubscribed record is suppressed, and no other address by an opt-out",
        "SELECT COUNT(*) FROM record WHERE unsubscribed_at IS NOT NULL",
        "SELECT r.name FROM record r WHERE r.unsubscribed_at IS NOT NULL AND ((r.email IS NOT NULL AND NOT EXISTS (SELECT 1 \
         FROM suppression s WHERE s.record_id = r.id AND s.address_key = LOWER(r.email))) OR (r.phone IS NOT NULL AND NOT EXISTS \
         (SELECT 1 FROM suppression s WHERE s.record_id = r.id AND s.address_key = LOWER(r.phone)))) \
         UNION ALL SELECT s.address FROM suppression s JOIN record r ON r.id = s.record_id WHERE r.unsubscribed_at IS NULL",
    ),
    (
        "an erased record is empty and opted out, and so are its messages when the erasure is complete",
        "SELECT COUNT(*) FROM record WHERE erased_at IS NOT NULL",
        "SELECT r.kind, r.id FROM record r WHERE r.erased_at IS NOT NULL AND (r.email IS NOT NULL OR r.phone IS NOT NULL \
         OR r.external_id IS NOT NULL OR r.search <> '' OR r.unsubscribed_at IS NULL) UNION ALL SELECT c.message_id, c.run_id \
         FROM communication c JOIN record r ON r.id = c.record_id WHERE r.erasure_completed_at IS NOT NULL AND c.to_address <> ''",
    ),
    (
        // What people wrote from within a campaign's run decides nothing about its recipients.
        "the outcome of a recipient matches its message",
        "SELECT COUNT(*) FROM run_record WHERE outcome IN ('SENT', 'UNKNOWN')",
        "SELECT c.message_id FROM communication c JOIN run_record p ON p.id = c.run_record_id WHERE \
         (c.occasion = 0 OR c.campaign_id IS NULL) AND ((c.status = 'SENT' AND p.outcome IN ('SKIPPED', 'SUPPRESSED', 'DONE') AND NOT (p.outcome = 'SKIPPED' \
         AND p.reason IS NOT NULL \
         AND (p.reason LIKE 'NO_ADDRESS%' OR p.reason LIKE 'DUPLICATE_ADDRESS%' OR p.reason LIKE 'RUN_CANCELLED%') \
         AND NOT EXISTS (SELECT 1 FROM step s WHERE s.id = c.step_id AND s.kind <> 'email'))) OR \
         (c.status = 'SENT' AND p.outcome = 'FAILED' AND NOT EXISTS (SELECT 1 FROM step s WHERE s.run_record_id = p.id \
         AND s.status = 'FAILED') AND EXISTS (SELECT 1 FROM run r WHERE r.id = p.run_id AND r.status = 'COMPLETED')) OR \
         (c.status = 'UNKNOWN' AND p.outcome <> 'UNKNOWN') OR (p.outcome = 'SENT' AND c.channel <> 'PHONE' \
         AND NOT EXISTS (SELECT 1 FROM communication o WHERE o.run_record_id = p.id AND o.status = 'SENT' \
         AND (o.occasion = 0 OR o.campaign_id IS NULL))))",
    ),
    (
        "only a step in progress has a lease, and its failures stay within its attempts",
        "SELECT COUNT(*) FROM step",
        "SELECT key FROM step WHERE (lease_owner IS NOT NULL AND (status <> 'IN_PROGRESS' OR lease_expires_at IS NULL)) \
         OR failure_count > max_attempts OR attempt_count < failure_count",
    ),
    (
        "an open step is assigned to a member or agent that exists, or to nobody",
        "SELECT COUNT(*) FROM step WHERE assignee_id IS NOT NULL",
        "SELECT s.name FROM step s WHERE s.assignee_id IS NOT NULL \
         AND s.status IN ('PENDING', 'QUEUED', 'IN_PROGRESS', 'AWAITING_APPROVAL') \
         AND NOT EXISTS (SELECT 1 FROM member m WHERE m.id = s.assignee_id AND m.org_id = s.org_id) \
         AND NOT EXISTS (SELECT 1 FROM agent a WHERE a.id = s.assignee_id AND a.org_id = s.org_id)",
    ),
    (
        "an occurrence that fell due was fired once, with its run",
        "SELECT COUNT(*) FROM run WHERE schedule_id IS NOT NULL",
        "SELECT r.name FROM run r WHERE r.schedule_id IS NOT NULL AND r.status NOT IN ('SCHEDULED', 'CANCELLED') \
         AND (SELECT COUNT(*) FROM event e WHERE e.run_id = r.id AND e.kind = 'schedule.fired') <> 1",
    ),
    (
        "a live schedule has scheduled runs, an ended one none",
        "SELECT COUNT(*) FROM schedule",
        "SELECT s.status FROM schedule s WHERE EXISTS (SELECT 1 FROM run r WHERE r.schedule_id = s.id AND r.status = 'SCHEDULED') \
         <> (s.status <> 'ENDED')",
    ),
    (
        "the next time of a schedule is that of its first run that waits for its time; none while it is paused",
        "SELECT COUNT(*) FROM schedule",
        "SELECT s.status FROM schedule s WHERE (s.status <> 'ACTIVE' AND s.next_at IS NOT NULL) OR (s.status = 'ACTIVE' \
         AND s.next_at IS DISTINCT FROM (SELECT MIN(r.scheduled_for) FROM run r WHERE r.schedule_id = s.id AND r.status = 'SCHEDULED' \
         AND r.buffered_at IS NULL))",
    ),
    (
        "a schedule without starts left has ended, and only a paused one has an end of its pause",
        "SELECT COUNT(*) FROM schedule",
        "SELECT s.status FROM schedule s WHERE (s.remaining = 0 AND s.status <> 'ENDED') \
         OR (s.paused_until IS NOT NULL AND s.status <> 'PAUSED') OR s.end_at < s.start_at",
    ),
    (
        "a run that makes up for a past time, or waits for an earlier run, has a schedule",
        "SELECT COUNT(*) FROM run WHERE backfill_for IS NOT NULL OR buffered_at IS NOT NULL",
        "SELECT r.name FROM run r WHERE (r.backfill_for IS NOT NULL OR r.buffered_at IS NOT NULL) \
         AND (r.schedule_id IS NULL OR (r.backfill_for IS NOT NULL AND r.occurrence_at IS NOT NULL))",
    ),
    (
        "messages in flight that people sent are counted on their run",
        "SELECT COUNT(*) FROM run",
        "SELECT r.name FROM run r WHERE r.on_way <> (SELECT COUNT(*) FROM communication c WHERE c.run_id = r.id \
         AND c.occasion > 0 AND (c.status = 'UNKNOWN' OR EXISTS (SELECT 1 FROM posting p WHERE p.communication_id = c.id)))",
    ),
    (
        "each email that a person sent has one activity",
        "SELECT COUNT(*) FROM activity WHERE kind = 'EMAIL_SENT'",
        "SELECT r.name FROM run r WHERE (SELECT COUNT(*) FROM activity a WHERE a.run_id = r.id \
         AND a.kind = 'EMAIL_SENT') <> (SELECT COUNT(*) FROM communication c WHERE c.run_id = r.id AND c.occasion > 0 \
         AND c.meeting_id IS NULL AND c.status = 'SENT' \
         AND NOT EXISTS (SELECT 1 FROM posting p WHERE p.communication_id = c.id))",
    ),
    (
        "an idempotency key names what it created",
        "SELECT COUNT(*) FROM idempotency_key",
        "SELECT mutation FROM idempotency_key WHERE made IS NULL",
    ),
];

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut all = run(snapshot, RULES).await?;
    all.push(tenancy(snapshot).await?);
    all.push(integrity(snapshot).await?);
    Ok(all)
}

/// Checks rules.
pub(super) async fn run(snapshot: &CheckedSnapshot, rules: &[Rule<'_>]) -> Result<Vec<Violations>> {
    let mut all = Vec::new();
    for (what, count, wrong) in rules {
        let mut found = Violations::new(what);
        found.looked_at = snapshot.count(count).await?;
        for row in snapshot.all(wrong).await? {
            if row.column_names().len() > 1 && snapshot.has_seeded(&row, 1)? {
                continue;
            }
            found.wrong += 1;
            if found.examples.len() < super::EXAMPLES {
                found.examples.push(row.try_get_by_index::<String>(0)?);
            }
        }
        all.push(found);
    }
    Ok(all)
}

/// Checks for every foreign key of the schema that no row refers to another org's row.
async fn tenancy(snapshot: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("no row refers to another org's row, for every foreign key");
    let keys = match snapshot.dialect {
        Dialect::Postgres => {
            "SELECT c.conrelid::regclass::text, a.attname::text, c.confrelid::regclass::text FROM pg_constraint c \
             JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1] WHERE c.contype = 'f' \
             AND EXISTS (SELECT 1 FROM pg_attribute o WHERE o.attrelid = c.conrelid AND o.attname = 'org_id') \
             AND EXISTS (SELECT 1 FROM pg_attribute o WHERE o.attrelid = c.confrelid AND o.attname = 'org_id')"
        }
        Dialect::Sqlite => {
            "SELECT m.name, f.\"from\", f.\"table\" FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f \
             WHERE m.type = 'table' AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) i WHERE i.name = 'org_id') \
             AND EXISTS (SELECT 1 FROM pragma_table_info(f.\"table\") i WHERE i.name = 'org_id')"
        }
    };
    let platform = match snapshot.dialect {
        Dialect::Postgres => format!("'{}'", PLATFORM.0),
        Dialect::Sqlite => format!("x'{}'", PLATFORM.0.simple()),
    };
    for row in snapshot.all(keys).await? {
        let mut names = [String::new(), String::new(), String::new()];
        for (i, name) in names.iter_mut().enumerate() {
            *name = row.try_get_by_index(i)?;
        }
        let [table, column, other] = names;
        // The platform's templates are shared by all orgs.
        let shared = if other == "run_template" { format!(" AND p.org_id <> {platform}") } else { String::new() };
        let sql = format!(
            "SELECT COUNT(*) FROM {table} c JOIN {other} p ON p.id = c.{column} WHERE c.org_id <> p.org_id{shared}"
        );
        let crossing = snapshot.count(&sql).await?;
        found.record(crossing == 0, || format!("{crossing} rows by {table}.{column} → {other}"));
    }
    Ok(found)
}

/// Runs the database's own checks.
async fn integrity(snapshot: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("the database's own checks pass");
    match snapshot.dialect {
        Dialect::Sqlite => {
            for row in snapshot.all("PRAGMA integrity_check").await? {
                let report: String = row.try_get_by_index(0)?;
                found.record(report == "ok", || report.clone());
            }
            let dangling = snapshot.all("PRAGMA foreign_key_check").await?.len();
            found.record(dangling == 0, || format!("{dangling} foreign keys refer to missing rows"));
        }
        Dialect::Postgres => {
            let sql = "SELECT COUNT(*) FROM pg_constraint c JOIN pg_namespace n ON n.oid = c.connamespace \
                       WHERE n.nspname = 'public' AND NOT c.convalidated";
            let open = snapshot.count(sql).await?;
            found.record(open == 0, || format!("{open} constraints are not validated"));
            let broken = snapshot.count("SELECT COUNT(*) FROM pg_index WHERE NOT indisvalid").await?;
            found.record(broken == 0, || format!("{broken} indexes are not valid"));
        }
    }
    Ok(found)
}
