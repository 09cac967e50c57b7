//! Fields that front ends show beside an object's own: the times of a campaign, its last run and its
//! next start, the records of guided work, the reply of a follow-up, descriptions of phases and tasks,
//! the parts of a short message; and the filter of messages.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};
use sortie::domain::message::communication::{self, Filter};
use sortie::domain::message::sms::segments;
use sortie::kernel::page::Args;

use crate::harness::{Kind, World, noon};

const CAMPAIGN: &str =
    "query($id: ID!) { campaign(id: $id) { status startedAt completedAt nextFireAt lastRun { id type status }
    schedules(first: 10) { nodes { id nextAt } } } }";

async fn campaign(world: &World, id: &str) -> Value {
    world.ask(CAMPAIGN, json!({ "id": id })).await["campaign"].clone()
}

/// The time in a field; none for null.
fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str().map(|text| text.parse().unwrap())
}

/// The time at which a campaign began, and that at which it ended.
fn times(campaign: &Value) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    (time(&campaign["startedAt"]), time(&campaign["completedAt"]))
}

both! {
    async fn a_campaign_says_when_it_began_and_ended(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let now = campaign(&world, &plan.campaign).await;
        assert_eq!((times(&now), &now["lastRun"], &now["nextFireAt"]), ((None, None), &json!(null), &json!(null)));
        world.act("submitCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(times(&campaign(&world, &plan.campaign).await), (None, None));
        world.act("approveCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(times(&campaign(&world, &plan.campaign).await), (Some(noon()), None));
        // Neither a second approval nor a pause is another beginning.
        world.clock.set(noon() + Duration::hours(1));
        let change = "mutation($id: ID!) { updateCampaign(input: { id: $id, instructions: \"More formal\" }) { campaign { id } } }";
        world.ask(change, json!({ "id": plan.campaign })).await;
        for verb in ["approveCampaign", "pauseCampaign", "resumeCampaign"] {
            world.act(verb, "campaign", json!({ "id": plan.campaign })).await;
            assert_eq!(times(&campaign(&world, &plan.campaign).await), (Some(noon()), None), "{verb}");
        }
        world.clock.set(noon() + Duration::hours(2));
        world.act("completeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        let ended = Some(noon() + Duration::hours(2));
        assert_eq!(times(&campaign(&world, &plan.campaign).await), (Some(noon()), ended));
        // The archive changes neither; a copy has none of them.
        world.clock.set(noon() + Duration::hours(3));
        world.act("archiveCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(times(&campaign(&world, &plan.campaign).await), (Some(noon()), ended));
        let copy = "mutation($id: ID!) { duplicateCampaign(input: { id: $id, name: \"Copy\" }) { campaign { id } } }";
        let copy = world.ask(copy, json!({ "id": plan.campaign })).await["duplicateCampaign"]["campaign"]["id"].as_str().unwrap().to_owned();
        assert_eq!(times(&campaign(&world, &copy).await), (None, None));
        // A draft that is cancelled ends without having begun.
        world.act("cancelCampaign", "campaign", json!({ "id": copy })).await;
        assert_eq!(times(&campaign(&world, &copy).await), (None, Some(noon() + Duration::hours(3))));
        // In lists they are read by themselves, too.
        let list = world.ask("{ campaigns(orderBy: { field: CREATED_AT, direction: ASC }) { nodes { completedAt } } }", json!({})).await;
        assert_eq!(list["campaigns"]["nodes"].as_array().unwrap().iter().map(|one| time(&one["completedAt"])).collect::<Vec<_>>(), [ended, Some(noon() + Duration::hours(3))]);
        world.end().await;
    }
}

both! {
    async fn a_retry_takes_the_end_of_a_campaign_back(kind) {
        let world = World::without_server(kind, None).await;
        let step = json!({ "key": "s", "type": "look", "assignedTo": "HUMAN", "maxAttempts": 1 });
        let phases = json!([{ "key": "p", "autonomous": false, "tasks": [{ "key": "t", "steps": [step] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "one", "name": "One", "phases": phases }] }).to_string()).await;
        let record = world.leads(1).await.remove(0);
        let run = world.fly("one", json!({ "recordId": record })).await;
        world.tick(false).await;
        let query = "query($id: ID!) { run(id: $id) { campaign { id } steps { nodes { id } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"].clone();
        let id = found["campaign"]["id"].as_str().unwrap();
        let now = campaign(&world, id).await;
        assert_eq!((times(&now), &now["lastRun"]["id"]), ((Some(noon()), None), &json!(run)));
        world.clock.set(noon() + Duration::hours(1));
        for verb in ["startStep", "failStep"] {
            world.act(verb, "step", json!({ "id": found["steps"]["nodes"][0]["id"], "reason": "nobody there" })).await;
        }
        world.tick(false).await;
        let now = campaign(&world, id).await;
        assert_eq!((&now["status"], times(&now)), (&json!("FAILED"), (Some(noon()), Some(noon() + Duration::hours(1)))));
        world.clock.set(noon() + Duration::hours(2));
        world.act("retryRun", "run", json!({ "id": run })).await;
        let now = campaign(&world, id).await;
        assert_eq!((&now["status"], times(&now)), (&json!("ACTIVE"), (Some(noon()), None)));
        world.end().await;
    }
}

both! {
    async fn the_last_run_and_the_next_start_of_a_campaign(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let last = async || campaign(&world, &plan.campaign).await["lastRun"].clone();
        // Neither a test nor a run that waits counts.
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } } }";
        world.ask(test, json!({ "id": plan.campaign })).await;
        world.tick(true).await;
        assert_eq!(last().await, json!(null));
        let first = world.launch(&plan).await;
        assert_eq!(last().await, json!(null));
        world.tick(false).await;
        assert_eq!(last().await["id"], first);
        world.clock.set(noon() + Duration::minutes(1));
        let second = world.launch(&plan).await;
        assert_eq!(last().await["id"], first);
        world.tick(false).await;
        assert_eq!((&last().await["id"], &last().await["type"]), (&json!(second), &json!("RUN")));
        // A run that has ended stays the last.
        for run in [&first, &second] {
            world.act("cancelRun", "run", json!({ "id": run })).await;
        }
        world.tick(false).await;
        assert_eq!(last().await, json!({ "id": second, "type": "RUN", "status": "CANCELLED" }));
        // The earliest start of the schedules that are active.
        let next = async || time(&campaign(&world, &plan.campaign).await["nextFireAt"]);
        assert_eq!(next().await, None);
        let schedule = "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { schedule { id } } }";
        let mut schedules = Vec::new();
        for days in [3, 1, 2] {
            let at = noon() + Duration::days(days);
            let made = world.ask(schedule, json!({ "id": plan.campaign, "at": at })).await;
            schedules.push(made["scheduleCampaign"]["schedule"]["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(next().await, Some(noon() + Duration::days(1)));
        let pause = "mutation($id: ID!) { pauseSchedule(input: { id: $id }) { schedule { id } } }";
        world.ask(pause, json!({ "id": schedules[1] })).await;
        assert_eq!(next().await, Some(noon() + Duration::days(2)));
        world.act("pauseCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(next().await, None);
        world.act("resumeCampaign", "campaign", json!({ "id": plan.campaign })).await;
        assert_eq!(next().await, Some(noon() + Duration::days(2)));
        let end = "mutation($id: ID!) { endSchedule(input: { id: $id }) { schedule { id } } }";
        world.ask(end, json!({ "id": schedules[2] })).await;
        assert_eq!(next().await, Some(noon() + Duration::days(3)));
        // Each campaign of a list has its own.
        let other = world.create("campaign", json!({ "name": "Other" })).await;
        let list = world.ask("{ campaigns { nodes { id nextFireAt lastRun { id } } } }", json!({})).await["campaigns"]["nodes"].clone();
        assert_eq!(list[0], json!({ "id": other, "nextFireAt": null, "lastRun": null }));
        assert_eq!((time(&list[1]["nextFireAt"]), &list[1]["lastRun"]["id"]), (Some(noon() + Duration::days(3)), &json!(second)));
        world.end().await;
    }
}

const LINKED: &str =
    "query($id: ID!, $first: Int, $after: String) { run(id: $id) { linkedRecords(first: $first, after: $after) {
    totalCount nodes { id name } pageInfo { hasNextPage endCursor } } } }";

both! {
    async fn guided_work_lists_the_records_it_was_started_with(kind) {
        let world = World::without_server(kind, None).await;
        let leads = world.leads(4).await;
        let step = [("a", "custom", json!({}))];
        let (run, steps) = world.own_run(&step, json!({ "linkedRecordIds": [leads[0], leads[2], leads[1]] })).await;
        let newest: Vec<&String> = vec![&leads[2], &leads[1], &leads[0]];
        let ids = |page: &Value| page["nodes"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
        let all = world.ask(LINKED, json!({ "id": run })).await["run"]["linkedRecords"].clone();
        assert_eq!((json!(ids(&all)), &all["totalCount"]), (json!(newest), &json!(3)));
        let page = world.ask(LINKED, json!({ "id": run, "first": 2 })).await["run"]["linkedRecords"].clone();
        assert_eq!((json!(ids(&page)), &page["pageInfo"]["hasNextPage"]), (json!(newest[..2]), &json!(true)));
        let rest = world.ask(LINKED, json!({ "id": run, "first": 2, "after": page["pageInfo"]["endCursor"] })).await;
        assert_eq!(json!(ids(&rest["run"]["linkedRecords"])), json!(newest[2..]));
        // A record that a step acts on is none of them.
        world.step_act("startStep", &steps[0], json!({})).await;
        let note = "mutation($step: ID!, $record: ID!) { addStepNote(input: { stepId: $step, text: \"n\", recordIds: [$record] }) { step { id } } }";
        world.ask(note, json!({ "step": steps[0], "record": leads[3] })).await;
        assert_eq!(world.ask(LINKED, json!({ "id": run })).await["run"]["linkedRecords"]["totalCount"], 3);
        // Scheduled work shows them before it begins.
        world.apply(&json!({ "runTemplates": [{ "key": "week", "name": "Week", "kind": "GUIDED", "phases": [{ "key": "p", "tasks": [{ "key": "t", "steps": [{ "key": "s", "type": "custom", "assignedTo": "HUMAN" }] }] }] }] }).to_string()).await;
        let schedule = "mutation($at: DateTime!, $ids: [ID!]) { scheduleGuidedRun(input: { templateKey: \"week\", at: $at, linkedRecordIds: $ids }) { run { id status } } }";
        let made = world.ask(schedule, json!({ "at": noon() + Duration::days(1), "ids": [leads[3]] })).await["scheduleGuidedRun"]["run"].clone();
        assert_eq!(made["status"], "SCHEDULED");
        assert_eq!(json!(ids(&world.ask(LINKED, json!({ "id": made["id"] })).await["run"]["linkedRecords"])), json!([leads[3]]));
        // Work without any, and a run of a campaign.
        let (none, _) = world.own_run(&step, json!({})).await;
        let plan = world.plan("EMAIL", 0).await;
        world.activate(&plan).await;
        let campaign = world.launch(&plan).await;
        world.tick(false).await;
        for run in [&none, &campaign] {
            let found = world.ask(LINKED, json!({ "id": run })).await["run"]["linkedRecords"].clone();
            assert_eq!((&found["nodes"], &found["totalCount"]), (&json!([]), &json!(0)));
            assert_eq!(world.refused(LINKED, json!({ "id": run, "first": -1 })).await.0, "BAD_USER_INPUT");
        }
        // All runs of a list together.
        let list = world.ask("{ runs(first: 100, orderBy: { field: CREATED_AT, direction: ASC }) { nodes { id linkedRecords { totalCount nodes { name } } } } }", json!({})).await;
        let found = list["runs"]["nodes"].as_array().unwrap().iter().find(|one| one["id"] == json!(run)).unwrap();
        assert_eq!(found["linkedRecords"], json!({ "totalCount": 3, "nodes": [{ "name": "Lead 2" }, { "name": "Lead 1" }, { "name": "Lead 0" }] }));
        world.end().await;
    }
}

/// A run whose messages were sent; its id, and those of the messages in the order of their creation.
async fn sent(world: &World, leads: usize) -> (String, Vec<String>) {
    let plan = world.plan("EMAIL", leads).await;
    world.activate(&plan).await;
    let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } } }";
    world.ask(test, json!({ "id": plan.campaign })).await;
    world.tick(true).await;
    world.clock.set(noon() + Duration::hours(1));
    let run = world.launch(&plan).await;
    world.tick(true).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.tick(true).await;
    let all = found(world, json!({ "runIds": [run], "statuses": ["SENT"] })).await;
    assert_eq!(all.len(), leads);
    (run, all)
}

/// The ids of the messages that match a filter.
async fn found(world: &World, filter: Value) -> Vec<String> {
    let query = "query($filter: CommunicationFilter) { communications(filter: $filter, first: 500) { totalCount nodes { id } } }";
    let data = world.ask(query, json!({ "filter": filter })).await["communications"].clone();
    let ids: Vec<String> =
        data["nodes"].as_array().unwrap().iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(data["totalCount"], ids.len(), "{filter}");
    ids
}

both! {
    async fn a_follow_up_shows_the_reply_it_was_made_for(kind) {
        let world = World::without_server(kind, None).await;
        let (_, messages) = sent(&world, 2).await;
        let mut replies = Vec::new();
        for message in &messages {
            let record = "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes\" }) { reply { id followUp { id reply { id } } } } }";
            let reply = world.ask(record, json!({ "id": message })).await["recordReply"]["reply"].clone();
            assert!(reply["followUp"]["id"].is_string() && reply["followUp"]["reply"]["id"] == reply["id"], "{reply}");
            replies.push((reply["followUp"]["id"].clone(), reply["id"].clone()));
        }
        let (_, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        world.step_act("startStep", &steps[0], json!({})).await;
        let own = "mutation($s: ID!) { createStepFollowUp(input: { stepId: $s, title: \"F\" }) { followUp { id reply { id } } } }";
        let own = world.ask(own, json!({ "s": steps[0] })).await["createStepFollowUp"]["followUp"].clone();
        assert_eq!(own["reply"], json!(null));
        let list = world.ask("{ followUps(first: 10) { nodes { id reply { id body } } } }", json!({})).await["followUps"]["nodes"].clone();
        assert_eq!(list.as_array().unwrap().len(), 3);
        for (follow_up, reply) in replies {
            let one = list.as_array().unwrap().iter().find(|one| one["id"] == follow_up).unwrap();
            assert_eq!(one["reply"], json!({ "id": reply, "body": "Yes" }));
        }
        world.end().await;
    }
}

/// The number of statements that a query takes; on Postgres the least of a few tries, because the
/// sequencer's are counted as well.
async fn statements(world: &World, kind: Kind, query: &str) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..if kind == Kind::Postgres { 5 } else { 1 } {
        let before = world.db.statements();
        world.ask(query, json!({})).await;
        least = least.min(world.db.statements() - before);
    }
    least
}

both! {
    async fn phases_and_tasks_carry_what_their_structure_says(kind) {
        let world = World::without_server(kind, None).await;
        let (person, worker) = (json!("HUMAN"), json!("WORKFLOW"));
        let step = |key: &str, of: &Value, kind: &str| json!({ "key": key, "type": kind, "assignedTo": of, "config": if kind == "wait" { json!({ "duration": "1 hour" }) } else { json!({}) } });
        let phases = json!([
            { "key": "p", "name": "First", "description": "Look at it — gründlich", "autonomous": false, "tasks": [
                { "key": "people", "description": "By hand", "steps": [step("a", &person, "look"), step("b", &person, "look")] },
                { "key": "both", "steps": [step("c", &person, "look"), step("d", &worker, "wait")] },
                { "key": "engine", "steps": [step("e", &worker, "wait")] },
            ] },
            { "key": "q", "name": "Second", "autonomous": false, "tasks": [{ "key": "last", "steps": [step("f", &person, "look")] }] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "told", "name": "Told", "phases": phases }] }).to_string()).await;
        let leads = world.leads(4).await;
        let (goal, mut runs) = (world.create("goal", json!({ "name": "G" })).await, Vec::new());
        for lead in &leads {
            runs.push(world.fly("told", json!({ "recordId": lead, "goalId": goal })).await);
        }
        world.tick(false).await;
        let query = "query($id: ID!) { run(id: $id) { phases { key description revision tasks { key description assignedTo } } } }";
        let found = world.ask(query, json!({ "id": runs[0] })).await["run"]["phases"].clone();
        let task = |key: &str, description: Value, assigned: Value| json!({ "key": key, "description": description, "assignedTo": assigned });
        assert_eq!((&found[0]["description"], &found[1]["description"]), (&json!("Look at it — gründlich"), &json!(null)));
        assert_eq!(found[0]["tasks"], json!([
            task("people", json!("By hand"), json!("HUMAN")), task("both", json!(null), json!(null)), task("engine", json!(null), json!("WORKFLOW")),
        ]));
        assert_eq!(found[1]["tasks"], json!([task("last", json!(null), json!("HUMAN"))]));
        // The first phase has begun: its revision is the one that a release expects.
        assert!(found[0]["revision"].as_i64() > found[1]["revision"].as_i64(), "{found:#}");
        // Later changes of the template leave a run as it is.
        let changed = json!({ "runTemplates": [{ "key": "told", "name": "Told", "phases": [{ "key": "p", "name": "First", "description": "Changed", "autonomous": false, "tasks": [{ "key": "people", "steps": [step("a", &person, "look")] }] }] }] });
        world.apply(&changed.to_string()).await;
        assert_eq!(world.ask(query, json!({ "id": runs[0] })).await["run"]["phases"], found);
        let list = |first: usize| format!("{{ runs(first: {first}) {{ nodes {{ phases {{ description revision tasks {{ description assignedTo }} }} }} }} }}");
        // The structures are read once, and kept.
        world.ask(&list(4), json!({})).await;
        let (one, all) = (statements(&world, kind, &list(1)).await, statements(&world, kind, &list(4)).await);
        assert!(all <= one + 1, "{one} for one run, {all} for four");
        world.end().await;
    }
}

#[test]
fn short_messages_are_counted_in_parts() {
    let times = |text: &str, count: usize| text.repeat(count);
    for (text, parts) in [
        (String::new(), 1),
        (times("a", 160), 1),
        (times("a", 161), 2),
        (times("ü", 160), 1),
        (times("a", 306), 2),
        (times("a", 307), 3),
        // A character of the extension takes two places, and is not split.
        (times("€", 80), 1),
        (times("€", 81), 2),
        (times("€", 76) + &times("€", 76), 2),
        (times("€", 153), 3),
        // A single other character, and the whole text is UCS-2.
        (times("a", 69) + "ç", 1),
        (times("a", 70) + "ç", 2),
        (times("я", 70), 1),
        (times("я", 71), 2),
        (times("я", 134), 2),
        (times("я", 135), 3),
        (times("😀", 35), 1),
        (times("😀", 36), 2),
        (times("😀", 66), 2),
        (times("😀", 67), 3),
        // Line breaks and the other characters of the alphabet.
        ("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà".to_owned() + &times("z", 95), 1),
    ] {
        assert_eq!(
            segments(&text),
            parts,
            "{} characters of {}",
            text.chars().count(),
            text.chars().take(3).collect::<String>()
        );
    }
}

both! {
    async fn messages_by_sms_tell_their_parts(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        world.until_review(&run).await;
        let parts = async || {
            let data = world.ask("{ communications { nodes { segments } } }", json!({})).await;
            data["communications"]["nodes"][0]["segments"].clone()
        };
        assert_eq!(parts().await, json!(null));
        world.force(&format!("UPDATE communication SET channel = 'SMS', body = '{}'", "x".repeat(161))).await;
        assert_eq!(parts().await, 2);
        assert_eq!(found(&world, json!({ "channels": ["SMS"] })).await.len(), 1);
        world.force("UPDATE communication SET channel = 'EMAIL'").await;
        assert_eq!(parts().await, json!(null));
        world.end().await;
    }
}

both! {
    async fn messages_are_filtered_in_the_common_words(kind) {
        let world = World::without_server(kind, None).await;
        let (run, messages) = sent(&world, 3).await;
        let all = found(&world, json!({})).await;
        // The test's message was drafted an hour before the others.
        assert_eq!((all.len(), &all[1..]), (4, &messages[..]));
        let (test, later) = (&all[..1], noon() + Duration::hours(1));
        for (filter, wanted) in [
            (json!({ "ids": [messages[2], messages[0]] }), vec![messages[0].clone(), messages[2].clone()]),
            (json!({ "ids": [] }), vec![]),
            (json!({ "ids": ["communication_01h455vb4pex5vsknk084sn02q"] }), vec![]),
            (json!({ "test": true }), test.to_vec()),
            (json!({ "test": false }), messages.clone()),
            (json!({ "test": true, "runIds": [run] }), vec![]),
            (json!({ "channels": ["EMAIL"] }), all.clone()),
            (json!({ "channels": ["SMS", "PHONE"] }), vec![]),
            (json!({ "channels": [] }), vec![]),
            (json!({ "createdAt": { "from": later } }), messages.clone()),
            (json!({ "createdAt": { "to": later } }), test.to_vec()),
            (json!({ "createdAt": { "from": noon(), "to": later }, "test": false }), vec![]),
            (json!({ "ids": null, "test": null, "channels": null, "createdAt": null }), all.clone()),
        ] {
            assert_eq!(found(&world, filter.clone()).await, wanted, "{filter}");
        }
        let query = "query($filter: CommunicationFilter) { communications(filter: $filter) { totalCount } }";
        for (filter, at) in [
            (json!({ "ids": [run] }), "filter.ids"),
            (json!({ "createdAt": {} }), "filter.createdAt"),
            (json!({ "createdAt": { "from": null, "to": null } }), "filter.createdAt"),
        ] {
            let told = world.post(query, json!({ "filter": filter })).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(at)), "{filter}");
        }
        // A bulk action takes each of them as a condition; a period without an end is none.
        let start = "mutation($filter: CommunicationFilter) { startBulkAction(input: { verb: RESOLVE_COMMUNICATIONS, resolution: SENT, communicationFilter: $filter, dryRun: true }) { dryRun { matched } } }";
        for (filter, matched) in [
            (json!({ "ids": [messages[1]] }), 1),
            (json!({ "test": false }), 3),
            (json!({ "channels": ["EMAIL"] }), 4),
            (json!({ "createdAt": { "from": later } }), 3),
        ] {
            let done = world.ask(start, json!({ "filter": filter })).await;
            assert_eq!(done["startBulkAction"]["dryRun"]["matched"], matched, "{filter}");
        }
        for (filter, at) in [(json!({}), "communicationFilter"), (json!({ "test": null }), "communicationFilter"), (json!({ "createdAt": {} }), "communicationFilter.createdAt")] {
            let (code, message) = world.refused(start, json!({ "filter": filter })).await;
            assert_eq!((code.as_str(), message.starts_with(at)), ("BAD_USER_INPUT", true), "{filter}: {message}");
        }
        if kind == Kind::Sqlite {
            // Tests are few among the messages of an org: they have an index of their own.
            let tests = Filter { test: Some(true), ..Filter::default() };
            let args = Args { first: Some(50), ..Args::default() };
            let plan = communication::window(&world.db, &world.viewer, &tests, args).unwrap().plan(world.db.read()).await.unwrap();
            assert!(plan.contains("communication_of_tests") && !plan.contains("TEMP B-TREE"), "{plan}");
        }
        world.end().await;
    }
}

both! {
    async fn a_message_has_the_sender_that_it_goes_out_from(kind) {
        let world = World::new(kind).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_review(&run).await;
        let query = "query($id: ID!) { run(id: $id) { communications { nodes { id sender { name address } } } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"][0].clone();
        let sender = json!({ "name": "Sortie", "address": "sortie@sender.example" });
        assert_eq!(found["sender"], sender);
        let one = "query($id: ID!) { communication(id: $id) { sender { name address } } }";
        assert_eq!(world.ask(one, json!({ "id": found["id"] })).await["communication"]["sender"], sender);
        // None is known of a message from another domain, and of a call.
        world.force("UPDATE communication SET message_id = '1@elsewhere.example'").await;
        assert_eq!(world.ask(one, json!({ "id": found["id"] })).await["communication"]["sender"], Value::Null);
        world.force("UPDATE communication SET message_id = '1@sender.example', channel = 'PHONE'").await;
        assert_eq!(world.ask(one, json!({ "id": found["id"] })).await["communication"]["sender"], Value::Null);
        world.drop_unchecked().await;
    }
}

both! {
    async fn the_assignee_of_a_task_is_that_of_all_its_steps(kind) {
        let world = World::without_server(kind, None).await;
        let mia = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let query = "query($id: ID!) { run(id: $id) { phases { tasks { assignedTo assignee { id name } } } } }";
        let assignee = async |run: &str| world.ask(query, json!({ "id": run })).await["run"]["phases"][0]["tasks"][0].clone();
        let steps = [("a", "note", json!({})), ("b", "custom", json!({}))];
        let (of_mia, ids) = world.own_run(&steps, json!({ "assigneeId": mia })).await;
        assert_eq!(assignee(&of_mia).await, json!({ "assignedTo": "HUMAN", "assignee": { "id": mia, "name": "Mia" } }));
        let (of_all, _) = world.own_run(&steps, json!({})).await;
        assert_eq!(assignee(&of_all).await, json!({ "assignedTo": "HUMAN", "assignee": null }));
        // One of them is somebody else's.
        let assign = "mutation($id: ID!, $member: ID) { assignStep(input: { id: $id, memberId: $member }) { step { id } } }";
        let bob = world.create("member", json!({ "name": "Bob", "email": "bob@example.com", "role": "OPERATOR" })).await;
        world.ask(assign, json!({ "id": ids[0], "member": bob })).await;
        assert_eq!(assignee(&of_mia).await["assignee"], Value::Null);
        world.ask(assign, json!({ "id": ids[1], "member": bob })).await;
        assert_eq!(assignee(&of_mia).await["assignee"]["name"], "Bob");
        // A task with a step per record has none.
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let tasks = "query($id: ID!) { run(id: $id) { phases { tasks { fanOut assignee { id } } } } }";
        let found = world.ask(tasks, json!({ "id": run })).await["run"]["phases"].clone();
        let tasks: Vec<&Value> = found.as_array().unwrap().iter().flat_map(|phase| phase["tasks"].as_array().unwrap()).collect();
        assert!(tasks.iter().any(|task| task["fanOut"] == true) && tasks.iter().all(|task| task["assignee"].is_null()), "{found:#}");
        world.end().await;
    }
}

both! {
    async fn a_large_change_in_progress_says_how_far_it_is(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _) = sent(&world, 2).await;
        let plan = world.plan("EMAIL", 0).await;
        world.activate(&plan).await;
        let open = world.launch(&plan).await;
        world.tick(true).await;
        world.until_review(&open).await;
        let codes = async |run: &str| {
            let query = "query($id: ID!) { run(id: $id) { waitingFor { code message steps until } } }";
            let all = world.ask(query, json!({ "id": run })).await["run"]["waitingFor"].as_array().unwrap().clone();
            all.into_iter().filter(|one| one["code"] == "SWEEP").collect::<Vec<_>>()
        };
        assert!(codes(&open).await.is_empty());
        for (kind, task, words) in [
            ("AUDIENCE", "NULL", "its audience is being stored: 2 recipients so far"),
            ("APPROVE", "NULL", "drafts are being approved: 2 left"),
            ("REDRAFT", "NULL", "rejected drafts are being queued again: 2 left"),
            ("FAN_OUT", "(SELECT t.id FROM task t WHERE t.run_id = run.id AND t.fan_out AND t.completed = 2 LIMIT 1)", "steps are being created: 2 so far, for 2 recipients"),
            ("RETRY", "(SELECT t.id FROM task t WHERE t.run_id = run.id AND t.fan_out AND t.completed = 2 LIMIT 1)", "failed steps are being queued again: 0 left"),
        ] {
            world.force(&format!("INSERT INTO sweep (id, org_id, run_id, task_id, kind, actor, created_at, held) SELECT id, org_id, id, {task}, '{kind}', created_by, created_at, FALSE FROM run WHERE status = 'IN_PROGRESS'")).await;
            let told = codes(&open).await;
            assert!(told.len() == 1 && told[0]["message"].as_str().unwrap().contains(words) && told[0]["steps"].is_null() && told[0]["until"].is_null(), "{kind}: {told:?}");
            assert!(codes(&run).await.is_empty(), "it has ended");
            world.force("DELETE FROM sweep").await;
        }
        // In a paused run it stands still, as everything else.
        world.force("INSERT INTO sweep (id, org_id, run_id, kind, actor, created_at, held) SELECT id, org_id, id, 'APPROVE', created_by, created_at, FALSE FROM run WHERE status = 'IN_PROGRESS'").await;
        world.act("pauseRun", "run", json!({ "id": open })).await;
        assert!(codes(&open).await.is_empty());
        world.drop_unchecked().await;
    }
}
