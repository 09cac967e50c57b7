//! Adds reason codes of steps; those of existing rows are derived from their sentences once, here.
//! Cancelled runs with open phases get a sweep, which closes them and emits their events.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await
    }
}

const UP: &str = "
ALTER TABLE step ADD COLUMN reason {text};

UPDATE step SET reason = CASE
    WHEN error LIKE 'it waited for %, which was skipped' THEN 'WAITED_FOR_SKIPPED'
    WHEN error LIKE 'it waited for %, which failed' THEN 'WAITED_FOR_FAILED'
    WHEN error LIKE 'left out by %' THEN 'LEFT_OUT_BY_DECISION'
    WHEN error LIKE 'event:% did not come' THEN 'EVENT_DID_NOT_COME'
    WHEN error LIKE 'its condition does not hold: %' THEN 'CONDITION_FALSE'
    WHEN error LIKE 'its condition can''t be judged: %' THEN 'CONDITION_UNREADABLE'
    WHEN error LIKE 'done in run_%' THEN 'CARRIED_OVER'
    WHEN error LIKE 'interrupted by %' THEN 'INTERRUPTED'
    WHEN error = 'RUN_CANCELLED' OR error LIKE 'the run was cancelled%' THEN 'RUN_CANCELLED'
    WHEN error = 'there is nothing to review' THEN 'NOTHING_TO_REVIEW'
    WHEN error = 'a test run skips the review unless it is asked for' THEN 'REVIEW_NOT_ASKED'
    WHEN error = 'UNSUBSCRIBED' OR error LIKE 'SUPPRESSED%' THEN 'SUPPRESSED'
    WHEN error LIKE 'its message is %' OR error = 'there is no message for this record' THEN 'NO_MESSAGE'
    ELSE 'PERSON' END
WHERE status = 'SKIPPED' AND error IS NOT NULL;

UPDATE step SET reason = CASE WHEN error LIKE 'LEASE_LOST%' THEN 'LEASE_LOST' ELSE 'WORK_FAILED' END
WHERE status = 'FAILED' AND error IS NOT NULL;

INSERT INTO sweep (id, org_id, run_id, task_id, kind, last_key, actor, reason, detail, created_at)
SELECT r.id, r.org_id, r.id, NULL, 'CANCEL', NULL, r.created_by, 'the run was cancelled', NULL, r.updated_at
FROM run r WHERE r.status = 'CANCELLED'
AND EXISTS (SELECT 1 FROM phase p WHERE p.run_id = r.id AND p.status IN ('ACTIVE', 'PENDING'))
AND NOT EXISTS (SELECT 1 FROM sweep s WHERE s.run_id = r.id AND s.kind = 'CANCEL');
";

const DOWN: &str = "
ALTER TABLE step DROP COLUMN reason;
";
