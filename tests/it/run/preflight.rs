//! Preflight: the table of docs/reference/product.md, for every channel and action, from one
//! implementation.

use serde_json::{Value, json};

use crate::harness::World;

/// Preflight checks as `CODE status`, for a complete input.
async fn table(world: &World, campaign: &str, action: &str) -> Vec<String> {
    let query = "query($id: ID!, $action: LaunchAction!, $input: LaunchInput) { preflight(campaignId: $id, action: $action, input: $input) { ready checks { code status severity message remediation } } }";
    let input = json!({ "recipients": ["+4930123456"], "at": "2027-01-01T00:00:00Z" });
    let input = if action == "TEST_RUN" { json!({ "sample": 1, "recipients": input["recipients"] }) } else { input };
    let report =
        world.ask(query, json!({ "id": campaign, "action": action, "input": input })).await["preflight"].clone();
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        // Checks that can be fixed say how; those that block the launch are required.
        assert_eq!(
            check["remediation"].is_string(),
            ["FAILED", "WARNING"].contains(&check["status"].as_str().unwrap()),
            "{check}"
        );
        assert!(check["status"] != "FAILED" || check["severity"] == "REQUIRED", "{check}");
        assert!(!check["message"].as_str().unwrap().is_empty(), "{check}");
    }
    assert_eq!(report["ready"], checks.iter().all(|check| check["status"] != "FAILED"));
    checks
        .iter()
        .map(|check| format!("{} {}", check["code"].as_str().unwrap(), check["status"].as_str().unwrap()))
        .collect()
}

fn of(table: &[String], code: &str) -> String {
    table.iter().find_map(|line| line.strip_prefix(&format!("{code} "))).unwrap_or("absent").to_owned()
}

both! {
    async fn the_table(kind) {
        let world = World::without_server(kind, None).await;
        let (ok, no, warn, failed) = ("PASSED", "NOT_APPLICABLE", "WARNING", "FAILED");
        // Checks of an empty campaign, per channel and action: all at once.
        for channel in ["EMAIL", "SMS", "PHONE"] {
            let bare = world.create("campaign", json!({ "name": "Bare", "channel": channel })).await;
            for action in ["TEST_RUN", "RUN", "SCHEDULE"] {
                let found = table(&world, &bare, action).await;
                assert_eq!(found.len(), 17, "{found:?}");
                let test = action == "TEST_RUN";
                let wanted = [
                    ("GOAL", failed),
                    ("WRITER", failed),
                    ("REVIEWER", if channel == "PHONE" { no } else { failed }),
                    ("MESSAGE_TEMPLATE", if channel == "EMAIL" { failed } else { no }),
                    ("AUDIENCE", if test { no } else { failed }),
                    ("CAMPAIGN_ACTIVE", if test { warn } else { failed }),
                    ("AUDIENCE_REACHABLE", no),
                    ("CHANNEL", if channel == "SMS" { failed } else { ok }),
                    ("CONTENT", failed),
                    ("RENDERING", no),
                    ("RUN_TEMPLATE", ok),
                    ("TEST_RECIPIENTS", match (test, channel) { (false, _) => no, (true, "EMAIL") => failed, (true, _) => ok }),
                    ("TIME", if action == "SCHEDULE" { ok } else { no }),
                    ("SHARED_ADDRESSES", no),
                    ("OPEN_RUN", ok),
                    ("APPROVED_VERSION", no),
                    ("RUN_SIZE", no),
                ];
                for (code, status) in wanted {
                    assert_eq!(of(&found, code), status, "{channel} {action} {code}");
                }
            }
        }
        // An active mail campaign without a template: a test run only warns; its writer's body is content enough.
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "messageTemplateId": null } })).await;
        assert_eq!(of(&table(&world, &plan.campaign, "TEST_RUN").await, "MESSAGE_TEMPLATE"), warn);
        assert_eq!(of(&table(&world, &plan.campaign, "RUN").await, "MESSAGE_TEMPLATE"), failed);
        assert_eq!(of(&table(&world, &plan.campaign, "RUN").await, "CONTENT"), ok);
        // An empty audience, and one without any reachable recipient.
        let empty = world.create("segment", json!({ "name": "None", "filter": { "stage": { "eq": "Nowhere" } } })).await;
        for segment in [json!({ "segmentId": empty }), json!({ "segmentId": unreachable(&world).await })] {
            let mut input = segment;
            input["id"] = json!(plan.campaign);
            world.ask(update, json!({ "input": input })).await;
            let found = [table(&world, &plan.campaign, "TEST_RUN").await, table(&world, &plan.campaign, "RUN").await, table(&world, &plan.campaign, "SCHEDULE").await];
            assert_eq!(found.map(|table| of(&table, "AUDIENCE_REACHABLE")), [warn, failed, warn]);
        }
        // An AGENT writer has no executor yet; a template of another channel is not valid.
        let agent = world.create("writer", json!({ "name": "Model", "kind": "AGENT" })).await;
        let sms = world.create("messageTemplate", json!({ "name": "Short", "channel": "SMS", "body": "Hi" })).await;
        world.ask(update, json!({ "input": { "id": plan.campaign, "writerId": agent, "messageTemplateId": sms } })).await;
        let found = table(&world, &plan.campaign, "RUN").await;
        assert_eq!((of(&found, "CONTENT"), of(&found, "MESSAGE_TEMPLATE")), (failed.to_owned(), failed.to_owned()));
        world.end().await;
    }
}

async fn unreachable(world: &World) -> String {
    world.create("record", json!({ "kind": "ghost", "name": "Nobody" })).await;
    world.create("segment", json!({ "name": "Ghosts", "filter": { "kind": { "eq": "ghost" } } })).await
}

both! {
    async fn a_failed_preflight_is_data_and_makes_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let bare = world.create("campaign", json!({ "name": "Bare" })).await;
        let launches = [
            "testRunCampaign(input: { campaignId: $id, recipients: [\"nonsense\"] })",
            "runCampaign(input: { campaignId: $id })",
            "scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"Mars/Olympus\" })",
        ];
        for launch in launches {
            let data = world.ask(&format!("mutation($id: ID!) {{ it: {launch} {{ run {{ id }} preflight {{ ready checks {{ code status message }} }} }} }}"), json!({ "id": bare })).await;
            assert_eq!((&data["it"]["run"], &data["it"]["preflight"]["ready"]), (&Value::Null, &json!(false)), "{launch}");
        }
        // A dry run of a launchable campaign creates nothing either, and reports that it is ready.
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        for launch in ["testRunCampaign(input: { campaignId: $id, sample: 1, dryRun: true })", "runCampaign(input: { campaignId: $id, dryRun: true })", "scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", dryRun: true })"] {
            let data = world.ask(&format!("mutation($id: ID!) {{ it: {launch} {{ run {{ id }} preflight {{ ready checks {{ code status message }} }} }} }}"), json!({ "id": plan.campaign })).await;
            assert_eq!((&data["it"]["run"], &data["it"]["preflight"]["ready"]), (&Value::Null, &json!(true)), "{launch}: {data:#}");
        }
        assert_eq!(world.ask("{ runs { totalCount } schedules { totalCount } }", json!({})).await, json!({ "runs": { "totalCount": 0 }, "schedules": { "totalCount": 0 } }));
        // Drafts can be previewed.
        let preview = "query($id: ID!) { previewMessages(campaignId: $id, sample: 1) { record { name } subject body error } }";
        let data = world.ask(preview, json!({ "id": plan.campaign })).await;
        assert_eq!(data["previewMessages"], json!([{ "record": { "name": "Lead 0" }, "subject": "Hi First0", "body": "Dear First0,\na trial for Acme.", "error": null }]));
        world.end().await;
    }
}
