//! Campaigns by filters with filters nested in them, and by their record.

use serde_json::{Value, json};

use crate::harness::World;

const NAMES: &str = "query($filter: CampaignFilter) { campaigns(filter: $filter, first: 100, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } }";

async fn names(world: &World, filter: Value) -> Vec<String> {
    let found = world.ask(NAMES, json!({ "filter": filter })).await["campaigns"].clone();
    let names: Vec<String> =
        found["nodes"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(found["totalCount"], names.len());
    names
}

both! {
    async fn nested_filters_and_records(kind) {
        let world = World::without_server(kind, None).await;
        let record = world.leads(2).await;
        for (name, channel, about) in [("a", "EMAIL", None), ("b", "PHONE", None), ("c", "EMAIL", Some(&record[0])), ("d", "PHONE", Some(&record[1]))] {
            world.create("campaign", json!({ "name": name, "channel": channel, "recordId": about })).await;
        }
        for (filter, wanted) in [
            (json!({ "recordIds": [record[0]] }), "c"),
            (json!({ "recordIds": record }), "cd"),
            (json!({ "recordIds": [] }), ""),
            // A campaign without a record is none about it.
            (json!({ "not": { "recordIds": [record[0]] } }), "abd"),
            (json!({ "channels": ["EMAIL"], "not": { "search": "a" } }), "c"),
            (json!({ "or": [{ "search": "a" }, { "recordIds": [record[1]] }] }), "ad"),
            (json!({ "channels": ["PHONE"], "or": [{ "search": "a" }, { "recordIds": [record[1]] }] }), "d"),
            (json!({ "not": { "or": [{ "search": "a" }, { "not": { "channels": ["PHONE"] } }] } }), "bd"),
            (json!({ "not": {} }), ""),
            (json!({ "or": [{}] }), "abcd"),
            (json!({ "or": null, "not": null, "recordIds": null }), "abcd"),
        ] {
            assert_eq!(names(&world, filter.clone()).await.concat(), wanted, "{filter}");
        }
        let deep = (0..9).fold(json!({ "search": "a" }), |filter, _| json!({ "not": filter }));
        let wide = json!({ "or": vec![json!({ "search": "a" }); 101] });
        for (filter, code, field) in [
            (json!({ "or": [] }), "BAD_USER_INPUT", "filter.or"),
            (json!({ "not": { "or": [{ "recordIds": ["nonsense"] }] } }), "BAD_USER_INPUT", "filter.not.or[0].recordIds"),
            (json!({ "or": [{ "createdAt": {} }] }), "BAD_USER_INPUT", "filter.or[0].createdAt"),
            (deep, "LIMIT_EXCEEDED", "filter.not.not.not.not.not.not.not.not.not"),
            (wide, "LIMIT_EXCEEDED", "filter.or[100]"),
        ] {
            let told = world.post(NAMES, json!({ "filter": filter })).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &json!(field)), "{told}");
        }
        world.end().await;
    }
}
