//! A reply is shown to somebody whenever it arrives; a test run shows and uses its test address
//! only.

use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use super::again::{repeat, through};
use super::reviewed;
use crate::harness::{Kind, World};

const REPLY: &str =
    "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes, tell me more\" }) { reply { id } } }";
const FOLLOW_UPS: &str = "{ followUps { nodes { title note status record { name } } } }";

async fn sent(world: &World, run: &str) -> Value {
    let query = "query($id: ID!) { run(id: $id) { communications(statuses: [SENT]) { nodes { id } } } }";
    world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"].clone()
}

both! {
    async fn a_reply_to_a_run_that_is_done_is_somebodys_to_do(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        let messages = sent(&world, &run).await;
        world.ask(REPLY, json!({ "id": messages[0]["id"] })).await;
        let todo = world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"].clone();
        assert_eq!(todo, json!([{ "title": "Handle the reply from Lead 0", "note": "Yes, tell me more", "status": "OPEN", "record": { "name": "Lead 0" } }]));
        world.end().await;
    }
}

/// A repeat that is queued while a reply to its family is being recorded begins after it. On SQLite
/// there is one writer, so that this is about Postgres.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_waits_for_a_reply_that_is_being_recorded() {
    if !crate::harness::postgres::available() {
        return;
    }
    let (world, sink, plan) = super::again::world_of(Kind::Postgres, 1, 2).await;
    let first = world.launch(&plan).await;
    reviewed(&world, &first).await;
    through(&world, &first, "COMPLETED").await;
    sink.refuse("@refused-a");
    let second = repeat(&world, &first).await;
    through(&world, &second, "COMPLETED").await;
    sink.refuse("nobody");
    // The lock that a reply to the first run holds until its commit.
    let held = world.db.write().begin().await.unwrap();
    held.db().execute_unprepared("SELECT 1 FROM run WHERE parent_id IS NULL FOR UPDATE").await.unwrap();
    let third = repeat(&world, &second);
    let reply = async {
        let waiting =
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        while world.number(waiting).await == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM run").await, 2, "the repeat is not visible yet");
        world.db.write().end(held, Ok(()), &mut 0).await.unwrap().unwrap();
    };
    let (third, ()) = tokio::join!(third, reply);
    assert_eq!(through(&world, &third, "COMPLETED").await["outcome"], "1 of 1 sent, 0 failed, 0 skipped");
    world.end().await;
}

both! {
    async fn a_phase_that_stays_open_for_replies_makes_a_step_of_them(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        let open = json!([{ "path": "phases.in_flight.openFor", "value": "14 days" }]);
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
        world.ask(update, json!({ "input": { "id": plan.campaign, "overrides": open } })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        world.tick(true).await;
        let messages = sent(&world, &run).await;
        assert_eq!(messages.as_array().unwrap().len(), 2);
        world.clock.set(crate::harness::noon() + chrono::Duration::days(3));
        world.ask(REPLY, json!({ "id": messages[0]["id"] })).await;
        let steps = "query($id: ID!) { run(id: $id) { status steps(filter: { types: [\"handle_reply\"] }) { nodes { id status } } } }";
        let now = world.ask(steps, json!({ "id": run })).await["run"].clone();
        assert_eq!((&now["status"], &now["steps"]["nodes"][0]["status"]), (&json!("IN_PROGRESS"), &json!("PENDING")));
        assert_eq!(world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"], json!([]));
        let handle = now["steps"]["nodes"][0]["id"].clone();
        for act in ["startStep", "completeStep"] {
            world.act(act, "step", json!({ "id": handle })).await;
        }
        // A second reply of the same record, whose step is done: it is not lost.
        world.ask(REPLY, json!({ "id": messages[0]["id"] })).await;
        assert_eq!(world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"].as_array().unwrap().len(), 1);
        world.end().await;
    }
}

both! {
    async fn a_test_run_shows_and_uses_no_real_address(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("PHONE", 1).await;
        world.activate(&plan).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"+4930999999\"], sample: 1 }) { run { id } } }";
        let run = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        world.tick(true).await;
        let calls = "query($id: ID!) { run(id: $id) { steps(filter: { types: [\"call\"] }) { nodes { id toAddress record { name phone email } } } communications { nodes { toAddress test } } } }";
        let now = world.ask(calls, json!({ "id": run })).await["run"].clone();
        let call = &now["steps"]["nodes"][0];
        assert_eq!((&call["toAddress"], &call["record"]), (&json!("+4930999999"), &json!({ "name": "Lead 0", "phone": "+4930999999", "email": null })));
        assert_eq!(now["communications"]["nodes"], json!([{ "toAddress": "+4930999999", "test": true }]));
        // A test run's call changes nothing on the record.
        for act in ["startStep", "completeStep"] {
            world.act(act, "step", json!({ "id": call["id"] })).await;
        }
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        let record = "query($id: ID!) { record(id: $id) { phone lastContactedAt activities { totalCount } } }";
        assert_eq!(world.ask(record, json!({ "id": plan.records[0] })).await["record"], json!({ "phone": "+15550000000", "lastContactedAt": null, "activities": { "totalCount": 0 } }));
        world.end().await;
    }
}

both! {
    async fn an_id_of_a_reply_is_that_reply_s_alone(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.tick(true).await;
        let sent = world.ask("query($r: [ID!]) { communications(filter: { runIds: $r }) { nodes { id } } }", json!({ "r": [run] })).await;
        let ids: Vec<_> = sent["communications"]["nodes"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
        let record = "mutation($i: RecordReplyInput!) { recordReply(input: $i) { reply { id } } }";
        let reply = |id: &serde_json::Value, more: serde_json::Value| {
            let mut input = json!({ "communicationId": id, "body": "Yes", "externalId": "m-1" });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({ "i": input })
        };
        let first = world.ask(record, reply(&ids[0], json!({}))).await;
        assert_eq!(world.ask(record, reply(&ids[0], json!({}))).await, first, "the same again");
        let answer = world.post(record, reply(&ids[1], json!({}))).await;
        let told = &answer["errors"][0]["extensions"];
        assert_eq!((&told["code"], &told["field"], &told["communicationId"]), (&json!("CONFLICT"), &json!("externalId"), &ids[0]), "{answer}");
        world.ask(record, reply(&ids[1], json!({ "externalId": "m-2", "receivedAt": "2026-11-02T12:04:59Z" }))).await;
        let answer = world.post(record, reply(&ids[1], json!({ "externalId": "m-3", "receivedAt": "2035-01-01T00:00:00Z" }))).await;
        assert_eq!(answer["errors"][0]["extensions"]["field"], "receivedAt", "{answer}");
        for pattern in ["*@example.com", "%@example.com", "ann*@example.com"] {
            let suppress = "mutation($a: String!) { suppressAddress(input: { channel: EMAIL, address: $a, reason: \"asked\" }) { suppression { id } } }";
            let answer = world.post(suppress, json!({ "a": pattern })).await;
            assert_eq!(answer["errors"][0]["extensions"]["field"], "address", "{answer}");
        }
        world.end().await;
    }
}
