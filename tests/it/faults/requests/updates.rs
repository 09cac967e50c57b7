//! Every update mutation, found by introspection: a variable without a value changes nothing, and
//! null changes only its own field.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::World;

const INTROSPECTION: &str = "query($of: String!) { __type(name: $of) { fields { name args { type { kind } defaultValue } type { ...T } } inputFields { name type { ...T } } } }
    fragment T on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }";

async fn parts(world: &World, of: &str, kind: &str) -> Vec<Value> {
    world.ask(INTROSPECTION, json!({ "of": of })).await["__type"][kind].as_array().cloned().unwrap_or_default()
}

fn written(reference: &Value) -> String {
    match reference["kind"].as_str().unwrap() {
        "NON_NULL" => format!("{}!", written(&reference["ofType"])),
        "LIST" => format!("[{}]", written(&reference["ofType"])),
        _ => reference["name"].as_str().unwrap().to_owned(),
    }
}

/// Selection of an object's fields without arguments: scalars, and the ids of related objects.
async fn readable(world: &World, of: &str) -> String {
    let mut all = Vec::new();
    for field in parts(world, of, "fields").await {
        let name = field["name"].as_str().unwrap();
        let open = field["args"].as_array().unwrap().iter().all(|arg| arg["type"]["kind"] != "NON_NULL");
        let text = written(&field["type"]);
        if !open || text.starts_with('[') || ["updatedAt", "revision", "version"].contains(&name) {
            continue;
        }
        let base = text.trim_end_matches('!');
        let below = parts(world, base, "fields").await;
        if below.is_empty() {
            all.push(name.to_owned());
        } else if below.iter().any(|field| field["name"] == "id") {
            all.push(format!("{name} {{ id }}"));
        }
    }
    all.join(" ")
}

/// Creates an object of every noun with a value in every field.
async fn full(world: &World) -> BTreeMap<&'static str, String> {
    let plan = world.plan("EMAIL", 1).await;
    let change = json!({ "id": plan.campaign, "description": "D", "instructions": "I" });
    world
        .ask(
            "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }",
            json!({ "input": change }),
        )
        .await;
    world.activate(&plan).await;
    let schedule = json!({ "campaignId": plan.campaign, "cron": "0 9 * * *", "timezone": "Europe/Berlin" });
    let schedule = world
        .ask(
            "mutation($input: ScheduleCampaignInput!) { scheduleCampaign(input: $input) { schedule { id } } }",
            json!({ "input": schedule }),
        )
        .await;
    let parts = world
        .ask("query($id: ID!) { campaign(id: $id) { goal { id } reviewer { id } } }", json!({ "id": plan.campaign }))
        .await;
    let record = json!({
        "kind": "lead", "name": "Ann", "email": "ann@example.com", "phone": "+4930123456", "timeZone": "Europe/Berlin", "stage": "New",
        "lastContactedAt": "2026-01-02T03:04:05Z", "attributes": { "a": 1 },
    });
    let member = world
        .create("member", json!({ "name": "M", "email": "m@example.com", "role": "REVIEWER", "subject": "m" }))
        .await;
    let agent = json!({ "name": "bot", "kind": "OUTSIDE", "description": "D", "filter": "step.type == \"x\"", "context": "{ id }", "outputSchema": { "type": "object" }, "instructions": "I" });
    let structure = json!({ "key": "own", "name": "Own", "description": "D", "definition": { "phases": [{ "key": "p", "name": "P", "tasks": [{ "key": "t", "name": "T", "steps": [{ "key": "s", "name": "S", "type": "review", "assignedTo": "HUMAN" }] }] }] } });
    let mut ids = BTreeMap::from([
        ("campaign", plan.campaign.clone()),
        ("messageTemplate", plan.template.clone()),
        ("segment", plan.segment.clone()),
        ("goal", world.create("goal", json!({ "name": "G", "description": "D" })).await),
        ("reviewer", parts["campaign"]["reviewer"]["id"].as_str().unwrap().to_owned()),
        ("writer", world.create("writer", json!({ "name": "W", "instructions": "I", "body": "B" })).await),
        ("record", world.create("record", record).await),
        ("agent", world.create("agent", agent).await),
        ("runTemplate", world.create("runTemplate", structure).await),
        ("member", member),
    ]);
    let (run, _) = world.own_run(&[("a", "custom", json!({}))], json!({ "description": "D" })).await;
    ids.insert("run", run.clone());
    let note = "mutation($id: ID!) { addRunNote(input: { runId: $id, belongsTo: EXECUTION, text: \"N\" }) { runNote { id } } }";
    let note = world.ask(note, json!({ "id": run })).await;
    ids.insert("runNote", note["addRunNote"]["runNote"]["id"].as_str().unwrap().to_owned());
    ids.insert("schedule", schedule["scheduleCampaign"]["schedule"]["id"].as_str().unwrap().to_owned());
    ids
}

both! {
    async fn what_is_not_said_is_not_changed(kind) {
        let world = World::new(kind).await;
        let ids = full(&world).await;
        let mut tried = 0;
        for mutation in parts(&world, "Mutation", "fields").await {
            let name = mutation["name"].as_str().unwrap();
            let Some(noun) = name.strip_prefix("update").map(|noun| noun[..1].to_lowercase() + &noun[1..]) else { continue };
            let upper = &name["update".len()..];
            let slots = parts(&world, &format!("Update{upper}Input"), "inputFields").await;
            // Actions of guided steps are not updates of the object in their name.
            if !slots.iter().any(|slot| slot["name"] == "id") {
                continue;
            }
            let Some(id) = ids.get(noun.as_str()) else { panic!("{name} has nothing to change in this test: add its noun to `full`") };
            let fields = readable(&world, upper).await;
            let read = async || world.ask(&format!("query($id: ID!) {{ node(id: $id) {{ ... on {upper} {{ {fields} }} }} }}"), json!({ "id": id })).await["node"].clone();
            let declared: Vec<String> = slots.iter().map(|slot| format!("${}: {}", slot["name"].as_str().unwrap(), written(&slot["type"]))).collect();
            let given: Vec<String> = slots.iter().map(|slot| format!("{0}: ${0}", slot["name"].as_str().unwrap())).collect();
            let document = format!("mutation({}) {{ {name}(input: {{ {} }}) {{ __typename }} }}", declared.join(", "), given.join(", "));
            let before = read().await;
            for _ in 0..2 {
                let answer = world.post(&document, json!({ "id": id })).await;
                let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("OK");
                assert!(["OK", "BAD_USER_INPUT"].contains(&code), "{name}: {answer}");
                assert_eq!(read().await, before, "{name} with nothing but the id");
            }
            for slot in &slots {
                let key = slot["name"].as_str().unwrap();
                if slot["type"]["kind"] == "NON_NULL" || ["expectedRevision", "idempotencyKey"].contains(&key) {
                    continue;
                }
                let before = read().await;
                let answer = world.post(&document, json!({ "id": id, key: null })).await;
                let code = answer["errors"][0]["extensions"]["code"].as_str().unwrap_or("OK");
                assert!(["OK", "BAD_USER_INPUT", "CONFLICT"].contains(&code), "{name} with {key} null: {answer}");
                let after = read().await;
                let base = key.trim_end_matches("Id").trim_end_matches("Ids");
                for (field, value) in before.as_object().unwrap() {
                    // Derived fields may change, too: a template's structure, a campaign's own.
                    let own = field == key || field == base || field.to_lowercase().contains(&base.to_lowercase()) || (key == "stage" && field == "stage");
                    assert!(own || *value == after[field], "{name} with {key} null changed {field} from {value} to {}", after[field]);
                }
                tried += 1;
            }
        }
        assert!(tried > 30, "only {tried} fields were found");
        world.drop_unchecked().await;
    }
}
