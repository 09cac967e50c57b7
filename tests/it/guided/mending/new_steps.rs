//! Steps that are added: their place, what is wrong with them, how many there may be.

use super::*;
use crate::harness::noon;

both! {
    async fn a_step_is_added_where_it_is_wanted(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let (run, steps) = world.own_run(&[("a", "review", json!({})), ("b", "note", json!({}))], json!({ "assigneeId": member })).await;
        let task = task(&world, &run).await;
        let last = add(&world, &run, declared("c", "custom", json!({})), json!({})).await;
        assert_eq!((&last["status"], &last["sequence"], &last["task"]["id"]), (&json!("PENDING"), &json!(2), &json!(task)));
        // Steps that name nobody are for the run's assignee.
        assert_eq!((&last["assignee"]["memberId"], &last["dueAt"]), (&json!(member), &json!(null)));
        assert_eq!(last["task"]["progress"], json!({ "total": 3, "pending": 3 }));
        let more = json!({
            "description": "Look closely", "role": "REVIEWER", "dueIn": "2d", "assignee": "Mia@Example.com",
            "config": { "subject": "Hello {{ name }}", "body": "b" }, "resultSchema": { "type": "object", "required": ["read"] },
        });
        let second = add(&world, &run, declared("a", "email", more), json!({ "afterStepId": steps[0], "taskId": task })).await;
        assert_eq!((&second["key"], &second["sequence"], &second["description"]), (&json!("a_2"), &json!(1), &json!("Look closely")));
        assert_eq!((&second["assigneeRole"], &second["dueAt"]), (&json!("REVIEWER"), &json!((noon() + chrono::Duration::days(2)).to_rfc3339())));
        assert_eq!((&second["config"]["subject"], &second["assignee"]["memberId"]), (&json!("Hello {{ name }}"), &json!(member)));
        let weekly = world.id_of("runTemplates", "key", "weekly-pipeline-review").await;
        let at = noon() + chrono::Duration::hours(3);
        let taken = json!({ "templateId": weekly, "stepKey": "check_mou_status" });
        let taken = add(&world, &run, taken, json!({ "afterStepId": second["id"], "dueAt": at })).await;
        assert_eq!((&taken["name"], &taken["type"], &taken["dueAt"]), (&json!("Check MOU status"), &json!("review"), &json!(at.to_rfc3339())));
        assert_eq!(order(&world, &run).await, ["a", "a_2", "check_mou_status", "b", "c"]);
        // One with the same key again, also if the key is as long as it may be.
        let long = "k".repeat(60);
        for expected in [long.clone(), format!("{}_2", "k".repeat(58)), format!("{}_3", "k".repeat(58))] {
            assert_eq!(add(&world, &run, declared(&long, "note", json!({})), json!({})).await["key"], expected.as_str());
        }
        // It is a step like the others: it checks its result, and holds the run open.
        let id = second["id"].as_str().unwrap();
        world.step_act("startStep", id, json!({})).await;
        assert_eq!(world.step_refused("completeStep", id, json!({ "result": {} })).await["extensions"]["code"], "BAD_USER_INPUT");
        assert_eq!(world.step_act("completeStep", id, json!({ "result": { "read": true } })).await["status"], "COMPLETED");
        let told = world.complete_run(&run, "").await["errors"][0].clone();
        assert_eq!(told["extensions"]["openSteps"].as_array().unwrap().len(), 7, "{told}");
        let told = payloads(&world, "step.added").await;
        assert_eq!(told.len(), 6);
        assert_eq!((&told[0]["key"], &told[0]["sequence"], &told[0]["afterStepId"], &told[0]["memberId"]), (&json!("c"), &json!(2), &json!(steps[1]), &json!(member)));
        assert_eq!((&told[1]["type"], &told[1]["afterStepId"]), (&json!("email"), &json!(steps[0])));
        // The member can't be deleted while the step is open.
        let delete = "mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }";
        assert_eq!(world.refused(delete, json!({ "id": member })).await.0, "CONFLICT");
        finish(&world, &run, "done").await;
        world.ask(delete, json!({ "id": member })).await;
        world.end().await;
    }
}

both! {
    async fn the_runs_assignee_may_be_gone(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({ "assigneeId": member })).await;
        world.step_act("skipStep", &steps[0], json!({})).await;
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        let added = add(&world, &run, declared("b", "note", json!({})), json!({})).await;
        assert_eq!(added["assignee"], json!(null));
        world.end().await;
    }
}

both! {
    async fn a_wrong_step_is_refused_with_its_field(kind) {
        let world = World::without_server(kind, None).await;
        let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let (other, others) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let (own_task, other_task) = (task(&world, &run).await, task(&world, &other).await);
        let weekly = world.id_of("runTemplates", "key", "weekly-pipeline-review").await;
        let plain = || declared("b", "note", json!({}));
        let with = |more: Value| declared("b", "note", more);
        let past = noon() - chrono::Duration::seconds(1);
        for (step, more, field) in [
            (with(json!({ "type": "fly" })), json!({}), "step.definition.type"),
            (with(json!({ "assignedTo": "AGENT" })), json!({}), "step.definition.assignedTo"),
            (with(json!({ "name": " " })), json!({}), "step.definition.name"),
            (with(json!({ "key": "a b!" })), json!({}), "step.definition.key"),
            (with(json!({ "key": "k".repeat(61) })), json!({}), "step.definition.key"),
            (with(json!({ "when": "1 +" })), json!({}), "step.definition.when"),
            (with(json!({ "when": "true" })), json!({}), "step.definition.when"),
            (with(json!({ "trigger": "event:payment.received" })), json!({}), "step.definition.trigger"),
            (with(json!({ "config": { "nothing": 1 } })), json!({}), "step.definition.config"),
            (with(json!({ "config": { "subject": "s", "body": "b" } })), json!({}), "step.definition.config.subject"),
            (with(json!({ "type": "email", "config": { "subject": "{{ x", "body": "b" } })), json!({}), "step.definition.config.subject"),
            (with(json!({ "config": { "records": { "limit": 501, "linked": true } } })), json!({}), "step.definition.config.records.limit"),
            (with(json!({ "resultSchema": { "type": "nothing" } })), json!({}), "step.definition.resultSchema"),
            (with(json!({ "assignee": "nobody@example.com" })), json!({}), "step.definition.assignee"),
            (with(json!({ "maxAttempts": 0 })), json!({}), "step.definition.maxAttempts"),
            (json!({}), json!({}), "step"),
            (json!({ "templateId": weekly }), json!({}), "step"),
            (json!({ "templateId": weekly, "stepKey": "nothing" }), json!({}), "step.stepKey"),
            (json!({ "templateId": run, "stepKey": "nothing" }), json!({}), "step.templateId"),
            (plain(), json!({ "taskId": other_task }), "taskId"),
            (plain(), json!({ "afterStepId": others[0] }), "afterStepId"),
            (plain(), json!({ "taskId": own_task, "afterStepId": others[0] }), "afterStepId"),
            (plain(), json!({ "dueAt": past }), "dueAt"),
            (with(json!({ "dueIn": "1d" })), json!({ "dueAt": noon() + chrono::Duration::days(1) }), "dueAt"),
        ] {
            let mut input = json!({ "runId": run, "step": step });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let told = refused(&world, ADD, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}: {told}");
        }
        for (field, id) in [("taskId", "task_01h455vb4pex5vsknk084sn02q"), ("afterStepId", "step_01h455vb4pex5vsknk084sn02q"), ("runId", "run_01h455vb4pex5vsknk084sn02q")] {
            let mut input = json!({ "runId": run, "step": plain() });
            input[field] = json!(id);
            assert_eq!(refused(&world, ADD, input).await["code"], "NOT_FOUND", "{field}");
        }
        // Each reason is in plain words, and names its field once.
        for (config, field, why) in [
            (json!("x"), "", "must be an object, not "),
            (json!(7), "", "must be an object, not "),
            (json!([]), "", "must be an object, not a list"),
            (json!({ "title": 5 }), ".title", "must be a string, not `5`"),
            (json!({ "minutes": "long" }), ".minutes", "must be a whole number, not \"long\""),
            (json!({ "records": [1] }), ".records", ""),
            (json!({ "records": "all" }), ".records", "must be an object, not \"all\""),
            (json!({ "records": { "linked": true, "limit": -1 } }), ".records.limit", "must be a whole number that is not negative, not `-1`"),
            (json!({ "records": { "linked": "yes" } }), ".records.linked", "must be a boolean, not \"yes\""),
            (json!({ "nothing": 1 }), "", "unknown field `nothing`"),
        ] {
            let told = refused(&world, ADD, json!({ "runId": run, "step": with(json!({ "config": config })) })).await;
            let at = format!("step.definition.config{field}");
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(at)), "{config}: {told}");
            let message = told["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("{at}: {why}")) && message.matches("an object").count() < 2 && !message.contains("struct") && !message.contains("GuidedConfig"), "{config}: {message}");
        }
        for (more, field) in [(json!({ "name": " " }), "name"), (json!({ "type": "update_stage", "config": { "to": " ", "records": { "linked": true } } }), "config.to"), (json!({ "type": "email", "config": { "subject": "{{", "body": "b" } }), "config.subject")] {
            let told = refused(&world, ADD, json!({ "runId": run, "step": with(more.clone()) })).await;
            let last = field.rsplit('.').next().unwrap();
            let message = told["message"].as_str().unwrap();
            assert!(message.starts_with(&format!("step.definition.{field}: ")) && !message.contains(&format!("{last}: {last}: ")), "{more}: {message}");
        }
        // All problems are told at once.
        let told = refused(&world, ADD, json!({ "runId": run, "step": with(json!({ "type": "fly", "trigger": "event:a.b", "maxAttempts": 0 })) })).await;
        let paths: BTreeSet<&str> = told["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect();
        assert_eq!(paths, BTreeSet::from(["maxAttempts", "trigger", "type"]), "{told}");
        // The task must be named where there are several.
        let one = |key: &str| json!({ "key": key, "name": key, "steps": [{ "key": format!("{key}_s"), "name": "S", "type": "note", "assignedTo": "HUMAN", "trigger": "manual" }] });
        let two = json!({ "runTemplates": [{ "key": "two", "name": "Two", "kind": "GUIDED", "phases": [{ "key": "p", "name": "P", "tasks": [one("left"), one("right")] }] }] });
        world.apply(&two.to_string()).await;
        let two = world.guided("two", json!({})).await;
        let told = refused(&world, ADD, json!({ "runId": two, "step": plain() })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("taskId")), "{told}");
        assert!(told["message"].as_str().unwrap().contains("left (task_"), "{told}");
        let (left, right) = (world.guided_step(&two, "left_s").await, read(&world, &two).await["phases"][0]["tasks"][1]["id"].clone());
        add(&world, &two, plain(), json!({ "afterStepId": left })).await;
        add(&world, &two, plain(), json!({ "taskId": right })).await;
        assert_eq!(order(&world, &two).await, ["left_s", "b", "right_s", "b_2"]);
        let told = refused(&world, ADD, json!({ "runId": two, "step": plain(), "taskId": right, "afterStepId": left })).await;
        assert_eq!(told["field"], "afterStepId");
        // Nothing was written of what was refused.
        assert_eq!(order(&world, &run).await, ["a"]);
        assert_eq!((number_of(&world, "step.added").await, read(&world, &run).await["steps"]["nodes"][0]["id"].clone()), (2, json!(steps[0])));
        world.end().await;
    }
}

both! {
    async fn a_task_that_is_done_is_open_again_with_a_new_step(kind) {
        let world = World::without_server(kind, None).await;
        for verbs in [&["startStep", "completeStep"][..], &["skipStep"]] {
            let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
            let status = async || read(&world, &run).await["phases"][0]["tasks"][0]["status"].clone();
            for verb in verbs {
                world.step_act(verb, &steps[0], json!({})).await;
            }
            let done = if verbs.len() == 2 { "COMPLETED" } else { "SKIPPED" };
            assert_eq!(status().await, done);
            assert!(allowed(&read(&world, &run).await, "COMPLETE"));
            let paused = verbs.len() == 1;
            if paused {
                world.act("pauseRun", "run", json!({ "id": run })).await;
            }
            let added = add(&world, &run, declared("b", "note", json!({})), json!({})).await;
            assert_eq!((added["task"]["status"].clone(), status().await), (json!("IN_PROGRESS"), json!("IN_PROGRESS")));
            if paused {
                world.act("resumeRun", "run", json!({ "id": run })).await;
            }
            assert!(!allowed(&read(&world, &run).await, "COMPLETE"));
            for verb in ["startStep", "completeStep"] {
                world.step_act(verb, added["id"].as_str().unwrap(), json!({})).await;
            }
            assert_eq!(status().await, "COMPLETED");
            finish(&world, &run, "twice").await;
        }
        world.end().await;
    }
}

both! {
    async fn as_many_steps_as_a_run_may_have(kind) {
        let world = World::without_server(kind, None).await;
        let all: Vec<Value> = (0..997).map(|i| declared(&format!("s{i}"), "note", json!({}))).collect();
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
        let started = world.ask(start, json!({ "input": { "name": "Long", "steps": all } })).await;
        let run = started["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        let mut ids = Vec::new();
        let mut after = Value::Null;
        let page = "query($id: ID!, $after: String) { steps(filter: { runIds: [$id] }, first: 500, after: $after) { nodes { id } pageInfo { endCursor } } }";
        for _ in 0..2 {
            let found = world.ask(page, json!({ "id": run, "after": after })).await["steps"].clone();
            ids.extend(found["nodes"].as_array().unwrap().iter().map(|step| step["id"].clone()));
            after = found["pageInfo"]["endCursor"].clone();
        }
        let added = add(&world, &run, declared("last", "note", json!({})), json!({ "afterStepId": ids[0] })).await;
        assert_eq!(added["sequence"], 1);
        let told = refused(&world, ADD, json!({ "runId": run, "step": declared("more", "note", json!({})) })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("LIMIT_EXCEEDED"), &json!("step")), "{told}");
        // Pages of the task's steps are in its order.
        let task = task(&world, &run).await;
        let page = "query($id: ID!, $after: String) { node(id: $id) { ... on Run { phases { tasks { steps(first: 400, after: $after) { totalCount nodes { key sequence } pageInfo { hasNextPage endCursor } } } } } } }";
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let found = world.ask(page, json!({ "id": run, "after": after })).await["node"]["phases"][0]["tasks"][0]["steps"].clone();
            assert_eq!(found["totalCount"], 998);
            seen.extend(found["nodes"].as_array().unwrap().iter().map(|step| step["sequence"].as_i64().unwrap()));
            after = found["pageInfo"]["endCursor"].clone();
            if found["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert!(seen.into_iter().eq(0..998));
        ids.push(added["id"].clone());
        ids.reverse();
        world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": ids } })).await;
        assert_eq!(world.number("SELECT CAST(sequence AS bigint) FROM step WHERE key = 'last'").await, 0);
        assert_eq!(world.number("SELECT CAST(sequence AS bigint) FROM step WHERE key = 's0'").await, 997);
        assert_eq!(world.number("SELECT COUNT(DISTINCT sequence) FROM step").await, 998);
        world.end().await;
    }
}
