//! An event about a record stops its open work at every moment: while its message is in flight,
//! while its run is paused; and a reply is on somebody's list also when its run is cancelled.

use std::sync::Arc;

use chrono::Duration;
use serde_json::{Value, json};
use sortie::channel::Mail;
use sortie::step_kind::email::Email;

use super::again::repeat;
use super::calls::calling;
use super::{person, recipient_outcomes, reviewed};
use crate::harness::sink::{Sink, Stage};
use crate::harness::{Kind, World, config, noon};

const RAISE: &str =
    "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"payment.received\", recordIds: $ids }) { name } }";
const RESOLVE: &str = "mutation($id: ID!, $to: Resolution!) { resolveCommunication(input: { id: $id, resolution: $to }) { communication { status } } }";
const REPLY: &str =
    "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Thanks\" }) { reply { id } } }";
const FOLLOW_UPS: &str = "{ followUps { nodes { note record { name } } } }";

/// A run of two mails per record, the second an hour after the first; replies and payments
/// interrupt it, and with `listens` also trigger a person's step.
async fn reminding(kind: Kind, listens: bool, people: &[&str]) -> (World, Sink, String, Vec<String>) {
    let sink = Sink::start().await;
    let world = World::without_server(kind, Some(sink.url())).await;
    let mail = |key: &str, trigger: &str| json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "subject": key, "body": "Hello" } });
    let on = |key: &str, event: &str| json!({ "key": key, "type": "custom", "assignedTo": "HUMAN", "trigger": format!("event:{event}") });
    let mails = json!({ "key": "send", "name": "Send", "fanOut": true, "failWhen": "PERCENT(100)", "steps": [mail("first", "immediate"), mail("second", "delay:1 hour")] });
    let answers = json!({ "key": "hear", "name": "Hear", "fanOut": true, "steps": [on("answer", "reply.received")] });
    let paid = json!({ "key": "pay", "name": "Pay", "fanOut": true, "steps": [on("paid", "payment.received")] });
    let tasks = if listens { json!([mails, answers, paid]) } else { json!([mails]) };
    let mut phase = json!({ "key": "all", "name": "All", "autonomous": true, "tasks": tasks, "interruptEvents": ["reply.received", "payment.received"] });
    if listens {
        phase["openFor"] = json!("2 days");
    }
    let template = json!({ "runTemplates": [{ "key": "letters", "name": "letters", "phases": [phase] }] });
    world.apply(&template.to_string()).await;
    let mut ids = Vec::new();
    for name in people {
        ids.push(person(&world, name, &format!("{name}@example.com")).await);
    }
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("letters", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    world.tick(false).await;
    (world, sink, run, ids)
}

async fn sends(world: &World, sink: &Sink) -> Email {
    let mail = Mail::configured(&config(&world.folder, "", Some(sink.url()))).await.unwrap();
    Email::new(Arc::new(mail), "sender.example".into())
}

/// The keys, statuses and reasons of a run's steps, sorted.
async fn steps(world: &World) -> Vec<String> {
    let rows = world.sql("SELECT key, status, COALESCE(reason, '-') FROM step ORDER BY key, status, reason").await;
    rows.into_iter().map(|row| row.join(" ")).collect()
}

/// Raises an event about a run's only record while its first mail is held up at the mail server,
/// which then accepts or drops it.
async fn in_hand(kind: Kind, name: &str, stage: Stage, goes_on: bool) -> (World, Sink, String) {
    let (world, sink, run, ids) = reminding(kind, false, &[name]).await;
    let email = sends(&world, &sink).await;
    let trapped = sink.trap(stage, 1);
    let event = async {
        trapped.await.unwrap();
        world.ask(RAISE, json!({ "ids": ids })).await;
        assert_eq!(recipient_outcomes(&world, &run).await, [[name, "", ""]], "its message may go out yet");
        sink.let_go(goes_on);
    };
    tokio::join!(world.perform_once(&email), event);
    // Nothing is retried, however long the test waits.
    world.clock.set(noon() + Duration::days(1));
    for _ in 0..3 {
        world.perform_once(&email).await;
        world.tick(true).await;
    }
    (world, sink, run)
}

both! {
    async fn a_message_in_hand_that_is_put_off_is_not_tried_again(kind) {
        let (world, sink, run) = in_hand(kind, "latebusy", Stage::Data, true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!((sink.kept().len(), sink.tried("latebusy")), (0, 1));
        assert_eq!(steps(&world).await, ["first SKIPPED INTERRUPTED", "second SKIPPED INTERRUPTED"]);
        assert_eq!(world.sql("SELECT status FROM communication").await, [["CANCELLED"]]);
        assert_eq!(recipient_outcomes(&world, &run).await, [["latebusy", "SKIPPED", "INTERRUPTED: payment.received"]]);
        world.end().await;
    }
}

both! {
    async fn a_message_in_hand_that_goes_out_is_what_comes_of_its_place(kind) {
        let (world, sink, run) = in_hand(kind, "fine", Stage::Dot, true).await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(sink.kept().len(), 1);
        assert_eq!(steps(&world).await, ["first COMPLETED -", "second SKIPPED INTERRUPTED"]);
        assert_eq!(recipient_outcomes(&world, &run).await, [["fine", "SENT", ""]]);
        world.end().await;
    }
}

both! {
    async fn a_message_in_hand_that_is_lost_is_for_a_person_to_say(kind) {
        for (to, outcome) in [("SENT", "SENT"), ("NOT_SENT", "FAILED")] {
            let (world, _sink, run) = in_hand(kind, "fine", Stage::Dot, false).await;
            assert_eq!(steps(&world).await, ["first AWAITING_APPROVAL OUTCOME_UNKNOWN", "second SKIPPED INTERRUPTED"]);
            crate::harness::check::check(&world).await;
            let found = world.ask("{ communications { nodes { id status } } }", json!({})).await["communications"]["nodes"][0].clone();
            assert_eq!(found["status"], "UNKNOWN");
            // A later event does not change the recipient's outcome, which follows the message,
            // either.
            world.ask("mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"?\" }) { reply { id } } }", json!({ "id": found["id"] })).await;
            assert_eq!(recipient_outcomes(&world, &run).await[0][1], "");
            world.ask(RESOLVE, json!({ "id": found["id"], "to": to })).await;
            world.tick(true).await;
            assert_eq!(recipient_outcomes(&world, &run).await[0][1], outcome);
            world.end().await;
        }
    }
}

both! {
    async fn work_whose_lease_lapses_after_an_event_is_not_taken_again(kind) {
        let (world, sink, run, ids) = reminding(kind, false, &["ann", "bob"]).await;
        world.vanish_with::<Email>().await;
        world.ask(RAISE, json!({ "ids": [ids[0]] })).await;
        world.clock.set(noon() + Duration::minutes(2));
        world.rescue().await;
        let email = sends(&world, &sink).await;
        world.perform(&email).await;
        assert_eq!(sink.kept().iter().map(|mail| mail.to.clone()).collect::<Vec<_>>(), ["bob@example.com"]);
        assert_eq!(steps(&world).await, ["first COMPLETED -", "first SKIPPED INTERRUPTED", "second QUEUED -", "second SKIPPED INTERRUPTED"]);
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SKIPPED", "INTERRUPTED: payment.received"], ["bob", "", ""]]);
        world.end().await;
    }
}

both! {
    async fn events_while_a_run_is_held_stop_and_wake_at_once(kind) {
        let (world, sink, run, ids) = reminding(kind, true, &["ann", "bob", "cat"]).await;
        let email = sends(&world, &sink).await;
        world.perform(&email).await;
        assert_eq!(sink.kept().len(), 3);
        world.act("pauseRun", "run", json!({ "id": run })).await;
        let sent = world.ask("{ communications { nodes { id toAddress } } }", json!({})).await["communications"]["nodes"].clone();
        let ann = sent.as_array().unwrap().iter().find(|one| one["toAddress"] == "ann@example.com").unwrap();
        world.ask(REPLY, json!({ "id": ann["id"] })).await;
        world.ask(RAISE, json!({ "ids": [ids[1]] })).await;
        let now = steps(&world).await;
        assert!(now.contains(&"answer PENDING -".to_owned()) && now.contains(&"paid PENDING -".to_owned()), "{now:?}");
        assert_eq!(world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"], json!([]), "its step handles it");
        crate::harness::check::check(&world).await;
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.clock.set(noon() + Duration::hours(2));
        world.perform(&email).await;
        let mut all: Vec<String> = sink.kept().into_iter().skip(3).map(|mail| mail.to).collect();
        all.sort();
        assert_eq!(all, ["cat@example.com"], "only whom no event was about");
        world.end().await;
    }
}

both! {
    async fn a_reply_to_a_test_changes_no_record(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"], sample: 1 }) { run { id } } }";
        world.ask(test, json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        let sent = world.ask("{ communications { nodes { id status test } } }", json!({})).await["communications"]["nodes"][0].clone();
        assert_eq!((&sent["status"], &sent["test"]), (&json!("SENT"), &json!(true)));
        world.ask(REPLY, json!({ "id": sent["id"] })).await;
        let record = "query($id: ID!) { record(id: $id) { lastRepliedAt activities { totalCount } } }";
        let record = world.ask(record, json!({ "id": plan.records[0] })).await["record"].clone();
        assert_eq!(record, json!({ "lastRepliedAt": null, "activities": { "totalCount": 0 } }));
        assert_eq!(world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"], json!([]));
        world.end().await;
    }
}

both! {
    async fn replies_that_nobody_has_handled_are_somebodys_when_their_run_is_called_off(kind) {
        for campaign in [false, true] {
            let world = World::without_server(kind, None).await;
            let plan = world.plan("EMAIL", 4).await;
            let open = json!([{ "path": "phases.in_flight.openFor", "value": "14 days" }]);
            let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";
            world.ask(update, json!({ "input": { "id": plan.campaign, "overrides": open } })).await;
            world.activate(&plan).await;
            let run = world.launch(&plan).await;
            reviewed(&world, &run).await;
            world.tick(true).await;
            let sent = world.ask("{ communications { nodes { id record { name } } } }", json!({})).await["communications"]["nodes"].clone();
            let of = |name: &str| sent.as_array().unwrap().iter().find(|one| one["record"]["name"] == name).unwrap()["id"].clone();
            for name in ["Lead 0", "Lead 1", "Lead 2"] {
                world.ask(REPLY, json!({ "id": of(name) })).await;
            }
            // One reply is handled; its step is done.
            let handle = world.ask("query($id: ID!) { run(id: $id) { steps(filter: { types: [\"handle_reply\"] }) { nodes { id record { name } } } } }", json!({ "id": run })).await;
            let done = handle["run"]["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["record"]["name"] == "Lead 2").unwrap().clone();
            for act in ["startStep", "completeStep"] {
                world.act(act, "step", json!({ "id": done["id"] })).await;
            }
            if campaign {
                world.act("cancelCampaign", "campaign", json!({ "id": plan.campaign })).await;
            } else {
                world.act("cancelRun", "run", json!({ "id": run })).await;
            }
            // Before the sweep has reached its step, and for a record without one.
            world.ask(REPLY, json!({ "id": of("Lead 0") })).await;
            world.ask(REPLY, json!({ "id": of("Lead 3") })).await;
            world.tick(true).await;
            let todo = world.ask(FOLLOW_UPS, json!({})).await["followUps"]["nodes"].clone();
            let mut names: Vec<&str> = todo.as_array().unwrap().iter().map(|one| one["record"]["name"].as_str().unwrap()).collect();
            names.sort_unstable();
            assert_eq!(names, ["Lead 0", "Lead 0", "Lead 1", "Lead 3"], "each reply once");
            world.end().await;
        }
    }
}

/// The reason for which `availableActions` disallows an action.
fn blocked(step: &Value, action: &str) -> Option<String> {
    let all = step["availableActions"].as_array().unwrap();
    let found = all.iter().find(|one| one["action"] == action).unwrap();
    found["blockedBecause"].as_str().map(str::to_owned)
}

both! {
    async fn no_call_begins_in_a_campaign_that_is_held(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _, calls) = calling(&world, 3).await;
        let campaign = world.ask("query($id: ID!) { run(id: $id) { campaign { id } } }", json!({ "id": run })).await["run"]["campaign"]["id"].clone();
        world.act("startStep", "step", json!({ "id": calls[0]["id"] })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": campaign })).await;
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let (code, told) = world.refused(start, json!({ "id": calls[1]["id"] })).await;
        assert!(code == "CONFLICT" && told.contains("campaign is paused"), "{told}");
        let offered = "query($id: ID!) { step(id: $id) { availableActions { action allowed blockedBecause } } }";
        let waiting = world.ask(offered, json!({ "id": calls[1]["id"] })).await["step"].clone();
        assert!(blocked(&waiting, "START").unwrap().contains("campaign is paused"), "{waiting}");
        // The caller reports the result of the call.
        let begun = world.ask(offered, json!({ "id": calls[0]["id"] })).await["step"].clone();
        assert_eq!(blocked(&begun, "COMPLETE"), None);
        assert_eq!(world.act("completeStep", "step", json!({ "id": calls[0]["id"] })).await["status"], "COMPLETED");
        world.act("resumeCampaign", "campaign", json!({ "id": campaign })).await;
        world.act("startStep", "step", json!({ "id": calls[1]["id"] })).await;
        // The same in a paused run.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        assert_eq!(world.refused(start, json!({ "id": calls[2]["id"] })).await.0, "CONFLICT");
        assert_eq!(world.act("completeStep", "step", json!({ "id": calls[1]["id"] })).await["status"], "COMPLETED");
        world.end().await;
    }
}

both! {
    async fn an_unknown_letter_of_open_guided_work_waits_for_a_person(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        let config = json!({ "subject": "Hello {{ name }}", "body": "Dear {{ name }}" });
        let (run, guided) = world.own_run(&[("write", "email", config)], json!({})).await;
        world.step_act("startStep", &guided[0], json!({})).await;
        let lost = person(&world, "lost", "dropdot@example.com").await;
        let send = "mutation($input: StepEmailInput!) { sendStepEmail(input: $input) { communications { id } } }";
        world.ask(send, json!({ "input": { "stepId": guided[0], "recordIds": [lost] } })).await;
        let query = "query($run: ID!) { run(id: $run) { waitingFor { code message roles } communications(statuses: [UNKNOWN]) { nodes { id } } } }";
        let seen = world.until("it is lost", query, json!({ "run": run }), |data| !data["run"]["communications"]["nodes"][0].is_null()).await;
        let waits = seen["run"]["waitingFor"].as_array().unwrap();
        let told = waits.iter().find(|one| one["code"] == "RESOLUTION").unwrap_or_else(|| panic!("{waits:?}"));
        assert_eq!((&told["message"], &told["roles"]), (&json!("1 message with unknown outcome"), &json!(["OPERATOR"])));
        let id = seen["run"]["communications"]["nodes"][0]["id"].clone();
        world.ask(RESOLVE, json!({ "id": id, "to": "NOT_SENT" })).await;
        let now = world.ask(query, json!({ "run": run })).await;
        assert!(now["run"]["waitingFor"].as_array().unwrap().iter().all(|one| one["code"] != "RESOLUTION"), "{now}");
        world.end().await;
    }
}

both! {
    /// A repeat of what failed inherits the first mail, and with it the replies to that mail:
    /// before the repeat, and during it.
    async fn an_answer_to_what_a_repeat_took_over_stops_the_rest(kind) {
        let (world, sink, run, _) = reminding(kind, false, &["zann", "zbob", "zcat", "dan"]).await;
        let email = sends(&world, &sink).await;
        world.perform_once(&email).await;
        world.tick(false).await;
        sink.refuse("z");
        world.clock.set(noon() + Duration::hours(2));
        for _ in 0..4 {
            world.perform(&email).await;
            world.tick(false).await;
        }
        world.until_run(&run, "COMPLETED").await;
        sink.refuse("nobody");
        let query = "query($id: ID!) { run(id: $id) { communications(statuses: [SENT], first: 50) { nodes { id subject toAddress } } } }";
        let sent = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"].clone();
        let first = |to: &str| {
            let mut all = sent.as_array().unwrap().iter();
            all.find(|one| one["subject"] == "first" && one["toAddress"] == format!("{to}@example.com")).unwrap()["id"].clone()
        };
        world.ask(REPLY, json!({ "id": first("zann") })).await;
        let second = repeat(&world, &run).await;
        world.tick(false).await;
        world.ask(REPLY, json!({ "id": first("zbob") })).await;
        world.clock.set(noon() + Duration::hours(4));
        for _ in 0..6 {
            world.perform(&email).await;
            world.tick(false).await;
        }
        world.until_run(&second, "COMPLETED").await;
        let got = |to: &str| sink.read(&format!("{to}@example.com")).into_iter().map(|(subject, _)| subject).collect::<Vec<_>>();
        assert_eq!((got("zann"), got("zbob")), (vec!["first".to_owned()], vec!["first".to_owned()]));
        assert_eq!((got("zcat").len(), got("dan").len()), (2, 2));
        world.end().await;
    }
}
