//! The parser departs from the grammar of the specification in places, which are tested here; and all
//! aliases, of which a client may use any.

use serde_json::{Value, json};
use sortie::graphql::document::parse;

use crate::harness::World;

/// Texts that are no documents, each with one beside it that is.
const GRAMMAR: [(&str, &str); 12] = [
    ("{ viewer { ...on } } fragment on on Viewer { role }", "{ viewer { ...only } } fragment only on Viewer { role }"),
    ("{ viewer { role } } fragment on on Viewer { role }", "{ viewer { ... on on { role } } }"),
    ("{ viewer { role } } fragment # a name\n on on Viewer { role }", "{ viewer { role } } fragment f on on { role }"),
    ("{ viewer { ...on @skip(if: true) } }", "{ viewer { ...on Viewer @skip(if: true) { role } } }"),
    ("{ viewer { ... on { role } } }", "{ viewer { ... { role } } }"),
    ("{ viewer { ...on\n} }", "{ viewer { ...on\nViewer { role } } }"),
    ("{ viewer { ...on # a type\n } }", "{ viewer { ...on # a type\n Viewer { role } } }"),
    ("queryA { viewer { role } }", "query A { viewer { role } }"),
    ("query_ { viewer { role } }", "query _ { viewer { role } }"),
    ("subscriptions { events { kind } }", "subscription s { events { kind } }"),
    (
        "{ viewer { ...F } } fragmentF on Viewer { role }",
        "{ viewer { ...F } } # on\nfragment F on Viewer { on role: orgId }",
    ),
    (
        "query on($on: T = {on: 1}) @on(x: {on: \"}\"}) { on } queryon { on }",
        "query on($on: T = {on: 1}) @on(x: {on: \"}\"}) { on } query query { on }",
    ),
];

#[test]
fn the_grammar_is_that_of_the_specification() {
    for (wrong, right) in GRAMMAR {
        let error = parse(wrong).expect_err(wrong);
        assert!(error.locations.first().is_some_and(|at| at.line > 0), "{wrong}: {error:?}");
        parse(right).unwrap_or_else(|err| panic!("{right}: {err:?}"));
    }
}

/// The integer -0 is 0, wherever it stands; nothing else is changed, and no position.
#[test]
fn minus_zero_is_an_integer() {
    for text in [
        "{ runs(first: -0) { totalCount } }",
        "{ a(x: [-0,-0 1-0], y: {z: -0, w: [{v:-0}]}) @b(c: -0) }",
        "query($n: Int = -0, $m: [Int] = [-0]) { a(x: $n, y: $m) }",
        "{ a(x: [e-0, a1e-0]) }",
        "{ a(x: -0#-0\n) }",
    ] {
        let plain = text.replace("#-0", "").replace("-0", " 0");
        assert_eq!(format!("{:?}", parse(text).unwrap()), format!("{:?}", parse(&plain).unwrap()), "{text}");
    }
    for (text, shown) in [
        (r#"{ a(x: "-0") }"#, r#"String("-0")"#),
        (r#"{ a(x: """-0 # "" -0""") }"#, r#"String("-0 # \"\" -0")"#),
        (r#"{ a(x: "\"-0#") }"#, r#"String("\"-0#")"#),
        ("{ a(x: -0.0) }", "Number(-0.0)"),
        ("{ a(x: -0e1) }", "Number(-0.0)"),
        ("{ a(x: -0.5) }", "Number(-0.5)"),
        ("{ a(x: 1e-0) }", "Number(1.0)"),
        ("{ a(x: -1.5E-0) }", "Number(-1.5)"),
        ("{ a(x: -10) }", "Number(-10)"),
    ] {
        let document = format!("{:?}", parse(text).unwrap());
        assert!(document.contains(shown), "{text}: {document}");
    }
    for wrong in ["{ a(x: -00) }", "{ a(x: -0x) }", "{ a(x: -0_) }", "{ a(x: - 0) }", "{ a(x: -) }"] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}

both! {
    async fn minus_zero_is_executed_as_zero(kind) {
        let world = World::new(kind).await;
        for text in [
            "{ goals(first: -0) { totalCount nodes { id } } }",
            "query($n: Int = -0) { goals(first: $n) { totalCount nodes { id } } }",
        ] {
            let expected = world.post(&text.replace("-0", "0"), json!({})).await;
            assert_eq!(without_locations(world.post(text, json!({})).await), without_locations(expected), "{text}");
        }
        let query = "query($n: Int!) { goals(first: $n) { totalCount nodes { id } } }";
        let expected = world.post(query, json!({ "n": 0 })).await;
        let by_variable = world.post(query, serde_json::from_str(r#"{"n": -0}"#).unwrap()).await;
        assert_eq!(without_locations(by_variable), without_locations(expected));
        world.end().await;
    }
}

both! {
    async fn every_alias_is_the_clients(kind) {
        let world = World::new(kind).await;
        let own = "__sortie_type";
        let role = world.ask(&format!("{{ {own}: viewer {{ role }} }}"), json!({})).await;
        assert_eq!(role, json!({ own: { "role": "ADMIN" } }));
        let viewer = world.ask(&format!("{{ viewer {{ role {own}: orgId }} }}"), json!({})).await;
        assert!(viewer["viewer"][own].is_string() && viewer["viewer"]["role"] == "ADMIN", "{viewer}");
        let made = format!(
            "mutation {{ {own}: createGoal(input: {{ name: \"Hold\" }}) {{ goal {{ id {own}: name its_type: name }} }} }}"
        );
        let made = world.ask(&made, json!({})).await;
        assert_eq!((&made[own]["goal"][own], &made[own]["goal"]["its_type"]), (&json!("Hold"), &json!("Hold")));
        let id = made[own]["goal"]["id"].clone();
        let node = |selection: &str| format!("query($id: ID!, $no: Boolean = false) {{ node(id: $id) {{ {selection} }} }}");
        for (selection, keys) in [
            (format!("{own}: id ... on Goal {{ name }}"), vec![own, "name"]),
            (format!("... on Goal {{ name {own}: id }}"), vec!["name", own]),
            ("... on Goal { name }".to_owned(), vec!["name"]),
            (format!("{own}: __typename id @include(if: $no)"), vec![own]),
            ("id @include(if: $no)".to_owned(), vec![]),
        ] {
            let query = match selection.contains("$no") {
                true => node(&selection),
                false => node(&selection).replace(", $no: Boolean = false", ""),
            };
            let found = world.ask(&query, json!({ "id": id })).await;
            let found: Vec<_> = found["node"].as_object().unwrap().keys().cloned().collect();
            let (mut found, mut keys) = (found, keys);
            found.sort();
            keys.sort();
            assert_eq!(found, keys, "{selection}");
        }
        world.end().await;
    }
}

fn without_locations(mut answer: Value) -> Value {
    for error in answer["errors"].as_array_mut().into_iter().flatten() {
        error.as_object_mut().unwrap().remove("locations");
    }
    answer
}
