//! Definitions: deleted only if nothing uses them; their versions, duplicates, and restored
//! versions.

use serde_json::{Value, json};

use crate::harness::World;

impl World {
    async fn delete(&self, noun: &str, id: &str) -> Value {
        let upper = noun[..1].to_uppercase() + &noun[1..];
        let query = format!(
            "mutation($id: ID!, $key: String) {{ delete{upper}(input: {{ id: $id, idempotencyKey: $key }}) {{ deletedId }} }}"
        );
        self.post(&query, json!({ "id": id, "key": format!("delete {id}") })).await
    }
}

both! {
    async fn the_refusal_to_delete_a_member_names_what_uses_it(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let guided = "mutation($input: ScheduleGuidedRunInput!) { scheduleGuidedRun(input: $input) { schedule { id } run { id } } }";
        let input = json!({ "templateKey": "weekly-pipeline-review", "cron": "0 9 * * MON", "timezone": "Europe/Berlin", "assigneeId": member, "name": "Monday review" });
        let schedule = world.ask(guided, json!({ "input": input })).await["scheduleGuidedRun"]["schedule"]["id"].clone();
        let told = world.delete("member", &member).await["errors"][0].clone();
        assert_eq!(told["extensions"]["usedBy"], json!([{ "noun": "schedule", "id": schedule, "name": "Monday review" }]), "{told:#}");
        assert!(told["message"].as_str().unwrap().contains("in use by the schedule \"Monday review\""), "{told:#}");
        world.end().await;
    }
}

both! {
    async fn what_is_in_use_is_not_deleted(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        let ids = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id member { id } } } }";
        let parts = world.ask(ids, json!({ "id": plan.campaign })).await["campaign"].clone();
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        let (goal, writer, reviewer) = (id(&parts["goal"]["id"]), id(&parts["writer"]["id"]), id(&parts["reviewer"]["id"]));
        let member = id(&parts["reviewer"]["member"]["id"]);
        let used = [("goal", &goal), ("writer", &writer), ("reviewer", &reviewer), ("messageTemplate", &plan.template), ("segment", &plan.segment)];
        for (noun, id) in used {
            let answer = world.delete(noun, id).await;
            let error = &answer["errors"][0];
            assert_eq!((&error["extensions"]["code"], &error["extensions"]["usedBy"][0]), (&json!("CONFLICT"), &json!({ "noun": "campaign", "id": plan.campaign, "name": "Outreach" })), "{answer:#}");
            assert!(error["message"].as_str().unwrap().contains("in use by the campaign \"Outreach\""), "{error}");
        }
        let told = world.delete("member", &member).await;
        assert_eq!(told["errors"][0]["extensions"]["usedBy"][0]["noun"], "reviewer", "{told:#}");
        let list = world.create("segment", json!({ "name": "Listed", "recordIds": [plan.records[0]] })).await;
        assert_eq!(world.delete("record", &plan.records[0]).await["errors"][0]["extensions"]["usedBy"][0]["name"], "Listed");
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(false).await;
        let told = world.delete("record", &plan.records[1]).await;
        assert_eq!(told["errors"][0]["extensions"]["usedBy"][0]["id"], json!(run), "{told:#}");
        assert_eq!(world.delete("campaign", &plan.campaign).await["errors"][0]["extensions"]["usedBy"][0]["noun"], "run");
        // An unused definition is deleted once, and a repeat with the same key returns the same
        // result.
        let (free, other) = (world.create("record", json!({ "kind": "lead", "name": "Free" })).await, world.create("goal", json!({ "name": "Free" })).await);
        let campaign = world.create("campaign", json!({ "name": "Never flown", "goalId": other })).await;
        assert!(world.delete("record", &plan.records[0]).await["errors"].is_array(), "it is in a run");
        for (noun, id) in [("record", &free), ("segment", &list)] {
            for _ in 0..2 {
                assert_eq!(world.delete(noun, id).await["data"][format!("delete{}{}", noun[..1].to_uppercase(), &noun[1..])]["deletedId"], json!(id));
            }
        }
        assert!(world.delete("goal", &other).await["errors"].is_array());
        assert!(world.delete("campaign", &campaign).await["data"].is_object());
        assert!(world.delete("goal", &other).await["data"].is_object());
        let gone = world.ask("query($ids: [ID!]!) { nodes(ids: $ids) { id } }", json!({ "ids": [free, list, other, campaign] })).await;
        assert!(gone["nodes"].as_array().unwrap().iter().all(Value::is_null));
        let kinds: Vec<String> = world.ask_all_events().await.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).filter(|kind| kind.ends_with(".deleted")).collect();
        assert_eq!(kinds, ["record.deleted", "segment.deleted", "campaign.deleted", "goal.deleted"]);
        // The last admin can't be deleted; a member who is no reviewer can.
        assert_eq!(world.delete("member", &world.viewer.member_id().unwrap().to_string()).await["errors"][0]["extensions"]["code"], "CONFLICT");
        world.ask("mutation($id: ID!, $to: ID!) { updateReviewer(input: { id: $id, memberId: $to }) { reviewer { id } } }", json!({ "id": reviewer, "to": world.create("member", json!({ "name": "Duty", "email": "duty@example.com", "role": "REVIEWER" })).await })).await;
        let told = world.delete("member", &world.viewer.member_id().unwrap().to_string()).await;
        assert!(told["errors"][0]["message"].as_str().unwrap().contains("last admin"), "{told:#}");
        let guest = world.create("member", json!({ "name": "Guest", "email": "guest@example.com" })).await;
        assert!(world.delete("member", &guest).await["data"].is_object());
        world.end().await;
    }
}

both! {
    async fn versions_are_kept_and_brought_back(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let template = "mutation($id: ID!, $body: String) { updateMessageTemplate(input: { id: $id, body: $body }) { messageTemplate { version versions { totalCount nodes { version changes { field from to } actor { name } } } } } }";
        let before = world.ask("query($id: ID!) { messageTemplate(id: $id) { body } }", json!({ "id": plan.template })).await["messageTemplate"]["body"].clone();
        let changed = world.ask(template, json!({ "id": plan.template, "body": "Other" })).await["updateMessageTemplate"]["messageTemplate"].clone();
        assert_eq!((&changed["version"], &changed["versions"]["totalCount"]), (&json!(2), &json!(2)));
        assert_eq!(changed["versions"]["nodes"][0], json!({ "version": 2, "changes": [{ "field": "body", "from": before, "to": "Other" }], "actor": { "name": "Developer" } }));
        assert_eq!(changed["versions"]["nodes"][1]["changes"], json!([]));
        let same = world.ask(template, json!({ "id": plan.template, "body": "Other" })).await;
        assert_eq!(same["updateMessageTemplate"]["messageTemplate"]["version"], 2);
        let writer = world.create("writer", json!({ "name": "W" })).await;
        let changed = world.ask("mutation($id: ID!) { updateWriter(input: { id: $id, instructions: \"Be kind\" }) { writer { versions { nodes { version changes { field to } } } } } }", json!({ "id": writer })).await;
        assert_eq!(changed["updateWriter"]["writer"]["versions"]["nodes"][0]["changes"], json!([{ "field": "instructions", "to": "Be kind" }]));

        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { revision } } }";
        let whole = "query($id: ID!) { campaign(id: $id) { name description instructions variables goal { id } writer { id } reviewer { id } segment { id } messageTemplate { id } channel versions { nodes { version changes { field from to } } } } }";
        let was = world.ask(whole, json!({ "id": plan.campaign })).await["campaign"].clone();
        let goal = world.create("goal", json!({ "name": "Another" })).await;
        world.ask(update, json!({ "input": { "id": plan.campaign, "name": "Renamed", "goalId": goal, "variables": { "offer": "none" } } })).await;
        world.ask(update, json!({ "input": { "id": plan.campaign, "writerId": null, "instructions": "Loud" } })).await;
        world.ask(update, json!({ "input": { "id": plan.campaign, "name": "Again" } })).await;
        let restore = "mutation($id: ID!, $version: Int!, $at: Int) { restoreCampaignVersion(input: { id: $id, version: $version, expectedRevision: $at }) { campaign { name versions { totalCount } } } }";
        assert_eq!(world.refused(restore, json!({ "id": plan.campaign, "version": 1, "at": 1 })).await.0, "CONFLICT");
        for version in [0, 5] {
            let (code, told) = world.refused(restore, json!({ "id": plan.campaign, "version": version })).await;
            assert_eq!((code.as_str(), told.as_str()), ("BAD_USER_INPUT", "version: the campaign has the versions 1 to 4"));
        }
        let second = world.ask(restore, json!({ "id": plan.campaign, "version": 2 })).await;
        assert_eq!(second["restoreCampaignVersion"]["campaign"], json!({ "name": "Renamed", "versions": { "totalCount": 5 } }));
        world.ask(restore, json!({ "id": plan.campaign, "version": 1 })).await;
        let now = world.ask(whole, json!({ "id": plan.campaign })).await["campaign"].clone();
        for part in ["name", "description", "instructions", "variables", "goal", "writer", "reviewer", "segment", "messageTemplate", "channel"] {
            assert_eq!(now[part], was[part], "{part}");
        }
        // A version with a deleted part can't be restored, and nothing is changed in part.
        let gone = world.ask(restore, json!({ "id": plan.campaign, "version": 3 })).await;
        assert_eq!(gone["restoreCampaignVersion"]["campaign"]["name"], "Renamed");
        world.ask(restore, json!({ "id": plan.campaign, "version": 1 })).await;
        assert!(world.delete("goal", &goal).await["data"].is_object());
        assert_eq!(world.refused(restore, json!({ "id": plan.campaign, "version": 2 })).await.0, "NOT_FOUND");
        assert_eq!(world.ask(whole, json!({ "id": plan.campaign })).await["campaign"]["name"], was["name"]);

        let duplicate = "mutation($id: ID!, $name: String) { duplicateCampaign(input: { id: $id, name: $name, idempotencyKey: \"d\" }) { campaign { id name status goal { id } writer { id } segment { id } variables versions { totalCount } } } }";
        let copy = world.ask(duplicate, json!({ "id": plan.campaign, "name": null })).await["duplicateCampaign"]["campaign"].clone();
        assert_eq!((&copy["name"], &copy["status"], &copy["versions"]["totalCount"]), (&json!("Copy of Outreach"), &json!("DRAFT"), &json!(1)));
        for part in ["goal", "writer", "segment", "variables"] {
            assert_eq!(copy[part], was[part]);
        }
        assert_ne!(copy["id"], json!(plan.campaign));
        assert_eq!(world.ask(duplicate, json!({ "id": plan.campaign, "name": null })).await["duplicateCampaign"]["campaign"]["id"], copy["id"]);
        world.end().await;
    }
}

both! {
    /// A template without a base takes no overrides: they would have no effect.
    async fn overrides_are_for_templates_with_a_base(kind) {
        let world = World::without_server(kind, None).await;
        let step = json!({ "key": "s", "type": "review", "assignedTo": "HUMAN" });
        let yaml = json!({ "phases": [{ "key": "p", "tasks": [{ "key": "t", "steps": [step] }] }] }).to_string();
        let alone = world.create("runTemplate", json!({ "name": "Alone", "yaml": yaml })).await;
        let based = world.create("runTemplate", json!({ "name": "Based", "baseId": alone })).await;
        let update = "mutation($id: ID!, $to: JSON) { updateRunTemplate(input: { id: $id, overrides: $to }) { runTemplate { revision } } }";
        let to = json!({ "phases.p.name": "Other" });
        let answer = world.post(update, json!({ "id": alone, "to": to })).await;
        let error = &answer["errors"][0]["extensions"];
        assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!("overrides")), "{answer:#}");
        let create = "mutation($to: JSON, $yaml: String) { createRunTemplate(input: { name: \"Other\", yaml: $yaml, overrides: $to }) { runTemplate { id } } }";
        let answer = world.post(create, json!({ "to": to, "yaml": yaml })).await;
        assert_eq!(answer["errors"][0]["extensions"]["field"], "overrides", "{answer:#}");
        for (id, to) in [(&alone, json!(null)), (&alone, json!({})), (&based, to)] {
            world.ask(update, json!({ "id": id, "to": to })).await;
        }
        world.end().await;
    }
}
