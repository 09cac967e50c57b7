//! Words for people: name, description and outcome of a run.

use super::*;

both! {
    async fn a_run_gets_another_name_and_description(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _) = world.own_run(&[("a", "custom", json!({}))], json!({ "description": "Before" })).await;
        let before = read(&world, &run).await["revision"].as_i64().unwrap();
        let update = async |input: Value| world.ask(UPDATE, json!({ "input": input })).await["updateRun"]["run"].clone();
        let named = update(json!({ "id": run, "name": "  Zürich, 46 ", "expectedRevision": before })).await;
        assert_eq!(named, json!({ "id": run, "name": "Zürich, 46", "description": "Before", "revision": before + 1 }));
        // What is omitted, null or the same as before changes nothing.
        for input in [json!({ "id": run }), json!({ "id": run, "name": null }), json!({ "id": run, "name": "Zürich, 46", "description": "Before" })] {
            assert_eq!(update(input.clone()).await, named, "{input}");
        }
        assert_eq!(update(json!({ "id": run, "description": "Two\nlines" })).await["description"], "Two\nlines");
        let cleared = update(json!({ "id": run, "description": null })).await;
        assert_eq!((&cleared["description"], &cleared["revision"]), (&json!(""), &json!(before + 3)));
        assert_eq!(refused(&world, UPDATE, json!({ "id": run, "name": "X", "expectedRevision": before })).await["code"], "CONFLICT");
        for (input, field) in [
            (json!({ "id": run, "name": "" }), "name"),
            (json!({ "id": run, "name": " \u{200b}" }), "name"),
            (json!({ "id": run, "name": "a\nb" }), "name"),
            (json!({ "id": run, "name": "n".repeat(10_000) }), "name"),
            (json!({ "id": run, "description": "ü".repeat(10_001) }), "description"),
            (json!({ "id": run, "description": "a\u{0}b" }), "description"),
            (json!({ "id": "goal_01h455vb4pex5vsknk084sn02q" }), "id"),
        ] {
            let told = refused(&world, UPDATE, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}: {told}");
        }
        assert_eq!(refused(&world, UPDATE, json!({ "id": "run_01h455vb4pex5vsknk084sn02q", "name": "x" })).await["code"], "NOT_FOUND");
        // It is found by its new name.
        let count = async |text: &str| world.ask("query($t: String) { runs(filter: { search: $t }) { totalCount } }", json!({ "t": text })).await["runs"]["totalCount"].clone();
        assert_eq!((count("ZÜRICH").await, count("one's own").await), (json!(1), json!(0)));
        let told = payloads(&world, "run.updated").await;
        assert_eq!(told.len(), 3, "{told:#?}");
        assert_eq!((&told[0]["name"], &told[0]["formerName"], &told[0]["formerDescription"]), (&json!("Zürich, 46"), &json!("Of one's own"), &json!(null)));
        assert_eq!((&told[2]["formerName"], &told[2]["formerDescription"]), (&json!(null), &json!("Two\nlines")));
        // Also when it has ended.
        finish(&world, &run, "").await;
        assert!(allowed(&read(&world, &run).await, "UPDATE"));
        assert_eq!(update(json!({ "id": run, "name": "Over" })).await["name"], "Over");
        world.end().await;
    }
}

both! {
    async fn the_run_of_a_campaign_gets_another_name(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let renamed = world.ask(UPDATE, json!({ "input": { "id": run, "name": "Second wave", "description": "D" } })).await;
        assert_eq!((&renamed["updateRun"]["run"]["name"], &renamed["updateRun"]["run"]["description"]), (&json!("Second wave"), &json!("D")));
        let campaign = world.ask("query($id: ID!) { run(id: $id) { name campaign { name } } }", json!({ "id": run })).await;
        for text in ["second WAVE", campaign["run"]["campaign"]["name"].as_str().unwrap()] {
            let found = world.ask("query($t: String) { runs(filter: { search: $t }) { totalCount } }", json!({ "t": text })).await;
            assert_eq!(found["runs"]["totalCount"], 1, "{text}");
        }
        // A run that is only scheduled has the name of its schedule; its description is its own.
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-11-03T12:00:00Z\" }) { run { id name } } }";
        let scheduled = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"].clone();
        let told = refused(&world, UPDATE, json!({ "id": scheduled["id"], "name": "Mine" })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("CONFLICT"), &json!("name")), "{told}");
        assert!(told["message"].as_str().unwrap().contains("updateSchedule"), "{told}");
        world.ask(UPDATE, json!({ "input": { "id": scheduled["id"], "name": scheduled["name"], "description": "Kept" } })).await;
        world.clock.set("2026-11-03T12:00:01Z".parse().unwrap());
        world.tick(true).await;
        let query = "query($id: ID!) { run(id: $id) { status name description } }";
        let fired = world.ask(query, json!({ "id": scheduled["id"] })).await["run"].clone();
        assert_eq!((&fired["name"], &fired["description"]), (&scheduled["name"], &json!("Kept")));
        assert_ne!(fired["status"], "SCHEDULED");
        let named = world.ask(UPDATE, json!({ "input": { "id": scheduled["id"], "name": "Mine" } })).await;
        assert_eq!(named["updateRun"]["run"]["name"], "Mine");
        world.end().await;
    }
}

both! {
    async fn the_outcome_is_corrected(kind) {
        let world = World::new(kind).await;
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let launched = world.launch(&plan).await;
        world.until_review(&launched).await;
        let goals = async || world.ask("{ goals { nodes { id outcomes { runsByStatus { status count } recipientsByOutcome { outcome count } } } } }", json!({})).await;
        finish(&world, &run, "Three signed").await;
        let (before, goals_before) = (read(&world, &run).await, goals().await);
        let revision = before["revision"].as_i64().unwrap();
        let correct = async |outcome: Value, more: Value| {
            let mut input = json!({ "runId": run, "outcome": outcome, "reason": "miscounted" });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.ask(OUTCOME, json!({ "input": input })).await["updateRunOutcome"]["run"].clone()
        };
        let two = correct(json!("Two signed"), json!({ "expectedRevision": revision })).await;
        assert_eq!(two, json!({ "id": run, "status": "COMPLETED", "outcome": "Two signed", "revision": revision + 1 }));
        assert_eq!(correct(json!("Two signed"), json!({})).await, two, "the same outcome is no change");
        for (input, code, field) in [
            (json!({ "runId": run, "outcome": "x", "reason": "r", "expectedRevision": revision }), "CONFLICT", json!(null)),
            (json!({ "runId": run, "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "ü".repeat(10_001), "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "a\u{0}b", "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "x", "reason": " \u{200b}" }), "BAD_USER_INPUT", json!("reason")),
            (json!({ "runId": "run_01h455vb4pex5vsknk084sn02q", "outcome": "x", "reason": "r" }), "NOT_FOUND", json!(null)),
        ] {
            let told = refused(&world, OUTCOME, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &field), "{input}: {told}");
        }
        assert_eq!(correct(json!(null), json!({ "idempotencyKey": "k" })).await["outcome"], json!(null));
        assert_eq!(correct(json!(null), json!({ "idempotencyKey": "k" })).await["outcome"], json!(null));
        let told = payloads(&world, "run.outcome_corrected").await;
        let changes: Vec<_> = told.iter().map(|payload| (&payload["before"], &payload["after"], &payload["reason"])).collect();
        let why = json!("miscounted");
        assert_eq!(changes, [(&json!("Three signed"), &json!("Two signed"), &why), (&json!("Two signed"), &json!(null), &why)]);
        // Its steps, its status and the goals' numbers are as they were.
        let after = read(&world, &run).await;
        for field in ["status", "phases", "steps", "progress"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        assert_eq!(goals().await, goals_before);
        let audit = world.ask("{ audit(filter: { mutations: [\"updateRunOutcome\"], outcomes: [DONE] }) { nodes { targetId input } } }", json!({})).await;
        let first = audit["audit"]["nodes"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&first["targetId"], first["input"].to_string().contains("Two signed")), (&json!(run), true), "{audit:#}");
        world.end().await;
    }
}
