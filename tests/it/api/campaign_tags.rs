//! Tags and the archive of campaigns.

use serde_json::{Value, json};

use crate::harness::World;

const SET: &str =
    "mutation($input: SetCampaignTagsInput!) { setCampaignTags(input: $input) { campaign { tags revision } } }";

async fn found(world: &World, filter: Value) -> String {
    let query = "query($filter: CampaignFilter) { campaigns(filter: $filter, orderBy: { field: NAME, direction: ASC }) { totalCount nodes { name } } }";
    let found = world.ask(query, json!({ "filter": filter })).await["campaigns"].clone();
    let nodes = found["nodes"].as_array().unwrap();
    assert_eq!(found["totalCount"], nodes.len());
    nodes.iter().map(|one| one["name"].as_str().unwrap()).collect()
}

both! {
    async fn tags_group_campaigns_in_any_status(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for (name, tags) in [("a", json!(["spring", " mail "])), ("b", json!(["spring", "Ünï ✓"])), ("c", json!([])), ("d", Value::Null)] {
            ids.push(world.create("campaign", json!({ "name": name, "tags": tags })).await);
        }
        for (filter, wanted) in [
            (json!({ "tags": ["spring"] }), "ab"),
            (json!({ "tags": ["mail", "Ünï ✓"] }), "ab"),
            (json!({ "tags": ["Spring"] }), ""),
            (json!({ "tags": [] }), ""),
            (json!({ "tags": null }), "abcd"),
            (json!({ "not": { "tags": ["spring"] } }), "cd"),
            (json!({ "tags": ["spring"], "archived": false }), "ab"),
        ] {
            assert_eq!(found(&world, filter.clone()).await, wanted, "{filter}");
        }
        let used = world.ask("{ campaignTags { tag campaigns } campaigns(orderBy: { field: NAME, direction: ASC }) { nodes { tags } } }", json!({})).await;
        assert_eq!(used["campaignTags"], json!([{ "tag": "spring", "campaigns": 2 }, { "tag": "mail", "campaigns": 1 }, { "tag": "Ünï ✓", "campaigns": 1 }]));
        assert_eq!(used["campaigns"]["nodes"], json!([{ "tags": ["mail", "spring"] }, { "tags": ["spring", "Ünï ✓"] }, { "tags": [] }, { "tags": [] }]));
        // Also of one that has ended; each change has its event, and what changes nothing has none.
        world.act("cancelCampaign", "campaign", json!({ "id": ids[2] })).await;
        let set = async |tags: Value| world.ask(SET, json!({ "input": { "id": ids[2], "tags": tags } })).await["setCampaignTags"]["campaign"].clone();
        assert_eq!(set(json!(["late", "late", "early"])).await, json!({ "tags": ["early", "late"], "revision": 3 }));
        assert_eq!(set(json!(["early", "late"])).await["revision"], 3);
        assert_eq!(set(json!([])).await, json!({ "tags": [], "revision": 4 }));
        let events = world.ask("{ events(filter: { kinds: [\"campaign.tagged\"] }) { nodes { payload } } }", json!({})).await;
        let changes: Vec<Value> = events["events"]["nodes"].as_array().unwrap().iter().map(|event| json!([event["payload"]["from"], event["payload"]["to"]])).collect();
        assert_eq!(changes, [json!([[], ["early", "late"]]), json!([["early", "late"], []])]);
        // The copy has them, too.
        let copy = world.ask("mutation($id: ID!) { duplicateCampaign(input: { id: $id }) { campaign { tags } } }", json!({ "id": ids[1] })).await;
        assert_eq!(copy["duplicateCampaign"]["campaign"]["tags"], json!(["spring", "Ünï ✓"]));
        let many: Vec<String> = (0..21).map(|i| format!("t{i}")).collect();
        for (tags, code, field) in [
            (json!(["ok", ""]), "BAD_USER_INPUT", "tags[1]"),
            (json!(["x".repeat(41)]), "BAD_USER_INPUT", "tags[0]"),
            (json!(["a\u{202e}b"]), "BAD_USER_INPUT", "tags[0]"),
            (json!(many), "LIMIT_EXCEEDED", "tags"),
        ] {
            let told = world.post(SET, json!({ "input": { "id": ids[0], "tags": tags } })).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &json!(field)), "{told}");
        }
        assert_eq!(world.refused(SET, json!({ "input": { "id": ids[0], "tags": [], "expectedRevision": 7 } })).await.0, "CONFLICT");
        assert_eq!(world.refused(SET, json!({ "input": { "id": entity::id::CampaignId::new().to_string(), "tags": [] } })).await.0, "NOT_FOUND");
        world.ask("mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }", json!({ "id": ids[0] })).await;
        assert_eq!(found(&world, json!({ "tags": ["mail"] })).await, "");
        world.end().await;
    }
}

both! {
    async fn the_archive_puts_aside_what_does_not_run(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let draft = world.create("campaign", json!({ "name": "Draft" })).await;
        world.activate(&plan).await;
        let archive = "mutation($id: ID!) { archiveCampaign(input: { id: $id, reason: \"over\" }) { campaign { status archivedAt archivedBy { name } } } }";
        let (code, why) = world.refused(archive, json!({ "id": plan.campaign })).await;
        assert!(code == "CONFLICT" && why.contains("ACTIVE: complete or cancel it first"), "{why}");
        let done = world.ask(archive, json!({ "id": draft })).await["archiveCampaign"]["campaign"].clone();
        assert_eq!((&done["status"], &done["archivedBy"]["name"]), (&json!("DRAFT"), &json!("Developer")));
        assert!(done["archivedAt"].is_string());
        assert_eq!(found(&world, json!({ "archived": true })).await, "Draft");
        assert_eq!(found(&world, json!({ "archived": false })).await, "Outreach");
        assert_eq!(found(&world, json!({ "archived": null })).await, "DraftOutreach");
        let (code, why) = world.refused(archive, json!({ "id": draft })).await;
        assert!(code == "CONFLICT" && why.contains("already"), "{why}");
        for change in ["updateCampaign(input: { id: $id, name: \"x\" })", "cancelCampaign(input: { id: $id })", "restoreCampaignVersion(input: { id: $id, version: 1 })"] {
            let (code, why) = world.refused(&format!("mutation($id: ID!) {{ {change} {{ campaign {{ id }} }} }}"), json!({ "id": draft })).await;
            assert!(code == "CONFLICT" && why.contains("unarchiveCampaign"), "{change}: {why}");
        }
        let back = world.act("unarchiveCampaign", "campaign", json!({ "id": draft })).await;
        assert_eq!(back["status"], "DRAFT");
        world.act("cancelCampaign", "campaign", json!({ "id": draft })).await;
        let kinds = world.ask("query($id: ID!) { campaign(id: $id) { events { nodes { kind } } } }", json!({ "id": draft })).await;
        let kinds: Vec<&str> = kinds["campaign"]["events"]["nodes"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["campaign.created", "campaign.archived", "campaign.unarchived", "campaign.cancelled"]);
        world.end().await;
    }
}
