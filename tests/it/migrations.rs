//! Migrations go up, down and up again, and bear being run twice.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, Statement};

use crate::harness::{Kind, place};

both! {
    async fn up_down_up(kind) {
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        let tables = async || {
            let sql = match kind {
                Kind::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'seaql%' AND name NOT LIKE 'sqlite%'",
                Kind::Postgres => "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'seaql%'",
            };
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
            row.try_get_by_index::<i64>(0).unwrap()
        };
        Migrator::up(&db, None).await.unwrap();
        let all = tables().await;
        assert!(all > 40, "{all}");
        Migrator::up(&db, None).await.unwrap();
        Migrator::down(&db, None).await.unwrap();
        assert_eq!(tables().await, 0);
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(tables().await, all);
        // A crash inside the first step leaves it half done and not noted down: it is run again, and finds its way. The
        // later ones are all or nothing; what is there stays, with all that refers to it.
        Migrator::down(&db, None).await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        db.execute_unprepared("DELETE FROM seaql_migrations").await.unwrap();
        db.execute_unprepared("DROP TABLE import_seen").await.unwrap();
        for statement in LIFE.split(";\n").filter(|statement| !statement.trim().is_empty()) {
            let mut statement = statement.to_owned();
            while let Some(at) = statement.find('#') {
                let number = &statement[at + 1..at + 3];
                let id = format!("0193000000007000800000000000000{}", number.trim_start_matches('0'));
                let id = if kind == Kind::Sqlite { format!("x'{id}'") } else { format!("'{id}'") };
                statement.replace_range(at..at + 3, &id);
            }
            db.execute_unprepared(&statement).await.unwrap();
        }
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(tables().await, all);
        let kept = async || {
            let sql = "SELECT COUNT(*) FROM reply r JOIN communication c ON c.id = r.communication_id JOIN run_record p ON p.id = c.run_record_id JOIN sweep w ON w.run_id = p.run_id WHERE c.status = 'SENT'";
            let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap().unwrap();
            row.try_get_by_index::<i64>(0).unwrap()
        };
        assert_eq!(kept().await, 1);
        db.execute_unprepared("UPDATE communication SET status = 'SUPPRESSED'").await.unwrap();
        db.execute_unprepared("UPDATE communication SET status = 'NONSENSE'").await.unwrap_err();
        db.execute_unprepared("UPDATE communication SET status = 'SENT'").await.unwrap();
        // Back to what the first step made.
        let later = u32::try_from(Migrator::migrations().len()).unwrap() - 1;
        Migrator::down(&db, Some(later)).await.unwrap();
        assert_eq!(kept().await, 1);
        db.execute_unprepared("UPDATE communication SET status = 'SUPPRESSED'").await.unwrap_err();
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// One row in each table of a run's life, as the first step of the schema has them; `#07` is an id.
const LIFE: &str = "
INSERT INTO org VALUES (#01, 'o', '2026-01-01T00:00:00+00:00');
INSERT INTO event_counter VALUES (#01, 0);
INSERT INTO campaign (id, org_id, name, description, channel, status, instructions, variables, version, created_by, search, created_at, updated_at, revision) VALUES (#02, #01, 'c', '', 'EMAIL', 'ACTIVE', '', '{}', 1, '{}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1);
INSERT INTO run (id, org_id, campaign_id, campaign_version, campaign_name, name, type, status, channel, definition, instructions, audience_count, audience_done, created_by, search, created_at, updated_at, revision) VALUES (#03, #01, #02, 1, 'c', 'r', 'RUN', 'IN_PROGRESS', 'EMAIL', '{}', '{}', 1, TRUE, '{}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1);
INSERT INTO run_record (id, org_id, run_id) VALUES (#04, #01, #03);
INSERT INTO phase (id, org_id, run_id, key, name, sequence, status, autonomous, interrupt_events, revision) VALUES (#05, #01, #03, 'p', 'p', 0, 'ACTIVE', TRUE, '[]', 1);
INSERT INTO task (id, org_id, run_id, phase_id, key, name, sequence, status, fan_out, fan_out_begun, fan_out_done, fail_when, depends_on, pending, queued, in_progress, awaiting_approval, completed, skipped, failed) VALUES (#06, #01, #03, #05, 't', 't', 0, 'IN_PROGRESS', TRUE, TRUE, TRUE, '{}', '[]', 0, 0, 0, 0, 1, 0, 0);
INSERT INTO step (id, org_id, run_id, phase_id, task_id, run_record_id, key, name, kind, sequence, status, trigger, assigned_to, available_at, attempt_count, failure_count, max_attempts, lapse_count, created_at, revision) VALUES (#07, #01, #03, #05, #06, #04, 's', 's', 'send_message', 0, 'COMPLETED', 'immediate', 'WORKFLOW', '2026-01-01T00:00:00+00:00', 1, 0, 5, 0, '2026-01-01T00:00:00+00:00', 1);
INSERT INTO communication (id, org_id, campaign_id, run_id, step_id, run_record_id, occasion, channel, to_address, to_name, body, status, test, message_id, created_at, updated_at, revision) VALUES (#08, #01, #02, #03, #07, #04, 0, 'EMAIL', 'a@b', 'a', '', 'SENT', FALSE, 'm', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1);
INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, channel, body, received_at, recorded_by, created_at) VALUES (#09, #01, #08, #02, #03, 'EMAIL', '', '2026-01-01T00:00:00+00:00', '{}', '2026-01-01T00:00:00+00:00');
INSERT INTO sweep (id, org_id, run_id, kind, actor, created_at) VALUES (#0a, #01, #03, 'CANCEL', '{}', '2026-01-01T00:00:00+00:00');
";
