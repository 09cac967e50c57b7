//! The schema: the golden file, descriptions, and the form of errors.

use serde_json::{Value, json};

use crate::harness::World;

#[test]
fn the_golden_file_is_current() {
    let now = sortie::graphql::sdl();
    let golden = std::fs::read_to_string("schema.graphql").unwrap();
    assert!(
        now == golden,
        "the schema has changed: look at `cargo run -- schema | diff schema.graphql -`, then keep it"
    );
}

both! {
    async fn everything_has_a_description(kind) {
        let world = World::without_server(kind, None).await;
        let query = "{ __schema { types { kind name description fields { name description args { name description } } inputFields { name description } enumValues { name description } } } }";
        let data = world.ask(query, json!({})).await;
        let mut bare = Vec::new();
        for of in data["__schema"]["types"].as_array().unwrap() {
            let name = of["name"].as_str().unwrap();
            if name.starts_with("__") {
                continue;
            }
            for part in ["fields", "inputFields", "enumValues"] {
                for field in of[part].as_array().into_iter().flatten() {
                    if field["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
                        bare.push(format!("{name}.{}", field["name"].as_str().unwrap()));
                    }
                    for argument in field["args"].as_array().into_iter().flatten() {
                        if argument["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
                            bare.push(format!("{name}.{}({})", field["name"].as_str().unwrap(), argument["name"].as_str().unwrap()));
                        }
                    }
                }
            }
            if of["kind"] != "SCALAR" && of["description"].as_str().is_none_or(|text| text.trim().is_empty()) && of["kind"] != "INTERFACE" {
                bare.push(name.to_owned());
            }
        }
        assert!(bare.is_empty(), "{bare:#?}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn refusals_tell_code_and_field_and_faults_tell_nothing(kind) {
        let world = World::new(kind).await;
        let run = "query($id: ID!) { run(id: $id) { id } }";
        let (code, message) = world.refused(run, json!({ "id": "campaign_01h455vb4pex5vsknk084sn02q" })).await;
        assert_eq!(code, "BAD_USER_INPUT");
        assert!(message.starts_with("id: `campaign_01h455vb4pex5vsknk084sn02q` is not the id of a run"), "{message}");
        assert_eq!(world.ask(run, json!({ "id": "run_01h455vb4pex5vsknk084sn02q" })).await["run"], Value::Null);
        let create = "mutation($input: CreateGoalInput!) { createGoal(input: $input) { goal { id } } }";
        for name in ["", "   ", "two\nlines"] {
            let (code, message) = world.refused(create, json!({ "input": { "name": name } })).await;
            assert_eq!((code.as_str(), message.starts_with("name: ")), ("BAD_USER_INPUT", true));
        }
        let cancel = "mutation { cancelRun(input: { id: \"run_01h455vb4pex5vsknk084sn02q\" }) { run { id } } }";
        assert_eq!(world.refused(cancel, json!({})).await.0, "NOT_FOUND");
        let goal = world.create("goal", json!({ "name": "One" })).await;
        let update = "mutation($id: ID!, $at: Int) { updateGoal(input: { id: $id, expectedRevision: $at, name: \"Two\" }) { goal { revision } } }";
        assert_eq!(world.ask(update, json!({ "id": goal, "at": 1 })).await["updateGoal"]["goal"]["revision"], 2);
        assert_eq!(world.refused(update, json!({ "id": goal, "at": 1 })).await.0, "CONFLICT");
        let template = "mutation($body: String!) { createMessageTemplate(input: { name: \"T\", subject: \"S\", body: $body }) { messageTemplate { id } } }";
        for body in ["{{ open", "{% set a = 1 %}", "{% macro m() %}{% endmacro %}", "{{ a | replace('a', 'b') }}"] {
            let (code, message) = world.refused(template, json!({ "body": body })).await;
            assert_eq!((code.as_str(), message.starts_with("body: ")), ("BAD_USER_INPUT", true), "{body}: {message}");
        }
        // An internal error: the table is gone. The client gets a code and an id, and no SQL.
        world.force("DROP TABLE reply").await;
        let (code, message) = world.refused("{ replies { totalCount nodes { id } } }", json!({})).await;
        assert_eq!(code, "INTERNAL");
        assert!(!message.to_lowercase().contains("reply") && message.contains("logged as"), "{message}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn any_object_by_its_id(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let query = "query($ids: [ID!]!) { nodes(ids: $ids) { __typename id } viewer { role member { name } } }";
        let gone = "goal_01h455vb4pex5vsknk084sn02q";
        let data = world.ask(query, json!({ "ids": [plan.campaign, plan.records[0], gone, plan.segment, plan.template] })).await;
        let names: Vec<&str> = data["nodes"].as_array().unwrap().iter().map(|node| node["__typename"].as_str().unwrap_or("null")).collect();
        assert_eq!(names, ["Campaign", "Record", "null", "Segment", "MessageTemplate"]);
        assert_eq!(data["viewer"], json!({ "role": "ADMIN", "member": { "name": "Developer" } }));
        world.end().await;
    }
}

both! {
    /// A document that was found valid is not validated again; its responses stay the same, also
    /// for invalid variables.
    async fn answers_do_not_depend_on_who_asked_before(kind) {
        let world = World::new(kind).await;
        let goal = world.create("goal", json!({ "name": "One" })).await;
        let ask = async |query: &str, variables: &Value| {
            let request = crate::harness::client().post(format!("http://{}/graphql", world.address)).header("accept", "application/graphql-response+json");
            let response = request.json(&json!({ "query": query, "variables": variables })).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        };
        let documents = [
            ("query A($id: ID!) { goal(id: $id) { name } }", json!({ "id": goal }), vec![json!({}), json!({ "id": null }), json!({ "id": {} }), json!({ "id": "nonsense" }), json!({ "id": goal, "more": 1 })]),
            ("query B($f: RunFilter, $o: RunOrder, $n: Int) { runs(filter: $f, orderBy: $o, first: $n) { totalCount } }", json!({ "f": { "statuses": ["QUEUED"] } }), vec![
                json!({ "f": { "statuses": ["NONE"] } }), json!({ "f": { "statuses": "QUEUED" } }), json!({ "f": { "nothing": 1 } }), json!({ "f": 1 }), json!({ "o": {} }),
                json!({ "o": { "field": "CREATED_AT", "direction": "UP" } }), json!({ "n": "ten" }), json!({ "n": 1.5 }), json!({ "n": -1 }), json!({ "n": 9999999999i64 }), json!({ "f": null }),
            ]),
            ("query C($yes: Boolean!) { viewer { role @include(if: $yes) cursor } }", json!({ "yes": true }), vec![json!({ "yes": false }), json!({ "yes": "true" }), json!({})]),
        ];
        for (document, good, others) in documents {
            let mut before = Vec::new();
            for variables in &others {
                before.push(ask(document, variables).await);
            }
            assert_eq!(ask(document, &good).await.0, 200, "{document}");
            for (variables, before) in others.iter().zip(before) {
                assert_eq!(ask(document, variables).await, before, "{document} with {variables}");
            }
        }
        world.end().await;
    }
}

/// Types whose `id` is that of another object, so that they are not nodes themselves.
const OF_ANOTHER: [&str; 6] = ["ClaimedStep", "MissedOccurrences", "RefusedRun", "Renewed", "SettledStep", "ToldPart"];

#[test]
fn every_type_with_an_id_is_a_node_and_every_scalar_is_specified() {
    let printed = sortie::graphql::sdl();
    let (mut of, mut nodes) = (None, 0);
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix("type ") {
            of = Some(name.trim_end_matches(" {"));
        }
        if line == "\tid: ID!" && of.is_some() {
            let of = of.unwrap_or_default();
            assert!(of.ends_with("implements Node") || OF_ANOTHER.contains(&of), "{of}");
            nodes += 1;
        }
        if line == "}" {
            of = None;
        }
        assert!(!line.starts_with("scalar ") || line.contains("@specifiedBy"), "{line}");
    }
    assert!(nodes > 25, "{nodes}");
}
