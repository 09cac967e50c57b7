//! The filter language: every operator returns the same records on both databases, and an invalid
//! filter is rejected with the place of the error.

use serde_json::{Value, json};

use crate::harness::World;

async fn names(world: &World, filter: Value) -> Vec<String> {
    let query = "query($filter: RecordFilterInput!) { previewSegment(filter: $filter) { count sample { name } } }";
    let data = world.ask(query, json!({ "filter": filter })).await["previewSegment"].clone();
    let names: Vec<String> =
        data["sample"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(data["count"], names.len());
    names
}

both! {
    async fn every_operator(kind) {
        let world = World::without_server(kind, None).await;
        for (name, input) in [
            ("Ada", json!({ "kind": "lead", "stage": "New", "email": "ada@example.com", "lastContactedAt": "2026-10-01T00:00:00Z", "attributes": { "size": 10, "vip": true, "city": "Berlin", "since": "2026-10-01" } })),
            ("Ben", json!({ "kind": "lead", "stage": "Won", "phone": "+4930123456", "lastContactedAt": "2026-11-01T00:00:00Z", "attributes": { "size": 200, "vip": false, "city": "Bern" } })),
            ("Çem", json!({ "kind": "contact", "timeZone": "Asia/Tokyo", "attributes": { "size": "10", "city": null } })),
        ] {
            let mut input = input;
            input["name"] = json!(name);
            world.create("record", input).await;
        }
        let cases = [
            (json!({}), "Ada Ben Çem"),
            (json!({ "kind": { "eq": "lead" } }), "Ada Ben"),
            (json!({ "stage": { "ne": "New" } }), "Ben Çem"),
            (json!({ "stage": { "in": ["New", "Lost"] } }), "Ada"),
            (json!({ "stage": { "notIn": ["New"] } }), "Ben Çem"),
            (json!({ "stage": { "isNull": true } }), "Çem"),
            (json!({ "email": { "contains": "ADA@" } }), "Ada"),
            (json!({ "phone": { "isNull": false } }), "Ben"),
            (json!({ "timeZone": { "eq": "Asia/Tokyo" } }), "Çem"),
            (json!({ "lastContactedAt": { "olderThan": "14d" } }), "Ada"),
            (json!({ "lastContactedAt": { "newerThan": "14d" } }), "Ben"),
            (json!({ "lastContactedAt": { "isNull": true } }), "Çem"),
            (json!({ "lastContactedAt": { "since": "2026-10-01T00:00:00Z", "before": "2026-11-01T00:00:00Z" } }), "Ada"),
            (json!({ "attributes": [{ "name": "size", "eq": 10 }] }), "Ada"),
            (json!({ "attributes": [{ "name": "size", "eq": "10" }] }), "Çem"),
            (json!({ "attributes": [{ "name": "size", "gt": 10 }] }), "Ben"),
            (json!({ "attributes": [{ "name": "size", "gte": 10, "lte": 200 }] }), "Ada Ben"),
            (json!({ "attributes": [{ "name": "size", "lt": 10.5 }] }), "Ada"),
            (json!({ "attributes": [{ "name": "vip", "eq": true }] }), "Ada"),
            (json!({ "attributes": [{ "name": "vip", "eq": false }] }), "Ben"),
            (json!({ "attributes": [{ "name": "city", "in": ["Bern", "Rome"] }] }), "Ben"),
            (json!({ "attributes": [{ "name": "city", "contains": "BER" }] }), "Ada Ben"),
            (json!({ "attributes": [{ "name": "city", "isNull": true }] }), "Çem"),
            (json!({ "attributes": [{ "name": "vip", "isNull": false }] }), "Ada Ben"),
            (json!({ "attributes": [{ "name": "since", "olderThan": "14d" }] }), "Ada"),
            (json!({ "search": "çEM" }), "Çem"),
            (json!({ "unsubscribed": false }), "Ada Ben Çem"),
            (json!({ "or": [{ "stage": { "eq": "Won" } }, { "kind": { "eq": "contact" } }] }), "Ben Çem"),
            (json!({ "and": [{ "kind": { "eq": "lead" } }, { "not": { "stage": { "eq": "New" } } }] }), "Ben"),
            // An absent value does not match a condition, so it matches the negation.
            (json!({ "not": { "stage": { "eq": "New" } } }), "Ben Çem"),
        ];
        for (filter, wanted) in cases {
            assert_eq!(names(&world, filter.clone()).await.join(" "), wanted, "{filter}");
        }
        let query = "query($filter: RecordFilterInput!) { previewSegment(filter: $filter) { count } }";
        let mut deep = json!({});
        for _ in 0..9 {
            deep = json!({ "not": deep });
        }
        for (filter, code, at) in [
            (json!({ "or": [] }), "BAD_USER_INPUT", "filter.or"),
            (json!({ "ids": ["run_01h455vb4pex5vsknk084sn02q"] }), "BAD_USER_INPUT", "filter.ids"),
            (json!({ "lastContactedAt": { "olderThan": "soon" } }), "BAD_USER_INPUT", "filter.lastContactedAt.olderThan"),
            (json!({ "and": [{ "attributes": [{ "name": "a\u{0}b", "eq": 1 }] }] }), "BAD_USER_INPUT", "filter.and[0].attributes[0].name"),
            (json!({ "attributes": [{ "name": "a", "eq": { "b": 1 } }] }), "BAD_USER_INPUT", "filter.attributes[0].eq"),
            (deep, "LIMIT_EXCEEDED", "filter.not"),
        ] {
            let (found, message) = world.refused(query, json!({ "filter": filter })).await;
            assert_eq!((found.as_str(), message.starts_with(at)), (code, true), "{filter}: {message}");
        }
        // A fixed list is a segment, too; an unknown record is rejected.
        let ada = world.ask("{ records(filter: { name: { eq: \"Ada\" } }) { nodes { id } } }", json!({})).await["records"]["nodes"][0]["id"].clone();
        let list = world.create("segment", json!({ "name": "Just Ada", "recordIds": [ada, ada] })).await;
        let count = world.ask("query($id: ID!) { segment(id: $id) { recordCount filter } }", json!({ "id": list })).await;
        assert_eq!(count["segment"], json!({ "recordCount": 1, "filter": null }));
        let create = "mutation($input: CreateSegmentInput!) { createSegment(input: $input) { segment { id } } }";
        let gone = json!({ "name": "Gone", "recordIds": ["record_01h455vb4pex5vsknk084sn02q"] });
        assert_eq!(world.refused(create, json!({ "input": gone })).await.0, "NOT_FOUND");
        world.end().await;
    }
}

both! {
    /// An end that a client did not send must not widen a list to all rows.
    async fn a_period_without_ends_is_refused(kind) {
        let world = World::without_server(kind, None).await;
        for (list, field) in [
            ("runs", "createdAt"),
            ("runs", "scheduledFor"),
            ("campaigns", "createdAt"),
            ("campaigns", "updatedAt"),
            ("replies", "receivedAt"),
            ("communications", "createdAt"),
            ("events", "at"),
            ("schedules", "nextAt"),
            ("steps", "dueAt"),
            ("steps", "createdAt"),
        ] {
            let query = format!("query($from: DateTime, $to: DateTime) {{ {list}(filter: {{ {field}: {{ from: $from, to: $to }} }}) {{ totalCount }} }}");
            for variables in [json!({}), json!({ "from": null, "to": null })] {
                let told = world.post(&query, variables).await["errors"][0]["extensions"].clone();
                assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(format!("filter.{field}"))), "{list}");
            }
            let found = world.ask(&query, json!({ "to": "2000-01-01T00:00:00Z" })).await;
            assert_eq!(found[list]["totalCount"], 0, "{list}");
            let none = format!("{{ {list}(filter: {{ {field}: null }}) {{ totalCount }} }}");
            world.ask(&none, json!({})).await;
        }
        world.end().await;
    }
}
