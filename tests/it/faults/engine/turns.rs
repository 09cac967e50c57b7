//! Fairness between orgs on one engine: an org with very much work to start leaves the others their
//! turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use entity::id::*;
use sea_orm::sqlx::sqlite::SqlitePoolOptions;
use sea_orm::{ConnectionTrait, Database, DatabaseTransaction, SqlxSqliteConnector, Statement, TransactionTrait};
use serde_json::json;
use sortie::domain::worker::claim::{self, ClaimRequest};
use sortie::engine::{begin, perform, send};
use sortie::kernel::viewer::Viewer;
use sortie::step_kind::send::forward;

use crate::harness::{Kind, World};

const LAUNCH: &str =
    "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id status } } }";

both! {
    async fn what_one_org_has_to_begin_leaves_the_others_theirs(kind) {
        let mut world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        for _ in 0..40 {
            world.ask(LAUNCH, json!({ "id": plan.campaign })).await;
        }
        let (_, small): (_, Viewer) = sortie::domain::people::org::create(&world.db.write(), "Small", "Ann", "ann@small.example").await.unwrap();
        let large = std::mem::replace(&mut world.viewer, small);
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let mine = world.ask(LAUNCH, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].clone();
        begin::tick(world.engine_context()).await.unwrap();
        let status = "query($id: ID!) { run(id: $id) { status } }";
        assert_eq!(world.ask(status, json!({ "id": mine })).await["run"]["status"], "IN_PROGRESS");
        world.viewer = large;
        let left = "{ runs(filter: { statuses: [QUEUED] }) { totalCount } }";
        let many = world.ask(left, json!({})).await["runs"]["totalCount"].as_u64().unwrap();
        assert!((1..40).contains(&many), "one look takes a part of what one org has: {many}");
        world.tick(false).await;
        assert_eq!(world.ask(left, json!({})).await["runs"]["totalCount"], 0);
        world.end().await;
    }
}

both! {
    async fn steps_of_one_org_leave_the_others_theirs(kind) {
        let mut world = World::without_server(kind, None).await;
        let step = json!({ "key": "update", "type": "update_record", "assignedTo": "WORKFLOW", "trigger": "immediate", "config": { "attributes": { "seen": "yes" } } });
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [step] }] }]);
        let template = json!({ "runTemplates": [{ "key": "marks", "name": "marks", "phases": phases }] }).to_string();
        // Three orgs: one with very much work, which was first, and two with a little.
        for (name, count) in [("Large", 900), ("Small", 3), ("Tiny", 1)] {
            if name != "Large" {
                let (_, viewer): (_, Viewer) = sortie::domain::people::org::create(&world.db.write(), name, "Ann", &format!("ann@{name}.example")).await.unwrap();
                world.viewer = viewer;
            }
            world.apply(&template).await;
            let plan = world.plan("EMAIL", count).await;
            let run = world.fly("marks", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
            for _ in 0..4 {
                world.tick(false).await;
            }
            let query = "query($id: ID!) { run(id: $id) { status steps(first: 1) { totalCount } } }";
            let found = world.ask(query, json!({ "id": run })).await["run"].clone();
            assert_eq!((&found["status"], &found["steps"]["totalCount"]), (&json!("IN_PROGRESS"), &json!(count)), "{name}");
        }
        world.perform_once(&sortie::step_kind::update_record::UpdateRecord).await;
        let done = "SELECT COUNT(*) FROM step WHERE kind = 'update_record' AND status = 'COMPLETED' GROUP BY org_id ORDER BY 1";
        let done: Vec<i64> = world.sql(done).await.iter().map(|row| row[0].parse().unwrap()).collect();
        assert!(done.len() == 3 && done[..2] == [1, 3] && done[2] < 900, "{done:?}");
        world.drop_unchecked().await;
    }
}

/// A look, and the work that it cost: on Postgres the rows that were read, on SQLite the
/// instructions of its virtual machine, in hundreds.
async fn counted<T>(world: &World, kind: Kind, look: impl AsyncFnOnce(&DatabaseTransaction) -> T) -> (T, u64) {
    let ops = Arc::new(AtomicU64::new(0));
    let connection = match kind {
        Kind::Sqlite => {
            let counted = ops.clone();
            let options = SqlitePoolOptions::new().max_connections(1).after_connect(move |connection, _| {
                let counted = counted.clone();
                Box::pin(async move {
                    let count = move || {
                        counted.fetch_add(1, Ordering::Relaxed);
                        true
                    };
                    connection.lock_handle().await?.set_progress_handler(100, count);
                    Ok(())
                })
            });
            let pool =
                options.connect(&format!("sqlite://{}", world.folder.join("sortie.db").display())).await.unwrap();
            SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
        }
        Kind::Postgres => {
            let name = world.folder.file_name().unwrap().to_str().unwrap();
            Database::connect(crate::harness::postgres::url(name)).await.unwrap()
        }
    };
    let tx = connection.begin().await.unwrap();
    let before = ops.load(Ordering::Relaxed);
    let found = look(&tx).await;
    let work = match kind {
        Kind::Sqlite => ops.load(Ordering::Relaxed) - before,
        Kind::Postgres => {
            let sql = "SELECT SUM(seq_tup_read + COALESCE(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables";
            let row = tx.query_one_raw(Statement::from_string(tx.get_database_backend(), sql)).await.unwrap().unwrap();
            u64::try_from(row.try_get_by_index::<i64>(0).unwrap()).unwrap()
        }
    };
    tx.rollback().await.unwrap();
    (found, work)
}

both! {
    async fn due_steps_of_a_paused_run_hold_up_no_other_run(kind) {
        let world = World::without_server(kind, None).await;
        let step = |key: &str, kind: &str, by: &str| {
            let config = if kind == "update_record" { json!({ "attributes": { "seen": "yes" } }) } else { json!({}) };
            json!({ "key": key, "type": kind, "assignedTo": by, "trigger": "immediate", "config": config })
        };
        let steps = json!([step("update", "update_record", "WORKFLOW"), step("look", "look", "AGENT")]);
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": steps }] }]);
        let manifest = json!({
            "agents": [{ "name": "looker", "filter": "true" }],
            "runTemplates": [{ "key": "marks", "name": "marks", "phases": phases }],
        });
        world.apply(&manifest.to_string()).await;
        let plan = world.plan("EMAIL", 1).await;
        let input = json!({ "segmentId": plan.segment, "channel": "EMAIL" });
        let paused = world.fly("marks", input.clone()).await;
        world.tick(false).await;
        world.copies(kind, "step", 20_000, &[("key", "t.key || n.i")]).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'QUEUED'").await, 40_002);
        let work = &sortie::step_kind::update_record::UpdateRecord;
        let (found, cost) = counted(&world, kind, async |tx| perform::find_claimable(tx, world.clock.now(), work).await.unwrap()).await;
        assert!(found.len() > 10, "its steps are found while it is in progress: {}", found.len());
        println!("{kind:?}: a look at a run in progress costs {cost}");

        if kind == Kind::Postgres {
            // As autovacuum would, once a table has grown.
            world.force("ANALYZE").await;
        }
        world.act("pauseRun", "run", json!({ "id": paused })).await;
        world.clock.set(world.clock.now() + chrono::Duration::minutes(1));
        let (found, cost) = counted(&world, kind, async |tx| perform::find_claimable(tx, world.clock.now(), work).await.unwrap()).await;
        println!("{kind:?}: a look past 20,000 steps of a paused run costs {cost}");
        assert!(found.is_empty(), "{found:?}");
        let flown = world.fly("marks", input).await;
        world.tick(false).await;
        let mine: RunId = flown.parse().unwrap();
        let (found, cost) = counted(&world, kind, async |tx| perform::find_claimable(tx, world.clock.now(), work).await.unwrap()).await;
        println!("{kind:?}: a look past them at another run's step costs {cost}");
        assert_eq!(found.iter().map(|(_, run)| *run).collect::<Vec<_>>(), [mine]);
        assert!(cost < 5_000, "a look costs by runs and not by steps: {cost}");
        // The metric of what waits does not count them, and neither does a claim of an agent's.
        world.clock.set(world.clock.now() + chrono::Duration::seconds(10));
        let waiting = sortie::domain::run::queue::queue(&world.db).await.unwrap();
        assert_eq!(waiting.age, chrono::Duration::seconds(10));
        let agent = sortie::domain::plan::agent::by_name(world.db.read(), &world.viewer, "looker").await.unwrap();
        let request = ClaimRequest { worker: "w".into(), limit: 10, lease: std::time::Duration::from_secs(60), ..Default::default() };
        let claimed = claim::claim(&world.db.write(), &agent, &request).await.unwrap();
        assert_eq!(claimed.iter().map(|one| one.run.id).collect::<Vec<_>>(), [mine]);
        // Nor does a look for the next of those that a channel put off.
        world.force("UPDATE step SET reason = 'PUT_OFF', available_at = '2026-11-02T12:10:00+00:00' WHERE status = 'QUEUED' AND kind = 'update_record'").await;
        let (found, cost) = counted(&world, kind, async |tx| forward::next_step(tx, world.clock.now(), "update_record").await.unwrap()).await;
        println!("{kind:?}: a look for a probe past them costs {cost}");
        assert!(found.is_some(), "the other run's step can be a probe");
        assert!(cost < 5_000, "a look costs by runs and not by steps: {cost}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn a_step_is_claimed_though_many_groups_of_older_steps_are_for_others(kind) {
        let world = World::without_server(kind, None).await;
        let step = |key: &str| json!({ "key": key, "type": key, "assignedTo": "AGENT", "trigger": "immediate" });
        let task = |key: String| json!({ "key": key, "name": key, "steps": [step(&key)] });
        let of = |tasks: serde_json::Value| json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": tasks }]);
        let others: Vec<_> = (0..230).map(|i| task(format!("other_{i}"))).collect();
        let manifest = json!({
            "agents": [{ "name": "looker", "filter": "true" }, { "name": "other", "filter": "true" }],
            "runTemplates": [
                { "key": "many", "name": "many", "phases": of(json!(others)) },
                { "key": "one", "name": "one", "phases": of(json!([task("wanted".into())])) },
            ],
        });
        world.apply(&manifest.to_string()).await;
        let plan = world.plan("EMAIL", 1).await;
        let input = json!({ "segmentId": plan.segment, "channel": "EMAIL" });
        let paused = world.fly("one", input.clone()).await;
        world.tick(false).await;
        world.copies(kind, "step", 400, &[("key", "t.key || n.i")]).await;
        world.act("pauseRun", "run", json!({ "id": paused })).await;
        for template in ["many", "one"] {
            world.clock.set(world.clock.now() + chrono::Duration::minutes(1));
            world.fly(template, input.clone()).await;
            world.tick(false).await;
        }
        world.force("UPDATE step SET assignee_id = (SELECT id FROM agent WHERE name = 'other') WHERE key LIKE 'other_%'").await;
        let agent = sortie::domain::plan::agent::by_name(world.db.read(), &world.viewer, "looker").await.unwrap();
        let request = ClaimRequest { worker: "w".into(), limit: 10, lease: std::time::Duration::from_secs(60), ..Default::default() };
        let claimed = claim::claim(&world.db.write(), &agent, &request).await.unwrap();
        assert_eq!(claimed.iter().map(|one| one.step.key.as_str()).collect::<Vec<_>>(), ["wanted"]);
        world.drop_unchecked().await;
    }
}

both! {
    async fn messages_of_a_paused_run_hold_up_no_other_run(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        let mut runs = Vec::new();
        for _ in 0..2 {
            let run = world.ask(launch, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
            world.tick(true).await;
            runs.push(run);
            if runs.len() == 1 {
                let other = [("message_id", "t.message_id || n.i"), ("occasion", "n.i + 10")];
                world.copies(kind, "communication", 10_000, &other).await;
            }
        }
        // As if a person had released each.
        world.force(
            "INSERT INTO posting (communication_id, org_id, run_id, step_id, actor, available_at, attempt, failures) \
             SELECT id, org_id, run_id, step_id, '{}', created_at, 0, 0 FROM communication",
        )
        .await;
        world.act("pauseRun", "run", json!({ "id": runs[0] })).await;
        world.clock.set(world.clock.now() + chrono::Duration::minutes(1));
        if kind == Kind::Postgres {
            // As autovacuum would, once a table has grown.
            world.force("ANALYZE").await;
        }
        let look = async |tx: &DatabaseTransaction| send::find_claimable(tx, world.clock.now(), 100, false).await.unwrap();
        let (found, cost) = counted(&world, kind, &look).await;
        println!("{kind:?}: a look past 10,000 messages of a paused run costs {cost}");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(cost < 4_000, "a look costs by runs and not by messages: {cost}");
        // A message whose sender died is taken also from a paused run.
        world
            .force(
                "UPDATE posting SET lease_owner = 'gone', lease_expires_at = '2026-01-01T00:00:00+00:00' WHERE communication_id IN \
                 (SELECT p.communication_id FROM posting p JOIN run r ON r.id = p.run_id WHERE r.status = 'PAUSED' LIMIT 1)",
            )
            .await;
        let (found, _) = counted(&world, kind, &look).await;
        assert_eq!(found.len(), 2, "{found:?}");
        // The same for those that a channel put back, of which one is looked for as a probe.
        world.force("UPDATE posting SET available_at = '2026-11-02T12:10:00+00:00', lease_owner = NULL").await;
        let (found, cost) = counted(&world, kind, async |tx| forward::next_released(tx, world.clock.now()).await.unwrap()).await;
        println!("{kind:?}: a look for a probe past them costs {cost}");
        assert!(found.is_some(), "the other run's message can be a probe");
        assert!(cost < 4_000, "a look costs by runs and not by messages: {cost}");
        world.drop_unchecked().await;
    }
}
