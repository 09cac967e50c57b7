//! End-to-end test through GraphQL only: from imported records to sent mail, with every status
//! change observed live.

use serde_json::{Value, json};

use crate::harness::sink::Sink;
use crate::harness::socket::{Live, Socket};
use crate::harness::{World, noon};

const LEADS: &str = "external_id,name,first_name,last_name,email,phone,company,title,timezone,stage,last_contacted_at,source,employees\n\
L-1,Ada Baker,Ada,Baker,ada@example.com,+15551234567,Acme,CTO,Europe/London,New,2026-09-30T14:39:18Z,referral,353\n\
L-2,Bruno Cohen,Bruno,Cohen,bruno@example.com,,Bolt,CEO,Europe/Berlin,New,,event,12\n\
L-3,Chidi Okafor,Chidi,Okafor,chidi@example.com,,Coil,CFO,Africa/Lagos,New,,website,40\n\
L-4,No Address,No,Address,,,Dent,COO,Europe/Paris,New,,website,4\n\
,Bad Line,Bad,Line,edge@example.com,,Edge,COO,Europe/Paris,New,,website,4\n";

const FEED: &str = "subscription($after: String) { runStatusChanged(after: $after) { cursor runId from to reason } }";

both! {
    async fn a_campaign_flies(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        // From here on a subscriber follows the whole log and is disconnected every seven events.
        let live = Live::follow(world.address, 7);

        // Records are imported from a file; the report lists rejected rows.
        sortie::domain::import::import(&world.db.write(), &world.viewer, "lead", "leads.csv", LEADS.as_bytes(), |_, _| {}).await.unwrap();
        let data = world.ask("{ imports { nodes { rows created bad status problems { line column value why } } } }", json!({})).await;
        let report = &data["imports"]["nodes"][0];
        assert_eq!((&report["created"], &report["bad"], &report["status"]), (&json!(4), &json!(1), &json!("COMPLETED")));
        assert_eq!(report["problems"], json!([{ "line": 6, "column": "external_id", "value": null, "why": "must not be blank" }]));

        // A campaign is built step by step, while preflight reports fewer problems.
        let campaign = world.create("campaign", json!({ "name": "First light" })).await;
        let mut failing = failures(&world, &campaign).await;
        assert_eq!(failing, ["GOAL", "WRITER", "REVIEWER", "MESSAGE_TEMPLATE", "AUDIENCE", "CAMPAIGN_ACTIVE", "CONTENT"]);
        let submit = "mutation($id: ID!) { submitCampaign(input: { id: $id }) { campaign { status } preflight { ready } } }";
        let held = world.ask(submit, json!({ "id": campaign })).await;
        assert_eq!(held["submitCampaign"], json!({ "campaign": { "status": "DRAFT" }, "preflight": { "ready": false } }));
        let template = json!({ "name": "Hello", "subject": "{{ first_name }}, a word", "body": "Dear {{ first_name }},\n{{ offer }} for {{ company }}.\n" });
        let pieces = [
            ("goalId", world.create("goal", json!({ "name": "Book calls" })).await, "GOAL"),
            ("writerId", world.create("writer", json!({ "name": "House" })).await, "WRITER"),
            ("reviewerId", world.create("reviewer", json!({ "name": "Duty" })).await, "REVIEWER"),
            ("messageTemplateId", world.create("messageTemplate", template).await, "MESSAGE_TEMPLATE"),
            ("segmentId", world.create("segment", json!({ "name": "Leads", "filter": { "kind": { "eq": "lead" }, "stage": { "eq": "New" } } })).await, "AUDIENCE"),
        ];
        let update = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { version } } }";
        for (field, id, mended) in pieces {
            world.ask(update, json!({ "input": { "id": campaign, field: id } })).await;
            let now = failures(&world, &campaign).await;
            assert!(!now.contains(&mended.to_owned()), "{mended} still fails: {now:?}");
            failing = now;
        }
        // The template's blank `offer` has no value yet, and preflight names it.
        assert_eq!(failing, ["CAMPAIGN_ACTIVE", "RENDERING"]);
        let report = preflight(&world, &campaign).await;
        let rendering = report["checks"].as_array().unwrap().iter().find(|check| check["code"] == "RENDERING").unwrap();
        assert!(rendering["message"].as_str().unwrap().contains("unknown placeholder offer"), "{rendering}");
        world.ask(update, json!({ "input": { "id": campaign, "variables": { "offer": "A trial" } } })).await;
        assert_eq!(failures(&world, &campaign).await, ["CAMPAIGN_ACTIVE"]);
        let submitted = world.ask(submit, json!({ "id": campaign })).await;
        assert_eq!(submitted["submitCampaign"]["campaign"]["status"], "PENDING_APPROVAL");
        let approved = world.act("approveCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(approved["status"], "ACTIVE");
        assert!(failures(&world, &campaign).await.is_empty());

        // A subscription sees all that follows.
        let mut feed = Socket::open(world.address).await;
        feed.subscribe("runs", FEED, json!({ "after": null })).await;
        let mut seen: Vec<Value> = Vec::new();

        // A test run reaches test addresses only, is marked, and changes no record.
        let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"tester@example.com\"], sample: 2 }) { run { id type } } }";
        let test = world.ask(test, json!({ "id": campaign })).await["testRunCampaign"]["run"].clone();
        assert_eq!(test["type"], "TEST_RUN");
        world.until_run(test["id"].as_str().unwrap(), "COMPLETED").await;
        let mails = sink.read("tester@example.com");
        assert_eq!(mails.len(), 2);
        assert!(mails.iter().all(|(subject, _)| subject.starts_with("[TEST] ")), "{mails:?}");
        assert_eq!(sink.kept().len(), 2, "mail went elsewhere");
        let records = world.ask("{ records(filter: { name: { eq: \"Bruno Cohen\" } }) { nodes { lastContactedAt } } }", json!({})).await;
        assert_eq!(records["records"]["nodes"][0]["lastContactedAt"], Value::Null);
        seen.extend(collect(&mut feed, 3).await);

        // The run waits for its review; the reviewer rejects one draft and edits another. Meanwhile the feed is cut.
        let plan = crate::harness::plan::Plan { campaign: campaign.clone(), template: String::new(), segment: String::new(), records: vec![] };
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        seen.extend(collect(&mut feed, 2).await);
        drop(feed);
        assert_eq!(world.until_run(&run, "IN_PROGRESS").await["waitingFor"], json!([{ "code": "APPROVAL" }]));
        let drafts = world.ask("query($id: ID!) { run(id: $id) { audienceCount communications { totalCount nodes { id toAddress status subject body } } } }", json!({ "id": run })).await;
        assert_eq!(drafts["run"]["audienceCount"], 4);
        let drafts = drafts["run"]["communications"]["nodes"].as_array().unwrap().clone();
        assert_eq!(drafts.len(), 3);
        let to = |address: &str| drafts.iter().find(|draft| draft["toAddress"] == address).unwrap()["id"].clone();
        let reject = "mutation($id: ID!) { rejectCommunication(input: { id: $id, reason: \"a competitor\" }) { communication { status rejectedBecause } } }";
        let rejected = world.ask(reject, json!({ "id": to("bruno@example.com") })).await;
        assert_eq!(rejected["rejectCommunication"]["communication"], json!({ "status": "REJECTED", "rejectedBecause": "a competitor" }));
        let edit = "mutation($id: ID!) { editCommunication(input: { id: $id, body: \"Dear Chidi, quite by hand.\" }) { communication { status editedBy { name } } } }";
        world.ask(edit, json!({ "id": to("chidi@example.com") })).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        let done = world.until_run(&run, "COMPLETED").await;
        assert_eq!(done["outcome"], "2 of 4 sent, 0 failed, 2 skipped");
        assert_eq!(sink.read("ada@example.com"), [("Ada, a word".to_owned(), "Dear Ada,\r\nA trial for Acme.\r\n".to_owned())]);
        assert_eq!(sink.read("chidi@example.com")[0].1.trim(), "Dear Chidi, quite by hand.");
        assert!(sink.read("bruno@example.com").is_empty());
        assert_eq!(sink.kept().len(), 4);
        let records = world.ask("{ records(filter: { name: { in: [\"Ada Baker\", \"Bruno Cohen\"] } }, orderBy: { field: NAME, direction: ASC }) { nodes { lastContactedAt } } }", json!({})).await;
        assert_eq!(records["records"]["nodes"], json!([{ "lastContactedAt": noon().to_rfc3339() }, { "lastContactedAt": null }]));

        // The run reports each recipient's outcome, and findings that explain it.
        let told = "query($id: ID!) { run(id: $id) { records(filter: { outcomes: [SKIPPED] }) { totalCount nodes { record { name } outcome reason } } findings { code message } drift { field } } }";
        let told = world.ask(told, json!({ "id": run })).await["run"].clone();
        assert_eq!(told["records"], json!({ "totalCount": 2, "nodes": [
            { "record": { "name": "Bruno Cohen" }, "outcome": "SKIPPED", "reason": "REJECTED: a competitor" },
            { "record": { "name": "No Address" }, "outcome": "SKIPPED", "reason": "NO_ADDRESS" },
        ] }));
        let codes: Vec<&str> = told["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
        assert_eq!((codes, &told["drift"]), (vec!["LEFT_OUT", "LEFT_OUT", "REJECTED", "EDITED"], &json!([])));

        // One scheduled run starts on time, another is cancelled before.
        let schedule = "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id status } schedule { id status } preflight { ready } } }";
        let at = |minutes| (noon() + chrono::Duration::minutes(minutes)).to_rfc3339();
        let first = world.ask(schedule, json!({ "id": campaign, "at": at(60) })).await["scheduleCampaign"].clone();
        let second = world.ask(schedule, json!({ "id": campaign, "at": at(90) })).await["scheduleCampaign"].clone();
        assert_eq!(first["run"]["status"], "SCHEDULED");
        let cancelled = world.act("cancelRun", "run", json!({ "id": second["run"]["id"], "reason": "not now" })).await;
        assert_eq!(cancelled["status"], "CANCELLED");
        world.clock.set(noon() + chrono::Duration::minutes(61));
        let fired = first["run"]["id"].as_str().unwrap();
        let review = world.until_review(fired).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.until_run(fired, "COMPLETED").await;
        assert_eq!(sink.read("bruno@example.com").len(), 1);
        world.clock.set(noon() + chrono::Duration::minutes(120));
        let still = world.until_run(second["run"]["id"].as_str().unwrap(), "CANCELLED").await;
        assert_eq!(still["failure"], "not now");

        // A recipient replies; the reply is linked to its run.
        let recorded = "mutation($id: ID!) { recordReply(input: { communicationId: $id, externalId: \"r-1\", body: \"Call me\" }) { reply { body record { name } } } }";
        for _ in 0..2 {
            let reply = world.ask(recorded, json!({ "id": to("ada@example.com") })).await;
            assert_eq!(reply["recordReply"]["reply"], json!({ "body": "Call me", "record": { "name": "Ada Baker" } }));
        }
        let replies = world.ask("query($id: ID!) { run(id: $id) { replies { totalCount } } }", json!({ "id": run })).await;
        assert_eq!(replies["run"]["replies"]["totalCount"], 1);

        // The campaign changes; the run keeps its snapshot and reports the difference.
        world.ask(update, json!({ "input": { "id": campaign, "variables": { "offer": "Another trial" } } })).await;
        let told = "query($id: ID!) { run(id: $id) { instructions { variables } drift { field then now } findings { code } } campaign(id: \"CAMPAIGN\") { versions(first: 1) { nodes { version changes { field from to } actor { name } } } currentRun { id } currentPhase { key } } }";
        let told = world.ask(&told.replace("CAMPAIGN", &campaign), json!({ "id": run })).await;
        assert_eq!(told["run"]["instructions"]["variables"], json!({ "offer": "A trial" }));
        let fields: Vec<&str> = told["run"]["drift"].as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
        assert_eq!(fields, ["campaignVersion", "variables"]);
        assert_eq!(told["campaign"]["versions"]["nodes"][0]["changes"][0]["to"], json!({ "offer": "Another trial" }));
        assert_eq!((&told["campaign"]["currentRun"], &told["campaign"]["currentPhase"]), (&Value::Null, &Value::Null));

        // Resumed after the last cursor, the feed has missed nothing and repeats nothing.
        let wanted: Vec<Value> = world
            .ask_all_events()
            .await
            .into_iter()
            .filter(|event| event["kind"].as_str().unwrap().starts_with("run.") && event["payload"]["to"].is_string())
            .collect();
        let mut feed = Socket::open(world.address).await;
        feed.subscribe("runs", FEED, json!({ "after": seen.last().unwrap()["cursor"] })).await;
        let missing = wanted.len() - seen.len();
        seen.extend(collect(&mut feed, missing).await);
        let cursors = |all: &[Value]| all.iter().map(|item| item["cursor"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(cursors(&seen), cursors(&wanted));
        for (seen, wanted) in seen.iter().zip(&wanted) {
            assert_eq!((&seen["from"], &seen["to"]), (&wanted["payload"]["from"], &wanted["payload"]["to"]));
        }
        live.saw_all_of(&world.ask_all_events().await).await;
        world.end().await;
    }
}

async fn preflight(world: &World, campaign: &str) -> Value {
    let query = "query($id: ID!) { preflight(campaignId: $id, action: RUN) { ready checks { code status message } } }";
    world.ask(query, json!({ "id": campaign })).await["preflight"].clone()
}

async fn failures(world: &World, campaign: &str) -> Vec<String> {
    let report = preflight(world, campaign).await;
    let failed = report["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "FAILED");
    let failed: Vec<String> = failed.map(|check| check["code"].as_str().unwrap().to_owned()).collect();
    assert_eq!(report["ready"], failed.is_empty());
    failed
}

async fn collect(feed: &mut Socket, count: usize) -> Vec<Value> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.push(feed.next().await["runStatusChanged"].clone());
    }
    seen
}
