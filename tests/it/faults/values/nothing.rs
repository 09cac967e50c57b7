//! An empty filter never silently matches everybody: conditions without a value are rejected in all
//! input, filters without a condition wherever they act or are stored.

use serde_json::{Value, json};

use crate::harness::World;

const UNSUBSCRIBE: &str =
    "mutation($f: RecordFilterInput!) { unsubscribeRecords(input: { filter: $f, dryRun: true }) { count } }";
const CANCEL: &str = "mutation($f: RunFilter!) { cancelRuns(input: { filter: $f, dryRun: true }) { matched } }";
const RETRY: &str = "mutation($f: RunFilter!) { retryRuns(input: { filter: $f, dryRun: true }) { matched } }";
const CREATE: &str = "mutation($f: RecordFilterInput!) { createSegment(input: { name: \"S\", filter: $f }) { segment { recordCount } } }";
const PREVIEW: &str = "query($f: RecordFilterInput!) { previewSegment(filter: $f) { count } }";
const RUNS: &str = "query($f: RunFilter!) { runs(filter: $f) { totalCount } }";

impl World {
    /// The field of a BAD_USER_INPUT error, or else the code and the response.
    pub async fn field_refused(&self, document: &str, variables: Value) -> String {
        let answer = self.post(document, variables).await;
        let extensions = &answer["errors"][0]["extensions"];
        match extensions["code"].as_str() {
            Some("BAD_USER_INPUT") => extensions["field"].as_str().unwrap_or("none").to_owned(),
            _ => answer.to_string(),
        }
    }
}

both! {
    async fn a_condition_without_a_value_is_refused_everywhere(kind) {
        let world = World::without_server(kind, None).await;
        world.create("record", json!({ "kind": "lead", "name": "Ann", "email": "ann@example.com" })).await;
        let segment = world.create("segment", json!({ "name": "Leads", "filter": { "kind": { "eq": "lead" } } })).await;
        let update = format!("mutation($f: RecordFilterInput!) {{ updateSegment(input: {{ id: \"{segment}\", filter: $f }}) {{ segment {{ id }} }} }}");
        let lead = json!({ "eq": "lead" });
        for (filter, field) in [
            (json!({ "email": {} }), "filter.email"),
            (json!({ "email": { "eq": null } }), "filter.email"),
            (json!({ "kind": lead, "name": { "eq": null, "in": null, "isNull": null } }), "filter.name"),
            (json!({ "kind": lead, "createdAt": {} }), "filter.createdAt"),
            (json!({ "kind": lead, "lastContactedAt": { "before": null, "orNever": false } }), "filter.lastContactedAt"),
            (json!({ "kind": lead, "lastRepliedAt": { "olderThan": null } }), "filter.lastRepliedAt"),
            (json!({ "kind": lead, "priority": { "gte": null } }), "filter.priority"),
            (json!({ "kind": lead, "attributes": [{ "name": "n", "eq": 1 }, { "name": "zz" }] }), "filter.attributes[1]"),
            (json!({ "kind": lead, "attributes": [{ "name": "n", "eq": null, "in": null }] }), "filter.attributes[0]"),
            (json!({ "kind": lead, "and": [{ "not": { "or": [{ "stage": {} }] } }] }), "filter.and[0].not.or[0].stage"),
            (json!({ "all": true, "kind": lead }), "filter.all"),
            (json!({ "kind": lead, "or": [{ "all": true, "ids": [] }] }), "filter.or[0].all"),
        ] {
            for document in [UNSUBSCRIBE, CREATE, PREVIEW, update.as_str()] {
                assert_eq!(world.field_refused(document, json!({ "f": filter })).await, field, "{document}: {filter}");
            }
            let manifest = format!("segments:\n  - name: M\n    filter: {filter}\n");
            let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied problems { line path } } }";
            let applied = world.ask(apply, json!({ "y": manifest })).await["applyManifest"].clone();
            assert_eq!(applied, json!({ "applied": false, "problems": [{ "line": 3, "path": format!("segments.m.{field}") }] }), "{filter}");
        }
        // The usual cause: a variable that was not sent.
        for (document, field) in [
            ("mutation($e: String) { unsubscribeRecords(input: { filter: { email: { eq: $e } }, dryRun: true }) { count } }", "filter.email"),
            ("mutation($e: JSON) { unsubscribeRecords(input: { filter: { attributes: [{ name: \"n\", eq: $e }] } }) { count } }", "filter.attributes[0]"),
            ("mutation($i: [ID!]) { unsubscribeRecords(input: { filter: { ids: $i }, dryRun: true }) { count } }", "filter"),
            ("mutation($i: [ID!]) { cancelRuns(input: { filter: { campaignIds: $i } }) { matched } }", "filter"),
        ] {
            assert_eq!(world.field_refused(document, json!({})).await, field, "{document}");
        }
        world.end().await;
    }
}

both! {
    async fn a_filter_without_a_condition_does_not_act(kind) {
        let world = World::without_server(kind, None).await;
        for name in ["Ann", "Ben"] {
            world.create("record", json!({ "kind": "lead", "name": name })).await;
        }
        world.guided("weekly-pipeline-review", json!({})).await;
        let lead = json!({ "kind": { "eq": "lead" } });
        for (filter, field) in [
            (json!({}), "filter"),
            (json!({ "all": false }), "filter"),
            (json!({ "all": null, "ids": null, "or": null, "and": null, "not": null, "attributes": null }), "filter"),
            (json!({ "attributes": [], "and": [] }), "filter"),
            (json!({ "and": [{}] }), "filter"),
            (json!({ "or": [{}, { "ids": null }] }), "filter"),
            (json!({ "not": {} }), "filter"),
            (json!({ "not": { "not": { "search": "" } } }), "filter"),
            (json!({ "search": " " }), "filter"),
            (json!({ "name": { "contains": "" } }), "filter"),
            (json!({ "email": { "notIn": [] } }), "filter"),
            (json!({ "or": [lead, {}] }), "filter.or[1]"),
            (json!({ "and": [lead, { "ids": null }] }), "filter.and[1]"),
            (json!({ "kind": { "eq": "lead" }, "not": { "not": {} } }), "filter.not"),
        ] {
            for document in [UNSUBSCRIBE, CREATE] {
                assert_eq!(world.field_refused(document, json!({ "f": filter })).await, field, "{filter}");
            }
            // Reading is allowed.
            assert!(world.post(PREVIEW, json!({ "f": filter })).await.get("errors").is_none(), "{filter}");
        }
        for (filter, field) in [
            (json!({}), "filter"),
            (json!({ "statuses": null, "ids": null }), "filter"),
            (json!({ "search": "" }), "filter"),
            (json!({ "or": [{}] }), "filter"),
            (json!({ "or": [{ "types": ["GUIDED"] }, { "statuses": null }] }), "filter.or[1]"),
            (json!({ "not": {} }), "filter"),
            (json!({ "createdAt": {} }), "filter.createdAt"),
            (json!({ "types": ["GUIDED"], "scheduledFor": { "from": null, "to": null } }), "filter.scheduledFor"),
            (json!({ "all": true, "statuses": ["FAILED"] }), "filter.all"),
        ] {
            for document in [CANCEL, RETRY] {
                assert_eq!(world.field_refused(document, json!({ "f": filter })).await, field, "{filter}");
            }
            let looked = world.post(RUNS, json!({ "f": filter })).await;
            // A list, too, refuses a period of which no end was sent.
            let refused = ["filter.all", "filter.createdAt", "filter.scheduledFor"].contains(&field);
            assert_eq!(looked.get("errors").is_some(), refused, "{filter}: {looked}");
        }
        // Nobody, and everybody, if said explicitly.
        for (filter, count) in [(json!({ "ids": [] }), 0), (json!({ "all": true }), 2), (json!({ "not": { "all": true } }), 0), (json!({ "all": true, "ids": null, "attributes": [] }), 2), (json!({ "all": false, "kind": { "eq": "lead" } }), 2)] {
            assert_eq!(world.ask(UNSUBSCRIBE, json!({ "f": filter })).await["unsubscribeRecords"]["count"], count, "{filter}");
            assert_eq!(world.ask(PREVIEW, json!({ "f": filter })).await["previewSegment"]["count"], count, "{filter}");
            assert_eq!(world.ask(CREATE, json!({ "f": filter })).await["createSegment"]["segment"]["recordCount"], count, "{filter}");
        }
        for (filter, count) in [(json!({ "ids": [] }), 0), (json!({ "all": true }), 1), (json!({ "not": { "all": true } }), 0), (json!({ "all": true, "statuses": null }), 1)] {
            assert_eq!(world.ask(CANCEL, json!({ "f": filter })).await["cancelRuns"]["matched"], count, "{filter}");
            assert_eq!(world.ask(RUNS, json!({ "f": filter })).await["runs"]["totalCount"], count, "{filter}");
        }
        world.end().await;
    }
}

both! {
    /// Segments stored before the rule keep working as before, and are exported in a form that is
    /// valid today.
    async fn segments_of_old_go_on(kind) {
        let world = World::without_server(kind, None).await;
        for name in ["Ann", "Ben"] {
            world.create("record", json!({ "kind": "lead", "name": name, "attributes": { "n": 1 } })).await;
        }
        let old = [
            ("a", json!({})),
            ("b", json!({ "attributes": [{ "name": "n" }] })),
            ("c", json!({ "kind": { "eq": "lead" }, "email": {} })),
            ("d", json!({ "and": [{}] })),
            ("e", json!({ "name": { "contains": "" } })),
        ];
        for (name, filter) in &old {
            world.create("segment", json!({ "name": name, "filter": { "ids": [] } })).await;
            world.force(&format!("UPDATE segment SET filter = '{filter}' WHERE name = '{name}'")).await;
        }
        let list = "{ segments(first: 10) { nodes { name recordCount filter } } }";
        let before = world.ask(list, json!({})).await["segments"]["nodes"].clone();
        assert_eq!(before.as_array().unwrap().len(), 5);
        assert!(before.as_array().unwrap().iter().all(|one| one["recordCount"] == 2), "{before}");
        let manifest = world.ask("{ manifest }", json!({})).await["manifest"].as_str().unwrap().to_owned();
        assert_eq!(manifest.matches("all: true").count(), 3, "{manifest}");
        let apply = "mutation($y: String!) { applyManifest(input: { yaml: $y }) { applied changes { action } problems { path message } } }";
        let applied = world.ask(apply, json!({ "y": manifest })).await["applyManifest"].clone();
        assert_eq!(applied["problems"], json!([]), "{manifest}");
        assert!(applied["changes"].as_array().unwrap().iter().all(|one| one["action"] == "UNCHANGED"), "{applied}");
        assert_eq!(world.ask(list, json!({})).await["segments"]["nodes"], before);
        world.end().await;
    }
}

both! {
    /// Whole numbers that a client with floats can't write are found by their text form, beside
    /// texts.
    async fn whole_numbers_are_found_by_their_texts(kind) {
        let world = World::without_server(kind, None).await;
        for (name, it) in [
            ("number", json!(9007199254740993_i64)), ("text", json!("9007199254740993")), ("less", json!(9007199254740992_i64)), ("more", json!(9007199254740994_i64)),
            ("minus", json!(-9007199254740993_i64)), ("last", json!(i64::MAX)), ("first", json!(i64::MIN)), ("safe", json!(9007199254740991_i64)), ("small", json!(7)),
        ] {
            world.with_it(name, it).await;
        }
        for (condition, wanted) in [
            (json!({ "eq": "9007199254740993" }), "number text"),
            (json!({ "eq": 9007199254740993_i64 }), "number"),
            (json!({ "in": ["9007199254740993", "-9007199254740993"] }), "minus number text"),
            (json!({ "in": ["9007199254740992", 7, "x"] }), "less small"),
            (json!({ "eq": "9223372036854775807" }), "last"),
            (json!({ "eq": "-9223372036854775808" }), "first"),
            (json!({ "eq": "9223372036854775808" }), ""),
            (json!({ "eq": "9007199254740991" }), ""),
            (json!({ "eq": "7" }), ""),
            (json!({ "eq": "09007199254740993" }), ""),
            (json!({ "eq": "+9007199254740993" }), ""),
            (json!({ "eq": " 9007199254740993" }), ""),
        ] {
            let mut attribute = condition.clone();
            attribute["name"] = json!("it");
            let met = world.found(json!({ "attributes": [attribute] })).await;
            assert_eq!(met.join(" "), wanted, "{condition}");
            assert_eq!(world.found(json!({ "not": { "attributes": [attribute] } })).await.len(), 9 - met.len(), "{condition}");
        }
        world.end().await;
    }
}
