//! A campaign for one record follows its runs: the last of several to end decides.

use serde_json::{Value, json};

use crate::harness::World;

const RUN: &str = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";

/// A campaign over one record with a person's step.
async fn campaign(world: &World) -> String {
    let step = json!({ "key": "s", "type": "look", "assignedTo": "HUMAN", "maxAttempts": 1 });
    let phases = json!([{ "key": "p", "autonomous": false, "tasks": [{ "key": "t", "steps": [step] }] }]);
    world.apply(&json!({ "runTemplates": [{ "key": "one", "name": "One", "phases": phases }] }).to_string()).await;
    let template = world.id_of("runTemplates", "key", "one").await;
    let record = world.leads(1).await.remove(0);
    let goal = world.create("goal", json!({ "name": "G" })).await;
    let writer = world.create("writer", json!({ "name": "W", "body": "b" })).await;
    let input =
        json!({ "name": "C", "goalId": goal, "writerId": writer, "recordId": record, "runTemplateId": template });
    let campaign = world.create("campaign", input).await;
    for verb in ["submitCampaign", "approveCampaign"] {
        let query = format!("mutation($id: ID!) {{ {verb}(input: {{ id: $id }}) {{ preflight {{ ready }} }} }}");
        assert_eq!(world.ask(&query, json!({ "id": campaign })).await[verb]["preflight"]["ready"], true);
    }
    campaign
}

async fn launch(world: &World, campaign: &str) -> String {
    let run = world.ask(RUN, json!({ "id": campaign })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
    world.tick(false).await;
    run
}

async fn end(world: &World, run: &str, verb: &str) {
    let query = "query($id: ID!) { run(id: $id) { steps { nodes { id } } } }";
    let step = world.ask(query, json!({ "id": run })).await["run"]["steps"]["nodes"][0]["id"].clone();
    for verb in ["startStep", verb] {
        world.act(verb, "step", json!({ "id": step, "reason": "so" })).await;
    }
    world.tick(false).await;
}

async fn status(world: &World, campaign: &str) -> Value {
    world.ask("query($id: ID!) { campaign(id: $id) { status } }", json!({ "id": campaign })).await["campaign"]["status"]
        .clone()
}

both! {
    async fn the_last_run_decides(kind) {
        let world = World::without_server(kind, None).await;
        let id = campaign(&world).await;
        let (first, second) = (launch(&world, &id).await, launch(&world, &id).await);
        end(&world, &first, "completeStep").await;
        world.until_run(&first, "COMPLETED").await;
        assert_eq!(status(&world, &id).await, "ACTIVE");
        end(&world, &second, "failStep").await;
        assert_eq!(status(&world, &id).await, "FAILED");
        world.act("retryRun", "run", json!({ "id": second })).await;
        assert_eq!(status(&world, &id).await, "ACTIVE");
        world.tick(false).await;
        end(&world, &second, "completeStep").await;
        world.until_run(&second, "COMPLETED").await;
        assert_eq!(status(&world, &id).await, "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn a_run_that_failed_before_the_campaign_completed_can_be_retried(kind) {
        let world = World::without_server(kind, None).await;
        let id = campaign(&world).await;
        let (first, second) = (launch(&world, &id).await, launch(&world, &id).await);
        end(&world, &first, "failStep").await;
        world.until_run(&first, "FAILED").await;
        assert_eq!(status(&world, &id).await, "ACTIVE");
        end(&world, &second, "completeStep").await;
        assert_eq!(status(&world, &id).await, "COMPLETED");
        world.act("retryRun", "run", json!({ "id": first })).await;
        assert_eq!(status(&world, &id).await, "ACTIVE");
        world.tick(false).await;
        end(&world, &first, "completeStep").await;
        assert_eq!(status(&world, &id).await, "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn a_run_that_is_cancelled_leaves_the_decision_to_the_other(kind) {
        for (verb, wanted) in [("completeStep", "COMPLETED"), ("failStep", "FAILED")] {
            let world = World::without_server(kind, None).await;
            let id = campaign(&world).await;
            let (first, second) = (launch(&world, &id).await, launch(&world, &id).await);
            end(&world, &first, verb).await;
            assert_eq!(status(&world, &id).await, "ACTIVE");
            world.act("cancelRun", "run", json!({ "id": second })).await;
            assert_eq!(status(&world, &id).await, wanted);
            world.tick(false).await;
            world.end().await;
        }
        // Alone, a cancelled run decides nothing.
        let world = World::without_server(kind, None).await;
        let id = campaign(&world).await;
        let only = launch(&world, &id).await;
        world.act("cancelRun", "run", json!({ "id": only })).await;
        assert_eq!(status(&world, &id).await, "ACTIVE");
        world.tick(false).await;
        world.end().await;
    }
}

both! {
    async fn a_campaign_with_a_live_schedule_is_completed_and_its_schedule_ends(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let plan_it = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"@daily\" }) { schedule { id } } }";
        let schedule = world.ask(plan_it, json!({ "id": plan.campaign })).await["scheduleCampaign"]["schedule"]["id"].clone();
        let run = world.launch(&plan).await;
        let complete = "mutation($id: ID!) { completeCampaign(input: { id: $id }) { campaign { status } } }";
        assert_eq!(world.refused(complete, json!({ "id": plan.campaign })).await.0, "CONFLICT");
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.ask(complete, json!({ "id": plan.campaign })).await;
        let found = world.ask("query($id: ID!) { schedule(id: $id) { status endReason } runs(filter: { statuses: [SCHEDULED] }) { totalCount } }", json!({ "id": schedule })).await;
        assert_eq!(found, json!({ "schedule": { "status": "ENDED", "endReason": "CAMPAIGN_COMPLETED" }, "runs": { "totalCount": 0 } }));
        world.end().await;
    }
}
