//! Names show as what they are, and errors repeat little of what was given.

use serde_json::{Value, json};

use crate::harness::World;

/// Characters that end a line, or that show the text around them in another order.
const DECEIVING: [char; 11] = [
    '\u{2028}', '\u{2029}', '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}',
    '\u{2068}', '\u{2069}',
];

/// Mutations that take a name, in the variable `x`.
const NAMED: [&str; 9] = [
    r#"mutation($x: String!) { createRecord(input: { kind: "lead", name: $x }) { record { id } } }"#,
    "mutation($x: String!) { createGoal(input: { name: $x }) { goal { id } } }",
    r#"mutation($x: String!) { createWriter(input: { name: $x, body: "b" }) { writer { id } } }"#,
    "mutation($x: String!) { createReviewer(input: { name: $x }) { reviewer { id } } }",
    "mutation($x: String!) { createSegment(input: { name: $x, filter: { all: true } }) { segment { id } } }",
    r#"mutation($x: String!) { createMessageTemplate(input: { name: $x, subject: "s", body: "b" }) { messageTemplate { id } } }"#,
    r#"mutation($x: String!) { createMember(input: { name: $x, email: "x@example.com", role: VIEWER }) { member { id } } }"#,
    "mutation($x: String!) { createApiKey(input: { name: $x, role: ADMIN }) { apiKey { id } } }",
    r#"mutation($x: String!) { setStages(input: { recordKind: "deal", stages: [$x] }) { pipeline { stages } } }"#,
];

both! {
    async fn names_show_as_they_are(kind) {
        let world = World::without_server(kind, None).await;
        for mutation in NAMED {
            for c in DECEIVING {
                // White space around a name is cut off, line separators included.
                let begins = if c.is_whitespace() { format!("A{c}nn") } else { format!("{c}Ann") };
                for name in [format!("Ann{c}moc.elpmaxe"), begins, format!("Ann{c}B")] {
                    let told = world.post(mutation, json!({ "x": name })).await;
                    let error = &told["errors"][0];
                    assert_eq!(error["extensions"]["code"], "BAD_USER_INPUT", "{mutation} {c:?}: {told}");
                    assert!(!error["message"].as_str().unwrap().contains(c), "{told}");
                }
            }
        }
        // What is written from right to left without them, and marks of a single letter, are names.
        for name in ["\u{5d0}\u{5d1}\u{5d9}", "\u{645}\u{62d}\u{645}\u{62f} Ann", "Ann \u{200f}\u{5d0}", "a\u{200d}b"] {
            world.ask(NAMED[0], json!({ "x": name })).await;
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM record").await, 4);
        world.end().await;
    }
}

/// Requests that are rejected because of the text in `x`, which they may quote.
const REJECTED: [&str; 24] = [
    "query($x: ID!) { node(id: $x) { id } }",
    "query($x: ID!) { run(id: $x) { id } }",
    "query($x: String!) { nextFireTimes(cron: \"0 9 * * *\", timeZone: $x) { at } }",
    "query($x: String!) { nextFireTimes(cron: $x) { at } }",
    "query($x: String!) { events(after: $x) { nodes { cursor } } }",
    "query($x: RunStatus!) { runs(filter: { statuses: [$x] }) { totalCount } }",
    "query($x: DateTime!) { nextFireTimes(cron: \"0 9 * * *\", after: $x) { at } }",
    "query($x: ID!) { previewSegment(filter: { ids: [$x] }) { count } }",
    "mutation($x: String!) { createMember(input: { name: \"A\", email: $x, role: VIEWER }) { member { id } } }",
    "mutation($x: String!) { createRecord(input: { kind: \"lead\", name: \"A\", email: $x }) { record { id } } }",
    "mutation($x: String!) { createRecord(input: { kind: \"lead\", name: \"A\", phone: $x }) { record { id } } }",
    "mutation($x: String!) { createRecord(input: { kind: $x, name: \"A\" }) { record { id } } }",
    "mutation($x: String!) { suppressAddress(input: { address: $x, channel: EMAIL, reason: \"r\" }) { __typename } }",
    "mutation($x: String!) { createMessageTemplate(input: { name: \"t\", subject: \"s\", body: $x }) { messageTemplate { id } } }",
    "mutation($x: String!) { createAgent(input: { name: \"a\", filter: $x }) { agent { id } } }",
    "mutation($x: String!) { createAgent(input: { name: $x, filter: \"true\" }) { agent { id } } }",
    "mutation($x: String!) { claimSteps(input: { agent: $x, worker: \"w\", limit: 1, leaseSeconds: 60 }) { steps { id } } }",
    "mutation($x: String!) { applyManifest(input: { yaml: $x }) { problems { message path } } }",
    "mutation($x: String!) { raiseEvent(input: { name: $x }) { name } }",
    "mutation($x: ID!) { deleteGoal(input: { id: $x }) { deletedId } }",
    "mutation($x: String!) { createGoal(input: { name: \"g\", idempotencyKey: $x }) { goal { id } } }",
    "mutation($x: JSON) { createAgent(input: { name: \"a\", filter: \"true\", outputSchema: $x }) { agent { id } } }",
    "mutation($x: JSON) { createRecord(input: { kind: \"lead\", name: \"A\", attributes: $x }) { record { id } } }",
    "{ viewer { NAME } }",
];

both! {
    async fn errors_quote_little_of_what_was_given(kind) {
        let world = World::new(kind).await;
        let long = "y".repeat(250);
        for query in REJECTED {
            for form in ["{}", "{ {} }", "{{ {} }}", "{}: [", "{} {} {} {} {}", "`{}`", "{}@example", "+{}"] {
                let text = form.replace("{}", &long);
                let told = world.post(&query.replace("NAME", &long), json!({ "x": text })).await;
                let messages = told["errors"].to_string() + &told["data"].to_string();
                assert!(!messages.contains(&"y".repeat(101)), "{query} {form}: {messages}");
            }
        }
        // Names in requests and documents.
        let request = |body: Value| {
            let request = crate::harness::client().post(format!("http://{}/graphql", world.address)).json(&body);
            async move { request.send().await.unwrap().text().await.unwrap() }
        };
        for body in [
            json!({ "query": "query A { viewer { role } }", "operationName": long }),
            json!({ "query": format!("{{ {long} }}") }),
            json!({ "query": format!("{{ viewer {{ ...{long} }} }}") }),
            json!({ "query": format!("{{ viewer {{ role(x: {long}) }} }}") }),
            json!({ "query": format!("{{ ...F }} fragment F on {long} {{ role }}") }),
            json!({ "query": format!("query(${long}: Int!) {{ goals(first: ${long}) {{ totalCount }} }}") }),
            json!({ "query": format!("query($x: {long}!) {{ goals(first: $x) {{ totalCount }} }}") }),
            json!({ "query": "query($f: RunFilter) { runs(filter: $f) { totalCount } }", "variables": { "f": { long.as_str(): 1 } } }),
            json!({ "query": format!("{{ viewer {{ role @{long} }} }}") }),
            json!({ "query": format!("{{ viewer {{ {long}: role {long}: orgId }} }}") }),
            json!({ "documentId": long }),
        ] {
            let told = request(body.clone()).await;
            assert!(told.contains("errors"), "{body}: {told}");
            // A response key is the client's own, and so is the path of a field.
            let told: Value = serde_json::from_str(&told).unwrap();
            for error in told["errors"].as_array().unwrap() {
                assert!(!error["message"].to_string().contains(&"y".repeat(101)), "{body}: {told}");
            }
        }
        world.end().await;
    }
}
