//! Rules of validation that the executor leaves out: those of directives, of introspection, and of
//! documents with several operations.

use serde_json::{Value, json};

use crate::harness::{Kind, World};

/// Documents that break a rule, each with one beside it that does not.
const RULES: [(&str, &str, &str); 24] = [
    (
        "5.8.5 __type",
        "query($x: String) { __type(name: $x) { name } }",
        "query($x: String!) { __type(name: $x) { name } }",
    ),
    (
        "5.8.5 __type list",
        "query($x: [String!]!) { __type(name: $x) { name } }",
        "query($x: String = \"Role\") { __type(name: $x) { name } }",
    ),
    (
        "5.8.5 fields",
        "query($x: String!) { __type(name: $x) { fields(includeDeprecated: $x) { name } } }",
        "query($x: String!, $y: Boolean = true) { __type(name: $x) { fields(includeDeprecated: $y) { name } } }",
    ),
    (
        "5.8.5 enumValues",
        "query($x: String!, $y: Int) { __type(name: $x) { ofType { enumValues(includeDeprecated: $y) { name } } } }",
        "query($x: String!, $y: Boolean!) { __type(name: $x) { ofType { enumValues(includeDeprecated: $y) { name } } } }",
    ),
    (
        "5.8.5 in a fragment",
        "query($x: [Boolean]) { __schema { directives { ...D } } } fragment D on __Directive { args(includeDeprecated: $x) { name } }",
        "query($x: Boolean = false) { __schema { directives { ...D } } } fragment D on __Directive { args(includeDeprecated: $x) { name } }",
    ),
    ("5.4.1 __type", "{ __type(name: \"Role\", x: 1) { name } }", "{ __type(name: \"Role\") { name } }"),
    ("5.4.2.1 __type", "{ __type { name } }", "{ __type(name: \"Role\") { kind } }"),
    ("5.6.1 __type", "{ __type(name: 1) { name } }", "{ __type(name: \"\") { name } }"),
    (
        "5.7.1 variables",
        "query($x: Int @nope) { goals(first: $x) { totalCount } }",
        "query($y: Int) { goals(first: $y) { totalCount } }",
    ),
    (
        "5.7.1 introspection",
        "{ __schema { queryType @nope { name } } }",
        "{ __schema { queryType @skip(if: false) { name } } }",
    ),
    (
        "5.7.2 variables",
        "query($x: Int @skip(if: true)) { goals(first: $x) { totalCount } }",
        "query($z: Int) { goals(first: $z) { totalCount } }",
    ),
    ("5.7.2 operations", "query @include(if: true) { viewer { role } }", "query { viewer { role } }"),
    ("5.7.2 schemas", "{ viewer { role @deprecated } }", "{ viewer { role @include(if: true) } }"),
    (
        "5.7.2 fragments",
        "{ viewer { ...F } } fragment F on Viewer @skip(if: true) { role }",
        "{ viewer { ...F @skip(if: false) } } fragment F on Viewer { role }",
    ),
    (
        "5.7.3 introspection",
        "{ __schema @skip(if: false) @skip(if: false) { queryType { name } } }",
        "{ __schema @skip(if: false) @include(if: true) { queryType { name } } }",
    ),
    ("5.4.2 directives", "{ viewer { role @skip(if: true, if: false) } }", "{ viewer { orgId @skip(if: false) } }"),
    ("5.3.3 first", "{ viewer viewer { role } }", "{ viewer { orgId } viewer { role } }"),
    ("5.3.3 second", "{ viewer { role } viewer }", "{ viewer { role } }"),
    (
        "5.3.3 within",
        "{ goals(first: 1) { pageInfo nodes { name } pageInfo { hasNextPage } } }",
        "{ goals(first: 1) { pageInfo { endCursor } nodes { name } pageInfo { hasNextPage } } }",
    ),
    (
        "5.3.3 mutation",
        "mutation { createGoal(input: { name: \"x\" }) createGoal(input: { name: \"x\" }) { goal { id } } }",
        "mutation { createGoal(input: { name: \"x\" }) { goal { id } } createGoal(input: { name: \"x\" }) { goal { name } } }",
    ),
    (
        "5.8.1",
        "query($x: Int, $x: Int) { goals(first: $x) { totalCount } }",
        "query($x: Int, $y: Int) { goals(first: $x) { totalCount } more: goals(first: $y) { totalCount } }",
    ),
    ("2.10 empty variables", "query() { viewer { role } }", "query { viewer { role } }"),
    ("2.6 empty arguments", "{ viewer(,# none\n) { role } }", "{ viewer { role } }"),
    ("5.4.2.1 directives", "{ viewer { ... @include { role } } }", "{ viewer { ... @include(if: true) { role } } }"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn introspection_and_directives_are_validated() {
    let world = World::new(Kind::Sqlite).await;
    let variables = |query: &str| {
        let mut all = json!({ "x": "Role", "y": true });
        for (name, value) in [
            ("$x: Int", json!(1)),
            ("$x: [String!]!", json!(["Role"])),
            ("$x: [Boolean]", json!([true])),
            ("$x: Boolean", json!(true)),
        ] {
            if query.contains(name) {
                all["x"] = value;
            }
        }
        if query.contains("$y: Int") {
            all["y"] = json!(1);
        }
        all
    };
    for (rule, wrong, right) in RULES {
        let refused = world.post(wrong, variables(wrong)).await;
        assert!(refused.get("data").is_none() && refused["errors"][0].is_object(), "{rule}: {wrong}: {refused}");
        assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{rule}");
        assert!(refused["errors"][0]["extensions"]["field"].is_string(), "{rule}: {refused}");
        assert!(refused["errors"][0]["locations"][0]["line"].is_number(), "{rule}: {refused}");
        world.ask(right, variables(right)).await;
    }
    // Errors are bounded, and none repeats more of a name than it needs.
    let many: String = (0..99).map(|i| format!("a{i}: role @nope{i}{} ", "x".repeat(150))).collect();
    let refused = world.post(&format!("{{ viewer {{ {many} }} }}"), json!({})).await;
    assert!(refused["errors"].as_array().unwrap().len() <= 20, "{refused}");
    assert!(!refused.to_string().contains(&"x".repeat(101)), "{refused}");
    world.end().await;
}

/// Documents of two operations, and the variables of A, which is executed. B's are its own.
const PAIRS: [(&str, &str); 7] = [
    ("query A { viewer { role } } query B($n: Int!) { goals(first: $n) { totalCount } }", "{}"),
    (
        "query A($n: Int!) { goals(first: $n) { totalCount } } query B($n: [ID!]!) { nodes(ids: $n) { id } }",
        r#"{"n": 2}"#,
    ),
    (
        "query A { viewer { role } } query B($n: [ID!]!, $m: ID!) { nodes(ids: $n) { id } more: nodes(ids: [$m]) { id } }",
        "{}",
    ),
    (
        "query A { ...F } query B($n: Int!) { ...F ...G } fragment F on Query { viewer { role } } fragment G on Query { goals(first: $n) { totalCount } }",
        "{}",
    ),
    // B would be too complex for one request.
    (
        "query A { goals(first: 500) { nodes { a: id b: id } } } query B { runs(first: 500) { nodes { steps(first: 300) { nodes { id } } } } }",
        "{}",
    ),
    ("query A { viewer { role } } subscription B { events { kind } }", "{}"),
    (
        "query A { viewer { role } } query B($n: Int!, $f: RunFilter!) { runs(first: $n, filter: $f) { nodes { steps(first: $n) { nodes { id } } } } }",
        "{}",
    ),
];

/// The answer to a request for the operation A.
async fn first(world: &World, mut body: Value, variables: &str) -> Value {
    body["operationName"] = json!("A");
    body["variables"] = serde_json::from_str(variables).unwrap();
    let mut request = crate::harness::client().post(format!("http://{}/graphql", world.address)).json(&body);
    if let Some(key) = world.shown.lock().unwrap().clone() {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_requested_operation_is_counted_with_values() {
    let world = World::new(Kind::Sqlite).await;
    for (query, variables) in PAIRS {
        // Twice: validated, and as a document that is known.
        for _ in 0..2 {
            let told = first(&world, json!({ "query": query }), variables).await;
            assert!(told.get("errors").is_none() && told["data"].is_object(), "{query}: {told}");
        }
    }
    // The other operation keeps to the rules, nevertheless, and so do fragments.
    for wrong in [
        "query A { viewer { role } } query B($n: Int!) { goals(first: $n) { nope } }",
        "query A { viewer { role } } query B($n: Int!) { viewer { role } }",
        "query A { viewer { role } } query B { goals(first: $n) { totalCount } }",
        "query A { viewer { role } } query B { ...F } fragment F on Viewer { role }",
        "query A { viewer { role } } query B { viewer { role } } fragment F on Viewer { role }",
        "query A { viewer { role } } query B($n: Nope!) { goals(first: $n) { totalCount } }",
        "query A { viewer { role } } query B { viewer { role(x: 1) } }",
        "query A { viewer { role } } subscription B { a: events { kind } b: events { kind } }",
        "query A { viewer { role } } subscription B { ...F } fragment F on Subscription { a: events { kind } b: events { kind } }",
        "query A { viewer { role } } query B { goals(first: 3000000000) { totalCount } }",
        "query A { viewer { role } } query B { __type(name: 1) { name } }",
        "query A { viewer { role } } query B { viewer { role @skip(if: 1) } }",
    ] {
        let told = first(&world, json!({ "query": wrong }), "{}").await;
        assert!(told.get("data").is_none() && told["errors"][0].is_object(), "{wrong}: {told}");
    }
    // Each operation is validated on its own, so that a document has so many at most.
    let many = |count: usize| (1..count).map(|i| format!("query B{i} {{ viewer {{ role }} }} ")).collect::<String>();
    for (count, is_executed) in [(200, true), (201, false)] {
        let query = format!("query A {{ viewer {{ role }} }} {}", many(count));
        let told = first(&world, json!({ "query": query }), "{}").await;
        assert_eq!(told["data"].is_object(), is_executed, "{count}: {told}");
        assert!(is_executed || told["errors"][0]["extensions"]["code"] == "LIMIT_EXCEEDED", "{told}");
    }
    world.end().await;
    // Registered documents, by their id.
    let folder = std::env::temp_dir().join(format!("sortie_documents_{}", uuid::Uuid::now_v7().simple()));
    let documents: serde_json::Map<String, Value> =
        PAIRS.iter().enumerate().map(|(i, (query, _))| (format!("d{i}"), json!(query))).collect();
    std::fs::write(&folder, Value::Object(documents).to_string()).unwrap();
    let world = World::with_config(Kind::Sqlite, |config| config.documents = Some(folder.clone())).await;
    for (i, (query, variables)) in PAIRS.iter().enumerate() {
        let told = first(&world, json!({ "documentId": format!("d{i}") }), variables).await;
        assert!(told.get("errors").is_none() && told["data"].is_object(), "{query}: {told}");
    }
    std::fs::remove_file(&folder).unwrap();
    world.drop_unchecked().await;
}
