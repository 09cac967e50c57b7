//! Variables by the specification, on every kind of request and transport: one without a value
//! counts as not given, an invalid one is rejected with its path.

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::socket::Socket;

const UPDATE: &str = "mutation U($id: ID!, $email: String, $phone: String, $zone: String, $stage: String, $at: DateTime, $attributes: JSON) {
    updateRecord(input: { id: $id, email: $email, phone: $phone, timeZone: $zone, stage: $stage, lastContactedAt: $at, attributes: $attributes }) {
        record { email phone timeZone stage lastContactedAt attributes }
    }
}";

both! {
    async fn a_variable_without_a_value_is_not_given(kind) {
        let world = World::new(kind).await;
        let input = json!({
            "kind": "lead", "name": "Ann", "email": "ann@example.com", "phone": "+4930123456", "timeZone": "Europe/Berlin",
            "stage": "New", "lastContactedAt": "2026-01-02T03:04:05Z", "attributes": { "a": 1 },
        });
        let id = world.create("record", input).await;
        let all = json!({
            "email": "ann@example.com", "phone": "+4930123456", "timeZone": "Europe/Berlin", "stage": "New",
            "lastContactedAt": "2026-01-02T03:04:05+00:00", "attributes": { "a": 1 },
        });
        // More than once: the document is known the second time.
        for _ in 0..2 {
            assert_eq!(world.ask(UPDATE, json!({ "id": id })).await["updateRecord"]["record"], all);
        }
        let one = world.ask(UPDATE, json!({ "id": id, "email": null })).await;
        let mut wanted = all.clone();
        wanted["email"] = Value::Null;
        assert_eq!(one["updateRecord"]["record"], wanted);
        let default = "mutation($id: ID!, $email: String = \"default@example.com\", $phone: String = null) { updateRecord(input: { id: $id, email: $email, phone: $phone }) { record { email phone } } }";
        let record = world.ask(default, json!({ "id": id })).await["updateRecord"]["record"].clone();
        assert_eq!(record, json!({ "email": "default@example.com", "phone": null }));
        // Over a socket, and as events.
        let mut socket = Socket::open(world.address).await;
        socket.subscribe("1", UPDATE, json!({ "id": id })).await;
        assert_eq!(socket.next().await["updateRecord"]["record"]["stage"], "New");
        let events = crate::harness::client().post(format!("http://{}/graphql", world.address)).header("accept", "text/event-stream");
        let told = events.json(&json!({ "query": UPDATE, "variables": { "id": id } })).send().await.unwrap().text().await.unwrap();
        assert!(told.contains("\"stage\":\"New\""), "{told}");
        world.end().await;
    }
}

both! {
    async fn in_lists_json_arguments_and_below(kind) {
        let world = World::new(kind).await;
        let id = world.create("record", json!({ "kind": "lead", "name": "Ann", "email": "ann@example.com" })).await;
        // Arguments: the page's default counts, not null.
        let page = "query($first: Int, $after: String, $filter: RecordFilterInput, $order: RecordOrder) { records(first: $first, after: $after, filter: $filter, orderBy: $order) { totalCount } }";
        for _ in 0..2 {
            assert_eq!(world.ask(page, json!({})).await["records"]["totalCount"], 1);
        }
        // Below a filter, and in a list of a nullable type.
        let nested = "query($kind: String, $email: TextFilter, $name: String) { records(filter: { kind: { eq: $kind }, email: $email, or: [{ name: { eq: $name } }, { kind: { eq: \"lead\" } }] }) { totalCount } }";
        for variables in [json!({ "kind": "lead", "name": "Ben" }), json!({ "kind": "lead", "name": "Ann", "email": { "isNull": false } })] {
            assert_eq!(world.ask(nested, variables.clone()).await["records"]["totalCount"], 1, "{variables}");
        }
        // A condition without its value does not match everybody.
        for (variables, field) in [(json!({}), "filter.kind"), (json!({ "kind": "lead" }), "filter.or[0].name"), (json!({ "kind": "lead", "name": "Ann", "email": {} }), "filter.email")] {
            assert_eq!(world.field_refused(nested, variables).await, field);
        }
        // In JSON: a field without a value is not there.
        let attributes = "mutation($id: ID!, $a: String, $b: Int) { updateRecord(input: { id: $id, attributes: { a: $a, b: $b, c: [$a] } }) { record { attributes } } }";
        let told = world.post(attributes, json!({ "id": id, "b": 2 })).await;
        assert!(told["errors"].is_array() || told["data"]["updateRecord"]["record"]["attributes"]["b"] == 2, "{told}");
        let attributes = "mutation($id: ID!, $a: String, $b: Int) { updateRecord(input: { id: $id, attributes: { a: $a, b: $b } }) { record { attributes } } }";
        let record = world.ask(attributes, json!({ "id": id, "b": 2 })).await;
        assert_eq!(record["updateRecord"]["record"]["attributes"], json!({ "b": 2 }));
        // A nullable variable for an argument with a default: the default counts, null is rejected.
        let autonomous = "mutation($autonomous: Boolean, $key: String!) { createRunTemplate(input: { key: $key, name: \"T\", definition: { phases: [{ key: \"one\", name: \"One\", autonomous: $autonomous, tasks: [] }] } }) { runTemplate { id } } }";
        let codes = |told: Value| (told["errors"][0]["extensions"]["code"].clone(), told["errors"][0]["extensions"]["field"].clone());
        let absent = world.post(autonomous, json!({ "key": "a" })).await;
        assert_ne!(codes(absent.clone()).0, "INTERNAL", "{absent}");
        assert!(!absent.to_string().contains("used in position"), "{absent}");
        let null = world.post(autonomous, json!({ "key": "b", "autonomous": null })).await;
        assert_eq!(codes(null), (json!("BAD_USER_INPUT"), json!("definition.phases[0].autonomous")));
        // The idempotency key distinguishes null from an absent value.
        let keyed = "mutation($id: ID!, $email: String, $key: String) { updateRecord(input: { id: $id, email: $email, idempotencyKey: $key }) { record { email } } }";
        assert_eq!(world.ask(keyed, json!({ "id": id, "key": "k" })).await["updateRecord"]["record"]["email"], "ann@example.com");
        assert_eq!(world.ask(keyed, json!({ "id": id, "key": "k" })).await["updateRecord"]["record"]["email"], "ann@example.com");
        assert_ne!(world.refused(keyed, json!({ "id": id, "key": "k", "email": null })).await.0, "");
        world.end().await;
    }
}

/// A document, valid variables, and invalid ones with the field that the error names.
type Case = (&'static str, Value, Vec<(Value, &'static str)>);

fn cases() -> Vec<Case> {
    vec![
        (
            "query P($f: RecordFilterInput!) { previewSegment(filter: $f) { count } }",
            json!({ "f": { "email": { "eq": "a@example.com" } } }),
            vec![
                (json!({ "f": { "emial": { "eq": "a@example.com" } } }), "filter.emial"),
                (
                    json!({ "f": { "and": [{ "kind": { "eq": "a" } }, { "not": { "emial": {} } }] } }),
                    "filter.and[1].not.emial",
                ),
                (json!({ "f": { "email": { "equals": "a" } } }), "filter.email.equals"),
                (json!({ "f": { "email": "a@example.com" } }), "filter.email"),
                (json!({ "f": { "email": { "in": ["a", 1] } } }), "filter.email.in[1]"),
                (json!({ "f": { "email": { "in": [null] } } }), "filter.email.in[0]"),
                (json!({ "f": { "email": { "eq": 1 } } }), "filter.email.eq"),
                (json!({ "f": { "unsubscribed": "true" } }), "filter.unsubscribed"),
                (json!({ "f": { "attributes": [{ "eq": 1 }] } }), "filter.attributes[0].name"),
                (json!({ "f": { "createdAt": { "since": "2026-01-01" } } }), "filter.createdAt.since"),
                (json!({ "f": null }), "filter"),
                (json!({ "f": 1 }), "filter"),
                (json!({ "f": [] }), "filter"),
                (json!({}), "filter"),
            ],
        ),
        (
            "query Q($r: DateTimeRange, $s: [RunStatus!], $n: Int, $o: RunOrder) { runs(filter: { createdAt: $r, statuses: $s }, first: $n, orderBy: $o) { totalCount } }",
            json!({ "r": { "from": "2026-01-01T00:00:00Z" }, "s": "QUEUED", "n": 5.0 }),
            vec![
                (json!({ "r": { "from": "2026-01-01" } }), "filter.createdAt.from"),
                (json!({ "r": { "from": 1 } }), "filter.createdAt.from"),
                (json!({ "r": { "before": "0000-12-31T23:59:59Z" } }), "filter.createdAt.before"),
                (json!({ "r": { "before": "9999-12-31T23:59:59-05:00" } }), "filter.createdAt.before"),
                (json!({ "r": { "from": "+10000-01-01T00:00:00Z" } }), "filter.createdAt.from"),
                (json!({ "s": ["QUEUED", "NONE"] }), "filter.statuses[1]"),
                (json!({ "s": [1] }), "filter.statuses[0]"),
                (json!({ "n": 2147483648i64 }), "first"),
                (json!({ "n": 1.5 }), "first"),
                (json!({ "n": "1" }), "first"),
                (json!({ "n": true }), "first"),
                (json!({ "n": [1] }), "first"),
                (json!({ "o": {} }), "orderBy.field"),
                (json!({ "o": { "field": "CREATED_AT", "direction": "UP" } }), "orderBy.direction"),
            ],
        ),
        (
            "query R($id: ID!, $first: Int!) { campaign(id: $id) { versions(first: $first) { totalCount } } }",
            json!({ "id": "campaign_01h455vb4pex5vsknk084sn02q", "first": 1 }),
            vec![
                (json!({ "id": null, "first": 1 }), "id"),
                (json!({ "id": {}, "first": 1 }), "id"),
                (json!({ "id": 1.5, "first": 1 }), "id"),
                (json!({ "id": "campaign_01h455vb4pex5vsknk084sn02q", "first": null }), "first"),
                (json!({ "id": "campaign_01h455vb4pex5vsknk084sn02q" }), "first"),
            ],
        ),
    ]
}

both! {
    async fn variables_are_checked_on_every_request(kind) {
        let world = World::new(kind).await;
        let url = format!("http://{}/graphql", world.address);
        let client = crate::harness::client();
        let post = async |accept: &str, document: &str, variables: &Value| {
            let request = client.post(&url).header("accept", accept);
            let response = request.json(&json!({ "query": document, "variables": variables })).send().await.unwrap();
            (response.status().as_u16(), response.json::<Value>().await.unwrap())
        };
        let graphql = "application/graphql-response+json";
        let told = |errors: &Value| (errors[0]["extensions"]["code"].as_str().unwrap_or("none").to_owned(), errors[0]["extensions"]["field"].as_str().unwrap_or("none").to_owned());
        let mut socket = Socket::open(world.address).await;
        for (document, good, others) in cases() {
            for known in [false, true] {
                for (variables, field) in &others {
                    let case = format!("{document} with {variables}, known: {known}");
                    let (status, answer) = post(graphql, document, variables).await;
                    assert_eq!((status, answer.get("data")), (400, None), "{case}: {answer}");
                    assert_eq!(told(&answer["errors"]), ("BAD_USER_INPUT".into(), (*field).into()), "{case}: {answer}");
                    assert!(!answer["errors"][0]["locations"].as_array().unwrap().is_empty());
                    if variables.to_string().contains("\"2026-01-01\"") {
                        assert!(answer["errors"][0]["message"].as_str().unwrap().contains("2026-01-01T00:00:00Z"), "{answer}");
                    }
                    assert_eq!(post("application/json", document, variables).await, (200, answer.clone()), "{case}");
                    let get = client.get(url::Url::parse_with_params(&url, [("query", document), ("variables", &variables.to_string())]).unwrap()).header("accept", graphql);
                    let response = get.send().await.unwrap();
                    assert_eq!((response.status().as_u16(), response.json::<Value>().await.unwrap()), (400, answer.clone()), "{case}");
                    let events = post_text(&client, &url, document, variables).await;
                    assert!(events.contains(&answer["errors"][0]["message"].to_string()), "{case}: {events}");
                    socket.subscribe("1", document, variables.clone()).await;
                    let message = socket.message().await;
                    assert_eq!((&message["type"], &message["payload"]), (&json!("error"), &answer["errors"]), "{case}");
                }
                let (status, answer) = post(graphql, document, &good).await;
                assert_eq!((status, answer.get("errors")), (200, None), "{document} with {good}: {answer}");
            }
        }
        // As literals, and of a subscription.
        for (document, field) in [
            ("{ records(filter: { createdAt: { since: \"2026-01-01\" } }) { totalCount } }", "filter.createdAt.since"),
            ("{ records(filter: { emial: { eq: \"a\" } }) { totalCount } }", "filter.emial"),
            ("{ records(first: 2147483648) { totalCount } }", "first"),
            ("{ records(first: 1.0) { totalCount } }", "first"),
            ("{ records(frist: 1) { totalCount } }", "frist"),
            ("{ records(filter: { name: { eq: \"a\\u0000b\" } }) { totalCount } }", "filter.name.eq"),
            ("{ campaign { id } }", "id"),
            ("{ campaign(id: null) { id } }", "id"),
            ("{ viewer @include(if: 1) { role } }", "if"),
            ("fragment F on Campaign { versions(first: \"x\") { totalCount } } { campaigns { nodes { ...F } } }", "first"),
            ("mutation { createGoal(input: { name: null }) { goal { id } } }", "name"),
            ("mutation { createGoal(input: 5) { goal { id } } }", "input"),
            ("mutation { createRunTemplate(input: { key: \"k\", name: \"n\", definition: { phases: [{ key: \"p\", tasks: [{ key: \"t\", steps: [{ key: \"s\", trigger: \"delay:-1h\" }] }] }] } }) { runTemplate { id } } }", "definition.phases[0].tasks[0].steps[0].trigger"),
            ("subscription { events(filter: { kinds: 1 }) { kind } }", "filter.kinds"),
        ] {
            let (status, answer) = post(graphql, document, &json!({})).await;
            if document.starts_with("subscription") {
                socket.subscribe("1", document, json!({})).await;
                let message = socket.message().await;
                assert_eq!(told(&message["payload"]), ("BAD_USER_INPUT".into(), field.into()), "{message}");
                continue;
            }
            assert_eq!((status, told(&answer["errors"])), (400, ("BAD_USER_INPUT".into(), field.into())), "{document}: {answer}");
        }
        // Lone surrogate escapes, and numbers beyond every type, are rejected; surrogate pairs are
        // one character.
        for document in [
            "{ record(id: \"\\uD800\") { id } }", "{ record(id: \"a\\uDC00b\") { id } }", "{ record(id: \"\\uD83Dx\") { id } }", "{ record(id: \"\\uD83D\\uD83D\") { id } }", "{ records(first: 1e999) { totalCount } }",
            "{ records(first: 99999999999999999999999) { totalCount } }", "{ records(filter: { name: { eq: \"\\uD83D\" } }) { totalCount } }", "{ records(first: -99999999999999999999999) { totalCount } }",
        ] {
            for _ in 0..2 {
                let (status, answer) = post(graphql, document, &json!({})).await;
                assert_eq!((status, &answer["errors"][0]["extensions"]["code"]), (400, &json!("BAD_USER_INPUT")), "{document}: {answer}");
            }
        }
        let emoji = "mutation { createGoal(input: { name: \"\\uD83D\\uDE00 \\\\uD800 \\u00e9 \u{1f600}\" }) { goal { name description } } }";
        let (_, answer) = post(graphql, emoji, &json!({})).await;
        assert_eq!(answer["data"]["createGoal"]["goal"]["name"], "\u{1f600} \\uD800 é \u{1f600}", "{answer}");
        let block = "mutation { createGoal(input: { name: \"Block\", description: \"\"\"a \\uD800 b\"\"\" }) { goal { description } } } # \\uD800 \"";
        assert_eq!(post(graphql, block, &json!({})).await.1["data"]["createGoal"]["goal"]["description"], "a \\uD800 b");
        // Several errors are reported at once.
        let (_, answer) = post(graphql, "query($a: Int!, $b: RunFilter) { runs(first: $a, filter: $b) { totalCount } }", &json!({ "b": { "x": 1, "y": 2 } })).await;
        assert_eq!(answer["errors"].as_array().unwrap().len(), 3, "{answer}");
        world.end().await;
    }
}

async fn post_text(client: &reqwest::Client, url: &str, document: &str, variables: &Value) -> String {
    let request = client.post(url).header("accept", "text/event-stream");
    request.json(&json!({ "query": document, "variables": variables })).send().await.unwrap().text().await.unwrap()
}

both! {
    /// A mutation that is rejected before its execution is in the audit as well, whatever it
    /// contains.
    async fn a_refused_mutation_is_in_the_audit(kind) {
        let world = World::new(kind).await;
        let create = "mutation($input: CreateGoalInput!) { createGoal(input: $input) { goal { id } } }";
        for input in [json!({ "name": "a\u{0}b" }), json!({ "name": "a", "\u{0}": 1 }), json!({ "name": "a", "description": 1e300 }), json!({})] {
            assert_eq!(world.refused(create, json!({ "input": input })).await.0, "BAD_USER_INPUT");
        }
        let audit = "{ audit(filter: { mutations: [\"createGoal\"] }) { nodes { outcome code input } } }";
        let entries = world.ask(audit, json!({})).await["audit"]["nodes"].clone();
        assert_eq!(entries.as_array().unwrap().len(), 4, "{entries}");
        for entry in entries.as_array().unwrap() {
            assert_eq!((&entry["outcome"], &entry["code"]), (&json!("REFUSED"), &json!("BAD_USER_INPUT")), "{entry}");
        }
        world.end().await;
    }
}

both! {
    /// Values inside of texts: YAML with escapes, templates, cursors, contexts.
    async fn what_is_written_inside_of_texts(kind) {
        let world = World::new(kind).await;
        let apply = "mutation($yaml: String!, $dry: Boolean) { applyManifest(input: { yaml: $yaml, dryRun: $dry }) { applied problems { message } } }";
        for yaml in ["goals:\n  - name: G\n    description: \"a\\0b\"\n", "goals:\n  - name: G\n    \"a\\0\": 1\n", "writers:\n  - name: W\n    body: \"a\\x00\"\n", "goals: 99999999999999999999999\n"] {
            for dry in [true, false] {
                let answer = world.post(apply, json!({ "yaml": yaml, "dry": dry })).await;
                let code = answer["errors"][0]["extensions"]["code"].as_str();
                assert!(code == Some("BAD_USER_INPUT") || answer["data"]["applyManifest"]["applied"] == false, "{yaml}: {answer}");
            }
        }
        // A name is normalised, whatever way it comes in.
        let one = world.create("goal", json!({ "name": "Cafe\u{301}" })).await;
        assert_eq!(world.ask("query($id: ID!) { goal(id: $id) { name } }", json!({ "id": one })).await["goal"]["name"], "Caf\u{e9}");
        // Forged cursors.
        let first = world.ask("{ campaigns(first: 1, orderBy: { field: NAME, direction: ASC }) { pageInfo { endCursor } } }", json!({})).await;
        assert_eq!(first["campaigns"]["pageInfo"]["endCursor"], Value::Null);
        world.create("campaign", json!({ "name": "One", "channel": "EMAIL" })).await;
        let page = "query($after: String) { campaigns(first: 1, after: $after, orderBy: { field: NAME, direction: ASC }) { pageInfo { endCursor } } }";
        let cursor = world.ask(page, json!({})).await["campaigns"]["pageInfo"]["endCursor"].as_str().unwrap().to_owned();
        {
            use base64::Engine;
            let base64 = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let text = String::from_utf8(base64.decode(&cursor).unwrap()).unwrap();
            for forged in [text.replace("One", "O\\u0000ne"), text.replace("\"One\"", "{}"), text.replace("One", &"x".repeat(100_000))] {
                let answer = world.post(page, json!({ "after": base64.encode(forged) })).await;
                assert_ne!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{answer}");
            }
            // Keys of another kind than the order's.
            for key in ["{\"t\":\"2026-01-01T00:00:00Z\"}", "\"n\"", "{\"s\":7}"] {
                let forged = text.replace("{\"s\":\"One\"}", key);
                assert_ne!(forged, text);
                let answer = world.post(page, json!({ "after": base64.encode(forged) })).await;
                assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
            }
        }
        // An agent's context is a document, too.
        for context in ["{ record { name(x: \"\\uD800\") } }".to_owned(), "{a".repeat(2_000), format!("{{ run {{ name }} {} }}", "#".repeat(3_000))] {
            let answer = world.post("mutation($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }", json!({ "input": { "name": "bot", "kind": "OUTSIDE", "context": context } })).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{answer}");
        }
        // A template that renders to text that can't be stored.
        let preview = "mutation($input: CreateMessageTemplateInput!) { createMessageTemplate(input: $input) { messageTemplate { id } } }";
        let answer = world.post(preview, json!({ "input": { "name": "T", "subject": "S", "body": "{{ \"a\\u0000b\" }}" } })).await;
        assert_ne!(answer["errors"][0]["extensions"]["code"], "INTERNAL", "{answer}");
        world.end().await;
    }
}
