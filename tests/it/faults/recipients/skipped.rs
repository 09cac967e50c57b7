//! A message whose step is skipped is cancelled with the step's reason, and its recipient says so; a
//! condition that can't be evaluated is among the findings.

use serde_json::{Value, json};

use super::{person, recipient_outcomes, reviewed, update, written_to};
use crate::harness::World;

const FINDINGS: &str = "query($id: ID!) { run(id: $id) { findings { code message count recordIds } } }";

/// The messages' addresses, statuses, and reasons of their last cancellation.
async fn messages(world: &World) -> Vec<String> {
    let all = world.sql("SELECT to_address, status FROM communication ORDER BY 1").await;
    all.into_iter().map(|row| row.join(" ")).collect()
}

/// Reasons of the events that cancelled messages, oldest first.
async fn cancelled(world: &World) -> Vec<String> {
    let all = world.ask_all_events().await.into_iter().filter(|event| event["kind"] == "communication.cancelled");
    all.map(|event| event["payload"]["reason"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn a_message_whose_step_is_skipped_is_cancelled_with_its_reason(kind) {
        let world = World::without_server(kind, None).await;
        // The mail of each record waits for a person's word.
        let plan = world.plan("EMAIL", 4).await;
        let human = |key: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN" });
        let fan = |key: &str, steps: Value| json!({ "key": key, "name": key, "fanOut": true, "steps": steps });
        let send = json!({ "key": "send", "name": "Send", "type": "send_message", "assignedTo": "WORKFLOW", "trigger": "after:ok", "when": "record.name != 'Lead 2'" });
        let draft = json!({ "key": "draft", "name": "Draft", "type": "draft_message", "assignedTo": "WORKFLOW" });
        let review = json!({ "key": "review", "name": "Review", "dependsOn": ["draft"], "steps": [{ "key": "review", "name": "Review", "type": "review_messages", "assignedTo": "HUMAN" }] });
        let phases = json!([
            { "key": "processing", "name": "Processing", "tasks": [fan("draft", json!([draft])), review] },
            { "key": "flight", "name": "Flight", "tasks": [fan("mail", json!([human("ok"), send]))] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "asked", "name": "asked", "phases": phases }] }).to_string()).await;
        let template = world.id_of("runTemplates", "key", "asked").await;
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
        world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        reviewed(&world, &run).await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps(first: 50) { nodes { id key record { id } } } } }", json!({ "id": run })).await;
        let of = |key: &str, record: usize| {
            let all = steps["run"]["steps"]["nodes"].as_array().unwrap();
            let step = all.iter().find(|step| step["key"] == key && step["record"]["id"] == plan.records[record].as_str());
            step.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let state = |statuses: [&str; 4]| {
            statuses.iter().enumerate().map(|(i, status)| format!("lead{i}@example.com {status}")).collect::<Vec<_>>()
        };
        world.step_act("skipStep", &of("send", 0), json!({ "reason": "no thanks" })).await;
        world.step_act("skipStep", &of("ok", 1), json!({ "reason": "not now" })).await;
        assert_eq!(messages(&world).await, state(["CANCELLED", "CANCELLED", "APPROVED", "APPROVED"]));
        assert_eq!(recipient_outcomes(&world, &run).await[0], ["Lead 0", "SKIPPED", "PERSON: no thanks"]);
        world.step_act("restartStep", &of("ok", 1), json!({})).await;
        assert_eq!(messages(&world).await, state(["CANCELLED", "APPROVED", "APPROVED", "APPROVED"]));
        world.step_act("skipStep", &of("ok", 1), json!({ "reason": "not now" })).await;
        for record in [0, 2, 3] {
            for verb in ["startStep", "completeStep"] {
                world.step_act(verb, &of("ok", record), json!({})).await;
            }
        }
        assert_eq!(messages(&world).await, state(["CANCELLED", "CANCELLED", "CANCELLED", "APPROVED"]));
        world.tick(true).await;
        world.until_run(&run, "COMPLETED").await;
        let waited = "it waited for ok, which was skipped";
        let condition = "its condition does not hold: record.name != 'Lead 2'";
        let why = cancelled(&world).await;
        assert_eq!(why, ["PERSON: no thanks".to_owned(), format!("WAITED_FOR_SKIPPED: {waited}"), format!("WAITED_FOR_SKIPPED: {waited}"), format!("CONDITION_FALSE: {condition}")]);
        assert_eq!(messages(&world).await, state(["CANCELLED", "CANCELLED", "CANCELLED", "SENT"]));
        assert_eq!(recipient_outcomes(&world, &run).await, [
            ["Lead 0", "SKIPPED", "PERSON: no thanks"].map(str::to_owned),
            ["Lead 1".into(), "SKIPPED".into(), format!("NO_MESSAGE: {waited}")],
            ["Lead 2".into(), "SKIPPED".into(), format!("NO_MESSAGE: {condition}")],
            ["Lead 3", "SENT", ""].map(str::to_owned),
        ]);
        let findings = world.ask(FINDINGS, json!({ "id": run })).await["run"]["findings"].clone();
        let skipped = findings.as_array().unwrap().iter().filter(|one| one["code"] == "LEFT_OUT").count();
        assert_eq!((skipped, written_to(&world)), (3, vec!["lead3@example.com".to_owned()]), "{findings:#}");
        world.end().await;
    }
}

both! {
    async fn conditions_that_can_not_be_evaluated_are_found(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let step = json!({ "key": "w", "name": "Look", "type": "custom", "assignedTo": "HUMAN", "when": "record.attributes.size > 3" });
        let phase = json!({ "key": "p", "name": "P", "tasks": [{ "key": "t", "name": "t", "fanOut": true, "steps": [step] }] });
        world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": [phase] }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        world.tick(false).await;
        let findings = world.ask(FINDINGS, json!({ "id": run })).await["run"]["findings"].clone();
        let found = findings.as_array().unwrap().iter().find(|one| one["code"] == "CONDITION_UNREADABLE");
        let found = found.unwrap_or_else(|| panic!("{findings:#}"));
        assert_eq!((&found["count"], &found["recordIds"]), (&json!(1), &json!([ann])), "{found:#}");
        let message = found["message"].as_str().unwrap();
        assert!(message.starts_with("Look: 1 skipped: its condition can't be evaluated: record.attributes.size > 3"), "{message}");
        world.end().await;
    }
}

both! {
    async fn conditions_can_ask_for_empty_fields_of_the_record(kind) {
        let world = World::without_server(kind, None).await;
        person(&world, "ann", "ann@example.com").await;
        let bob = person(&world, "bob", "bob@example.com").await;
        update(&world, &bob, json!({ "phone": "+4930123456", "timeZone": "Europe/Berlin" })).await;
        let step = |key: &str, when: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "when": when });
        let steps = json!([
            step("phone", "record.phone == null"), step("zone", "record.time_zone != null"), step("stage", "record.stage == null"),
            step("outside", "record.external_id == 'ann'"), step("mail", "record.email == null"),
        ]);
        let phase = json!({ "key": "p", "name": "P", "tasks": [{ "key": "t", "name": "t", "fanOut": true, "steps": steps }] });
        world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": [phase] }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        world.tick(false).await;
        let sql = "SELECT r.name, s.key, s.status, COALESCE(s.reason, '-') FROM step s JOIN record r ON r.id = s.record_id ORDER BY 1, 2";
        let states: Vec<String> = world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect();
        let no = "SKIPPED CONDITION_FALSE";
        assert_eq!(states, [
            format!("ann mail {no}"), "ann outside PENDING -".into(), "ann phone PENDING -".into(), "ann stage PENDING -".into(), format!("ann zone {no}"),
            format!("bob mail {no}"), format!("bob outside {no}"), format!("bob phone {no}"), "bob stage PENDING -".into(), "bob zone PENDING -".into(),
        ]);
        world.end().await;
    }
}
