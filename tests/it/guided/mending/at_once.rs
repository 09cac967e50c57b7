//! Several who mend at once, and a kill in the middle.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::harness::life::Home;

both! {
    async fn several_who_mend_at_once(kind) {
        let world = Arc::new(World::new(kind).await);
        let named = ["a", "b", "c"].map(|key| (key, "note", json!({})));
        let (run, ids) = world.own_run(&named, json!({})).await;
        let task = task(&world, &run).await;
        // All that are added are there, each in a place of its own, and a key adds once.
        let mut twins = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (world, run, first) = (world.clone(), run.clone(), ids[0].clone());
            twins.spawn(async move {
                let input = json!({ "runId": run, "step": declared("same", "note", json!({})), "afterStepId": first, "idempotencyKey": format!("twin {}", i % 6) });
                world.ask(ADD, json!({ "input": input })).await["addRunStep"]["step"]["id"].to_string()
            });
        }
        let made: BTreeSet<String> = twins.join_all().await.into_iter().collect();
        assert_eq!(made.len(), 6);
        let all = order(&world, &run).await;
        assert_eq!(all.len(), 9, "{all:?}");
        assert_eq!((all[0].as_str(), all[8].as_str()), ("a", "c"));
        // With the revision that both saw, one of two is refused.
        let revision = read(&world, &run).await["revision"].clone();
        let input = json!({ "runId": run, "step": declared("x", "note", json!({})), "expectedRevision": revision });
        let (one, two) = tokio::join!(world.post(ADD, json!({ "input": input })), world.post(ADD, json!({ "input": input })));
        let codes: BTreeSet<String> = [one, two].iter().map(|answer| answer["errors"][0]["extensions"]["code"].to_string()).collect();
        assert_eq!(codes, BTreeSet::from(["\"CONFLICT\"".to_owned(), "null".to_owned()]));
        // A new order while one of the steps is started: either comes first.
        for step in &ids {
            let run_now = read(&world, &run).await;
            let mut pending: Vec<(i64, Value)> = run_now["steps"]["nodes"].as_array().unwrap().iter()
                .filter(|step| step["status"] == "PENDING")
                .map(|step| (-step["sequence"].as_i64().unwrap(), step["id"].clone()))
                .collect();
            pending.sort_by_key(|(place, _)| *place);
            let turned: Vec<Value> = pending.into_iter().map(|(_, id)| id).collect();
            let input = json!({ "input": { "runId": run, "taskId": task, "stepIds": turned } });
            let (ordered, begun) = tokio::join!(world.post(REORDER, input), world.step_act("startStep", step, json!({})));
            assert_eq!(begun["status"], "IN_PROGRESS");
            let code = &ordered["errors"][0]["extensions"]["code"];
            assert!(code.is_null() || code == "CONFLICT", "{ordered:#}");
            order(&world, &run).await;
            world.step_act("completeStep", step, json!({})).await;
        }
        // Cancelled meanwhile: what was added before is skipped with the rest.
        let input = json!({ "input": { "runId": run, "step": declared("late", "note", json!({})) } });
        let cancel = "mutation($id: ID!) { cancelRun(input: { id: $id }) { run { status } } }";
        let (added, cancelled) = tokio::join!(world.post(ADD, input), world.ask(cancel, json!({ "id": run })));
        assert_eq!(cancelled["cancelRun"]["run"]["status"], "CANCELLED");
        let code = &added["errors"][0]["extensions"]["code"];
        assert!(code.is_null() || code == "CONFLICT", "{added:#}");
        let open = "query($id: ID!) { run(id: $id) { steps(filter: { statuses: [PENDING, IN_PROGRESS] }) { totalCount } } }";
        world.until("its steps to be skipped", open, json!({ "id": run }), |data| data["run"]["steps"]["totalCount"] == 0).await;
        let Ok(world) = Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

both! {
    async fn a_kill_while_mending_leaves_nothing_half_done(kind) {
        let home = Home::new(kind).await;
        let life = home.begin();
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id phases { tasks { id } } steps { nodes { id key } } } } }";
        let input = json!({ "name": "Mended", "steps": [declared("a", "note", json!({})), declared("b", "note", json!({}))] });
        let started = life.ask(start, json!({ "input": input })).await.unwrap()["startGuidedRun"]["run"].clone();
        life.kill();
        home.gone().await;
        let run = &started["id"];
        let id = |key: &str| started["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()["id"].clone();
        let (a, b) = (id("a"), id("b"));
        let add = json!({ "runId": run, "step": declared("c", "note", json!({})), "afterStepId": a, "idempotencyKey": "add" });
        let order = |ids: &[&Value]| json!({ "runId": run, "taskId": started["phases"][0]["tasks"][0]["id"], "stepIds": ids, "idempotencyKey": "order" });
        let mut added = Value::Null;
        for (place, query) in [("step_added:1", ADD), ("steps_reordered:1", REORDER)] {
            let input = if query == ADD { add.clone() } else { order(&[&b, &added, &a]) };
            let mut life = home.begin_at(Some(place)).unwrap();
            assert!(life.ask(query, json!({ "input": input })).await.is_none(), "{place}");
            let deadline = Instant::now() + Duration::from_secs(60);
            while !life.is_over() {
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            home.gone().await;
            home.check();
            assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind IN ('step.added', 'task.steps_reordered')").await, i64::from(query == REORDER));
            // Repeated, it is done once.
            let life = home.begin();
            let first = life.ask(query, json!({ "input": input })).await.unwrap();
            assert_eq!(life.ask(query, json!({ "input": input })).await.unwrap(), first);
            if query == ADD {
                added = first["addRunStep"]["step"]["id"].clone();
            }
            life.kill();
            home.gone().await;
        }
        assert_eq!(home.texts("SELECT key FROM step ORDER BY sequence").await, ["b", "c", "a"]);
        home.check();
        home.remove();
    }
}
