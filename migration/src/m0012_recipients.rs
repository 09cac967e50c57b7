//! Adds opt-outs to the suppression list, stores the content of approvals, and fixes the record
//! list of started guided steps.

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
        let postgres = manager.get_database_backend() == DatabaseBackend::Postgres;
        if postgres {
            let drop = "ALTER TABLE suppression DROP CONSTRAINT suppression_org_id_channel_address_key_key;\n";
            crate::run(manager, drop).await?;
            crate::replace_check_values(manager, "activity", "kind", WITHOUT, WITH).await?;
        } else {
            crate::rebuild_table(manager, "suppression", UNIQUE, "").await?;
            crate::rebuild_table(manager, "activity", WITHOUT, WITH).await?;
        }
        crate::run(manager, UP).await?;
        // Existing opt-outs are added to the list, for each kind of address.
        let (id, now) = if postgres {
            ("gen_random_uuid()", "now()")
        } else {
            ("randomblob(16)", "strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')")
        };
        for (channel, column) in [("EMAIL", "email"), ("PHONE", "phone")] {
            let fill = format!(
                "INSERT INTO suppression (id, org_id, channel, address, address_key, reason, record_id, created_by, created_at) \
                 SELECT {id}, org_id, '{channel}', {column}, LOWER({column}), 'UNSUBSCRIBED', id, '{ENGINE}', {now} \
                 FROM record WHERE unsubscribed_at IS NOT NULL AND {column} IS NOT NULL;\n"
            );
            crate::run(manager, &fill).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::run(manager, DOWN).await?;
        if manager.get_database_backend() == DatabaseBackend::Postgres {
            let unique = "ALTER TABLE suppression ADD UNIQUE (org_id, channel, address_key);\n";
            crate::run(manager, unique).await?;
            crate::replace_check_values(manager, "activity", "kind", WITH, WITHOUT).await
        } else {
            let (last, with) = ("created_at {time} NOT NULL", format!("created_at {{time}} NOT NULL{UNIQUE}"));
            crate::rebuild_table(manager, "suppression", last, &with).await?;
            crate::rebuild_table(manager, "activity", WITH, WITHOUT).await
        }
    }
}

const UNIQUE: &str = ",
    UNIQUE (org_id, channel, address_key)";
const WITHOUT: &str = "'NOTE', 'RECORD_CREATED'))";
const WITH: &str = "'NOTE', 'RECORD_CREATED', 'CALL_MADE'))";
const ENGINE: &str = r#"{"kind": "ENGINE", "member_id": null, "name": "engine"}"#;

const UP: &str = "
ALTER TABLE suppression ADD COLUMN record_id {uuid};
CREATE UNIQUE INDEX suppression_listed ON suppression (org_id, channel, address_key) WHERE record_id IS NULL;
CREATE UNIQUE INDEX suppression_opted_out ON suppression (org_id, address_key, record_id) WHERE record_id IS NOT NULL;
CREATE INDEX suppression_by_address ON suppression (org_id, address_key);
CREATE INDEX suppression_by_record ON suppression (record_id) WHERE record_id IS NOT NULL;
ALTER TABLE communication ADD COLUMN again {bool} NOT NULL DEFAULT FALSE;
ALTER TABLE communication ADD COLUMN acted_by {json};
UPDATE communication SET again = TRUE WHERE occasion > 0;
ALTER TABLE campaign ADD COLUMN approved_version {int};
UPDATE campaign SET approved_version = version WHERE approved_at IS NOT NULL;
CREATE TABLE campaign_approval (
    id {uuid} PRIMARY KEY, org_id {uuid} NOT NULL REFERENCES org (id),
    campaign_id {uuid} NOT NULL REFERENCES campaign (id), version {int} NOT NULL, approved {json} NOT NULL,
    actor {json} NOT NULL, created_at {time} NOT NULL
);
CREATE INDEX campaign_approval_by_campaign ON campaign_approval (campaign_id, id);
CREATE TABLE step_about (
    step_id {uuid} PRIMARY KEY REFERENCES step (id), org_id {uuid} NOT NULL REFERENCES org (id),
    records {json} NOT NULL, created_at {time} NOT NULL
);
CREATE INDEX run_by_parent ON run (parent_id) WHERE parent_id IS NOT NULL;
";

const DOWN: &str = "
DROP INDEX run_by_parent;
DROP TABLE step_about;
DROP TABLE campaign_approval;
ALTER TABLE campaign DROP COLUMN approved_version;
ALTER TABLE communication DROP COLUMN acted_by;
ALTER TABLE communication DROP COLUMN again;
DELETE FROM activity WHERE kind = 'CALL_MADE';
DROP INDEX suppression_by_record;
DROP INDEX suppression_by_address;
DROP INDEX suppression_opted_out;
DROP INDEX suppression_listed;
DELETE FROM suppression WHERE record_id IS NOT NULL;
ALTER TABLE suppression DROP COLUMN record_id;
";
