//! Migrations run up, down and up again, and tolerate being run twice.

use migration::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};

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
        // A crash inside the first migration leaves it half done and unrecorded: it runs again and
        // completes. The later ones are all or nothing; what is there stays, with all that refers
        // to it.
        Migrator::down(&db, None).await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        db.execute_unprepared("DELETE FROM seaql_migrations").await.unwrap();
        db.execute_unprepared("DROP TABLE import_seen").await.unwrap();
        insert(&db, kind, LIFE).await;
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
        // Back to the schema of the first migration.
        let later = u32::try_from(Migrator::migrations().len()).unwrap() - 1;
        Migrator::down(&db, Some(later)).await.unwrap();
        assert_eq!(kept().await, 1);
        db.execute_unprepared("UPDATE communication SET status = 'SUPPRESSED'").await.unwrap_err();
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Inserts rows of the oldest schema.
async fn insert(db: &DatabaseConnection, kind: Kind, rows: &str) {
    for statement in rows.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        let mut statement = statement.to_owned();
        while let Some(at) = statement.find('#') {
            let id = format!("019300000000700080000000000000{}", &statement[at + 1..at + 3]);
            let id = if kind == Kind::Sqlite { format!("x'{id}'") } else { format!("'{id}'") };
            statement.replace_range(at..at + 3, &id);
        }
        db.execute_unprepared(&statement).await.unwrap();
    }
}

both! {
    async fn old_rows_get_the_form_of_new_ones(kind) {
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        let texts = async |sql: &str| -> Vec<String> {
            let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
            rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
        };
        Migrator::up(&db, Some(1)).await.unwrap();
        insert(&db, kind, LIFE).await;
        Migrator::up(&db, Some(8)).await.unwrap();
        // 2,500 records with decomposed names (an e and an accent) and search texts that are only
        // in lower case; one ASCII record between them.
        for chunk in (0..2_500).collect::<Vec<_>>().chunks(500) {
            let rows: Vec<String> = chunk
                .iter()
                .map(|i| {
                    let id = format!("0193000000007000800000001000{i:04}");
                    let id = if kind == Kind::Sqlite { format!("x'{id}'") } else { format!("'{id}'") };
                    let name = if *i == 1_000 { "Plain" } else { "Rene\u{301} Stra\u{df}e \u{fb01}n" };
                    let search = name.to_lowercase();
                    format!("({id}, '01930000000070008000000000000001', 'lead', 'Mu\u{308}ller-{i}', '{name}', '{{\"Sta\u{308}dte\":\"Ko\u{308}ln\"}}', '{search}', 0, '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1)")
                })
                .map(|row| if kind == Kind::Sqlite { row.replacen(", '0193", ", x'0193", 1) } else { row })
                .collect();
            let sql = format!("INSERT INTO record (id, org_id, kind, external_id, name, attributes, search, priority, created_at, updated_at, revision) VALUES {}", rows.join(", "));
            db.execute_unprepared(&sql).await.unwrap();
        }
        // Steps that ended for each of the reasons that used to be stored as prose.
        let reasons = [
            ("SKIPPED", "it waited for draft, which was skipped", "WAITED_FOR_SKIPPED"),
            ("SKIPPED", "it waited for draft, which failed", "WAITED_FOR_FAILED"),
            ("SKIPPED", "left out by pick", "LEFT_OUT_BY_DECISION"),
            ("SKIPPED", "event:reply did not come", "EVENT_DID_NOT_COME"),
            ("SKIPPED", "its condition does not hold: a == b", "CONDITION_FALSE"),
            ("SKIPPED", "its condition can''t be judged: no such key", "CONDITION_UNREADABLE"),
            ("SKIPPED", "done in run_01", "CARRIED_OVER"),
            ("SKIPPED", "interrupted by reply", "INTERRUPTED"),
            ("SKIPPED", "the run was cancelled", "RUN_CANCELLED"),
            ("SKIPPED", "RUN_CANCELLED", "RUN_CANCELLED"),
            ("SKIPPED", "there is nothing to review", "NOTHING_TO_REVIEW"),
            ("SKIPPED", "UNSUBSCRIBED", "SUPPRESSED"),
            ("SKIPPED", "its message is HELD", "NO_MESSAGE"),
            ("SKIPPED", "not this one, please", "PERSON"),
            ("FAILED", "LEASE_LOST: three times", "LEASE_LOST"),
            ("FAILED", "no answer", "WORK_FAILED"),
            // Without a reason.
            ("SKIPPED", "", "PERSON"),
            ("FAILED", "", "WORK_FAILED"),
        ];
        for (i, (status, error, _)) in reasons.iter().enumerate() {
            let id = format!("#{:02x}", 0x20 + i);
            let error = if error.is_empty() { "NULL".to_owned() } else { format!("'{error}'") };
            insert(&db, kind, &format!("INSERT INTO step (id, org_id, run_id, phase_id, task_id, run_record_id, key, name, kind, sequence, status, error, trigger, assigned_to, available_at, attempt_count, failure_count, max_attempts, lapse_count, created_at, revision) VALUES ({id}, #01, #03, #05, #06, NULL, 's{i:02}', 's', 'look', {i}, '{status}', {error}, 'immediate', 'WORKFLOW', '2026-01-01T00:00:00+00:00', 1, 0, 5, 0, '2026-01-01T00:00:00+00:00', 1)")).await;
        }
        // A goal of the campaign, which its run gets.
        insert(&db, kind, "INSERT INTO goal (id, org_id, name, description, created_at, updated_at, revision) VALUES (#0b, #01, 'g', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1);\nUPDATE campaign SET goal_id = #0b").await;
        // A run that was cancelled while its phase was in progress.
        insert(&db, kind, "UPDATE run SET status = 'CANCELLED'; DELETE FROM sweep").await;
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(texts("SELECT DISTINCT name FROM record ORDER BY name").await, ["Plain", "Ren\u{e9} Stra\u{df}e \u{fb01}n"]);
        assert_eq!(texts("SELECT DISTINCT search FROM record ORDER BY search").await, ["plain", "ren\u{e9} strasse fin"]);
        let composed = "SELECT external_id FROM record WHERE external_id = 'M\u{fc}ller-7' AND CAST(attributes AS text) LIKE '%St\u{e4}dte%K\u{f6}ln%'";
        assert_eq!(texts(composed).await.len(), 1);
        let wanted: Vec<&str> = reasons.iter().map(|reason| reason.2).collect();
        assert_eq!(texts("SELECT reason FROM step WHERE key LIKE 's_%' AND kind = 'look' ORDER BY key").await, wanted);
        assert_eq!(texts("SELECT kind FROM sweep").await, ["CANCEL"]);
        assert_eq!(texts("SELECT goal.name FROM run JOIN goal ON goal.id = run.goal_id").await, ["g"]);
        // Down and up again changes nothing.
        let later = u32::try_from(Migrator::migrations().len()).unwrap() - 9;
        Migrator::down(&db, Some(later)).await.unwrap();
        Migrator::up(&db, None).await.unwrap();
        assert_eq!(texts("SELECT reason FROM step WHERE key LIKE 's_%' AND kind = 'look' ORDER BY key").await, wanted);
        assert_eq!(texts("SELECT kind FROM sweep").await, ["CANCEL"]);
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// Replies of January, whose follow-up is done, cancelled and open, and one of March, which a step
/// handled then.
const HANDLED: &str = "
INSERT INTO step (id, org_id, run_id, phase_id, task_id, run_record_id, key, name, kind, sequence, status, trigger, assigned_to, available_at, attempt_count, failure_count, max_attempts, lapse_count, created_at, completed_at, completed_by, revision) VALUES (#30, #01, #03, #05, #06, #04, 'h', 'h', 'handle_reply', 1, 'COMPLETED', 'event:reply.received', 'HUMAN', '2026-01-01T00:00:00+00:00', 1, 0, 5, 0, '2026-03-01T00:00:00+00:00', '2026-03-03T00:00:00+00:00', '{\"kind\":\"MEMBER\",\"name\":\"Ida\"}', 1);
INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, channel, subject, body, received_at, recorded_by, created_at) VALUES (#11, #01, #08, #02, #03, 'EMAIL', 'Re: A', 'Stra\u{df}e', '2026-01-02T00:00:00+00:00', '{}', '2026-01-02T00:00:00+00:00');
INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, channel, body, received_at, recorded_by, created_at) VALUES (#12, #01, #08, #02, #03, 'EMAIL', 'b', '2026-01-02T00:00:00+00:00', '{}', '2026-01-02T00:00:00+00:00');
INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, channel, body, received_at, recorded_by, created_at) VALUES (#13, #01, #08, #02, #03, 'EMAIL', 'c', '2026-01-02T00:00:00+00:00', '{}', '2026-01-02T00:00:00+00:00');
INSERT INTO reply (id, org_id, communication_id, campaign_id, run_id, channel, body, received_at, recorded_by, created_at) VALUES (#14, #01, #08, #02, #03, 'EMAIL', 'd', '2026-03-02T00:00:00+00:00', '{}', '2026-03-02T00:00:00+00:00');
INSERT INTO follow_up (id, org_id, run_id, step_id, title, note, status, closed_at, closed_by, created_by, created_at, updated_at, revision) VALUES (#21, #01, #03, #07, 't', '', 'DONE', '2026-01-05T00:00:00+00:00', '{\"kind\":\"MEMBER\",\"name\":\"Ida\"}', '{}', '2026-01-02T00:00:00+00:00', '2026-01-05T00:00:00+00:00', 2);
INSERT INTO follow_up (id, org_id, run_id, step_id, title, note, status, closed_at, closed_by, created_by, created_at, updated_at, revision) VALUES (#22, #01, #03, #07, 't', '', 'CANCELLED', '2026-01-05T00:00:00+00:00', '{\"kind\":\"MEMBER\",\"name\":\"Ida\"}', '{}', '2026-01-02T00:00:00+00:00', '2026-01-05T00:00:00+00:00', 2);
INSERT INTO follow_up (id, org_id, run_id, step_id, title, note, status, created_by, created_at, updated_at, revision) VALUES (#23, #01, #03, #07, 't', '', 'OPEN', '{}', '2026-01-02T00:00:00+00:00', '2026-01-05T00:00:00+00:00', 2);
";

both! {
    async fn replies_from_before_get_the_status_of_what_handled_them(kind) {
        use entity::id::{FollowUpId, ReplyId};
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        insert(&db, kind, LIFE).await;
        let before = Migrator::migrations().iter().position(|one| one.name() == "m0040_reply_status").unwrap();
        Migrator::up(&db, Some(u32::try_from(before).unwrap() - 1)).await.unwrap();
        insert(&db, kind, HANDLED).await;
        let id = |nth: u128| uuid::Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_0000 + nth);
        for nth in 1_u128..=3 {
            let (reply, follow_up) = (ReplyId(id(0x10 + nth)), FollowUpId(id(0x20 + nth)));
            insert(&db, kind, &format!("INSERT INTO event (org_id, position, kind, run_id, actor, payload, at) VALUES (#01, {nth}, 'follow_up.created', #03, '{{}}', '{{\"replyId\":\"{reply}\",\"followUpId\":\"{follow_up}\"}}', '2026-01-02T00:00:00+00:00')")).await;
        }
        let texts = async |sql: &str| -> Vec<String> {
            let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
            rows.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()).collect()
        };
        for _ in 0..2 {
            Migrator::up(&db, None).await.unwrap();
            let shown = "SELECT status || COALESCE(' ' || SUBSTR(CAST(handled_at AS text), 1, 10), '') || CASE WHEN handled_by IS NULL THEN '' ELSE ' by' END || CASE WHEN follow_up_id IS NULL THEN '' ELSE ' follow-up' END || CASE WHEN step_id IS NULL THEN '' ELSE ' step' END FROM reply ORDER BY id";
            assert_eq!(texts(shown).await, [
                "OPEN",
                "HANDLED 2026-01-05 by follow-up",
                "IGNORED 2026-01-05 by follow-up",
                "OPEN follow-up",
                "HANDLED 2026-03-03 by step",
            ]);
            assert_eq!(texts("SELECT search FROM reply WHERE subject IS NOT NULL").await, ["re: a\nstrasse"]);
            let later = Migrator::migrations().len() - before;
            Migrator::down(&db, Some(u32::try_from(later).unwrap())).await.unwrap();
        }
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// A campaign that is over, one that was cancelled, and a draft, beside the active one.
const ENDED: &str = "
INSERT INTO campaign (id, org_id, name, description, channel, status, instructions, variables, version, created_by, search, created_at, updated_at, revision) VALUES (#0c, #01, 'd', '', 'EMAIL', 'COMPLETED', '', '{}', 1, '{}', '', '2026-01-01T00:00:00+00:00', '2026-04-01T00:00:00+00:00', 1);
INSERT INTO campaign (id, org_id, name, description, channel, status, instructions, variables, version, created_by, search, created_at, updated_at, revision) VALUES (#0d, #01, 'e', '', 'EMAIL', 'CANCELLED', '', '{}', 1, '{}', '', '2026-01-01T00:00:00+00:00', '2026-03-01T00:00:00+00:00', 1);
INSERT INTO campaign (id, org_id, name, description, channel, status, instructions, variables, version, created_by, search, created_at, updated_at, revision) VALUES (#0e, #01, 'f', '', 'EMAIL', 'DRAFT', '', '{}', 1, '{}', '', '2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', 1);
";

both! {
    async fn campaigns_from_before_get_the_times_of_their_events(kind) {
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        insert(&db, kind, LIFE).await;
        insert(&db, kind, ENDED).await;
        let before = Migrator::migrations().iter().position(|one| one.name() == "m0052_campaign_times").unwrap();
        Migrator::up(&db, Some(u32::try_from(before).unwrap() - 1)).await.unwrap();
        // The active one was approved twice, and was reopened after its run had failed.
        for (position, (campaign, verb, on)) in [
            ("#02", "approved", "2026-01-02"), ("#02", "failed", "2026-01-03"), ("#02", "approved", "2026-01-05"),
            ("#0c", "approved", "2026-01-02"), ("#0c", "failed", "2026-01-20"), ("#0c", "completed", "2026-02-01"),
        ].into_iter().enumerate() {
            insert(&db, kind, &format!("INSERT INTO event (org_id, position, kind, campaign_id, actor, payload, at) VALUES (#01, {}, 'campaign.{verb}', {campaign}, '{{}}', '{{}}', '{on}T00:00:00+00:00')", position + 1)).await;
        }
        let day = |column: &str| format!("COALESCE(SUBSTR(CAST({column} AS text), 1, 10), '-')");
        let shown = format!("SELECT name || ' ' || {} || ' ' || {} FROM campaign ORDER BY id", day("started_at"), day("completed_at"));
        for _ in 0..2 {
            Migrator::up(&db, None).await.unwrap();
            let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), shown.as_str())).await.unwrap();
            let found: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
            assert_eq!(found, ["c 2026-01-02 -", "d 2026-01-02 2026-02-01", "e - 2026-03-01", "f - -"]);
            let later = Migrator::migrations().len() - before;
            Migrator::down(&db, Some(u32::try_from(later).unwrap())).await.unwrap();
        }
        db.close().await.unwrap();
        let _ = std::fs::remove_dir_all(folder);
    }
}

both! {
    async fn messages_from_before_are_found_by_their_words(kind) {
        let (folder, url) = place(kind).await;
        let url = if kind == Kind::Sqlite { format!("{url}?mode=rwc") } else { url };
        let db = Database::connect(&url).await.unwrap();
        Migrator::up(&db, Some(1)).await.unwrap();
        insert(&db, kind, LIFE).await;
        let before = Migrator::migrations().iter().position(|one| one.name() == "m0054_search_and_due").unwrap();
        Migrator::up(&db, Some(u32::try_from(before).unwrap() - 1)).await.unwrap();
        for (subject, name, wanted) in [("'Über Öl'", "'Straße'", "über öl strasse"), ("NULL", "'É'", " é"), ("'Plain'", "'Words'", "-")] {
            insert(&db, kind, &format!("UPDATE communication SET subject = {subject}, to_name = {name}")).await;
            for _ in 0..2 {
                Migrator::up(&db, None).await.unwrap();
                let shown = "SELECT COALESCE(search, '-') FROM communication";
                let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), shown)).await.unwrap();
                let found: Vec<String> = rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect();
                assert_eq!(found, [wanted]);
                let later = Migrator::migrations().len() - before;
                Migrator::down(&db, Some(u32::try_from(later).unwrap())).await.unwrap();
            }
        }
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
