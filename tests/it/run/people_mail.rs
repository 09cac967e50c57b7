//! Mail and invitations that people send from within their steps of a campaign's run, beside the run's
//! own messages: neither is taken for the other, and no outcome or count of the run goes by them.

use std::time::Instant;

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::life::{Home, Life};
use crate::harness::plan::Plan;
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, noon};

const SEND: &str = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
const BOOK: &str =
    "mutation($input: ScheduleStepMeetingInput!) { scheduleStepMeeting(input: $input) { meeting { id } } }";
const MOVE: &str = "mutation($input: MoveMeetingInput!) { moveMeeting(input: $input) { meeting { sequence } } }";
const CANCEL: &str = "mutation($id: ID!) { cancelMeeting(input: { id: $id }) { meeting { status } } }";
const UPDATE: &str = "mutation($input: UpdateRecordInput!) { updateRecord(input: $input) { record { id } } }";
const RESOLVE: &str = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";

fn human(key: &str, config: &Value) -> Value {
    json!({ "key": key, "name": key, "type": key, "assignedTo": "HUMAN", "maxAttempts": 1, "config": config })
}

fn engine(kind: &str, trigger: &str) -> Value {
    json!({ "key": kind, "name": kind, "type": kind, "assignedTo": "WORKFLOW", "trigger": trigger })
}

fn task(key: &str, fan_out: bool, steps: &Value) -> Value {
    json!({ "key": key, "name": key, "fanOut": fan_out, "steps": steps })
}

/// The step in which a person writes, with its default text.
fn writing() -> Value {
    human("write", &json!({ "subject": "A word, {{ name }}", "body": "Hello" }))
}

/// A message to each record, drafted, reviewed, and sent after a person's word; beside it a step in
/// which a person writes, and one that may fail.
fn structure() -> Value {
    let review = json!({ "key": "review", "name": "Review", "type": "review_messages", "assignedTo": "HUMAN" });
    let review = json!({ "key": "review", "name": "Review", "dependsOn": ["draft"], "steps": [review] });
    let mut mail = task("mail", true, &json!([human("ok", &json!({})), engine("send_message", "after:ok")]));
    mail["failWhen"] = json!("PERCENT(100)");
    json!([
        { "key": "processing", "name": "Processing",
          "tasks": [task("draft", true, &json!([engine("draft_message", "immediate")])), review] },
        { "key": "flight", "name": "Flight", "tasks": [
            mail,
            task("whole", false, &json!([writing()])),
            task("beside", false, &json!([human("beside", &json!({}))])),
        ] },
    ])
}

/// A run whose messages are approved, with the person's step in progress.
struct Outreach {
    plan: Plan,
    run: String,
    write: String,
}

async fn begun(world: &World, leads: usize) -> Outreach {
    let template = json!({ "key": "hands", "name": "Hands", "phases": structure() });
    world.apply(&json!({ "runTemplates": [template] }).to_string()).await;
    let plan = world.plan("EMAIL", leads).await;
    let template = world.id_of("runTemplates", "key", "hands").await;
    let change =
        "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
    world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
    world.activate(&plan).await;
    let run = world.launch(&plan).await;
    world.tick(true).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.tick(false).await;
    let write = step(world, &run, "write", None).await;
    world.step_act("startStep", &write, json!({})).await;
    Outreach { plan, run, write }
}

/// The id of a run's step with a key, for a record or for none.
async fn step(world: &World, run: &str, key: &str, record: Option<&str>) -> String {
    let query = "query($id: ID!) { steps(filter: { runIds: [$id] }, first: 100) { nodes { id key record { id } } } }";
    let found = world.ask(query, json!({ "id": run })).await;
    let mut all = found["steps"]["nodes"].as_array().unwrap().iter();
    let found = all.find(|step| step["key"] == key && step["record"]["id"].as_str() == record);
    found.unwrap_or_else(|| panic!("no {key}"))["id"].as_str().unwrap().to_owned()
}

/// Lets people complete what is left of a run, and the run come to its end.
async fn finish(world: &World, run: &str) {
    let query = "query($id: ID!) { steps(filter: { runIds: [$id], statuses: [PENDING, QUEUED, IN_PROGRESS] }, first: 100) { nodes { id key status } } }";
    let found = world.ask(query, json!({ "id": run })).await;
    for step in found["steps"]["nodes"].as_array().unwrap() {
        if ["ok", "write", "beside"].iter().all(|key| step["key"] != *key) {
            continue;
        }
        let id = step["id"].as_str().unwrap();
        if step["status"] != "IN_PROGRESS" {
            world.step_act("startStep", id, json!({})).await;
        }
        world.step_act("completeStep", id, json!({})).await;
    }
    world.tick(true).await;
    world.until_run(run, "COMPLETED").await;
}

/// Releases the active phase of a run if it waits for that.
async fn release(world: &World, run: &str) {
    let query = "query($id: ID!) { run(id: $id) { currentPhase { id availableActions { allowed } } } }";
    let phase = world.ask(query, json!({ "id": run })).await["run"]["currentPhase"].clone();
    if phase["availableActions"][0]["allowed"] == true {
        let release = "mutation($id: ID!) { releasePhase(input: { id: $id }) { phase { id } } }";
        world.ask(release, json!({ "id": phase["id"] })).await;
    }
}

fn mail(step: &str, records: &[&str]) -> Value {
    json!({ "input": { "stepId": step, "recordIds": records, "subject": "s", "body": "b" } })
}

/// The outcomes of a run's recipients, in the order of their names; `-` for none.
async fn outcomes(world: &World, run: &str) -> Vec<String> {
    let query = "query($id: ID!) { run(id: $id) { records(first: 100) { nodes { record { name } outcome } } } }";
    let found = world.ask(query, json!({ "id": run })).await;
    let each = found["run"]["records"]["nodes"].as_array().unwrap().iter();
    let text = |node: &Value| {
        format!("{} {}", node["record"]["name"].as_str().unwrap(), node["outcome"].as_str().unwrap_or("-"))
    };
    let mut all: Vec<String> = each.map(text).collect();
    all.sort();
    all
}

/// The numbers of the run's own messages and of those of people, by status.
async fn messages(world: &World) -> Vec<Vec<String>> {
    let query = "SELECT CASE WHEN occasion > 0 THEN 'person' ELSE 'own' END AS whose, status, COUNT(*) \
                 FROM communication GROUP BY 1, 2 ORDER BY 1, 2";
    world.sql(query).await
}

async fn on_way(world: &World, run: &str) -> i64 {
    let found = world.ask("query($id: ID!) { run(id: $id) { messagesOnWay } }", json!({ "id": run })).await;
    found["run"]["messagesOnWay"].as_i64().unwrap()
}

/// The reason for which an action within a step is blocked now; none if it is allowed.
async fn blocked(world: &World, step: &str, action: &str) -> Option<String> {
    let query = "query($id: ID!) { step(id: $id) { availableActions { action blockedBecause } } }";
    let found = world.ask(query, json!({ "id": step })).await["step"]["availableActions"].clone();
    let found = found.as_array().unwrap().iter().find(|one| one["action"] == action).unwrap()["blockedBecause"].clone();
    found.as_str().map(str::to_owned)
}

both! {
    async fn the_runs_own_messages_and_those_of_people_stay_apart(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 4).await;
        let [first, second] = [plan.records[0].as_str(), plan.records[1].as_str()];
        let other = world.create("record", json!({ "kind": "order", "name": "Order 7", "email": "order@example.com" })).await;
        let preview = "query($input: PreviewStepEmailInput!) { previewStepEmail(input: $input) { mail { subject problem } } }";
        let seen = world.ask(preview, json!({ "input": { "stepId": write, "recordIds": [first, other] } })).await["previewStepEmail"].clone();
        assert_eq!(seen[0]["mail"], json!({ "subject": "A word, Lead 0", "problem": null }));
        assert!(seen[1]["mail"]["problem"].as_str().unwrap().contains("not in the audience"), "{seen:#}");
        let answer = world.post(SEND, mail(&write, &[first, &other])).await;
        let refused = &answer["errors"][0]["extensions"];
        assert_eq!((&refused["code"], &refused["field"]), (&json!("BAD_USER_INPUT"), &json!("recordIds[1]")), "{answer:#}");
        // Of several at once, one writes.
        let input = mail(&write, &[first, second]);
        let all = futures_util::future::join_all((0..4).map(|_| world.post(SEND, input.clone()))).await;
        let refused = all.iter().filter(|answer| answer["errors"][0]["extensions"]["code"] == "CONFLICT").count();
        assert_eq!((refused, all.iter().filter(|answer| answer.get("errors").is_none()).count()), (3, 1), "{all:#?}");
        assert_eq!(on_way(&world, &run).await, 2);
        assert_eq!(messages(&world).await, [["own", "APPROVED", "4"], ["person", "APPROVED", "2"]]);
        let told = world.step_refused("resetStep", &write, json!({})).await;
        assert!(told["extensions"]["code"] == "CONFLICT" && told["message"].as_str().unwrap().contains("in flight"), "{told:#}");
        // Nothing of theirs waits for a review.
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [APPROVED], first: 50) { nodes { toAddress availableActions { action allowed } } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"].clone();
        let allowed = |one: &Value| one["availableActions"].as_array().unwrap().iter().any(|action| action["allowed"] == true);
        assert!(!found.as_array().unwrap().iter().any(allowed), "{found:#}");
        for action in ["SEND_STEP_EMAIL", "SCHEDULE_STEP_MEETING", "UPDATE_STEP_STAGE", "CREATE_STEP_FOLLOW_UP", "ADD_STEP_NOTE"] {
            assert_eq!(blocked(&world, &write, action).await, None, "{action}");
        }
        assert!(blocked(&world, &write, "CREATE_STEP_RECORDS").await.unwrap().contains("custom"));
        assert!(blocked(&world, &write, "REFRESH_STEP_RECORDS").await.unwrap().contains("about no records"));
        let beside = step(&world, &run, "beside", None).await;
        assert!(blocked(&world, &beside, "SEND_STEP_EMAIL").await.unwrap().contains("start it first"));
        // A skipped step takes its own message with it.
        let send = step(&world, &run, "send_message", Some(second)).await;
        world.step_act("skipStep", &send, json!({ "reason": "no thanks" })).await;
        assert_eq!(messages(&world).await, [["own", "APPROVED", "3"], ["own", "CANCELLED", "1"], ["person", "APPROVED", "2"]]);
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (2, 0));
        assert_eq!(messages(&world).await, [["own", "APPROVED", "3"], ["own", "CANCELLED", "1"], ["person", "SENT", "2"]]);
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 -", "Lead 1 SKIPPED", "Lead 2 -", "Lead 3 -"]);
        assert_eq!(world.number("SELECT COUNT(*) FROM activity WHERE kind = 'EMAIL_SENT'").await, 2);
        assert_eq!(world.number("SELECT COUNT(*) FROM record WHERE last_contacted_at IS NOT NULL").await, 2);
        // The result is what the person gives.
        world.step_act("completeStep", &write, json!({ "result": { "mood": "good" } })).await;
        finish(&world, &run).await;
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SENT", "Lead 1 SKIPPED", "Lead 2 SENT", "Lead 3 SENT"]);
        assert_eq!(world.outbox().len(), 5);
        let shown = world.ask("query($id: ID!) { step(id: $id) { result activities { totalCount } } }", json!({ "id": write })).await;
        assert_eq!(shown["step"], json!({ "result": { "mood": "good" }, "activities": { "totalCount": 2 } }));
        let (code, why) = world.refused(SEND, mail(&write, &[&plan.records[2]])).await;
        assert!(code == "CONFLICT" && why.contains("COMPLETED"), "{why}");
        assert_eq!(blocked(&world, &write, "SEND_STEP_EMAIL").await, Some(why));
        world.end().await;
    }
}

both! {
    async fn a_skipped_step_withdraws_nothing_and_who_opts_out_gets_neither(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 3).await;
        let all: Vec<&str> = plan.records.iter().map(String::as_str).collect();
        world.ask(SEND, mail(&write, &all)).await;
        world.step_act("skipStep", &write, json!({ "reason": "enough" })).await;
        world.ask(UPDATE, json!({ "input": { "id": all[1], "unsubscribed": true } })).await;
        world.tick(false).await;
        assert_eq!(messages(&world).await, [["own", "APPROVED", "2"], ["own", "SUPPRESSED", "1"], ["person", "APPROVED", "3"]]);
        world.tick(true).await;
        assert_eq!(
            messages(&world).await,
            [["own", "APPROVED", "2"], ["own", "SUPPRESSED", "1"], ["person", "SENT", "2"], ["person", "SUPPRESSED", "1"]]
        );
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (2, 0));
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 -", "Lead 1 SUPPRESSED", "Lead 2 -"]);
        world.step_act("restartStep", &write, json!({})).await;
        world.step_act("startStep", &write, json!({})).await;
        let (code, why) = world.refused(SEND, mail(&write, &all[..1])).await;
        assert!(code == "CONFLICT" && why.contains("again: true"), "{why}");
        finish(&world, &run).await;
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SENT", "Lead 1 SUPPRESSED", "Lead 2 SENT"]);
        assert_eq!(world.outbox().len(), 4);
        world.end().await;
    }
}

both! {
    async fn a_paused_campaign_holds_it_and_a_cancelled_run_sends_none(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 3).await;
        let [first, second] = [plan.records[0].as_str(), plan.records[1].as_str()];
        world.ask(SEND, mail(&write, &[first])).await;
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (0, 1));
        let (code, why) = world.refused(SEND, mail(&write, &[second])).await;
        assert!(code == "CONFLICT" && why.contains("paused"), "{why}");
        assert_eq!(blocked(&world, &write, "SEND_STEP_EMAIL").await, Some(why));
        // One whose sender is gone is taken up whatever the state of its run, and still not sent.
        world.force("UPDATE posting SET lease_owner = 'gone', lease_expires_at = '2026-01-01T00:00:00+00:00'").await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (0, 1));
        assert_eq!(world.number("SELECT COUNT(*) FROM posting WHERE lease_owner IS NULL").await, 1);
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.act("pauseRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (0, 1));
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, 0));
        world.ask(SEND, mail(&write, &[second])).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, 0));
        assert_eq!(messages(&world).await, [["own", "CANCELLED", "3"], ["person", "CANCELLED", "1"], ["person", "SENT", "1"]]);
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0);
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SKIPPED", "Lead 1 SKIPPED", "Lead 2 SKIPPED"]);
        world.end().await;
    }
}

both! {
    async fn what_waits_for_an_erased_person_is_closed_though_the_campaign_is_paused(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 2).await;
        let [first, second] = [plan.records[0].as_str(), plan.records[1].as_str()];
        world.ask(SEND, mail(&write, &[first, second])).await;
        let one = json!({ "stepId": write, "title": "t", "startsAt": "2026-11-09T10:00:00Z", "minutes": 30, "attendees": [{ "recordId": first }] });
        world.ask(BOOK, json!({ "input": one })).await;
        assert_eq!(on_way(&world, &run).await, 3);
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let erase = "mutation($id: ID!) { eraseRecord(input: { id: $id, reason: \"asked\" }) { record { id } } }";
        world.ask(erase, json!({ "id": first })).await;
        world.tick(true).await;
        let query = "query($id: ID!) { record(id: $id) { erasureCompletedAt } }";
        assert!(world.ask(query, json!({ "id": first })).await["record"]["erasureCompletedAt"].is_string());
        assert_eq!(on_way(&world, &run).await, 1);
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, 0));
        assert_eq!(messages(&world).await.iter().filter(|row| row[0] == "person").cloned().collect::<Vec<_>>(), [
            ["person", "CANCELLED", "2"],
            ["person", "SENT", "1"]
        ]);
        world.end().await;
    }
}

both! {
    async fn a_run_does_not_wait_for_people_s_mail(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 1).await;
        world.ask(SEND, mail(&write, &[&plan.records[0]])).await;
        let codes = async || {
            let found = world.ask("query($id: ID!) { run(id: $id) { waitingFor { code } } }", json!({ "id": run })).await;
            let all = found["run"]["waitingFor"].as_array().unwrap().clone();
            all.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let before = codes().await;
        assert!(before.iter().all(|code| code == "PEOPLE"), "{before:?}");
        let (now, org) = (noon().to_rfc3339(), entity::org::PLATFORM.0.simple());
        let org = if kind == Kind::Sqlite { format!("X'{org}'") } else { format!("'{org}'") };
        world.force(&format!("INSERT INTO channel_pause (org_id, channel, refused, error, tries, since, next_try_at) VALUES ({org}, 'EMAIL', '[]', 'away', 1, '{now}', '{now}')")).await;
        assert_eq!(codes().await, before, "the run's own messages do not wait for it");
        world.force("DELETE FROM channel_pause").await;
        world.drop_unchecked().await;
    }
}

both! {
    async fn a_cancelled_campaign_sends_nothing_that_its_pause_has_held(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 2).await;
        let one = json!({ "stepId": write, "title": "t", "startsAt": noon() + Duration::days(1), "attendees": [{ "recordId": plan.records[0] }] });
        let meeting = world.ask(BOOK, json!({ "input": one })).await["scheduleStepMeeting"]["meeting"]["id"].clone();
        world.tick(true).await;
        finish(&world, &run).await;
        let sent = world.outbox().len();
        // The same time again: nobody is told twice.
        let to = |days: i64| json!({ "input": { "id": meeting, "startsAt": noon() + Duration::days(days) } });
        assert_eq!(world.ask(MOVE, to(1)).await["moveMeeting"]["meeting"]["sequence"], 0);
        assert_eq!(on_way(&world, &run).await, 0);
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.ask(MOVE, to(2)).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (sent, 1));
        world.act("cancelCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (sent, 0));
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status = 'CANCELLED'").await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0);
        world.end().await;
    }
}

both! {
    async fn a_corrected_address_counts_for_each_by_itself(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 3).await;
        let [first, second] = [plan.records[0].as_str(), plan.records[1].as_str()];
        world.ask(SEND, mail(&write, &[first, second])).await;
        world.ask(UPDATE, json!({ "input": { "id": first, "email": "new@example.com" } })).await;
        world.ask(UPDATE, json!({ "input": { "id": second, "email": "lead2@example.com" } })).await;
        world.tick(true).await;
        let sent = "SELECT to_address FROM communication WHERE occasion > 0 AND status = 'SENT' ORDER BY to_address";
        assert_eq!(world.sql(sent).await, [["lead2@example.com"], ["new@example.com"]]);
        // The audience keeps its addresses until the run's own messages go.
        let addresses = "SELECT address FROM run_record ORDER BY address";
        assert_eq!(world.sql(addresses).await, [["lead0@example.com"], ["lead1@example.com"], ["lead2@example.com"]]);
        let mut again = mail(&write, &[first]);
        again["input"]["again"] = json!(true);
        world.ask(SEND, again).await;
        world.tick(true).await;
        assert_eq!(world.sql(sent).await.len(), 3);
        finish(&world, &run).await;
        let own = "SELECT to_address, status FROM communication WHERE occasion = 0 ORDER BY to_address";
        assert_eq!(
            world.sql(own).await,
            [["lead1@example.com", "CANCELLED"], ["lead2@example.com", "SENT"], ["new@example.com", "SENT"]]
        );
        assert_eq!(world.sql(addresses).await, [["lead1@example.com"], ["lead2@example.com"], ["new@example.com"]]);
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SENT", "Lead 1 SKIPPED", "Lead 2 SENT"]);
        world.end().await;
    }
}

both! {
    async fn what_becomes_of_it_later_changes_no_outcome(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let Outreach { plan, run, write } = begun(&world, 3).await;
        let [first, second] = [plan.records[0].as_str(), plan.records[1].as_str()];
        world.ask(SEND, mail(&write, &[first])).await;
        // Its sender is lost in the middle of the hand-over.
        let trapped = sink.trap(Stage::Dot, 1);
        tokio::select! {
            () = async { world.tick(true).await; } => panic!("nothing was trapped"),
            reached = trapped => reached.unwrap(),
        }
        world.clock.set(noon() + Duration::minutes(5));
        world.tick(true).await;
        sink.refuse("lead1@");
        world.ask(SEND, mail(&write, &[second])).await;
        world.tick(true).await;
        assert_eq!(messages(&world).await, [["own", "APPROVED", "3"], ["person", "FAILED", "1"], ["person", "UNKNOWN", "1"]]);
        assert_eq!(on_way(&world, &run).await, 1);
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 -", "Lead 1 -", "Lead 2 -"]);
        sink.refuse("@refused");
        finish(&world, &run).await;
        let reached = ["Lead 0 SENT", "Lead 1 SENT", "Lead 2 SENT"];
        assert_eq!((outcomes(&world, &run).await, on_way(&world, &run).await), (reached.map(str::to_owned).to_vec(), 1));
        // The run has ended: a person has it sent again, then says that it was not.
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [UNKNOWN]) { nodes { id } } } }";
        let id = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"][0]["id"].clone();
        world.ask(RESOLVE, json!({ "id": id, "to": "SEND_AGAIN" })).await;
        world.tick(true).await;
        assert_eq!(messages(&world).await, [["own", "SENT", "3"], ["person", "FAILED", "1"], ["person", "SENT", "1"]]);
        assert_eq!(sink.read("lead0@example.com").len(), 3, "lost, the run's own, and again");
        assert_eq!((outcomes(&world, &run).await, on_way(&world, &run).await), (reached.map(str::to_owned).to_vec(), 0));
        world.end().await;
    }
}

both! {
    async fn a_repeat_reaches_whom_only_a_person_has_written_to(kind) {
        let sink = Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let Outreach { plan, run, write } = begun(&world, 2).await;
        world.ask(SEND, mail(&write, &[&plan.records[0]])).await;
        world.tick(true).await;
        sink.refuse("lead0@");
        finish(&world, &run).await;
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 FAILED", "Lead 1 SENT"]);
        assert_eq!(messages(&world).await, [["own", "FAILED", "1"], ["own", "SENT", "1"], ["person", "SENT", "1"]]);
        sink.refuse("@refused");
        let repeat = "mutation($id: ID!) { repeatRun(input: { id: $id, onlyFailed: true }) { run { id } } }";
        let second = world.ask(repeat, json!({ "id": run })).await["repeatRun"]["run"]["id"].as_str().unwrap().to_owned();
        // Its phases have nothing left for people to do but to release them.
        for _ in 0..2 {
            world.tick(true).await;
            release(&world, &second).await;
        }
        finish(&world, &second).await;
        assert_eq!(outcomes(&world, &second).await, ["Lead 0 SENT"]);
        assert_eq!((sink.read("lead0@example.com").len(), sink.read("lead1@example.com").len()), (2, 1));
        world.end().await;
    }
}

both! {
    async fn a_failed_run_still_sends_what_a_person_released(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 2).await;
        world.ask(SEND, mail(&write, &[&plan.records[0]])).await;
        let beside = step(&world, &run, "beside", None).await;
        world.step_act("startStep", &beside, json!({})).await;
        world.step_act("failStep", &beside, json!({ "reason": "broken" })).await;
        world.until_run(&run, "FAILED").await;
        let (code, why) = world.refused(SEND, mail(&write, &[&plan.records[1]])).await;
        assert!(code == "CONFLICT" && why.contains("FAILED"), "{why}");
        let before = outcomes(&world, &run).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, 0));
        assert_eq!(outcomes(&world, &run).await, before);
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        finish(&world, &run).await;
        assert_eq!(messages(&world).await, [["own", "SENT", "2"], ["person", "SENT", "1"]]);
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SENT", "Lead 1 SENT"]);
        world.end().await;
    }
}

both! {
    async fn meetings_are_booked_moved_and_called_off(kind) {
        let world = World::without_server(kind, None).await;
        let Outreach { plan, run, write } = begun(&world, 2).await;
        let first = plan.records[0].as_str();
        let other = world.create("record", json!({ "kind": "order", "name": "Order 7", "email": "order@example.com" })).await;
        let booking = |guests: Value, days: i64| {
            json!({ "input": { "stepId": write, "title": "Call", "startsAt": noon() + Duration::days(days), "attendees": guests } })
        };
        for guests in [json!([{ "recordId": first }, { "recordId": other }]), json!([{ "recordId": first }, { "email": "boss@us.example" }])] {
            let answer = world.post(BOOK, booking(guests, 1)).await;
            let refused = &answer["errors"][0]["extensions"];
            assert_eq!((&refused["code"], &refused["field"]), (&json!("BAD_USER_INPUT"), &json!("attendees[1].recordId")), "{answer:#}");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM meeting").await, 0);
        let booked = world.ask(BOOK, booking(json!([{ "recordId": first, "email": "desk@example.com" }]), 1)).await;
        let meeting = booked["scheduleStepMeeting"]["meeting"]["id"].clone();
        world.tick(true).await;
        let to = "SELECT to_address FROM communication WHERE meeting_id IS NOT NULL AND status = 'SENT'";
        assert_eq!((world.sql(to).await, on_way(&world, &run).await), (vec![vec!["desk@example.com".to_owned()]], 0));
        // A move is told when the campaign may send.
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let moved = json!({ "input": { "id": meeting, "startsAt": noon() + Duration::days(2) } });
        assert_eq!(world.ask(MOVE, moved).await["moveMeeting"]["meeting"]["sequence"], 1);
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (1, 1));
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        world.ask(SEND, mail(&write, &[first])).await;
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (3, 0));
        let send = step(&world, &run, "send_message", Some(first)).await;
        world.step_act("skipStep", &send, json!({ "reason": "said all" })).await;
        finish(&world, &run).await;
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SKIPPED", "Lead 1 SENT"]);
        assert_eq!(world.outbox().len(), 4);
        // The run has ended: nothing more is booked, but the invited are told that it is off.
        assert_eq!(world.refused(BOOK, booking(json!([{ "recordId": first }]), 3)).await.0, "CONFLICT");
        assert_eq!(world.ask(CANCEL, json!({ "id": meeting })).await["cancelMeeting"]["meeting"]["status"], "CANCELLED");
        assert_eq!(on_way(&world, &run).await, 1);
        world.tick(true).await;
        assert_eq!((world.outbox().len(), on_way(&world, &run).await), (5, 0));
        assert_eq!(outcomes(&world, &run).await, ["Lead 0 SKIPPED", "Lead 1 SENT"]);
        world.end().await;
    }
}

const FEW: usize = 20;

/// Kill points: while a person's mails are enqueued, reserved, handed over, settled.
const PLACES: [&str; 4] = ["posting:1", "reserved:1", "after_dot:1", "posting_settled:1"];

/// The addresses that got mail of a run with these words in its subject, sorted.
fn got(sink: &Sink, run: &str, words: &str) -> Vec<String> {
    let subject = format!("Subject: {words}");
    let mine = sink.kept().into_iter().filter(|mail| mail.run == run && mail.raw.contains(&subject));
    let mut all: Vec<String> = mine.map(|mail| mail.to).collect();
    all.sort();
    all
}

/// The steps of a type in a run.
async fn steps_of(life: &Life, run: &str, kind: &str) -> Vec<Value> {
    let query = "query($id: ID!, $kind: String!) { steps(filter: { runIds: [$id], types: [$kind] }, first: 100) { nodes { id status } } }";
    let found = life.ask(query, json!({ "id": run, "kind": kind })).await.unwrap();
    found["steps"]["nodes"].as_array().unwrap().clone()
}

both! {
    /// The run's own mails are sent before; then the server dies with a person's in hand.
    async fn killed_at_named_places(kind) {
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url());
        home.import(FEW);
        let mut own = engine("email", "immediate");
        own["config"] = json!({ "subject": "From us all", "body": "Hello" });
        let tasks = json!([task("mail", true, &json!([own])), task("whole", false, &json!([writing()]))]);
        let template = json!({ "key": "hands", "name": "Hands", "phases": [{ "key": "work", "name": "Work", "tasks": tasks }] });
        let file = home.folder().join("hands.json");
        std::fs::write(&file, json!({ "runTemplates": [template] }).to_string()).unwrap();
        let (applied, said) = home.run(&["apply", "-f", file.to_str().unwrap()]);
        assert!(applied, "{said}");
        let mut life = home.begin();
        let campaign = life.campaign().await;
        let found = life.ask("{ runTemplates(first: 100) { nodes { id key } } records(first: 100) { nodes { id } } }", json!({})).await.unwrap();
        let hands = found["runTemplates"]["nodes"].as_array().unwrap().iter().find(|one| one["key"] == "hands").unwrap()["id"].clone();
        let ids: Vec<&Value> = found["records"]["nodes"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
        life.ask(change, json!({ "id": campaign, "to": hands })).await.unwrap();
        let approve = "mutation($id: ID!) { approveCampaign(input: { id: $id }) { preflight { ready } } }";
        life.ask(approve, json!({ "id": campaign })).await.unwrap();
        for place in PLACES {
            let run = life.launch(&campaign, place).await.unwrap();
            let deadline = Instant::now() + std::time::Duration::from_secs(120);
            loop {
                let sent = steps_of(&life, &run, "email").await;
                if sent.len() == FEW && sent.iter().all(|step| step["status"] == "COMPLETED") {
                    break;
                }
                assert!(Instant::now() < deadline, "{place}: the run's own mails wait");
                tokio::task::yield_now().await;
            }
            let write = steps_of(&life, &run, "write").await[0]["id"].clone();
            let begin = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
            life.ask(begin, json!({ "id": write })).await.unwrap();
            life.kill();
            home.gone().await;

            let mut dying = home.begin_at(Some(place)).unwrap();
            let asked = json!({ "input": { "stepId": write, "recordIds": ids, "idempotencyKey": place } });
            let answered = dying.ask(SEND, asked.clone()).await;
            assert!(answered.is_none() || place != "posting:1", "{place}");
            let deadline = Instant::now() + std::time::Duration::from_secs(60);
            while !dying.is_over() {
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            home.gone().await;

            life = home.begin();
            let again = life.ask(SEND, asked).await.unwrap();
            assert_eq!(again["sendStepEmail"]["communications"].as_array().unwrap().len(), FEW, "{place}");
            let deadline = Instant::now() + std::time::Duration::from_secs(120);
            loop {
                life.resolve(&run, |to| got(&sink, &run, "A word").iter().any(|got| got == to)).await;
                let query = "query($id: ID!) { run(id: $id) { messagesOnWay } }";
                if life.ask(query, json!({ "id": run })).await.unwrap()["run"]["messagesOnWay"] == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{place}: still on their way");
                tokio::task::yield_now().await;
            }
            for words in ["A word", "From us all"] {
                let mut all = got(&sink, &run, words);
                let count = all.len();
                all.dedup();
                assert_eq!((count, all.len()), (FEW, FEW), "{place}: somebody got {words} twice, or not");
            }
            let end = "mutation($id: ID!) { completeStep(input: { id: $id, result: { done: true } }) { step { result } } }";
            let done = life.ask(end, json!({ "id": write })).await.unwrap();
            assert_eq!(done["completeStep"]["step"]["result"], json!({ "done": true }), "{place}");
            let deadline = Instant::now() + std::time::Duration::from_secs(60);
            while life.push(&run).await.unwrap() != "COMPLETED" {
                assert!(Instant::now() < deadline, "{place}: the run does not end");
                tokio::task::yield_now().await;
            }
            let query = "query($id: ID!) { run(id: $id) { records(filter: { outcomes: [SENT] }) { totalCount } } }";
            assert_eq!(life.ask(query, json!({ "id": run })).await.unwrap()["run"]["records"]["totalCount"], FEW, "{place}");
        }
        life.kill();
        home.gone().await;
        let count = |of: &str| format!("SELECT COUNT(*) FROM {of}");
        assert_eq!(home.count(&count("communication WHERE occasion > 0 AND status = 'SENT'")).await, (PLACES.len() * FEW) as i64);
        assert_eq!(home.count(&count("activity WHERE kind = 'EMAIL_SENT'")).await, (PLACES.len() * FEW) as i64);
        home.check();
        home.remove();
    }
}
