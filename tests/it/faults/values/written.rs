//! Manifests: numbers, times and names as they are written there, and the errors for invalid ones.

use serde_json::{Value, json};

use crate::harness::World;

const APPLY: &str = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied changes { action noun name fields } problems { line path message } } }";

impl World {
    async fn applied(&self, yaml: &str) -> Value {
        self.ask(APPLY, json!({ "y": yaml })).await["applyManifest"].clone()
    }
}

both! {
    async fn what_does_not_fit_in_a_filter_is_named(kind) {
        let world = World::without_server(kind, None).await;
        world.create("record", json!({ "kind": "lead", "name": "Ann", "attributes": { "n": 9007199254740993_i64 } })).await;
        for (condition, path, message) in [
            ("{name: n, eq: .inf}", ".attributes[0].eq", "is not a number"),
            ("{name: n, eq: .nan}", ".attributes[0].eq", "is not a number"),
            ("{name: n, eq: -.inf}", ".attributes[0].eq", "is not a number"),
            ("{name: n, in: [1, 1e400]}", ".attributes[0].in[1]", "is not a number"),
            ("{name: n, gte: 1e-400}", ".attributes[0].gte", "too small"),
            ("{name: n, eq: 9223372036854775808}", ".attributes[0].eq", "numbers must lie between"),
            ("{name: n, gte: 9223372036854775808}", ".attributes[0].gte", "numbers must lie between"),
            ("{name: n, gte: soon}", ".attributes[0].gte", "a number is expected"),
            ("{name: n, gte: [1]}", ".attributes[0].gte", "a number is expected"),
            ("{name: n, contains: 5}", ".attributes[0].contains", "a text is expected, not `5`"),
            ("{eq: 5}", ".attributes[0].name", "is required"),
            ("{name: n, eqq: 5}", ".attributes[0].eqq", "there is no such field; there is name, eq"),
        ] {
            let yaml = format!("goals:\n  - name: G\nsegments:\n  - name: sx\n    filter:\n      attributes:\n        - {condition}\n");
            let told = world.applied(&yaml).await;
            let problems = told["problems"].as_array().unwrap();
            assert_eq!(problems.len(), 1, "{condition}: {told}");
            assert!(problems[0]["path"].as_str().unwrap().ends_with(&format!("filter{path}")), "{condition}: {told}");
            assert!(problems[0]["message"].as_str().unwrap().contains(message), "{condition}: {told}");
            assert_eq!((&problems[0]["line"], &told["applied"]), (&json!(7), &json!(false)), "{condition}: {told}");
        }
        for (filter, path, message) in [
            ("{kind: lead}", "filter.kind", "an object with some of eq, ne, in"),
            ("{createdAt: {since: 10000-01-01}}", "filter.createdAt.since", "a time like 2026-01-01T00:00:00Z is expected"),
            ("{createdAt: {since: \"2016-12-31T23:59:60Z\"}}", "filter.createdAt.since", "write 2016-12-31T23:59:59Z or 2017-01-01T00:00:00Z"),
            ("{not: [{kind: {eq: lead}}]}", "filter.not", "is expected, not a list"),
            ("{or: {kind: {eq: lead}}}", "filter.or", "a list is expected, not an object"),
            ("{and: [{priority: {gte: 1.5}}]}", "filter.and[0].priority.gte", "a whole number is expected"),
            ("{unsubscribed: maybe}", "filter.unsubscribed", "true or false is expected"),
            ("{ids: [null]}", "filter.ids[0]", "must not be null"),
            ("lead", "filter", "an object with some of all, ids"),
        ] {
            let told = world.applied(&format!("segments:\n  - name: sx\n    filter: {filter}\n")).await;
            let problems = told["problems"].as_array().unwrap();
            assert_eq!((problems.len(), &problems[0]["path"], &problems[0]["line"]), (1, &json!(format!("segments.sx.{path}")), &json!(3)), "{filter}: {told}");
            assert!(problems[0]["message"].as_str().unwrap().contains(message), "{filter}: {told}");
        }
        // As the documentation writes them.
        let told = world.applied("segments:\n  - name: Big\n    filter: {attributes: [{name: n, gte: \"9007199254740993\", lt: 9007199254740994}]}\n").await;
        assert_eq!(told["applied"], true, "{told}");
        let counts = world.ask("{ segments(first: 5) { nodes { name recordCount } } }", json!({})).await;
        assert_eq!(counts["segments"]["nodes"], json!([{ "name": "Big", "recordCount": 1 }]));
        // Errors of a guided step's filter have the same form.
        let yaml = "runTemplates:\n  - key: g\n    name: G\n    kind: GUIDED\n    phases:\n      - key: p\n        tasks:\n          - key: t\n            steps:\n              - key: s\n                type: custom\n                assignedTo: HUMAN\n                config: {records: {filter: FILTER}}\n";
        for (filter, message) in [("{kind: lead}", "kind: an object with some of eq"), ("{}", "all: true"), ("{kind: {}}", "has no value")] {
            let told = world.applied(&yaml.replace("FILTER", filter)).await;
            assert!(told["problems"].to_string().contains(message), "{filter}: {told}");
        }
        world.end().await;
    }
}

both! {
    async fn names_are_compared_as_they_are_kept(kind) {
        let world = World::without_server(kind, None).await;
        let (one, other) = ("Zo\u{eb}", "Zoe\u{308}");
        let manifest = |name: &str| format!("goals: [{{name: \"{name}\"}}]\nwriters: [{{name: \"{name}\"}}]\nmessageTemplates: [{{name: \" {name} \", channel: EMAIL, subject: S, body: B}}]\nsegments: [{{name: \"{name}\", filter: {{all: true}}}}]\n");
        for (name, action) in [(other, "CREATE"), (other, "UNCHANGED"), (one, "UNCHANGED"), (other, "UNCHANGED")] {
            let told = world.applied(&manifest(name)).await;
            assert_eq!(told["problems"], json!([]), "{told}");
            let changes = told["changes"].as_array().unwrap();
            assert_eq!(changes.len(), 4);
            assert!(changes.iter().all(|change| change["action"] == action && change["name"] == one), "{told}");
        }
        for section in ["goals", "segments"] {
            let filter = if section == "segments" { ", filter: {all: true}" } else { "" };
            let told = world.applied(&format!("{section}:\n  - {{name: \"{one} 2\"{filter}}}\n  - {{name: \"{other} 2\"{filter}}}\n")).await;
            assert_eq!((&told["applied"], &told["problems"][0]["line"]), (&json!(false), &json!(3)), "{told}");
            assert!(told["problems"][0]["message"].as_str().unwrap().contains("in line 2"), "{told}");
        }
        world.end().await;
    }
}
