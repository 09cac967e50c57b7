//! Every error of a document has a code and a field: one sample for each rule.

use serde_json::{Value, json};
use sortie::kernel::limits;

use crate::harness::World;

/// Documents without variables, and the field of their error, which is BAD_USER_INPUT.
const DOCUMENTS: [(&str, &str); 53] = [
    // The document as a whole.
    ("", "query"),
    ("{", "query"),
    ("{ viewer() { role } }", "query"),
    ("query() { viewer { role } }", "query"),
    (r#"{ node(id: "\uD800") { id } }"#, "query"),
    (r#"{ node(id: "\u{110000}") { id } }"#, "query"),
    ("fragment F on Viewer { role }", "query"),
    ("{ viewer { role } } query B { viewer { role } }", "query"),
    // Definitions.
    ("hello { viewer { role } }", "hello"),
    ("query A { viewer { role } } query A { viewer { role } }", "A"),
    ("query A { viewer { role } } query B { viewer { role } }", "operationName"),
    ("subscription { a: events { kind } b: events { kind } }", "subscription"),
    ("subscription S { a: events { kind } b: events { kind } }", "S"),
    // Fields and their selections.
    ("{ nope }", "nope"),
    ("{ a: viewer { b: nope } }", "a.b"),
    ("{ viewer }", "viewer"),
    ("{ viewer { role { x } } }", "viewer.role"),
    ("{ viewer { ...F } } fragment F on Viewer { nope }", "nope"),
    ("{ __typename { x } }", "__typename"),
    ("{ __typename(x: 1) }", "__typename"),
    ("{ viewer { a: role a: orgId } }", "viewer.a"),
    ("{ goals(first: 1) { totalCount } goals(first: 2) { totalCount } }", "goals"),
    (
        "mutation { ...A ...A } fragment A on Mutation { createGoal(input: { name: \"x\" }) { goal { id } } }",
        "createGoal",
    ),
    // Arguments and input fields.
    ("{ goals(frist: 1) { totalCount } }", "frist"),
    ("{ goals(first: 1, first: 2) { totalCount } }", "first"),
    ("{ goal { name } }", "id"),
    ("{ goals(first: \"a\") { totalCount } }", "first"),
    ("{ goals(first: null, first: 1) { totalCount } }", "first"),
    ("{ __type(name: 1) { name } }", "name"),
    ("{ runs(filter: { nope: 1 }) { totalCount } }", "filter.nope"),
    ("{ runs(filter: { statuses: [NOPE] }) { totalCount } }", "filter.statuses[0]"),
    ("{ runs(filter: {ids: [], ids: []}) { totalCount } }", "ids"),
    // Directives.
    ("{ viewer { role @nope } }", "nope"),
    ("{ viewer { role @skip } }", "skip"),
    ("{ viewer { role @skip(if: 1) } }", "if"),
    ("{ viewer { role @skip(if: true, unless: true) } }", "skip"),
    ("{ viewer { role @skip(if: true) @skip(if: true) } }", "skip"),
    ("query @skip(if: true) { viewer { role } }", "skip"),
    ("{ viewer { role @deprecated } }", "deprecated"),
    // Fragments.
    ("{ viewer { ...F } }", "F"),
    ("{ viewer { role } } fragment F on Viewer { role }", "F"),
    ("{ viewer { ...F } } fragment F on Viewer { role } fragment F on Viewer { role }", "F"),
    ("{ viewer { ...F } } fragment F on Viewer { ...F }", "F"),
    ("{ viewer { ...F } } fragment F on Nope { role }", "Nope"),
    ("{ viewer { ...F } } fragment F on Role { role }", "F"),
    ("{ viewer { ...F } } fragment F on Goal { name }", "F"),
    ("{ viewer { ... on Goal { name } } }", "Goal"),
    ("{ viewer { ... on Role { name } } }", "Role"),
    ("{ viewer { ...on } }", "on"),
    ("{ viewer { role } } fragment on on Viewer { role }", "on"),
    // Variables that are not declared.
    ("{ goals(first: $x) { totalCount } }", "x"),
    ("query A { goals(first: $x) { totalCount } }", "x"),
    ("{ a: __typename @skip(if: $x) }", "x"),
];

/// Documents, the value of `$x` if it has one, and the field of the error.
const VARIABLES: [(&str, Option<&str>, &str); 11] = [
    ("query($x: Int, $x: Int) { goals(first: $x) { totalCount } }", None, "x"),
    ("query($x: Int) { viewer { role } }", None, "x"),
    ("query A($x: Int) { viewer { role } }", Some("1"), "x"),
    ("query($x: Nope) { viewer { role } }", None, "Nope"),
    ("query($x: Int @nope) { goals(first: $x) { totalCount } }", None, "nope"),
    ("query($x: Int = \"a\") { goals(first: $x) { totalCount } }", None, "first"),
    ("query($x: Int = \"a\") { goals(first: $x) { totalCount } }", Some("1"), "x"),
    ("query($x: String) { goals(first: $x) { totalCount } }", None, "first"),
    ("query($x: Int!) { goals(first: $x) { totalCount } }", None, "first"),
    ("query($x: Int) { goals(first: $x) { totalCount } }", Some("\"a\""), "first"),
    ("query($x: RunFilter) { runs(filter: $x) { totalCount } }", Some("{\"nope\": 1}"), "filter.nope"),
];

/// Documents over a limit; the error is about the document as a whole.
fn too_large() -> Vec<String> {
    let many = |count: usize, of: &dyn Fn(usize) -> String| (0..count).map(of).collect::<String>();
    let declared = many(limits::VARIABLES + 1, &|i| format!("$v{i}: Int "));
    vec![
        "{ a ".repeat(limits::DOCUMENT_NESTING + 1),
        format!("{{ {} }}", "a".repeat(limits::DOCUMENT_NAME_CHARS + 1)),
        format!("{{ viewer {{ role }} }} #{}", "x".repeat(limits::DOCUMENT_BYTES)),
        format!("query({declared}) {{ viewer {{ role }} }}"),
        format!("{{ viewer {{ {} }} }}", many(limits::QUERY_ALIASES + 1, &|i| format!("a{i}: role "))),
        format!("{{ {} }}", many(limits::QUERY_ROOTS + 1, &|i| format!("a{i}: viewer {{ role }} "))),
        many(201, &|i| format!("query Q{i} {{ viewer {{ role }} }} ")),
        "{ runs(first: 500) { nodes { steps(first: 300) { nodes { id } } } } }".to_owned(),
    ]
}

fn code_and_field<'a>(told: &'a Value, document: &str) -> (&'a str, &'a str) {
    assert!(told.get("data").is_none(), "{document:.200}: {told}");
    let extensions = &told["errors"][0]["extensions"];
    let text = |name: &str| extensions[name].as_str().unwrap_or("none");
    (text("code"), text("field"))
}

both! {
    async fn every_error_of_a_document_has_a_code_and_a_field(kind) {
        let world = World::new(kind).await;
        let none = DOCUMENTS.iter().map(|(document, field)| (*document, json!({}), *field));
        let some = VARIABLES.iter().map(|(document, value, field)| {
            let given = value.map_or(json!({}), |value| json!({ "x": serde_json::from_str::<Value>(value).unwrap() }));
            (*document, given, *field)
        });
        for (document, variables, field) in none.chain(some) {
            let told = world.post(document, variables).await;
            assert_eq!(code_and_field(&told, document), ("BAD_USER_INPUT", field), "{document}: {told}");
            for error in told["errors"].as_array().unwrap() {
                assert!(error["extensions"]["code"].is_string() && error["extensions"]["field"].is_string(), "{document}: {error}");
            }
        }
        for document in too_large() {
            let told = world.post(&document, json!({})).await;
            assert_eq!(code_and_field(&told, &document), ("LIMIT_EXCEEDED", "query"), "{document:.200}: {told}");
        }
        // A socket tells the same.
        let mut socket = crate::harness::socket::Socket::open(world.address).await;
        for (document, field) in [("{ goals(first: 1, first: 2) { totalCount } }", "first"), ("{", "query")] {
            socket.subscribe("1", document, json!({})).await;
            let message = socket.message().await;
            assert_eq!((&message["type"], &message["payload"][0]["extensions"]["field"]), (&json!("error"), &json!(field)), "{message}");
        }
        drop(socket);
        world.end().await;
        // The contexts of agents do not pass the transport: these errors are the executor's own.
        let world = World::without_server(kind, None).await;
        for (document, field) in [
            ("{", "query"),
            ("{ goals(first: 1, first: 2) { totalCount } }", "first"),
            ("{ viewer { ... on Goal { name } } }", "Goal"),
            ("{ goals(first: $x) { totalCount } }", "x"),
        ] {
            let told = world.post(document, json!({})).await;
            let extensions = &told["errors"][0]["extensions"];
            assert_eq!((&extensions["code"], &extensions["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{document}: {told}");
        }
        world.end().await;
    }
}
