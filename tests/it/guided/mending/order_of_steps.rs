//! Another order of steps, and the lists that show it.

use super::*;
use crate::harness::socket::Socket;

both! {
    async fn steps_that_have_not_begun_get_another_order(kind) {
        let world = World::without_server(kind, None).await;
        let named = ["a", "b", "c", "d"].map(|key| (key, "note", json!({})));
        let (run, ids) = world.own_run(&named, json!({})).await;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| ids[i].clone());
        let task = task(&world, &run).await;
        let reorder = async |order: &[&String], more: Value| {
            let mut input = json!({ "runId": run, "taskId": task, "stepIds": order });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.post(REORDER, json!({ "input": input })).await
        };
        world.step_act("startStep", &b, json!({})).await;
        let before = read(&world, &run).await;
        let revision = before["revision"].as_i64().unwrap();
        let done = reorder(&[&d, &c, &a], json!({ "expectedRevision": revision })).await;
        assert_eq!(done["data"]["reorderRunSteps"]["run"]["revision"], revision + 1, "{done:#}");
        // The step in progress keeps its place; no step's own revision changes.
        assert_eq!(order(&world, &run).await, ["d", "b", "c", "a"]);
        let revisions = |run: &Value| run["steps"]["nodes"].as_array().unwrap().iter().map(|step| step["revision"].clone()).collect::<Vec<_>>();
        assert_eq!(revisions(&read(&world, &run).await), revisions(&before));
        // The same order again is no change.
        let again = reorder(&[&d, &c, &a], json!({})).await;
        assert_eq!(again["data"]["reorderRunSteps"]["run"]["revision"], revision + 1);
        let told = payloads(&world, "task.steps_reordered").await;
        assert_eq!(told, [json!({ "key": "steps", "name": "Steps", "stepIds": [d, c, a], "formerStepIds": [a, c, d] })]);
        for (order, more, code, field) in [
            (vec![&d, &c, &a], json!({ "expectedRevision": revision }), "CONFLICT", json!(null)),
            (vec![&d, &c, &a, &b], json!({}), "CONFLICT", json!("stepIds")),
            (vec![&d, &c], json!({}), "CONFLICT", json!("stepIds")),
            (vec![], json!({}), "CONFLICT", json!("stepIds")),
            (vec![&d, &d, &c, &a], json!({}), "BAD_USER_INPUT", json!("stepIds[1]")),
            (vec![&d, &run, &a], json!({}), "BAD_USER_INPUT", json!("stepIds[1]")),
        ] {
            let told = reorder(&order, more).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &field), "{order:?}: {told}");
            if field == "stepIds" {
                assert_eq!(told["pendingStepIds"], json!([d, c, a]), "{told}");
            }
        }
        let (other, others) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let told = reorder(&[&others[0], &d, &c, &a], json!({})).await["errors"][0]["extensions"].clone();
        assert_eq!(told["field"], "stepIds[0]");
        let told = refused(&world, REORDER, json!({ "runId": other, "taskId": task, "stepIds": [d, c, a] })).await;
        assert_eq!(told["field"], "taskId");
        assert_eq!(refused(&world, REORDER, json!({ "runId": run, "taskId": "task_01h455vb4pex5vsknk084sn02q", "stepIds": [] })).await["code"], "NOT_FOUND");
        let many = vec![&a; 1_001];
        assert_eq!(reorder(&many, json!({})).await["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
        assert_eq!(order(&world, &run).await, ["d", "b", "c", "a"]);
        // What is reset has not begun; a new step stands where it was put in the new order.
        world.step_act("resetStep", &b, json!({})).await;
        let added = add(&world, &run, declared("e", "note", json!({})), json!({ "afterStepId": d })).await;
        let e = added["id"].as_str().unwrap().to_owned();
        assert_eq!(order(&world, &run).await, ["d", "e", "b", "c", "a"]);
        assert!(reorder(&[&a, &b, &c, &d, &e], json!({})).await["errors"].is_null());
        assert_eq!(order(&world, &run).await, ["a", "b", "c", "d", "e"]);
        // A step whose work is done stays in its place, also when all others move around it.
        for verb in ["startStep", "completeStep"] {
            world.step_act(verb, &c, json!({})).await;
        }
        assert!(reorder(&[&e, &d, &b, &a], json!({})).await["errors"].is_null());
        assert_eq!(order(&world, &run).await, ["e", "d", "c", "b", "a"]);
        finish(&world, &run, "").await;
        world.end().await;
    }
}

both! {
    async fn tasks_of_all_runs_list_their_steps_beside_each_other(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let launched = world.launch(&plan).await;
        world.tick(true).await;
        let mut mended = Vec::new();
        for _ in 0..3 {
            let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
            let task = task(&world, &run).await;
            world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": [ids[1], ids[0]] } })).await;
            mended.push(run);
        }
        let query = "{ runs(first: 10) { nodes { id phases { tasks { fanOut progress { total } steps(first: 2) { totalCount nodes { key sequence } pageInfo { hasNextPage } } } } } } }";
        let found = world.ask(query, json!({})).await;
        let (mut fans, mut singles) = (0, 0);
        for run in found["runs"]["nodes"].as_array().unwrap() {
            for task in run["phases"].as_array().unwrap().iter().flat_map(|phase| phase["tasks"].as_array().unwrap()) {
                let (steps, total) = (&task["steps"], task["progress"]["total"].as_u64().unwrap());
                let nodes = steps["nodes"].as_array().unwrap();
                assert_eq!((steps["totalCount"].as_u64().unwrap(), nodes.len() as u64), (total, total.min(2)), "{task:#}");
                assert_eq!(steps["pageInfo"]["hasNextPage"], total > 2, "{task:#}");
                if task["fanOut"] == true {
                    fans += nodes.len();
                    continue;
                }
                singles += nodes.len();
                assert!(nodes.iter().enumerate().all(|(place, step)| step["sequence"] == place), "{task:#}");
                if mended.iter().any(|id| run["id"] == id.as_str()) {
                    assert_eq!((&nodes[0]["key"], &nodes[1]["key"]), (&json!("b"), &json!("a")));
                }
            }
        }
        assert!(fans > 1 && singles > 6, "{found:#}");
        assert!(found["runs"]["nodes"].as_array().unwrap().iter().any(|run| run["id"] == launched.as_str()));
        world.end().await;
    }
}

both! {
    async fn a_live_list_shows_new_steps_and_their_order(kind) {
        let world = World::new(kind).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
        let task = task(&world, &run).await;
        let mut socket = Socket::open(world.address).await;
        let document = "subscription($run: ID!) { stepList(filter: { runIds: [$run] }) { kind nodes { id sequence } entered { node } } }";
        socket.subscribe("l", document, json!({ "run": run })).await;
        assert_eq!(socket.next().await["stepList"]["nodes"].as_array().unwrap().len(), 2);
        let added = add(&world, &run, declared("c", "note", json!({})), json!({ "afterStepId": ids[0] })).await;
        let item = socket.next().await["stepList"].clone();
        assert_eq!((&item["kind"], &item["entered"][0]["node"]), (&json!("CHANGED"), &added["id"]), "{item:#}");
        // The step behind it has moved on.
        assert!(item["nodes"].as_array().unwrap().contains(&json!({ "id": ids[1], "sequence": 2 })), "{item:#}");
        world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": [ids[1], added["id"], ids[0]] } })).await;
        let item = socket.next().await["stepList"].clone();
        for moved in [json!({ "id": ids[1], "sequence": 0 }), json!({ "id": ids[0], "sequence": 2 })] {
            assert!(item["nodes"].as_array().unwrap().contains(&moved), "{item:#}");
        }
        world.end().await;
    }
}
