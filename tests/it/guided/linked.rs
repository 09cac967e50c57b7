//! Records that are created within a step are linked from those that they come from (`linkRole`,
//! `fromIds`).

use serde_json::{Value, json};

use crate::harness::World;

const CREATE: &str = "mutation($input: CreateStepRecordsInput!) { createStepRecords(input: $input) {
    records { name links(direction: TO) { nodes { role from { name } } } } step { result } } }";

async fn record(world: &World, name: &str) -> String {
    world.create("record", json!({ "kind": "lead", "name": name })).await
}

/// The names and links of the records that a step creates: `role name` of each link.
async fn created(world: &World, input: Value) -> Vec<(String, Vec<String>)> {
    let made = world.ask(CREATE, json!({ "input": input })).await["createStepRecords"]["records"].clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let link = |link: &Value| format!("{} {}", text(&link["role"]), text(&link["from"]["name"]));
    let links = |record: &Value| record["links"]["nodes"].as_array().unwrap().iter().map(link).collect();
    made.as_array().unwrap().iter().map(|record| (text(&record["name"]), links(record))).collect()
}

/// Code and field of a refused creation.
async fn refused(world: &World, input: Value) -> (String, String) {
    let answer = world.post(CREATE, json!({ "input": input })).await;
    let told = &answer["errors"][0]["extensions"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    assert!(told.is_object(), "{input} was not refused: {answer:#}");
    (text(&told["code"]), text(&told["field"]))
}

both! {
    async fn a_new_record_is_linked_from_that_of_the_run(kind) {
        let world = World::without_server(kind, None).await;
        let (ann, ben) = (record(&world, "Ann").await, record(&world, "Ben").await);
        let config = json!({ "create": "partnership", "linkRole": "partnership" });
        let steps = [("make", "custom", config), ("plain", "custom", json!({ "create": "order" }))];
        let (run, steps) = world.own_run(&steps, json!({ "linkedRecordIds": [ann] })).await;
        for step in &steps {
            world.step_act("startStep", step, json!({})).await;
        }
        // The one that the run was started with, others, none; another role.
        let records = json!([{ "name": "A" }, { "name": "B", "fromIds": [ben] }, { "name": "C", "fromIds": [] }, { "name": "D", "fromIds": null }]);
        let made = created(&world, json!({ "stepId": steps[0], "records": records })).await;
        let links: Vec<Vec<&str>> = made.iter().map(|(_, links)| links.iter().map(String::as_str).collect()).collect();
        assert_eq!(links, [vec!["partnership Ann"], vec!["partnership Ben"], vec![], vec!["partnership Ann"]]);
        let made = created(&world, json!({ "stepId": steps[0], "linkRole": "idea", "records": [{ "name": "E" }] })).await;
        assert_eq!(made[0].1, ["idea Ann"]);
        // A step without a role links nothing, unless the request has one.
        let made = created(&world, json!({ "stepId": steps[1], "records": [{ "name": "F" }, { "name": "G", "fromIds": [] }] })).await;
        assert!(made.iter().all(|(_, links)| links.is_empty()), "{made:?}");
        let made = created(&world, json!({ "stepId": steps[1], "linkRole": "order", "records": [{ "name": "H", "fromIds": [ann, ben] }] })).await;
        assert_eq!(made[0].1, ["order Ben", "order Ann"], "newest first");
        let many = vec![json!({ "name": "M", "fromIds": vec![&ben; 500] }); 2];
        for (input, expected) in [
            (json!({ "stepId": steps[1], "records": [{ "name": "X", "fromIds": [ben] }] }), ("BAD_USER_INPUT", "linkRole")),
            (json!({ "stepId": steps[1], "linkRole": "No role", "records": [{ "name": "X" }] }), ("BAD_USER_INPUT", "linkRole")),
            (json!({ "stepId": steps[0], "records": [{ "name": "X", "fromIds": [run] }] }), ("BAD_USER_INPUT", "records[0].fromIds")),
            (json!({ "stepId": steps[0], "records": [{ "name": "X", "fromIds": ["record_01h455vb4pex5vsknk084sn02q"] }] }), ("NOT_FOUND", "")),
        ] {
            let (code, field) = refused(&world, input.clone()).await;
            assert_eq!((code.as_str(), field.as_str()), expected, "{input}");
        }
        // Named twice, it is one link.
        assert_eq!(created(&world, json!({ "stepId": steps[0], "records": many })).await.len(), 2);
        // The activity names the records, the log has the link.
        let acts = world.ask("query($id: ID!) { step(id: $id) { activities(first: 50) { nodes { summary details } } } }", json!({ "id": steps[0] })).await;
        let acts = acts["step"]["activities"]["nodes"].as_array().unwrap().clone();
        let of = |name: &str| acts.iter().find(|act| act["details"]["name"] == name).unwrap()["details"].clone();
        assert_eq!((&of("B")["linkedFrom"], &of("C")["linkedFrom"]), (&json!([ben]), &Value::Null));
        let links = world.number("SELECT COUNT(*) FROM record_link").await;
        assert_eq!((links, world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.linked'").await), (8, 8));
        // An erased record is none of those: the step goes on without it, and naming it is refused.
        world.ask("mutation($id: ID!) { eraseRecord(input: { id: $id, reason: \"asked\" }) { record { id } } }", json!({ "id": ann })).await;
        let made = created(&world, json!({ "stepId": steps[0], "records": [{ "name": "I" }] })).await;
        assert_eq!(made[0].1, Vec::<String>::new());
        let input = json!({ "stepId": steps[0], "records": [{ "name": "J", "fromIds": [ann] }] });
        assert_eq!(refused(&world, input).await.0, "CONFLICT");
        world.end().await;
    }
}

both! {
    async fn several_records_of_a_run_are_named(kind) {
        let world = World::without_server(kind, None).await;
        let (ann, ben) = (record(&world, "Ann").await, record(&world, "Ben").await);
        let config = json!({ "create": "partnership", "linkRole": "partnership" });
        let (_, steps) = world.own_run(&[("make", "custom", config)], json!({ "linkedRecordIds": [ann, ben] })).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        // Of two, none is meant by itself; a repeated request links nothing again.
        let input = json!({ "stepId": steps[0], "idempotencyKey": "k", "records": [{ "name": "A" }, { "name": "B", "fromIds": [ann, ben] }] });
        let made = created(&world, input.clone()).await;
        assert_eq!((made[0].1.len(), made[1].1.len()), (0, 2));
        assert_eq!(created(&world, input).await, made);
        assert_eq!(world.number("SELECT COUNT(*) FROM record_link").await, 2);
        world.end().await;
    }
}

both! {
    async fn a_role_is_checked_with_the_template(kind) {
        let world = World::without_server(kind, None).await;
        let start = "mutation($steps: [GuidedStepInput!]) { startGuidedRun(input: { name: \"G\", steps: $steps }) { run { id } } }";
        for (of, config) in [("custom", json!({ "linkRole": "No role" })), ("custom", json!({ "linkRole": "" })), ("note", json!({ "linkRole": "partnership" }))] {
            let steps = json!([{ "definition": { "key": "s", "name": "S", "type": of, "assignedTo": "HUMAN", "config": config } }]);
            let (code, why) = world.refused(start, json!({ "steps": steps })).await;
            assert!(code == "BAD_USER_INPUT" && why.contains("linkRole"), "{config}: {why}");
        }
        world.end().await;
    }
}

both! {
    async fn a_step_of_a_campaign_links_from_its_own_record(kind) {
        let world = World::without_server(kind, None).await;
        let step = json!({ "key": "make", "name": "Make", "type": "custom", "assignedTo": "HUMAN", "config": { "create": "partnership", "linkRole": "partnership" } });
        let phases = json!([{ "key": "p", "name": "P", "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [step] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "hands", "name": "Hands", "phases": phases }] }).to_string()).await;
        let plan = world.plan("EMAIL", 2).await;
        let template = world.id_of("runTemplates", "key", "hands").await;
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
        world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let query = "query($id: ID!) { steps(filter: { runIds: [$id] }, first: 100) { nodes { id record { id } } } }";
        let found = world.ask(query, json!({ "id": run })).await["steps"]["nodes"].clone();
        let own = found.as_array().unwrap().iter().find(|step| step["record"]["id"] == json!(plan.records[1])).unwrap()["id"].as_str().unwrap().to_owned();
        world.step_act("startStep", &own, json!({})).await;
        let made = created(&world, json!({ "stepId": own, "records": [{ "name": "A" }, { "name": "B", "fromIds": [plan.records[0]] }] })).await;
        assert_eq!((made[0].1.as_slice(), made[1].1.as_slice()), (&["partnership Lead 1".to_owned()][..], &["partnership Lead 0".to_owned()][..]));
        world.end().await;
    }
}
