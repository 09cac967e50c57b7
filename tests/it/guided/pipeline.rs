//! The Weekly Pipeline Review, executed as the source describes it (docs/reference/guided-runs.txt,
//! "Example"): the contents of each step are compared with values computed here from the inserted
//! rows, each action with the database, the outbox, the events and the timeline.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use crate::harness::socket::Socket;
use crate::harness::{World, noon};

/// A partnership as inserted.
#[derive(Clone, Debug)]
pub struct Partner {
    pub id: String,
    pub name: &'static str,
    stage: &'static str,
    priority: i64,
    contacted: Option<DateTime<Utc>>,
    replied: Option<DateTime<Utc>>,
    email: bool,
    unsubscribed: bool,
}

/// Name, stage, priority, days since the last contact; with an address, unsubscribed.
type Row = (&'static str, &'static str, i64, Option<i64>, bool, bool);

const fn days(days: i64) -> Duration {
    Duration::days(days)
}

/// Partnerships at risk, with an open MOU, with mail due, with replies; and others with none of
/// these.
async fn partners(world: &World) -> Vec<Partner> {
    let rows: [Row; 12] = [
        ("Alder", "New Lead", 5, None, true, false),
        ("Birch", "Conversation Active", 9, Some(20), true, false),
        ("Cedar", "MOU Sent", 8, Some(16), true, false),
        ("Dogwood", "MOU Sent", 3, Some(2), true, false),
        ("Elm", "MOU Drafted", 7, Some(8), true, false),
        ("Fir", "Active Partner", 1, Some(40), true, false),
        ("Ginkgo", "New Lead", 6, Some(1), true, false),
        ("Hazel", "Conversation Active", 10, Some(15), false, false),
        ("Ivy", "MOU Sent", 10, Some(30), true, true),
        ("Juniper", "New Lead", 2, Some(10), true, false),
        ("Katsura", "MOU Drafted", 4, Some(9), true, false),
        ("Larch", "MOU Signed", 8, Some(6), true, false),
    ];
    let create = "mutation($input: CreateRecordInput!) { createRecord(input: $input) { record { id priority } } }";
    let mut all = Vec::new();
    for (name, stage, priority, contacted, email, unsubscribed) in rows {
        let contacted = contacted.map(|ago| noon() - days(ago));
        let mut input = json!({ "kind": "partnership", "name": name, "stage": stage, "lastContactedAt": contacted, "attributes": { "priority": priority, "contact": format!("Dr {name}") } });
        if email {
            input["email"] = json!(format!("{}@partners.example", name.to_lowercase()));
        }
        let record = world.ask(create, json!({ "input": input })).await["createRecord"]["record"].clone();
        assert_eq!(record["priority"], priority);
        let id = record["id"].as_str().unwrap().to_owned();
        if unsubscribed {
            world
                .ask(
                    "mutation($id: ID!) { updateRecord(input: { id: $id, unsubscribed: true }) { record { id } } }",
                    json!({ "id": id }),
                )
                .await;
        }
        all.push(Partner { id, name, stage, priority, contacted, replied: None, email, unsubscribed });
    }
    // Records of another kind are not partnerships, however long without contact.
    world.ask(create, json!({ "input": { "kind": "lead", "name": "Nobody's partner", "stage": "MOU Sent", "attributes": { "priority": 99 } } })).await;
    // Juniper and Katsura got mail ten days ago and replied, one of them within the last week.
    world.clock.set(noon() - days(10));
    let run = world.guided("mou-sprint", json!({ "name": "Ten days ago" })).await;
    let step = world.guided_step(&run, "send_reminders").await;
    world.step_act("startStep", &step, json!({})).await;
    let mut replies = Vec::new();
    for (name, ago) in [("Juniper", 2), ("Katsura", 8), ("Larch", 1)] {
        let partner = all.iter_mut().find(|partner| partner.name == name).unwrap();
        let send = "mutation($step: ID!, $id: ID!) { sendStepEmail(input: { stepId: $step, recordIds: [$id] }) { communications { id } } }";
        let sent = world.ask(send, json!({ "step": step, "id": partner.id })).await["sendStepEmail"]["communications"]
            [0]["id"]
            .clone();
        world
            .until(
                "the mail to go",
                "query($id: ID!) { communication(id: $id) { status } }",
                json!({ "id": sent }),
                |data| data["communication"]["status"] == "SENT",
            )
            .await;
        let replied = noon() - days(ago);
        partner.contacted = Some(partner.contacted.unwrap().max(noon() - days(10)));
        partner.replied = Some(replied);
        replies.push((sent, replied));
    }
    // The replies are recorded at noon, because a future time is rejected.
    world.clock.set(noon());
    for (sent, replied) in replies {
        let reply = "mutation($id: ID!, $at: DateTime) { recordReply(input: { communicationId: $id, body: \"Gladly\", receivedAt: $at }) { reply { id } } }";
        world.ask(reply, json!({ "id": sent, "at": replied })).await;
    }
    all
}

impl Partner {
    fn silent_for(&self, than: i64) -> bool {
        self.contacted.is_none_or(|at| at < noon() - days(than))
    }
}

/// The names of the partnerships that meet a condition, the most urgent first.
fn urgent(all: &[Partner], which: impl Fn(&Partner) -> bool) -> Vec<&'static str> {
    let mut found: Vec<&Partner> = all.iter().filter(|partner| which(partner)).collect();
    // Of equal ones the later, with the greater id, comes first.
    found.sort_by_key(|partner| std::cmp::Reverse((partner.priority, partner.id.clone())));
    found.into_iter().map(|partner| partner.name).collect()
}

async fn shown(world: &World, step: &str) -> Vec<Value> {
    let query = "query($id: ID!) { step(id: $id) { records { totalCount nodes { id name stage priority lastContactedAt
        communications(first: 1) { nodes { subject status } } replies(first: 1) { nodes { body } }
        activities(first: 5) { nodes { kind summary } } followUps { nodes { title status } } } } } }";
    let found = world.ask(query, json!({ "id": step })).await["step"]["records"].clone();
    let nodes = found["nodes"].as_array().unwrap().clone();
    assert_eq!(found["totalCount"], nodes.len());
    nodes
}

fn names(shown: &[Value]) -> Vec<&str> {
    shown.iter().map(|record| record["name"].as_str().unwrap()).collect()
}

async fn suggested(world: &World, step: &str) -> Vec<Value> {
    let query = "query($id: ID!) { step(id: $id) { suggestions { record { id name } mail { to subject body problem } stage slot { startsAt endsAt timezone } title dueAt } } }";
    world.ask(query, json!({ "id": step })).await["step"]["suggestions"].as_array().unwrap().clone()
}

pub async fn timeline(world: &World, record: &str) -> Vec<Value> {
    let query = "query($id: ID!, $after: String) { record(id: $id) { timeline(first: 2, after: $after) { totalCount pageInfo { hasNextPage endCursor } nodes {
        kind at communication { subject status } reply { body } activity { kind summary } stageChange { from to } run { name } } } } }";
    let (mut all, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = world.ask(query, json!({ "id": record, "after": after })).await["record"]["timeline"].clone();
        all.extend(page["nodes"].as_array().unwrap().iter().cloned());
        if page["pageInfo"]["hasNextPage"] != true {
            assert_eq!(page["totalCount"], all.len(), "{all:#?}");
            return all;
        }
        after = page["pageInfo"]["endCursor"].clone();
    }
}

both! {
    async fn the_weekly_pipeline_review_played_through(kind) {
        let world = World::new(kind).await;
        let all = partners(&world).await;
        let id = |name: &str| all.iter().find(|partner| partner.name == name).unwrap().id.clone();
        let run = world.guided("weekly-pipeline-review", json!({ "name": "Week 45" })).await;
        let mut colleague = Socket::open(world.address).await;
        colleague.subscribe("done", "subscription($id: ID!, $after: String) { runActivity(runId: $id, after: $after) { kind summary actor { name } activity { record { name } } } }", json!({ "id": run, "after": crate::harness::cursor::at(0) })).await;

        // Step 1: "Shows list of partnerships with no contact in 14+ days". Those never contacted
        // come first, then the longest without contact.
        let at_risk = world.guided_step(&run, "review_at_risk").await;
        world.step_act("startStep", &at_risk, json!({})).await;
        let mut silent: Vec<&Partner> = all.iter().filter(|partner| partner.silent_for(14)).collect();
        silent.sort_by_key(|partner| (partner.contacted, partner.id.clone()));
        let expected: Vec<&str> = silent.iter().map(|partner| partner.name).collect();
        assert_eq!(expected, ["Alder", "Fir", "Ivy", "Birch", "Cedar", "Hazel"]);
        let found = shown(&world, &at_risk).await;
        assert_eq!(names(&found), expected);
        // "Review each partnership, note which ones need immediate attention."
        let note = "mutation($step: ID!, $ids: [ID!]) { addStepNote(input: { stepId: $step, text: \"Needs attention now\\nSilent for weeks.\", recordIds: $ids, idempotencyKey: \"n\" }) { activities { id summary record { name } } step { result } } }";
        let noted = world.ask(note, json!({ "step": at_risk, "ids": [id("Birch"), id("Cedar")] })).await["addStepNote"].clone();
        let again = world.ask(note, json!({ "step": at_risk, "ids": [id("Birch"), id("Cedar")] })).await["addStepNote"].clone();
        assert_eq!(noted, again);
        assert_eq!((noted["activities"].as_array().unwrap().len(), &noted["activities"][0]["summary"], &noted["step"]["result"]), (2, &json!("Needs attention now"), &json!({ "notesAdded": 1 })));
        let follow = "mutation($step: ID!, $id: ID, $due: DateTime) { createStepFollowUp(input: { stepId: $step, title: \"Ring Birch\", recordId: $id, dueAt: $due, idempotencyKey: \"f\" }) { followUp { id status overdue record { name } } } }";
        let due = noon() + Duration::hours(2);
        let task = world.ask(follow, json!({ "step": at_risk, "id": id("Birch"), "due": due })).await["createStepFollowUp"]["followUp"].clone();
        let again = world.ask(follow, json!({ "step": at_risk, "id": id("Birch"), "due": due })).await["createStepFollowUp"]["followUp"].clone();
        assert_eq!(task, again);
        let found = shown(&world, &at_risk).await;
        let birch = found.iter().find(|record| record["name"] == "Birch").unwrap();
        assert_eq!(birch["followUps"]["nodes"], json!([{ "title": "Ring Birch", "status": "OPEN" }]));
        assert_eq!(birch["activities"]["nodes"].as_array().unwrap().len(), 2);
        let done = world.step_act("completeStep", &at_risk, json!({ "result": { "reviewed": 6 } })).await;
        assert_eq!(done["result"], json!({ "notesAdded": 1, "followUpsCreated": 1, "reviewed": 6 }));

        // Step 2: "Shows all partnerships in "MOU Sent" stage".
        let mous = world.guided_step(&run, "check_mou_status").await;
        world.step_act("startStep", &mous, json!({})).await;
        let expected = urgent(&all, |partner| partner.stage == "MOU Sent");
        assert_eq!(expected, ["Ivy", "Cedar", "Dogwood"]);
        assert_eq!(names(&shown(&world, &mous).await), expected);
        world.step_act("completeStep", &mous, json!({})).await;

        // Step 3: "Shows top 3 priority partnerships needing follow-up".
        let mail = world.guided_step(&run, "draft_follow_up_emails").await;
        let reachable = |partner: &Partner| partner.email && !partner.unsubscribed && partner.silent_for(7);
        let expected: Vec<&str> = urgent(&all, reachable).into_iter().take(3).collect();
        assert_eq!(expected, ["Birch", "Cedar", "Elm"]);
        let send = "mutation($step: ID!, $ids: [ID!]!) { sendStepEmail(input: { stepId: $step, recordIds: $ids, idempotencyKey: \"mail\" }) { communications { id status toAddress } step { status } } }";
        let ids: Vec<String> = expected.iter().map(|name| id(name)).collect();
        let (code, told) = world.refused(send, json!({ "step": mail, "ids": ids })).await;
        assert!(code == "CONFLICT" && told.contains("start it first"), "{told}");
        world.step_act("startStep", &mail, json!({})).await;
        assert_eq!(names(&shown(&world, &mail).await), expected);
        // The draft of the mail, for each.
        let drafts = suggested(&world, &mail).await;
        for (draft, name) in drafts.iter().zip(&expected) {
            assert_eq!(draft["mail"]["subject"], format!("Following up with {name}"));
            let body = draft["mail"]["body"].as_str().unwrap();
            assert!(body.starts_with(&format!("Hello Dr {name},")) && body.contains("Developer"), "{body}");
            assert_eq!((&draft["mail"]["to"], &draft["mail"]["problem"]), (&json!(format!("{}@partners.example", name.to_lowercase())), &Value::Null));
        }
        let before = world.outbox().len();
        let sent = world.ask(send, json!({ "step": mail, "ids": ids })).await["sendStepEmail"]["communications"].clone();
        let again = world.ask(send, json!({ "step": mail, "ids": ids })).await["sendStepEmail"]["communications"].clone();
        let told = |sent: &Value| sent.as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>();
        assert_eq!((told(&sent).len(), told(&sent)), (3, told(&again)));
        // Sent mail is added to the result as it settles.
        let result = world.until("the mails to be counted", "query($id: ID!) { step(id: $id) { result } }", json!({ "id": mail }), |data| data["step"]["result"]["emailsSent"] == 3).await;
        assert_eq!(result["step"]["result"], json!({ "emailsSent": 3 }));
        assert_eq!(world.outbox().len(), before + 3);
        for name in &expected {
            let text = world.outbox().iter().map(|path| std::fs::read_to_string(path).unwrap()).find(|text| text.contains(&format!("Subject: Following up with {name}"))).unwrap();
            assert!(text.contains(&format!("{}@partners.example", name.to_lowercase())), "{text}");
            let record = world.ask("query($id: ID!) { record(id: $id) { lastContactedAt } }", json!({ "id": id(name) })).await;
            assert_eq!(record["record"]["lastContactedAt"], "2026-11-02T12:00:00+00:00");
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM communication WHERE status = 'SENT' AND occasion > 0 AND campaign_id IS NULL").await, 6);
        assert_eq!(world.number("SELECT COUNT(*) FROM posting").await, 0);
        world.step_act("completeStep", &mail, json!({})).await;

        // Step 4: "Shows partnerships that should move stages based on activity".
        let stages = world.guided_step(&run, "update_pipeline_stages").await;
        world.step_act("startStep", &stages, json!({})).await;
        let replied = |partner: &&Partner| partner.replied.is_some_and(|at| at >= noon() - days(7)) && !["MOU Signed", "Active Partner"].contains(&partner.stage);
        let expected: Vec<&str> = all.iter().filter(replied).map(|partner| partner.name).collect();
        assert_eq!(expected, ["Juniper"], "Katsura answered too long ago, Larch has signed");
        let found = shown(&world, &stages).await;
        assert_eq!(names(&found), expected);
        assert_eq!((&found[0]["replies"]["nodes"][0]["body"], &found[0]["communications"]["nodes"][0]["status"]), (&json!("Gladly"), &json!("SENT")));
        let next = suggested(&world, &stages).await;
        assert_eq!(next[0]["stage"], "Conversation Active", "the stage behind New Lead");
        let update = "mutation($step: ID!, $id: ID!, $stage: String!) { updateStepStage(input: { stepId: $step, changes: [{ recordId: $id, stage: $stage }], idempotencyKey: $stage }) { records { name stage } step { result } } }";
        let (code, told) = world.refused(update, json!({ "step": stages, "id": id("Juniper"), "stage": "Married" })).await;
        assert!(code == "BAD_USER_INPUT" && told.contains("MOU Drafted"), "{told}");
        for _ in 0..2 {
            let moved = world.ask(update, json!({ "step": stages, "id": id("Juniper"), "stage": "Conversation Active" })).await["updateStepStage"].clone();
            assert_eq!(moved, json!({ "records": [{ "name": "Juniper", "stage": "Conversation Active" }], "step": { "result": { "partnershipsUpdated": 1 } } }));
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'record.stage_changed'").await, 1);
        world.step_act("completeStep", &stages, json!({})).await;

        // Step 5: "Shows partnerships that need calls this week": not those that just got mail.
        let calls = world.guided_step(&run, "schedule_weekly_calls").await;
        world.step_act("startStep", &calls, json!({})).await;
        let written = ["Birch", "Cedar", "Elm"];
        let under_way = |partner: &Partner| {
            let stage = if partner.name == "Juniper" { "Conversation Active" } else { partner.stage };
            ["Conversation Active", "MOU Drafted", "MOU Sent"].contains(&stage) && partner.silent_for(7) && !written.contains(&partner.name)
        };
        let expected: Vec<&str> = urgent(&all, under_way).into_iter().take(5).collect();
        assert_eq!(expected, ["Ivy", "Hazel", "Katsura", "Juniper"]);
        assert_eq!(names(&shown(&world, &calls).await), expected);
        let slots = suggested(&world, &calls).await;
        let times: Vec<&str> = slots.iter().map(|one| one["slot"]["startsAt"].as_str().unwrap()).collect();
        assert_eq!(times, ["2026-11-02T12:30:00+00:00", "2026-11-02T13:00:00+00:00", "2026-11-02T13:30:00+00:00", "2026-11-02T14:00:00+00:00"], "free, and none twice");
        assert_eq!(slots[2]["title"], "Call with Katsura");
        // "Book calendar slots for partner calls."
        let book = "mutation($step: ID!, $id: ID!, $at: DateTime!, $title: String!) { scheduleStepMeeting(input: { stepId: $step, title: $title, startsAt: $at, minutes: 45, timezone: \"Europe/Berlin\", attendees: [{ recordId: $id }, { email: \"boss@us.example\", name: \"The boss\" }], idempotencyKey: $title }) { meeting { id status sequence startsAt endsAt conflicts { title } invitations { nodes { toAddress calendar } } } } }";
        let first = world.ask(book, json!({ "step": calls, "id": id("Katsura"), "at": times[2], "title": "Call with Katsura" })).await["scheduleStepMeeting"]["meeting"].clone();
        let again = world.ask(book, json!({ "step": calls, "id": id("Katsura"), "at": times[2], "title": "Call with Katsura" })).await["scheduleStepMeeting"]["meeting"].clone();
        assert_eq!((&first["id"], &first["conflicts"], &first["endsAt"]), (&again["id"], &json!([]), &json!("2026-11-02T14:15:00+00:00")));
        let second = world.ask(book, json!({ "step": calls, "id": id("Juniper"), "at": times[3], "title": "Call with Juniper" })).await["scheduleStepMeeting"]["meeting"].clone();
        assert_eq!(second["conflicts"], json!([{ "title": "Call with Katsura" }]), "the boss is in both, and they overlap");
        let slots = suggested(&world, &calls).await;
        assert!(slots.iter().all(|one| one["slot"]["startsAt"].as_str().unwrap() >= "2026-11-02T14:45:00" || one["slot"]["endsAt"].as_str().unwrap() <= "2026-11-02T13:30:00+00:00"), "{slots:#?}");
        world.until("the invitations to go", "query($id: ID!) { step(id: $id) { result } }", json!({ "id": calls }), |data| data["step"]["result"]["invitationsSent"] == 4).await;
        let calendar = first["invitations"]["nodes"][0]["calendar"].as_str().unwrap().to_owned();
        let plain = calendar.replace("\r\n ", "");
        for line in ["METHOD:REQUEST", "DTSTART:20261102T133000Z", "DTEND:20261102T141500Z", "SEQUENCE:0", "SUMMARY:Call with Katsura", "STATUS:CONFIRMED"] {
            assert!(plain.lines().any(|found| found == line), "{line} in {plain}");
        }
        let uid = plain.lines().find(|line| line.starts_with("UID:")).unwrap().to_owned();
        assert!(uid.contains(first["id"].as_str().unwrap()) && uid.ends_with("@sender.example"), "{uid}");
        assert!(plain.contains("ORGANIZER;CN=Developer:mailto:") && plain.contains("mailto:katsura@partners.example"), "{plain}");
        world.step_act("completeStep", &calls, json!({})).await;

        // "When all steps are completed": the run, with its results.
        let summary = world.ask("query($id: ID!) { run(id: $id) { messagesOnWay summary { stepsCompleted stepsSkipped stepsOpen total { emailsSent stagesChanged meetingsBooked followUpsCreated notesAdded } steps { step { key } done { emailsSent meetingsBooked } } } } }", json!({ "id": run })).await["run"].clone();
        assert_eq!(summary["summary"]["total"], json!({ "emailsSent": 3, "stagesChanged": 1, "meetingsBooked": 2, "followUpsCreated": 1, "notesAdded": 2 }));
        assert_eq!((&summary["messagesOnWay"], &summary["summary"]["stepsCompleted"], &summary["summary"]["stepsOpen"]), (&json!(0), &json!(5), &json!(0)));
        let of: Vec<&str> = summary["summary"]["steps"].as_array().unwrap().iter().map(|one| one["step"]["key"].as_str().unwrap()).collect();
        assert_eq!(of, ["review_at_risk", "draft_follow_up_emails", "update_pipeline_stages", "schedule_weekly_calls"]);
        let done = world.complete_run(&run, "Three written to, two calls booked").await;
        assert_eq!(done["data"]["completeRun"]["run"]["status"], "COMPLETED", "{done:#}");

        // The colleague's subscription got every action as it happened.
        let mut seen = Vec::new();
        while seen.len() < 9 {
            let message = colleague.message().await;
            let told = &message["payload"]["data"]["runActivity"];
            seen.push(told["kind"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, ["NOTE", "NOTE", "FOLLOW_UP_CREATED", "EMAIL_SENT", "EMAIL_SENT", "EMAIL_SENT", "STAGE_CHANGED", "MEETING_BOOKED", "MEETING_BOOKED"]);

        // Afterwards a meeting is moved, then cancelled: updates are still sent, with the same UID.
        let shift = "mutation($id: ID!) { moveMeeting(input: { id: $id, startsAt: \"2026-11-03T10:00:00Z\", idempotencyKey: \"m\" }) { meeting { status sequence startsAt endsAt } } }";
        let moved = world.ask(shift, json!({ "id": first["id"] })).await["moveMeeting"]["meeting"].clone();
        assert_eq!(moved, world.ask(shift, json!({ "id": first["id"] })).await["moveMeeting"]["meeting"]);
        assert_eq!(moved, json!({ "status": "BOOKED", "sequence": 1, "startsAt": "2026-11-03T10:00:00+00:00", "endsAt": "2026-11-03T10:45:00+00:00" }));
        let off = "mutation($id: ID!) { cancelMeeting(input: { id: $id }) { meeting { status sequence availableActions { allowed } } } }";
        let cancelled = world.ask(off, json!({ "id": first["id"] })).await["cancelMeeting"]["meeting"].clone();
        assert_eq!((&cancelled["status"], &cancelled["sequence"]), (&json!("CANCELLED"), &json!(2)));
        assert_eq!(world.refused(off, json!({ "id": first["id"] })).await.0, "INVALID_TRANSITION");
        let updates = world.until("the updates to go", "query($id: ID!) { meeting(id: $id) { invitations { nodes { status calendar subject toAddress } } } }", json!({ "id": first["id"] }), |data| data["meeting"]["invitations"]["nodes"].as_array().unwrap().iter().filter(|one| one["status"] == "SENT").count() == 6).await;
        let calendars: Vec<String> = updates["meeting"]["invitations"]["nodes"].as_array().unwrap().iter().map(|one| one["calendar"].as_str().unwrap().replace("\r\n ", "")).collect();
        assert!(calendars.iter().all(|calendar| calendar.contains(&uid)));
        assert!(calendars[2].contains("SEQUENCE:1") && calendars[2].contains("METHOD:REQUEST"));
        assert!(calendars[4].contains("SEQUENCE:2") && calendars[4].contains("METHOD:CANCEL") && calendars[4].contains("STATUS:CANCELLED"));
        let mails: Vec<String> = world.outbox().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(mails.iter().filter(|mail| mail.contains("text/calendar; charset=utf-8; method=CANCEL")).count(), 2);
        assert_eq!(mails.iter().filter(|mail| mail.contains("text/calendar; charset=utf-8; method=REQUEST")).count(), 6);

        // The follow-up is overdue once its due date has passed, with a single event; and done in
        // the end.
        world.clock.set(noon() + Duration::hours(3));
        world.db.wake();
        world.until("the overdue follow-up", "{ followUps(filter: { overdue: true }) { nodes { title overdueAt overdue } } }", json!({}), |data| data["followUps"]["nodes"][0]["overdueAt"].is_string()).await;
        let complete = "mutation($id: ID!) { completeFollowUp(input: { id: $id, idempotencyKey: \"c\" }) { followUp { status closedBy { name } } } }";
        for _ in 0..2 {
            let done = world.ask(complete, json!({ "id": task["id"] })).await["completeFollowUp"]["followUp"].clone();
            assert_eq!(done, json!({ "status": "DONE", "closedBy": { "name": "Developer" } }));
        }
        assert_eq!(world.number("SELECT COUNT(*) FROM event WHERE kind = 'follow_up.overdue'").await, 1);
        assert_eq!(world.number("SELECT COUNT(*) FROM activity WHERE kind = 'FOLLOW_UP_DONE'").await, 1);

        // Timelines: everything in one order, the newest first.
        let kinds = |all: &[Value]| all.iter().map(|one| one["activity"]["kind"].as_str().or(one["kind"].as_str()).unwrap().to_owned()).collect::<Vec<_>>();
        let of_birch = timeline(&world, &id("Birch")).await;
        let times: Vec<&str> = of_birch.iter().map(|one| one["at"].as_str().unwrap()).collect();
        assert!(times.windows(2).all(|two| two[0] >= two[1]), "{times:?}");
        let mut found = kinds(&of_birch);
        found.sort();
        assert_eq!(found, ["COMMUNICATION", "FOLLOW_UP_CREATED", "FOLLOW_UP_DONE", "NOTE", "RUN"]);
        let of_juniper = timeline(&world, &id("Juniper")).await;
        let mut found = kinds(&of_juniper);
        found.sort();
        assert_eq!(found, ["COMMUNICATION", "COMMUNICATION", "MEETING_BOOKED", "REPLY", "RUN", "RUN", "STAGE_CHANGE"]);
        let change = of_juniper.iter().find(|one| one["kind"] == "STAGE_CHANGE").unwrap();
        assert_eq!(change["stageChange"], json!({ "from": "New Lead", "to": "Conversation Active" }));
        assert_eq!(of_juniper.last().unwrap()["run"]["name"], "Ten days ago");
        world.end().await;
    }
}
