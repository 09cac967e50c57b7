//! A12: JSON Schemas that take unlimited time or memory to compile or to validate with.

use serde_json::{Map, Value, json};
use sortie::domain::content::result_schema::{check, problems};

use super::soon;
use crate::harness::World;

/// A chain of `$defs` that each refer to the next one twice.
pub(super) fn doubling(levels: usize, keyword: &str) -> Value {
    let defs: Map<String, Value> = (0..levels)
        .map(|i| {
            let next = json!({ "$ref": format!("#/$defs/d{}", i + 1) });
            (format!("d{i}"), json!({ keyword: [next, next] }))
        })
        .chain([(format!("d{levels}"), json!({ "type": "string" }))])
        .collect();
    json!({ "$defs": defs, "$ref": "#/$defs/d0" })
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!({ "type": "string" }), |inner, _| wrap(inner))
}

/// Schemas over the budget.
pub(in crate::security) fn refused() -> Vec<Value> {
    let mut unevaluated = doubling(24, "allOf");
    unevaluated["unevaluatedProperties"] = json!(false);
    let wide: Map<String, Value> = (0..2_000).map(|i| (format!("p{i}"), json!({ "type": "string" }))).collect();
    let patterns: Vec<Value> = (0..30).map(|i| json!({ "pattern": format!("^a{{{i}}}") })).collect();
    vec![
        unevaluated,
        doubling(24, "allOf"),
        doubling(24, "anyOf"),
        doubling(24, "oneOf"),
        doubling(2_000, "allOf"),
        nested(10, |inner| json!({ "allOf": [inner.clone()], "unevaluatedProperties": inner })),
        nested(60, |inner| json!({ "not": inner })),
        nested(60, |inner| json!({ "items": inner })),
        nested(12, |inner| json!({ "allOf": [inner.clone(), inner] })),
        json!({ "properties": wide }),
        json!({ "$ref": "#" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "if": { "$ref": "#" } }),
        json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } }, "$ref": "#/$defs/a" }),
        json!({ "allOf": [{ "properties": { "a": { "$ref": "#" } } }, { "properties": { "a": { "$ref": "#" } } }] }),
        json!({ "properties": { "a": { "$ref": "#" } }, "patternProperties": { "a": { "$ref": "#" } } }),
        json!({ "properties": { "a": { "allOf": [{ "$ref": "#" }, { "$ref": "#" }] } } }),
        json!({ "items": { "$ref": "#" }, "contains": { "$ref": "#" } }),
        json!({ "anyOf": [{ "items": { "$ref": "#" } }, { "items": { "$ref": "#" } }] }),
        json!({ "$ref": "https://json-schema.org/draft/2020-12/schema" }),
        json!({ "$dynamicRef": "#a" }),
        json!({ "properties": { "a": { "$id": "http://a.example/", "$ref": "#" } } }),
        json!({ "pattern": "(a{1000}){1000}" }),
        json!({ "pattern": "a".repeat(2_000) }),
        json!({ "pattern": "a{7000}[^a]" }),
        json!({ "pattern": r"^(?:(?=[\s\S]*)a)*$" }),
        json!({ "pattern": "^(?!b)(a+a+)+c$" }),
        json!({ "pattern": r"^(a)\1$" }),
        json!({ "patternProperties": { "a{3500}[^a]": {} } }),
        json!({ "allOf": patterns }),
        json!({ "$ref": "#/nosuch" }),
        json!({ "$ref": 5 }),
        json!({ "description": "a".repeat(70_000) }),
    ]
}

/// Results that are the most expensive to validate.
fn values() -> Vec<Value> {
    let deep = |wrap: &dyn Fn(Value) -> Value| (0..60).fold(json!("a"), |inner, _| wrap(inner));
    vec![
        json!("a".repeat(60_000)),
        json!(vec![1; 30_000]),
        json!((0..10_000).collect::<Vec<_>>()),
        json!((0..5_000).map(|i| (format!("a{i}"), json!(i))).collect::<Map<String, Value>>()),
        deep(&|inner| json!({ "a": inner })),
        deep(&|inner| json!([inner])),
        json!({}),
        Value::Null,
    ]
}

#[test]
fn what_can_take_no_end_is_refused() {
    for schema in refused() {
        let text = schema.to_string();
        let why = soon(&text, || check(&schema).unwrap_err());
        assert!(why.len() < 1_500, "{why}");
        // An older stored schema makes each result invalid, and does no other harm.
        for value in values() {
            let told = soon(&text, || problems(&schema, &value));
            assert!(told[0].starts_with("the schema is invalid"), "{told:?}");
        }
    }
}

#[test]
fn what_is_admitted_judges_in_time() {
    let tree = json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "b": { "$ref": "#" } }, "additionalProperties": { "type": "integer" } });
    let list = json!({ "type": "array", "items": { "$ref": "#" } });
    let many: Vec<Value> = (0..400).map(|i| json!({ "enum": [i] })).collect();
    let patterns: Vec<Value> =
        (0..20).map(|i| json!({ "pattern": format!("^(a|b)*a(a|b){{{}}}$", 100 + i) })).collect();
    let admitted = [
        tree,
        list,
        json!({ "items": { "anyOf": many.clone() } }),
        json!({ "items": { "allOf": many } }),
        json!({ "uniqueItems": true }),
        json!({ "anyOf": patterns }),
        json!({ "patternProperties": { "^(a|b)*c$": false, "a": { "type": "integer" } } }),
        json!({ "allOf": [{ "properties": { "b": {} } }], "unevaluatedProperties": { "type": "integer" } }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "format": "regex", "items": { "format": "regex" } }),
        json!({ "$schema": "http://json-schema.org/draft-07/schema#", "definitions": { "n": { "type": "null" } }, "items": { "$ref": "#/definitions/n" } }),
        doubling(6, "anyOf"),
        nested(40, |inner| json!({ "not": inner })),
        json!(true),
        json!({}),
    ];
    for schema in admitted {
        let text = schema.to_string();
        soon(&text, || check(&schema).unwrap_or_else(|why| panic!("{text}: {why}")));
        for value in values() {
            let told = soon(&text, || problems(&schema, &value));
            assert!(told.len() <= 10 && told.iter().all(|one| one.len() < 1_500), "{told:?}");
        }
    }
    let person = json!({ "type": "object", "required": ["name"], "properties": { "name": { "type": "string", "pattern": "^[A-Z]" } } });
    assert_eq!(problems(&person, &json!({ "name": "Ann" })), Vec::<String>::new());
    assert!(problems(&person, &json!({ "name": "ann" }))[0].starts_with("/name: "));
}

both! {
    async fn an_operators_schema_holds_up_nobody(kind) {
        let world = World::without_server(kind, None).await;
        let create = "mutation($input: CreateAgentInput!) { createAgent(input: $input) { agent { id } } }";
        let mut schema = doubling(24, "allOf");
        schema["unevaluatedProperties"] = json!(false);
        let (code, told) = world.refused(create, json!({ "input": { "name": "a", "outputSchema": schema } })).await;
        assert!(code == "BAD_USER_INPUT" && told.starts_with("outputSchema: "), "{code} {told}");
        world.ask(create, json!({ "input": { "name": "a", "outputSchema": { "type": "object" } } })).await;
        world.end().await;
    }
}
