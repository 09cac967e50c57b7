//! Responses keep the types of the schema, whatever the request.

mod fields;
mod grammar;
mod nested_order;
mod order;
mod rules;
mod usages;

use serde_json::json;

use crate::harness::{Kind, World};

/// Documents that break a rule of the specification's validation, each with one beside it that does not.
pub(super) const RULES: [(&str, &str, &str); 12] = [
    ("5.3.2 names", "{ viewer { a: role } viewer { a: orgId } }", "{ viewer { a: role } viewer { b: orgId } }"),
    (
        "5.3.2 arguments",
        "{ goals(first: 1) { totalCount } goals(first: 2) { totalCount } }",
        "{ goals(first: 1) { totalCount } goals(first: 1) { nodes { id } } }",
    ),
    (
        "5.3.2 types",
        r#"{ node(id: "goal_01h455vb4pex5vsknk084sn02q") { ... on Goal { a: name } ... on Run { a: status } } }"#,
        r#"{ node(id: "goal_01h455vb4pex5vsknk084sn02q") { ... on Goal { a: name } ... on Writer { a: name } } }"#,
    ),
    ("5.3.3 __typename", "{ __typename { x } }", "{ __typename }"),
    ("5.3.3 scalar", "{ viewer { role { x } } }", "{ viewer { role } }"),
    ("5.3.3 object", "{ viewer }", "{ viewer { __typename } }"),
    ("5.4.1 __typename", "{ __typename(x: 1) }", "{ a: __typename }"),
    (
        "5.6.3",
        r#"{ runs(filter: {ids: [], ids: []}) { totalCount } }"#,
        r#"{ runs(filter: {ids: []}) { totalCount } }"#,
    ),
    ("5.7.1", "{ __typename @nope }", "{ __typename @skip(if: false) }"),
    ("5.7.3", "{ __typename @skip(if: true) @skip(if: true) }", "{ viewer { role @include(if: true) } __typename }"),
    ("5.8.3", "{ a: __typename @skip(if: $x) }", "query ($x: Boolean = false) { a: __typename @skip(if: $x) }"),
    (
        "5.8.4",
        "query ($x: Boolean = false) { __typename }",
        "query ($x: Boolean = true) { viewer { role } __typename @include(if: $x) }",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_are_held_to_the_rules_of_validation() {
    let world = World::new(Kind::Sqlite).await;
    for (rule, wrong, right) in RULES {
        let refused = world.post(wrong, json!({})).await;
        assert!(refused.get("data").is_none() && refused["errors"][0].is_object(), "{rule}: {wrong}: {refused}");
        assert_eq!(refused["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{rule}");
        assert!(refused["errors"][0]["extensions"]["field"].is_string(), "{rule}: {refused}");
        world.ask(right, json!({})).await;
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_null_where_its_type_allows_it() {
    let world = World::new(Kind::Sqlite).await;
    let query = r#"{ viewer { role } b: node(id: "nonsense") { id } a: viewer { orgId } }"#;
    let answer = world.post(query, json!({})).await;
    assert_eq!(answer["data"]["b"], json!(null), "{answer}");
    let keys: Vec<&String> = answer["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 3, "{answer}");
    // All fields failed and are nullable: `data` is an object.
    let answer = world.post(r#"{ node(id: "nonsense") { id } }"#, json!({})).await;
    assert_eq!(answer["data"], json!({ "node": null }), "{answer}");
    // A non-null type: `data` becomes null.
    let answer = world.post(r#"{ viewer { role } nodes(ids: ["nonsense"]) { id } }"#, json!({})).await;
    assert_eq!(answer["data"], json!(null), "{answer}");
    world.end().await;
}

both! {
    async fn null_goes_up_to_the_next_place_that_takes_it(kind) {
        let world = World::without_server(kind, None).await;
        let record = world.create("record", json!({ "kind": "lead", "name": "Ann" })).await;
        world.create("record", json!({ "kind": "lead", "name": "Ben" })).await;
        let wrong = "communications(first: -1) { nodes { id } }";
        for (query, data, errors) in [
            // A list of objects, none of which may be null.
            (format!("{{ records(first: 2) {{ nodes {{ name {wrong} }} }} }}"), json!(null), 2),
            (format!("{{ viewer {{ role }} records(first: 2) {{ totalCount nodes {{ {wrong} }} }} }}"), json!(null), 2),
            // A nullable one, beside others; and one as the only field.
            (format!("{{ record(id: \"{record}\") {{ name {wrong} }} viewer {{ role }} }}"), json!({ "record": null, "viewer": { "role": "ADMIN" } }), 1),
            (format!("{{ record(id: \"{record}\") {{ {wrong} }} }}"), json!({ "record": null }), 1),
            (format!("{{ node(id: \"{record}\") {{ ... on Record {{ {wrong} }} ... on Goal {{ id }} }} }}"), json!({ "node": null }), 1),
            (format!("{{ b: record(id: \"{record}\") {{ a: name {wrong} }} a: record(id: \"{record}\") {{ b: name a: name }} }}"), json!({ "b": null, "a": { "b": "Ann", "a": "Ann" } }), 1),
        ] {
            let answer = world.post(&query, json!({})).await;
            assert_eq!(answer["data"], data, "{query}: {answer}");
            let told = answer["errors"].as_array().map_or(0, Vec::len);
            assert!((1..=errors).contains(&told), "{query}: {answer}");
        }
        world.end().await;
    }
}

both! {
    async fn an_object_of_which_nothing_is_wanted_is_empty(kind) {
        let world = World::without_server(kind, None).await;
        world.create("record", json!({ "kind": "lead", "name": "Ann" })).await;
        for (query, data) in [
            ("{ __typename @skip(if: true) }", json!({})),
            ("{ viewer @skip(if: true) { role } }", json!({})),
            ("{ viewer { role @skip(if: true) } }", json!({ "viewer": {} })),
            ("{ viewer { ... @include(if: false) { role } } }", json!({ "viewer": {} })),
            ("{ viewer { ...A } } fragment A on Viewer { role @skip(if: true) orgId @include(if: false) }", json!({ "viewer": {} })),
            ("{ viewer { ...A } } fragment A on Viewer { role }", json!({ "viewer": { "role": "ADMIN" } })),
            ("{ records { nodes { id @include(if: false) } } }", json!({ "records": { "nodes": [{}] } })),
            ("{ records { nodes { ... on Node { id @include(if: false) } ... on Record { name } } } }", json!({ "records": { "nodes": [{ "name": "Ann" }] } })),
            ("{ records { nodes { __typename @skip(if: false) name @include(if: true) } } }", json!({ "records": { "nodes": [{ "__typename": "Record", "name": "Ann" }] } })),
        ] {
            assert_eq!(world.ask(query, json!({})).await, data, "{query}");
        }
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_comes_twice_is_carried_out_once() {
    let world = World::new(Kind::Sqlite).await;
    let twice = "mutation ($input: CreateGoalInput!) { createGoal(input: $input) { goal { id } }
        ... on Mutation { createGoal(input: $input) { goal { name } } } }";
    let made = world.ask(twice, json!({ "input": { "name": "Once \u{1F600}" } })).await;
    assert!(made["createGoal"]["goal"]["id"].is_string() && made["createGoal"]["goal"]["name"].is_string(), "{made}");
    assert_eq!(world.number("SELECT count(*) FROM goal").await, 1);
    let spread = "mutation ($input: CreateGoalInput!) { ...A ...A }
        fragment A on Mutation { createGoal(input: $input) { goal { id } } }";
    assert_eq!(world.refused(spread, json!({ "input": { "name": "Twice" } })).await.0, "BAD_USER_INPUT");
    assert_eq!(world.number("SELECT count(*) FROM goal").await, 1);
    world.end().await;
}

#[test]
fn addresses_that_are_not_the_internets_are_not_called() {
    let private = [
        "fec0::1",
        "::ffff:0:1.2.3.4",
        "100::1",
        "3fff::1",
        "192.88.99.1",
        "64:ff9b::1",
        "64:ff9b:1::1",
        "2001::1",
        "2001:db8::1",
        "2002::1",
        "5f00::1",
        "fc00::1",
        "fe80::1",
        "ff02::1",
        "::1",
        "::",
        "::ffff:10.0.0.1",
        "10.0.0.1",
        "0.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.1.1",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "255.255.255.255",
    ];
    for address in private {
        assert!(!sortie::channel::http_client::is_allowed(address.parse().unwrap(), &[]), "{address}");
    }
    for address in ["1.1.1.1", "2606:4700:4700::1111", "2001:4860:4860::8888", "::ffff:1.1.1.1"] {
        assert!(sortie::channel::http_client::is_allowed(address.parse().unwrap(), &[]), "{address}");
    }
}
