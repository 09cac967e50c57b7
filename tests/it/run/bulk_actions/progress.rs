//! Bulk actions on their way: in turns, stopped, taken over, asked for twice.

use std::time::Instant;

use entity::id::BulkActionId;
use sortie::domain::bulk_action::apply::{self, BulkLease};
use sortie::kernel::error::Error;

use super::*;
use crate::harness::life::Home;
use crate::harness::socket::Socket;

both! {
    async fn stopped_in_the_middle(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 250).await;
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        assert_eq!(bulk_actions::tick(world.engine_context()).await.unwrap(), 1);
        let (found, results) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["done"], &found["notDone"]), (&json!("RUNNING"), &json!(100), &json!(150)));
        assert_eq!(found["availableActions"], json!([{ "action": "STOP", "allowed": true }]));
        assert!(results.iter().enumerate().all(|(i, one)| one["status"] == if i < 100 { "DONE" } else { "PENDING" }));
        crate::harness::check::check(&world).await;
        let stopped = world.ask(STOP, json!({ "id": id })).await["stopBulkAction"]["bulkAction"].clone();
        assert_eq!((&stopped["status"], stopped["endedAt"].is_string()), (&json!("STOPPED"), true));
        assert_eq!(world.refused(STOP, json!({ "id": id })).await.0, "INVALID_TRANSITION");
        world.tick(false).await;
        let (found, _) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["done"], &found["notDone"], &found["revision"]), (&json!("STOPPED"), &json!(100), &json!(150), &json!(3)));
        assert_eq!(found["availableActions"], json!([{ "action": "STOP", "allowed": false }]));
        assert_eq!(runs_in(&world, "PAUSED").await, 100);
        let left = world.ask("query($id: ID!) { bulkAction(id: $id) { results(statuses: [PENDING], first: 1) { totalCount nodes { targetId } } } }", json!({ "id": id })).await;
        assert_eq!(left["bulkAction"]["results"], json!({ "totalCount": 150, "nodes": [{ "targetId": runs[100] }] }));
        // Before it has begun.
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        world.ask(STOP, json!({ "id": id })).await;
        world.tick(false).await;
        let (found, _) = show(&world, &id).await;
        assert_eq!((&found["status"], &found["startedAt"], &found["notDone"]), (&json!("STOPPED"), &Value::Null, &json!(250)));
        let nobody = json!({ "id": "bulk_action_01h455vb4pex5vsknk084sn02q" });
        assert_eq!(world.refused(STOP, nobody).await.0, "NOT_FOUND");
        world.end().await;
    }
}

both! {
    async fn one_process_at_a_time(kind) {
        let world = World::without_server(kind, None).await;
        sessions(&world, 3).await;
        let shown = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        let (id, org): (BulkActionId, OrgId) = (shown.parse().unwrap(), world.viewer.org_id);
        let (db, other) = (&world.engine_context().db, BulkLease { owner: "other", duration: chrono::Duration::seconds(60) });
        let taken = apply::take(db, org, id, other).await.unwrap().unwrap();
        apply::apply(db, &taken.action, &taken.targets[0], other).await.unwrap();
        // A target has one result, however often it is dealt with.
        let again = apply::apply(db, &taken.action, &taken.targets[0], other).await;
        assert!(matches!(again, Err(Error::Refused(_))));
        assert!(!apply::settle(db, &taken.action, &taken.targets[0], other, again).await.unwrap());
        // Nobody else takes it while the lease holds; then the rest is done, and the late one does nothing.
        world.tick(false).await;
        assert_eq!(show(&world, &shown).await.0["done"], 1);
        world.clock.set(noon() + chrono::Duration::seconds(59));
        world.tick(false).await;
        assert_eq!(show(&world, &shown).await.0["done"], 1);
        world.clock.set(noon() + chrono::Duration::seconds(61));
        assert_eq!(bulk_actions::tick(world.engine_context()).await.unwrap(), 1);
        let late = apply::apply(db, &taken.action, &taken.targets[1], other).await;
        assert!(!apply::settle(db, &taken.action, &taken.targets[1], other, late).await.unwrap());
        apply::give_back(db, &taken.action, other, 1).await.unwrap();
        let (found, _) = show(&world, &shown).await;
        assert_eq!((&found["status"], &found["done"], &found["refused"]), (&json!("COMPLETED"), &json!(3), &json!(0)));
        let paused = world.ask_all_events().await.iter().filter(|event| event["kind"] == "run.paused").count();
        assert_eq!(paused, 3);
        world.end().await;
    }
}

both! {
    /// The small one does not wait for the end of the large one, nor does another org.
    async fn in_turns(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 250).await;
        let large = start(&world, json!({ "verb": "PAUSE_RUNS", "runFilter": { "all": true } })).await;
        world.clock.set(noon() + chrono::Duration::seconds(1));
        bulk_actions::tick(world.engine_context()).await.unwrap();
        let small = start(&world, json!({ "verb": "CANCEL_RUNS", "ids": [runs[249]] })).await;
        world.clock.set(noon() + chrono::Duration::seconds(2));
        for _ in 0..2 {
            bulk_actions::tick(world.engine_context()).await.unwrap();
        }
        assert_eq!(show(&world, &small).await.0["status"], "COMPLETED");
        assert_eq!(show(&world, &large).await.0["status"], "RUNNING");
        world.tick(false).await;
        let (found, results) = show(&world, &large).await;
        assert_eq!((&found["done"], &found["refused"], &results[249]["code"]), (&json!(249), &json!(1), &json!("INVALID_TRANSITION")));
        world.end().await;
    }
}

both! {
    async fn twins_and_their_progress(kind) {
        let world = std::sync::Arc::new(World::new(kind).await);
        let (runs, _) = sessions(&world, 120).await;
        let input = json!({ "verb": "PAUSE_RUNS", "runFilter": { "types": ["GUIDED"] }, "idempotencyKey": "twin" });
        let mut twins = tokio::task::JoinSet::new();
        for _ in 0..12 {
            let (world, input) = (world.clone(), input.clone());
            twins.spawn(async move { world.post(START, json!({ "input": input })).await });
        }
        let mut made = BTreeSet::new();
        while let Some(answer) = twins.join_next().await {
            let answer = answer.unwrap();
            made.insert(answer["data"]["startBulkAction"]["bulkAction"]["id"].as_str().unwrap_or_else(|| panic!("{answer:#}")).to_owned());
        }
        assert_eq!(made.len(), 1);
        let id = made.pop_first().unwrap();
        let mut other = input.clone();
        other["dryRun"] = json!(true);
        assert_eq!(world.refused(START, json!({ "input": other })).await.0, "BAD_USER_INPUT", "the same key with another input");
        let mut socket = Socket::open(world.address).await;
        let progress = "subscription($id: ID!, $after: String) { bulkActionProgress(id: $id, after: $after) { cursor bulkAction { status matched done notDone } } }";
        socket.subscribe("p", progress, json!({ "id": id })).await;
        let (mut done, mut last) = (0, Value::Null);
        loop {
            let message = socket.message().await;
            if message["type"] == "complete" {
                break;
            }
            last = message["payload"]["data"]["bulkActionProgress"].clone();
            let now = last["bulkAction"]["done"].as_i64().unwrap_or_else(|| panic!("{message:#}"));
            assert!(now >= done, "{last:#}");
            done = now;
        }
        assert_eq!(last["bulkAction"], json!({ "status": "COMPLETED", "matched": 120, "done": 120, "notDone": 0 }));
        assert_eq!(runs_in(&world, "PAUSED").await, runs.len() as i64);
        // Resumed after its last state: the end. From the start: the state once more, and the end.
        socket.subscribe("known", progress, json!({ "id": id, "after": last["cursor"] })).await;
        assert_eq!(socket.message().await["type"], "complete");
        socket.subscribe("again", progress, json!({ "id": id })).await;
        assert_eq!(socket.next().await["bulkActionProgress"]["bulkAction"]["status"], "COMPLETED");
        assert_eq!(socket.message().await["type"], "complete");
        // Resumed after an earlier position, though it has ended: its last state, and the end.
        let first = world.ask("{ events(filter: { kinds: [\"bulk_action.created\"] }) { nodes { cursor } } }", json!({})).await["events"]["nodes"][0]["cursor"].clone();
        socket.subscribe("missed", progress, json!({ "id": id, "after": first })).await;
        assert_eq!(socket.next().await["bulkActionProgress"], last);
        assert_eq!(socket.message().await["type"], "complete");
        socket.subscribe("none", progress, json!({ "id": "bulk_action_01h455vb4pex5vsknk084sn02q" })).await;
        assert_eq!(socket.message().await["payload"][0]["extensions"]["code"], "NOT_FOUND");
        let kinds = world.ask("{ events(filter: { kinds: [\"bulk_action.*\"] }) { nodes { kind payload } } }", json!({})).await;
        let kinds: Vec<&str> = kinds["events"]["nodes"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["bulk_action.created", "bulk_action.started", "bulk_action.progressed", "bulk_action.completed"]);
        let Ok(world) = std::sync::Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

both! {
    async fn killed_in_the_middle(kind) {
        const RUNS: usize = 130;
        let home = Home::new(kind).await;
        let life = home.begin();
        let begin = "mutation { startGuidedRun(input: { name: \"K\", steps: [{ definition: { key: \"a\", name: \"a\", type: \"custom\", assignedTo: HUMAN } }] }) { run { id } } }";
        for _ in 0..RUNS {
            life.ask(begin, json!({})).await.unwrap();
        }
        life.kill();
        home.gone().await;
        let input = json!({ "verb": "PAUSE_RUNS", "runFilter": { "types": ["GUIDED"] }, "idempotencyKey": "k" });
        let mut id = Value::Null;
        for place in ["bulk_settled:1", "bulk_settled:7", "bulk_settled:60"] {
            let (mut life, deadline) = (home.begin_at(Some(place)).unwrap(), Instant::now() + Duration::from_secs(60));
            while !life.is_over() {
                if let Some(found) = life.ask(START, json!({ "input": input })).await {
                    id = found["startBulkAction"]["bulkAction"]["id"].clone();
                }
                assert!(Instant::now() < deadline, "{place} was not reached");
                tokio::task::yield_now().await;
            }
            home.gone().await;
        }
        let (life, deadline) = (home.begin(), Instant::now() + Duration::from_secs(60));
        loop {
            let found = life.ask("query($id: ID!) { bulkAction(id: $id) { status matched done refused failed } }", json!({ "id": id })).await.unwrap()["bulkAction"].clone();
            if found["status"] == "COMPLETED" {
                // A run that was paused twice would be refused the second time.
                assert_eq!(found, json!({ "status": "COMPLETED", "matched": RUNS, "done": RUNS, "refused": 0, "failed": 0 }));
                break;
            }
            assert!(Instant::now() < deadline, "it did not go on: {found}");
            tokio::task::yield_now().await;
        }
        life.kill();
        home.gone().await;
        assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind = 'run.paused'").await, RUNS as i64);
        home.check();
        home.remove();
    }
}
