//! Adds guided runs: runs without a campaign, the activities in them, and the record data that they
//! show.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseBackend;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    /// All or nothing: on SQLite tables are rebuilt.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DatabaseBackend::Postgres => {
                for table in PLANNED {
                    crate::run(manager, &format!("ALTER TABLE {table} ALTER COLUMN campaign_id DROP NOT NULL;\n"))
                        .await?;
                }
                crate::replace_check_values(manager, "run", "type", WITHOUT, WITH).await?;
            }
            _ => {
                crate::rebuild_table(
                    manager,
                    "run",
                    &format!("{MUST}{BETWEEN}{WITHOUT}"),
                    &format!("{MAY}{BETWEEN}{WITH}"),
                )
                .await?;
                for table in &PLANNED[1..] {
                    crate::rebuild_table(manager, table, MUST, MAY).await?;
                }
            }
        }
        crate::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, GONE).await?;
        let sqlite = manager.get_database_backend() == DatabaseBackend::Sqlite;
        if sqlite {
            // A column with a foreign key or a CHECK can't be dropped.
            for (table, refers, plain) in REFERENCES {
                crate::rebuild_table(manager, table, refers, plain).await?;
            }
        }
        crate::run(manager, DOWN).await?;
        if sqlite {
            crate::rebuild_table(
                manager,
                "run",
                &format!("{MAY}{BETWEEN}{WITH}"),
                &format!("{MUST}{BETWEEN}{WITHOUT}"),
            )
            .await?;
            for table in &PLANNED[1..] {
                crate::rebuild_table(manager, table, MAY, MUST).await?;
            }
            return Ok(());
        }
        for table in PLANNED {
            crate::run(manager, &format!("ALTER TABLE {table} ALTER COLUMN campaign_id SET NOT NULL;\n")).await?;
        }
        crate::replace_check_values(manager, "run", "type", WITH, WITHOUT).await
    }
}

/// Tables with a campaign, which guided work does not have.
const PLANNED: [&str; 4] = ["run", "communication", "reply", "schedule"];

const MUST: &str = "campaign_id {uuid} NOT NULL REFERENCES campaign (id)";
const MAY: &str = "campaign_id {uuid} REFERENCES campaign (id)";
const BETWEEN: &str = ", campaign_version {int} NOT NULL,
    campaign_name {text} NOT NULL, name {text} NOT NULL,
    ";
const WITHOUT: &str = "type {text} NOT NULL CHECK (type IN ('TEST_RUN', 'RUN', 'SCHEDULE'))";
const WITH: &str = "type {text} NOT NULL CHECK (type IN ('TEST_RUN', 'RUN', 'SCHEDULE', 'GUIDED'))";

const REFERENCES: &[(&str, &str, &str)] = &[
    ("run", "run_template_id {uuid} REFERENCES run_template (id)", "run_template_id {uuid}"),
    (
        "schedule",
        "run_template_id {uuid} REFERENCES run_template (id) CHECK ((run_template_id IS NULL) <> (campaign_id IS NULL))",
        "run_template_id {uuid}",
    ),
    ("schedule", "assignee_id {uuid} REFERENCES member (id)", "assignee_id {uuid}"),
    ("communication", "meeting_id {uuid} REFERENCES meeting (id)", "meeting_id {uuid}"),
    ("run_template", "kind {text} NOT NULL DEFAULT 'CAMPAIGN' CHECK (kind IN ('CAMPAIGN', 'GUIDED'))", "kind {text}"),
];

const UP: &str = "
ALTER TABLE run_template ADD COLUMN kind {text} NOT NULL DEFAULT 'CAMPAIGN' CHECK (kind IN ('CAMPAIGN', 'GUIDED'));
ALTER TABLE run ADD COLUMN run_template_id {uuid} REFERENCES run_template (id);
ALTER TABLE run ADD COLUMN description {text} NOT NULL DEFAULT '';
ALTER TABLE run ADD COLUMN on_way {long} NOT NULL DEFAULT 0;
CREATE INDEX run_of_template ON run (run_template_id, id) WHERE run_template_id IS NOT NULL;
ALTER TABLE run_record ADD COLUMN linked {bool} NOT NULL DEFAULT FALSE;
ALTER TABLE step ADD COLUMN started_by {json};
ALTER TABLE schedule ADD COLUMN run_template_id {uuid} REFERENCES run_template (id) CHECK ((run_template_id IS NULL) <> (campaign_id IS NULL));
ALTER TABLE schedule ADD COLUMN assignee_id {uuid} REFERENCES member (id);
ALTER TABLE schedule ADD COLUMN linked {json};
ALTER TABLE record ADD COLUMN priority {int} NOT NULL DEFAULT 0;
ALTER TABLE record ADD COLUMN last_replied_at {time};
CREATE INDEX record_of_kind_by_contact ON record (org_id, kind, (COALESCE(last_contacted_at, {before_all})), id);
CREATE INDEX record_of_kind_by_priority ON record (org_id, kind, priority, id);
CREATE INDEX record_of_kind_by_stage ON record (org_id, kind, stage, priority, id);
CREATE INDEX record_of_kind_by_age ON record (org_id, kind, created_at, id);
CREATE INDEX record_of_kind_by_reply ON record (org_id, kind, last_replied_at, id) WHERE last_replied_at IS NOT NULL;
CREATE TABLE stage (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), record_kind {text} NOT NULL,
    name {text} NOT NULL, sequence {int} NOT NULL, created_at {time} NOT NULL,
    UNIQUE (org_id, record_kind, name)
);
CREATE TABLE meeting (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    step_id {uuid} NOT NULL REFERENCES step (id), title {text} NOT NULL, description {text} NOT NULL,
    location {text} NOT NULL, starts_at {time} NOT NULL, ends_at {time} NOT NULL, time_zone {text} NOT NULL,
    attendees {json} NOT NULL, organizer {json} NOT NULL, member_id {uuid} REFERENCES member (id),
    status {text} NOT NULL CHECK (status IN ('BOOKED', 'CANCELLED')), sequence {int} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL,
    CHECK (ends_at > starts_at)
);
CREATE INDEX meeting_by_start ON meeting (org_id, starts_at, id);
CREATE INDEX meeting_by_run ON meeting (run_id, id);
CREATE TABLE follow_up (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    step_id {uuid} NOT NULL REFERENCES step (id), record_id {uuid} REFERENCES record (id),
    title {text} NOT NULL, note {text} NOT NULL, due_at {time}, assignee_id {uuid} REFERENCES member (id),
    status {text} NOT NULL CHECK (status IN ('OPEN', 'DONE', 'CANCELLED')),
    overdue_at {time}, closed_at {time}, closed_by {json}, created_by {json} NOT NULL,
    created_at {time} NOT NULL, updated_at {time} NOT NULL, revision {int} NOT NULL
);
CREATE INDEX follow_up_by_org ON follow_up (org_id, id);
CREATE INDEX follow_up_by_run ON follow_up (run_id, id);
CREATE INDEX follow_up_by_record ON follow_up (record_id, id) WHERE record_id IS NOT NULL;
CREATE INDEX follow_up_of_assignee ON follow_up (assignee_id, id) WHERE assignee_id IS NOT NULL;
CREATE INDEX follow_up_due ON follow_up (due_at) WHERE due_at IS NOT NULL AND overdue_at IS NULL AND status = 'OPEN';
CREATE TABLE activity (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id), run_id {uuid} NOT NULL REFERENCES run (id),
    step_id {uuid} NOT NULL REFERENCES step (id), record_id {uuid} REFERENCES record (id),
    kind {text} NOT NULL CHECK (kind IN ('EMAIL_SENT', 'STAGE_CHANGED', 'MEETING_BOOKED', 'MEETING_MOVED',
        'MEETING_CANCELLED', 'FOLLOW_UP_CREATED', 'FOLLOW_UP_DONE', 'NOTE', 'RECORD_CREATED')),
    summary {text} NOT NULL, details {json} NOT NULL, actor {json} NOT NULL, at {time} NOT NULL
);
CREATE INDEX activity_by_run ON activity (run_id, id);
CREATE INDEX activity_by_step ON activity (step_id, kind);
CREATE INDEX activity_by_record ON activity (record_id, id) WHERE record_id IS NOT NULL;
CREATE INDEX activity_by_org ON activity (org_id, id);
ALTER TABLE communication ADD COLUMN meeting_id {uuid} REFERENCES meeting (id);
ALTER TABLE communication ADD COLUMN calendar {text};
CREATE INDEX communication_by_record ON communication (record_id, id) WHERE record_id IS NOT NULL;
CREATE INDEX reply_by_record ON reply (record_id, id) WHERE record_id IS NOT NULL;
CREATE INDEX event_of_stages ON event (record_id, at) WHERE kind = 'record.stage_changed';
CREATE TABLE posting (
    communication_id {uuid} PRIMARY KEY REFERENCES communication (id), org_id {uuid} NOT NULL REFERENCES org (id),
    run_id {uuid} NOT NULL REFERENCES run (id), step_id {uuid} NOT NULL REFERENCES step (id),
    actor {json} NOT NULL, available_at {time} NOT NULL, attempt {int} NOT NULL, failures {int} NOT NULL,
    lease_owner {text}, lease_expires_at {time}
);
CREATE INDEX posting_due ON posting (available_at, communication_id);
CREATE INDEX posting_by_step ON posting (step_id);
";

// Rows of guided work are deleted, because the previous schema can't hold them.
const GONE: &str = "
DROP TABLE posting;
DROP INDEX event_of_stages;
DROP INDEX reply_by_record;
DROP INDEX communication_by_record;
DROP TABLE activity;
DROP TABLE follow_up;
DELETE FROM reply WHERE campaign_id IS NULL;
DELETE FROM communication WHERE campaign_id IS NULL;
DELETE FROM sweep WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
DELETE FROM step WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
DELETE FROM task WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
DELETE FROM phase WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
DELETE FROM run_record WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
DELETE FROM brief WHERE run_id IN (SELECT id FROM run WHERE campaign_id IS NULL);
UPDATE communication SET meeting_id = NULL;
DELETE FROM meeting;
DELETE FROM run WHERE campaign_id IS NULL;
DELETE FROM schedule WHERE campaign_id IS NULL;
DELETE FROM run_template WHERE kind = 'GUIDED' AND base_id IS NOT NULL;
DELETE FROM run_template WHERE kind = 'GUIDED';
";

const DOWN: &str = "
ALTER TABLE communication DROP COLUMN calendar;
ALTER TABLE communication DROP COLUMN meeting_id;
DROP TABLE meeting;
DROP TABLE stage;
DROP INDEX record_of_kind_by_reply;
DROP INDEX record_of_kind_by_age;
DROP INDEX record_of_kind_by_stage;
DROP INDEX record_of_kind_by_priority;
DROP INDEX record_of_kind_by_contact;
ALTER TABLE record DROP COLUMN last_replied_at;
ALTER TABLE record DROP COLUMN priority;
ALTER TABLE schedule DROP COLUMN linked;
ALTER TABLE schedule DROP COLUMN assignee_id;
ALTER TABLE schedule DROP COLUMN run_template_id;
ALTER TABLE step DROP COLUMN started_by;
ALTER TABLE run_record DROP COLUMN linked;
DROP INDEX run_of_template;
ALTER TABLE run DROP COLUMN on_way;
ALTER TABLE run DROP COLUMN description;
ALTER TABLE run DROP COLUMN run_template_id;
ALTER TABLE run_template DROP COLUMN kind;
";
