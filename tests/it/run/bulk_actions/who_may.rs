//! Roles and permissions of those who start a bulk action, and other orgs.

use async_graphql::parser::types::OperationType;
use entity::BulkVerb;
use sortie::domain::bulk_action::needed_role;
use sortie::graphql::with_viewer;
use sortie::kernel::viewer::Viewer;

use super::*;

both! {
    async fn with_the_permissions_of_its_starter(kind) {
        let mut world = World::without_server(kind, None).await;
        let admin = world.viewer.clone();
        let (_, steps) = sessions(&world, 3).await;
        let create = "mutation { createMember(input: { name: \"Olga\", email: \"olga@example.com\", role: OPERATOR }) { member { id } } }";
        let member = world.ask(create, json!({})).await["createMember"]["member"]["id"].as_str().unwrap().to_owned();
        let row = sortie::domain::people::member::must_find(world.db.read(), &admin, member.parse().unwrap()).await.unwrap();
        let olga = Viewer::of_member(row);
        world.viewer = olga.clone();
        let (code, message) = world.refused(START, json!({ "input": { "verb": "APPROVE_STEPS", "ids": steps } })).await;
        assert_eq!((code.as_str(), message.as_str()), ("FORBIDDEN", "APPROVE_STEPS requires the role REVIEWER; the role of Olga is OPERATOR"));
        let done = start(&world, json!({ "verb": "ASSIGN_STEPS", "ids": steps, "assigneeId": member })).await;
        world.tick(false).await;
        assert_eq!(show(&world, &done).await.0["done"], 3);
        let assigned = world.ask_all_events().await.into_iter().filter(|event| event["kind"] == "step.assigned");
        assert!(assigned.into_iter().all(|event| event["actor"]["name"] == "Olga"));
        // Her role is lowered before the server has begun: nothing is done any more.
        let lowered = start(&world, json!({ "verb": "SKIP_STEPS", "ids": steps })).await;
        let gone = start(&world, json!({ "verb": "ASSIGN_STEPS", "ids": steps, "assigneeId": null })).await;
        world.viewer = admin;
        let update = "mutation($id: ID!) { updateMember(input: { id: $id, role: VIEWER }) { member { role } } }";
        world.ask(update, json!({ "id": member })).await;
        bulk_actions::tick(world.engine_context()).await.unwrap();
        let (found, results) = show(&world, &lowered).await;
        assert_eq!((&found["status"], &found["refused"]), (&json!("COMPLETED"), &json!(3)));
        assert!(results.iter().all(|one| one["code"] == "FORBIDDEN" && one["message"] == "SKIP_STEPS requires the role OPERATOR; the role of Olga is VIEWER"), "{results:#?}");
        // Nor is anything done for one who is no member any more.
        for step in &steps {
            let assign = "mutation($id: ID!) { assignStep(input: { id: $id, memberId: null }) { step { id } } }";
            world.ask(assign, json!({ "id": step })).await;
        }
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        world.tick(false).await;
        let (found, results) = show(&world, &gone).await;
        assert_eq!((&found["refused"], &results[0]["message"]), (&json!(3), &json!("Olga, who started this, is no longer a member")));
        world.end().await;
    }
}

both! {
    async fn another_org_sees_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let (runs, _) = sessions(&world, 2).await;
        let id = start(&world, json!({ "verb": "PAUSE_RUNS", "ids": runs })).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let schema = sortie::graphql::schema(Some(world.db.clone()));
        let ask = async |query: &str, variables: Value| {
            let request = async_graphql::Request::new(query).variables(async_graphql::Variables::from_json(variables));
            serde_json::to_value(schema.execute(with_viewer(request, &world.db, &other)).await).unwrap()
        };
        let found = ask("query($id: ID!) { bulkAction(id: $id) { id } node(id: $id) { id } bulkActions { totalCount } events { nodes { kind } } }", json!({ "id": id })).await;
        assert_eq!(found["data"], json!({ "bulkAction": null, "node": null, "bulkActions": { "totalCount": 0 }, "events": { "nodes": [] } }));
        assert_eq!(ask(STOP, json!({ "id": id })).await["errors"][0]["extensions"]["code"], "NOT_FOUND");
        // Runs of another org are refused like those that do not exist.
        let dry_run = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "ids": runs, "dryRun": true } })).await;
        assert_eq!(dry_run["data"]["startBulkAction"]["dryRun"]["sample"][0]["code"], "NOT_FOUND");
        let theirs = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "ids": runs } })).await["data"]["startBulkAction"]["bulkAction"].clone();
        let all = ask(START, json!({ "input": { "verb": "CANCEL_RUNS", "runFilter": { "all": true } } })).await["data"]["startBulkAction"]["bulkAction"].clone();
        assert_eq!((&theirs["matched"], &all["matched"]), (&json!(2), &json!(0)));
        world.tick(false).await;
        let found = ask(SHOW, json!({ "id": theirs["id"] })).await["data"]["bulkAction"].clone();
        assert_eq!((&found["status"], &found["refused"], &found["results"]["nodes"][0]["code"], &found["results"]["nodes"][0]["run"]), (&json!("COMPLETED"), &json!(2), &json!("NOT_FOUND"), &Value::Null));
        assert_eq!(runs_in(&world, "PAUSED").await, 2);
        world.end().await;
    }
}

/// The role of each verb is that of the single mutation.
#[test]
fn the_roles_of_the_single_mutations() {
    for (verb, mutation) in [
        (BulkVerb::CancelRuns, "cancelRun"),
        (BulkVerb::RetryRuns, "retryRun"),
        (BulkVerb::PauseRuns, "pauseRun"),
        (BulkVerb::ResumeRuns, "resumeRun"),
        (BulkVerb::ApproveSteps, "approveStep"),
        (BulkVerb::RejectSteps, "rejectStep"),
        (BulkVerb::AssignSteps, "assignStep"),
        (BulkVerb::SkipSteps, "skipStep"),
        (BulkVerb::ResolveCommunications, "resolveCommunication"),
        (BulkVerb::ArchiveCampaigns, "archiveCampaign"),
    ] {
        assert_eq!(role::required_role(OperationType::Mutation, mutation), Some(needed_role(verb)), "{mutation}");
    }
}
