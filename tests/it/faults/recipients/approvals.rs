//! An approval applies to a version: relevant changes since then are reported, and block the launch
//! until they are approved.

use serde_json::{Value, json};

use super::written_to;
use crate::harness::{World, noon};

const STATE: &str = "query($id: ID!) { campaign(id: $id) { status version approvedVersion changedSinceApproval { field then now } preflight(action: RUN) { ready checks { code status message } } availableActions { action allowed } } }";
const RUN: &str = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { ready checks { code status message } } } }";
const APPROVE: &str = "mutation($id: ID!) { approveCampaign(input: { id: $id }) { campaign { status approvedVersion version } preflight { ready } } }";

async fn state(world: &World, id: &str) -> Value {
    world.ask(STATE, json!({ "id": id })).await["campaign"].clone()
}

fn check(report: &Value) -> (String, String) {
    let checks = report["checks"].as_array().unwrap();
    let one = checks.iter().find(|check| check["code"] == "APPROVED_VERSION").unwrap();
    (one["status"].as_str().unwrap().to_owned(), one["message"].as_str().unwrap().to_owned())
}

fn fields(state: &Value) -> Vec<&str> {
    state["changedSinceApproval"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect()
}

both! {
    async fn what_matters_and_changed_wants_another_approval(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let draft = state(&world, &plan.campaign).await;
        assert_eq!((&draft["approvedVersion"], fields(&draft), check(&draft["preflight"]).0), (&Value::Null, vec![], "NOT_APPLICABLE".into()));
        world.activate(&plan).await;
        let now = state(&world, &plan.campaign).await;
        assert_eq!((&now["approvedVersion"], fields(&now), check(&now["preflight"]).0), (&json!(1), vec![], "PASSED".into()));
        // Nothing has changed: there is nothing to approve.
        let (code, told) = world.refused(APPROVE, json!({ "id": plan.campaign })).await;
        assert!(code == "CONFLICT" && told.contains("nothing that matters"), "{told}");
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        let change = async |more: Value| {
            let mut input = json!({ "id": plan.campaign });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.ask(update, json!({ "input": input })).await;
        };
        // A name and a description do not matter.
        change(json!({ "name": "Another name", "description": "For whom it may concern" })).await;
        let now = state(&world, &plan.campaign).await;
        assert_eq!((fields(&now), check(&now["preflight"]).0), (vec![], "PASSED".into()));
        // Each of these changes matters; once reverted, it no longer does.
        let writer = world.create("writer", json!({ "name": "Other", "body": "x" })).await;
        let reviewer = world.create("reviewer", json!({ "name": "Other" })).await;
        let goal = world.create("goal", json!({ "name": "Other" })).await;
        let template = world.create("messageTemplate", json!({ "name": "Other", "subject": "s", "body": "b" })).await;
        let segment = world.create("segment", json!({ "name": "Other", "filter": { "all": true } })).await;
        let parts = world.ask("query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } } }", json!({ "id": plan.campaign })).await["campaign"].clone();
        let override_of = json!([{ "path": "phases.in_flight.name", "value": "Sending" }]);
        for (field, to, back) in [
            ("goal", json!({ "goalId": goal }), json!({ "goalId": parts["goal"]["id"] })),
            ("writer", json!({ "writerId": writer }), json!({ "writerId": parts["writer"]["id"] })),
            ("reviewer", json!({ "reviewerId": reviewer }), json!({ "reviewerId": parts["reviewer"]["id"] })),
            ("messageTemplate", json!({ "messageTemplateId": template }), json!({ "messageTemplateId": plan.template })),
            ("segment", json!({ "segmentId": segment }), json!({ "segmentId": plan.segment })),
            ("instructions", json!({ "instructions": "louder" }), json!({ "instructions": "" })),
            ("variables", json!({ "variables": { "offer": "the moon" } }), json!({ "variables": { "offer": "a trial" } })),
            ("overrides", json!({ "overrides": override_of }), json!({ "overrides": [] })),
        ] {
            change(to).await;
            let now = state(&world, &plan.campaign).await;
            assert_eq!(fields(&now), [field]);
            assert_eq!((check(&now["preflight"]).0.as_str(), &now["preflight"]["ready"]), ("FAILED", &json!(false)), "{field}");
            let approve = now["availableActions"].as_array().unwrap().iter().find(|one| one["action"] == "APPROVE").unwrap().clone();
            assert_eq!(approve["allowed"], true, "{field}");
            change(back).await;
            assert!(fields(&state(&world, &plan.campaign).await).is_empty(), "{field}");
        }
        // A part's content is what is sent.
        let mend = "mutation($id: ID!) { updateMessageTemplate(input: { id: $id, body: \"Buy {{ offer }}\" }) { messageTemplate { version } } }";
        world.ask(mend, json!({ "id": plan.template })).await;
        let held = world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"].clone();
        assert_eq!(held["run"], Value::Null);
        let (status, told) = check(&held["preflight"]);
        assert!(status == "FAILED" && told.contains("messageTemplate") && told.contains("Developer"), "{told}");
        let held = world.ask("mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-12-01T00:00:00Z\" }) { schedule { id } } }", json!({ "id": plan.campaign })).await;
        assert_eq!(held["scheduleCampaign"]["schedule"], Value::Null);
        // A test run only warns, so that the change can be tried.
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } preflight { checks { code status message } } } }";
        let tested = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"].clone();
        assert!(tested["run"]["id"].is_string());
        assert_eq!(check(&tested["preflight"]).0, "WARNING");
        let approved = world.ask(APPROVE, json!({ "id": plan.campaign })).await["approveCampaign"]["campaign"].clone();
        assert_eq!((&approved["status"], &approved["approvedVersion"]), (&json!("ACTIVE"), &approved["version"]));
        assert!(world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].is_string());
        world.end().await;
    }
}

both! {
    async fn what_falls_due_unapproved_fails_with_its_report(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 13 * * *\" }) { run { id } } }";
        let run = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let update = "mutation($id: ID!) { updateCampaign(input: { id: $id, variables: { offer: \"the moon\" } }) { campaign { id } } }";
        world.ask(update, json!({ "id": plan.campaign })).await;
        world.clock.set(noon() + chrono::Duration::hours(1));
        world.tick(true).await;
        let failed = world.until_run(&run, "FAILED").await;
        assert!(failed["failure"].as_str().unwrap().contains("variables"), "{failed}");
        assert!(written_to(&world).is_empty());
        // Approved before the next occurrence is due, that one starts.
        world.ask(APPROVE, json!({ "id": plan.campaign })).await;
        world.clock.set(noon() + chrono::Duration::hours(25));
        world.tick(true).await;
        let runs = world.ask("{ runs(filter: { statuses: [IN_PROGRESS] }) { nodes { campaign { approvedVersion } } } }", json!({})).await;
        assert_eq!(runs["runs"]["nodes"].as_array().unwrap().len(), 1);
        world.end().await;
    }
}

both! {
    async fn an_approved_campaign_is_deleted_with_its_approvals(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.ask("mutation($id: ID!) { updateCampaign(input: { id: $id, instructions: \"louder\" }) { campaign { id } } }", json!({ "id": plan.campaign })).await;
        world.ask(APPROVE, json!({ "id": plan.campaign })).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM campaign_approval").await, 2);
        world.ask("mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }", json!({ "id": plan.campaign })).await;
        assert_eq!(world.ask("query($id: ID!) { campaign(id: $id) { id } }", json!({ "id": plan.campaign })).await["campaign"], Value::Null);
        assert_eq!(world.number("SELECT COUNT(*) FROM campaign_approval").await, 0);
        // A past occurrence stays as it is, with its reason.
        let plan = world.plan("EMAIL", 0).await;
        world.activate(&plan).await;
        world.launch(&plan).await;
        let (code, told) = world.refused("mutation($id: ID!) { deleteCampaign(input: { id: $id }) { deletedId } }", json!({ "id": plan.campaign })).await;
        assert!(code == "CONFLICT" && told.contains("run"), "{told}");
        world.end().await;
    }
}

both! {
    async fn what_was_approved_before_approvals_were_kept_is_held_to_what_it_was(kind) {
        let world = World::without_server(kind, None).await;
        let (plan, other) = (world.plan("EMAIL", 1).await, world.plan("EMAIL", 0).await);
        world.activate(&plan).await;
        world.activate(&other).await;
        // Existing rows as the migration leaves them; then the server starts.
        world.force("DELETE FROM campaign_approval").await;
        let update = "mutation($id: ID!) { updateCampaign(input: { id: $id, variables: { offer: \"the moon\" } }) { campaign { id } } }";
        world.ask(update, json!({ "id": other.campaign })).await;
        for _ in 0..2 {
            sortie::domain::plan::campaign::approval::store_missing_approvals(&world.db.write()).await.unwrap();
            assert_eq!(world.number("SELECT COUNT(*) FROM campaign_approval").await, 1);
        }
        let now = state(&world, &plan.campaign).await;
        assert_eq!((fields(&now), check(&now["preflight"]).0.as_str()), (vec![], "PASSED"));
        // A change of a part, and one of the campaign itself, made before approved versions were
        // stored.
        let mend = "mutation($id: ID!) { updateMessageTemplate(input: { id: $id, body: \"Buy {{ offer }}\" }) { messageTemplate { version } } }";
        world.ask(mend, json!({ "id": plan.template })).await;
        for (campaign, field) in [(&plan.campaign, "messageTemplate"), (&other.campaign, "version")] {
            let now = state(&world, campaign).await;
            assert_eq!((fields(&now), check(&now["preflight"]).0.as_str()), (vec![field], "FAILED"));
            assert_eq!(world.ask(RUN, json!({ "id": campaign })).await["runCampaign"]["run"], Value::Null);
            world.ask(APPROVE, json!({ "id": campaign })).await;
            assert!(fields(&state(&world, campaign).await).is_empty());
            assert!(world.ask(RUN, json!({ "id": campaign })).await["runCampaign"]["run"]["id"].is_string());
        }
        world.end().await;
    }
}

both! {
    async fn an_approval_holds_the_list_that_it_saw(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        let list = |ids: &[String]| json!({ "id": plan.segment, "ids": ids });
        let set = "mutation($id: ID!, $ids: [ID!]) { updateSegment(input: { id: $id, recordIds: $ids }) { segment { id } } }";
        world.ask(set, list(&plan.records[..2])).await;
        world.activate(&plan).await;
        let state = "query($id: ID!) { campaign(id: $id) { changedSinceApproval { field } preflight(action: RUN) { ready } } }";
        let changed = async || world.ask(state, json!({ "id": plan.campaign })).await["campaign"].clone();
        let same = json!({ "changedSinceApproval": [], "preflight": { "ready": true } });
        assert_eq!(changed().await, same);
        // The same ones in another order, twice, under another name.
        let again = [plan.records[1].clone(), plan.records[0].clone(), plan.records[1].clone()];
        world.ask(set, list(&again)).await;
        world.ask("mutation($id: ID!) { updateSegment(input: { id: $id, name: \"Other\" }) { segment { id } } }", json!({ "id": plan.segment })).await;
        assert_eq!(changed().await, same);
        let other = json!({ "changedSinceApproval": [{ "field": "segment" }], "preflight": { "ready": false } });
        for ids in [&plan.records[2..], &plan.records[..1], &plan.records[..], &[]] {
            world.ask(set, list(ids)).await;
            assert_eq!(changed().await, other, "{ids:?}");
        }
        world.ask(set, list(&plan.records[2..])).await;
        let run = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } } }";
        assert_eq!(world.ask(run, json!({ "id": plan.campaign })).await["runCampaign"]["run"], Value::Null);
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-12-01T00:00:00Z\" }) { schedule { id } } }";
        assert_eq!(world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["schedule"], Value::Null);
        world.ask(set, list(&plan.records[..2])).await;
        assert_eq!(changed().await, same);
        world.end().await;
    }
}

both! {
    async fn another_person_who_reviews_wants_another_approval(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let query = "query($id: ID!) { campaign(id: $id) { reviewer { id member { id } } } }";
        let reviewer = world.ask(query, json!({ "id": plan.campaign })).await["campaign"]["reviewer"].clone();
        let other = world.create("member", json!({ "name": "Olga", "email": "olga@example.com", "role": "REVIEWER" })).await;
        let update = "mutation($id: ID!, $member: ID, $name: String) { updateReviewer(input: { id: $id, memberId: $member, name: $name }) { reviewer { id } } }";
        let set = async |member: &Value, name: &str| {
            world.ask(update, json!({ "id": reviewer["id"], "member": member, "name": name })).await;
        };
        // The name does not matter; who reviews does, until it is taken back or approved.
        set(&reviewer["member"]["id"], "Another name").await;
        assert!(fields(&state(&world, &plan.campaign).await).is_empty());
        set(&json!(other), "Another name").await;
        let now = state(&world, &plan.campaign).await;
        assert_eq!((fields(&now), check(&now["preflight"]).0.as_str()), (vec!["reviewer"], "FAILED"));
        assert_eq!(world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"]["run"], Value::Null);
        set(&reviewer["member"]["id"], "Another name").await;
        assert!(fields(&state(&world, &plan.campaign).await).is_empty());
        // Approved when the person was not stored: nothing has changed, whether the server has
        // started since or not; then another person is a change.
        let without = match kind {
            crate::harness::Kind::Sqlite => "json_remove(approved, '$.reviewer.member')",
            crate::harness::Kind::Postgres => "approved #- '{reviewer,member}'",
        };
        world.force(&format!("UPDATE campaign_approval SET approved = {without}")).await;
        assert!(fields(&state(&world, &plan.campaign).await).is_empty());
        for _ in 0..2 {
            sortie::domain::plan::campaign::approval::store_missing_approvals(&world.db.write()).await.unwrap();
            assert!(fields(&state(&world, &plan.campaign).await).is_empty());
        }
        set(&json!(other), "Another name").await;
        assert_eq!(fields(&state(&world, &plan.campaign).await), ["reviewer"]);
        world.ask(APPROVE, json!({ "id": plan.campaign })).await;
        assert!(world.ask(RUN, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].is_string());
        world.end().await;
    }
}

both! {
    /// More than one statement reads.
    async fn many_approvals_without_their_person_are_completed_at_the_start(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        world.copies(kind, "campaign_approval", 1_020, &[]).await;
        let (without, left) = match kind {
            crate::harness::Kind::Sqlite => ("json_remove(approved, '$.reviewer.member')", "json_type(approved, '$.reviewer.member') IS NULL"),
            crate::harness::Kind::Postgres => ("approved #- '{reviewer,member}'", "approved->'reviewer'->'member' IS NULL"),
        };
        world.force(&format!("UPDATE campaign_approval SET approved = {without}")).await;
        let left = format!("SELECT COUNT(*) FROM campaign_approval WHERE {left}");
        assert_eq!(world.number(&left).await, 1_021);
        sortie::domain::plan::campaign::approval::store_missing_approvals(&world.db.write()).await.unwrap();
        assert_eq!(world.number(&left).await, 0);
        assert!(fields(&state(&world, &plan.campaign).await).is_empty());
        world.drop_unchecked().await;
    }
}

both! {
    async fn an_approval_is_of_what_was_seen(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.act("submitCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let query = "query($id: ID!) { campaign(id: $id) { revision preflight(action: RUN) { contentVersion } } }";
        let seen = world.ask(query, json!({ "id": plan.campaign })).await["campaign"].clone();
        let act = |verb: &str| format!("mutation($id: ID!, $r: Int, $c: String, $why: String) {{ {verb}(input: {{ id: $id, expectedRevision: $r, expectedContentVersion: $c, reason: $why }}) {{ campaign {{ status }} }} }}");
        let told = |seen: &Value| json!({ "id": plan.campaign, "r": seen["revision"], "c": seen["preflight"]["contentVersion"], "why": "no" });
        let edit = "mutation($id: ID!, $body: String!) { updateMessageTemplate(input: { id: $id, body: $body }) { messageTemplate { id } } }";
        world.ask(edit, json!({ "id": plan.template, "body": "Something else" })).await;
        for verb in ["approveCampaign", "rejectCampaign"] {
            let answer = world.post(&act(verb), told(&seen)).await;
            let extensions = &answer["errors"][0]["extensions"];
            assert_eq!((&extensions["code"], &extensions["field"]), (&json!("CONFLICT"), &json!("expectedContentVersion")), "{answer}");
        }
        let now = world.ask(query, json!({ "id": plan.campaign })).await["campaign"].clone();
        assert_eq!(now["revision"], seen["revision"]);
        assert_ne!(now["preflight"], seen["preflight"]);
        // A name does not matter.
        world.ask("mutation($id: ID!) { updateMessageTemplate(input: { id: $id, name: \"Other\" }) { messageTemplate { id } } }", json!({ "id": plan.template })).await;
        assert_eq!(world.ask(&act("approveCampaign"), told(&now)).await["approveCampaign"]["campaign"]["status"], "ACTIVE");
        world.end().await;
    }
}
