//! Checks that columns agree with each other: those of one row, and those that say the same as a row
//! they refer to.

use entity::step::StepReason;

use super::rows::{Rule, run};
use super::{CheckedSnapshot, Violations};
use crate::kernel::error::Result;
use crate::kernel::limits;

const RULES: &[Rule] = &[
    (
        "each step belongs to the phase and run of its task, and to the run and record of its recipient",
        "SELECT COUNT(*) FROM step",
        "SELECT s.key, s.run_id FROM step s JOIN task t ON t.id = s.task_id JOIN phase h ON h.id = t.phase_id \
         LEFT JOIN run_record p ON p.id = s.run_record_id WHERE s.run_id <> t.run_id OR s.phase_id <> t.phase_id \
         OR h.run_id <> t.run_id OR p.run_id <> s.run_id OR p.record_id <> s.record_id",
    ),
    (
        "each message belongs to the run of its step and of its recipient",
        "SELECT COUNT(*) FROM communication",
        "SELECT c.to_address, c.run_id FROM communication c JOIN step s ON s.id = c.step_id \
         JOIN run_record p ON p.id = c.run_record_id WHERE c.run_id <> s.run_id OR c.run_id <> p.run_id",
    ),
    (
        "an active campaign has an approved version, one of those that it had",
        "SELECT COUNT(*) FROM campaign WHERE status = 'ACTIVE'",
        "SELECT name, id FROM campaign WHERE status = 'ACTIVE' AND (approved_version IS NULL OR approved_version > version)",
    ),
    (
        "a campaign has the time at which it first became active, and the time of its end if it has ended",
        "SELECT COUNT(*) FROM campaign",
        "SELECT name, id FROM campaign WHERE (status IN ('ACTIVE', 'PAUSED', 'COMPLETED', 'FAILED') AND started_at IS NULL) \
         OR (status IN ('DRAFT', 'PENDING_APPROVAL') AND started_at IS NOT NULL) \
         OR (status IN ('COMPLETED', 'FAILED', 'CANCELLED')) <> (completed_at IS NOT NULL)",
    ),
    (
        "a sent message has the time at which it was sent",
        "SELECT COUNT(*) FROM communication WHERE status = 'SENT'",
        "SELECT to_address, run_id FROM communication WHERE status = 'SENT' AND sent_at IS NULL",
    ),
    (
        "a step that has ended says when, and by whom",
        "SELECT COUNT(*) FROM step WHERE status IN ('COMPLETED', 'SKIPPED', 'FAILED')",
        "SELECT key, run_id FROM step WHERE status IN ('COMPLETED', 'SKIPPED', 'FAILED') \
         AND (completed_at IS NULL OR completed_by IS NULL)",
    ),
    (
        "a reply that is handled or ignored says when, and by whom; an open one does not",
        "SELECT COUNT(*) FROM reply",
        "SELECT r.status, r.run_id FROM reply r WHERE (r.status = 'OPEN') <> (r.handled_at IS NULL) \
         OR (r.status = 'OPEN') <> (r.handled_by IS NULL)",
    ),
    (
        "a reply and the follow-up that was created for it are open or closed alike",
        "SELECT COUNT(*) FROM reply WHERE follow_up_id IS NOT NULL",
        "SELECT r.status, r.run_id FROM reply r JOIN follow_up f ON f.id = r.follow_up_id \
         WHERE f.run_id <> r.run_id OR (r.status = 'OPEN') <> (f.status = 'OPEN')",
    ),
    (
        "the step that handles a reply belongs to its run",
        "SELECT COUNT(*) FROM reply WHERE step_id IS NOT NULL",
        "SELECT r.status, r.run_id FROM reply r JOIN step s ON s.id = r.step_id WHERE s.run_id <> r.run_id",
    ),
    (
        "a run has the time at which it ended, if it has ended",
        "SELECT COUNT(*) FROM run",
        "SELECT name, id FROM run WHERE (status IN ('COMPLETED', 'FAILED', 'CANCELLED')) <> (ended_at IS NOT NULL)",
    ),
    (
        "a note carries the campaign and the goal of its run",
        "SELECT COUNT(*) FROM run_note",
        "SELECT n.belongs_to, n.run_id FROM run_note n JOIN run r ON r.id = n.run_id \
         WHERE n.campaign_id IS DISTINCT FROM r.campaign_id OR n.goal_id IS DISTINCT FROM r.goal_id",
    ),
    (
        "a link joins two records that are not erased",
        "SELECT COUNT(*) FROM record_link",
        "SELECT l.role FROM record_link l JOIN record f ON f.id = l.from_id JOIN record t ON t.id = l.to_id \
         WHERE f.erased_at IS NOT NULL OR t.erased_at IS NOT NULL",
    ),
    (
        "the audience of a run, once it is complete, has as many recipients as the run says",
        "SELECT COUNT(*) FROM run WHERE audience_done",
        "SELECT r.name, r.id FROM run r WHERE r.audience_done \
         AND r.audience_count <> (SELECT COUNT(*) FROM run_record p WHERE p.run_id = r.id)",
    ),
    (
        "the counts of a bulk action are those of its results, which its targets get in order",
        "SELECT COUNT(*) FROM bulk_action",
        "SELECT b.verb FROM bulk_action b WHERE b.matched <> (SELECT COUNT(*) FROM bulk_result r WHERE r.bulk_action_id = b.id) \
         OR b.done <> (SELECT COUNT(*) FROM bulk_result r WHERE r.bulk_action_id = b.id AND r.status = 'DONE') \
         OR b.refused <> (SELECT COUNT(*) FROM bulk_result r WHERE r.bulk_action_id = b.id AND r.status = 'REFUSED') \
         OR b.failed <> (SELECT COUNT(*) FROM bulk_result r WHERE r.bulk_action_id = b.id AND r.status = 'FAILED') \
         OR EXISTS (SELECT 1 FROM bulk_result r WHERE r.bulk_action_id = b.id \
         AND (r.status = 'PENDING') <> (r.sequence > b.done + b.refused + b.failed)) \
         OR (b.status = 'COMPLETED' AND b.matched <> b.done + b.refused + b.failed) \
         OR (b.status IN ('COMPLETED', 'STOPPED')) <> (b.ended_at IS NOT NULL)",
    ),
    (
        "occurrences that did not start are counted: one if the first is the last, else more",
        "SELECT COUNT(*) FROM unfired",
        "SELECT u.reason FROM unfired u WHERE u.count < 1 \
         OR (u.reason <> 'NO_SUCH_LOCAL_TIME' AND (u.count = 1) <> (u.first_at = u.last_at))",
    ),
];

pub(super) async fn check(snapshot: &CheckedSnapshot) -> Result<Vec<Violations>> {
    let mut all = run(snapshot, RULES).await?;
    let reasons: Vec<String> = StepReason::all().iter().map(|reason| format!("'{reason}'")).collect();
    let skipped = format!(
        "SELECT key, run_id FROM step WHERE (status = 'SKIPPED' AND reason IS NULL) OR reason NOT IN ({})",
        reasons.join(", ")
    );
    let rule = (
        "a skipped step has the code of its reason, and every code is known",
        "SELECT COUNT(*) FROM step WHERE status = 'SKIPPED' OR reason IS NOT NULL",
        skipped.as_str(),
    );
    all.extend(run(snapshot, &[rule]).await?);
    all.push(imports(snapshot).await?);
    Ok(all)
}

/// Checks that running imports have shown a sign of life: those of a process that has ended are
/// ended by the server within minutes, or when it starts again.
async fn imports(snapshot: &CheckedSnapshot) -> Result<Violations> {
    let mut found = Violations::new("a running import has a process that works on it");
    for row in snapshot.all("SELECT file, alive_at, ended_at FROM import WHERE status = 'RUNNING'").await? {
        let file: String = row.try_get_by_index(0)?;
        let alive: Option<chrono::DateTime<chrono::Utc>> = row.try_get_by_index(1)?;
        let ended: Option<chrono::DateTime<chrono::Utc>> = row.try_get_by_index(2)?;
        let lives = alive.is_some_and(|at| snapshot.now - at <= limits::IMPORT_SILENT * 6);
        found.record(lives && ended.is_none(), || {
            let since = alive.map_or_else(|| "its beginning".to_owned(), |at| at.to_rfc3339());
            format!("{file}, without a sign of life since {since}; start the server, which ends it")
        });
    }
    Ok(found)
}
