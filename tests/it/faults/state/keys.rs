//! 7.1: every mutation that takes an idempotency key, sent twice with it: the same response, no
//! second effect, and the audit names the object that the mutation is about.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::World;
use crate::harness::sink::Sink;

/// Selection set of each mutation's payload, beginning with the object that it is about.
fn shown(mutation: &str) -> &'static str {
    match mutation {
        "raiseEvent" => "name",
        "settleSteps" => "steps { id status code }",
        "createApiKey" | "revokeApiKey" => "apiKey { id revokedAt }",
        "runCampaign" | "testRunCampaign" | "scheduleCampaign" | "scheduleGuidedRun" => "run { id name type }",
        "sendStepEmail" => "communications { id toAddress } step { id }",
        "updateStepStage" => "step { id } records { id stage }",
        "refreshStepRecords" => "step { id revision }",
        "createStepRecords" => "records { id name } step { id }",
        "linkRecords" => "recordLink { id role }",
        "unlinkRecords" => "deletedId",
        "addStepNote" => "activities { id kind } step { id }",
        "scheduleStepMeeting" | "moveMeeting" | "cancelMeeting" => "meeting { id status startsAt revision }",
        "recordReply" => "reply { id body }",
        "suppressAddress" => "suppression { id address }",
        "setStages" => "pipeline { recordKind stages own }",
        "triggerSchedule" => "run { id } schedule { id }",
        "backfillSchedule" => "runs { id } occurrences schedule { id }",
        "skipOccurrence" => "schedule { id status }",
        // The engine works on it meanwhile.
        "startBulkAction" | "stopBulkAction" => "bulkAction { id verb matched }",
        "addRunNote" | "updateRunNote" => "runNote { id belongsTo text revision }",
        "reorderRunSteps" | "updateRunOutcome" => "run { id name outcome }",
        "saveView" => "savedView { id name shared revision }",
        name if name.ends_with("Reply") => "reply { id status revision }",
        name if name.ends_with("Schedule") => "schedule { id status revision }",
        name if name.starts_with("delete") => "deletedId",
        name if name.ends_with("Campaign") || name.contains("CampaignVersion") || name == "setCampaignTags" => {
            "campaign { id status name revision }"
        }
        name if name.ends_with("Step") => "step { id status revision error result }",
        // The engine advances a run meanwhile: it is returned in its current state.
        name if name.ends_with("Run") => "run { id name }",
        name if name.ends_with("Phase") => "phase { id status }",
        name if name.ends_with("Communication") => "communication { id status revision }",
        name if name.ends_with("FollowUp") => "followUp { id status revision }",
        name if name.ends_with("MessageTemplate") => "messageTemplate { id name revision }",
        name if name.ends_with("RunTemplate") => "runTemplate { id name revision }",
        name if name.ends_with("Goal") => "goal { id name revision }",
        name if name.ends_with("Writer") => "writer { id name revision }",
        name if name.ends_with("Reviewer") => "reviewer { id name revision }",
        name if name.ends_with("Member") => "member { id name revision }",
        name if name.ends_with("Segment") => "segment { id name revision }",
        // Its other tables are emptied meanwhile, which is a change of its own.
        "eraseRecord" => "record { id name erasedAt }",
        name if name.ends_with("Record") => "record { id name revision }",
        name if name.ends_with("Agent") => "agent { id name revision }",
        name => panic!("{name} is new: say what its answer shows"),
    }
}

/// Counts events caused by people. Left out are those that may follow later: the engine's, those of
/// steps and messages that a sweep writes in the name of the member who started it, and the
/// activities of sent mail. A second effect on a step or message shows in its revision.
const BY_PEOPLE: &str = "SELECT COUNT(*) FROM event WHERE CAST(actor AS TEXT) NOT LIKE '%ENGINE%' \
    AND kind NOT LIKE 'step.%' AND kind NOT LIKE 'communication.%' AND kind NOT LIKE 'activity.%'";

struct Tried<'a> {
    world: &'a World,
    inputs: std::collections::BTreeMap<String, String>,
    done: BTreeSet<String>,
    asked: usize,
}

impl<'a> Tried<'a> {
    async fn new(world: &'a World) -> Self {
        let schema = world.ask("{ __schema { mutationType { fields { name args { name type { ofType { name inputFields { name } } } } } } } }", json!({})).await;
        let fields = schema["__schema"]["mutationType"]["fields"].as_array().unwrap();
        let keyed = fields.iter().filter_map(|field| {
            let of = &field["args"][0]["type"]["ofType"];
            let keyed = of["inputFields"].as_array()?.iter().any(|input| input["name"] == "idempotencyKey");
            keyed.then(|| (field["name"].as_str().unwrap().to_owned(), of["name"].as_str().unwrap().to_owned()))
        });
        Self { world, inputs: keyed.collect(), done: BTreeSet::new(), asked: 0 }
    }

    /// Sends a mutation twice with one key. Returns the object in its payload.
    async fn twice(&mut self, mutation: &str, input: Value) -> Value {
        let world = self.world;
        let kind = self.inputs.get(mutation).unwrap_or_else(|| panic!("{mutation} takes no key"));
        let fields = shown(mutation);
        let query = format!("mutation($input: {kind}!) {{ {mutation}(input: $input) {{ {fields} }} }}");
        self.asked += 1;
        let mut input = input;
        input["idempotencyKey"] = json!(format!("{mutation} {}", self.asked));
        let first = world.ask(&query, json!({ "input": input })).await[mutation].clone();
        let events = world.number(BY_PEOPLE).await;
        let second = world.post(&query, json!({ "input": input })).await;
        assert!(second.get("errors").is_none(), "{mutation}, asked again: {second:#}");
        let second = second["data"][mutation].clone();
        let noun = fields.split_whitespace().next().unwrap();
        let one = |answer: &Value| if answer[noun].is_array() { answer[noun][0].clone() } else { answer[noun].clone() };
        if mutation == "createApiKey" || mutation == "launch" {
            assert_eq!(one(&first)["id"], one(&second)["id"], "{mutation}");
        } else {
            assert_eq!(first, second, "{mutation}");
        }
        let again = world.number(BY_PEOPLE).await;
        assert_eq!(events, again, "{mutation} did something again");
        // The audit names the object of the payload.
        let about = match &one(&first) {
            Value::Object(fields) => fields.get("id").cloned().unwrap_or_default(),
            text => text.clone(),
        };
        let audit = world
            .ask(
                "query($m: [String!]) { audit(first: 2, filter: { mutations: $m }) { nodes { targetId outcome } } }",
                json!({ "m": [mutation] }),
            )
            .await;
        // Mutations without effect are counted per key and minute, and name no object.
        let entries = audit["audit"]["nodes"].as_array().unwrap();
        let done = &entries.iter().find(|entry| entry["outcome"] == "DONE").unwrap()["targetId"];
        let named = match mutation {
            // Any noun; also activities, which refer to all others, and stages, which have no id.
            "raiseEvent" | "createStepRecords" | "setStages" => !done.is_null(),
            _ => *done == about,
        };
        assert!(named, "{mutation} of {about}: the audit names {done}");
        self.done.insert(mutation.to_owned());
        one(&first)
    }

    fn all_done(&self) {
        let missing: Vec<&String> = self.inputs.keys().filter(|name| !self.done.contains(*name)).collect();
        assert!(missing.is_empty(), "mutations that take a key and are tried nowhere: {missing:?}");
    }
}

fn id(of: &Value) -> String {
    of["id"].as_str().unwrap().to_owned()
}

/// Launches a campaign for one record, with a run of one human step; returns the campaign, its run
/// and that step.
pub async fn single(world: &World, more: Value) -> (String, String, String) {
    let template = world.id_of("runTemplates", "key", "single").await;
    let record = world.create("record", json!({ "kind": "ticket", "name": "T", "email": "t@example.com" })).await;
    let mut input = json!({ "name": "Single", "recordId": record, "runTemplateId": template });
    input["goalId"] = json!(world.id_of("goals", "name", "Single goal").await);
    input["writerId"] = json!(world.id_of("writers", "name", "Single writer").await);
    input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let campaign = world.create("campaign", input).await;
    for verb in ["submitCampaign", "approveCampaign"] {
        world.act(verb, "campaign", json!({ "id": campaign })).await;
    }
    let run = world.ask("mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { checks { code status message } } } }", json!({ "id": campaign })).await["runCampaign"].clone();
    let run = run["run"]["id"].as_str().unwrap_or_else(|| panic!("{run:#}")).to_owned();
    let query = "query($id: ID!) { run(id: $id) { status steps { nodes { id key status } } } }";
    let found = world
        .until("its step", query, json!({ "id": run }), |found| {
            found["run"]["status"] == "IN_PROGRESS" && !found["run"]["steps"]["nodes"][0].is_null()
        })
        .await;
    (campaign, run, id(&found["run"]["steps"]["nodes"][0]))
}

/// Ends a run, unless it has ended by itself.
async fn over(world: &World, run: &str) {
    world.post("mutation($id: ID!) { cancelRun(input: { id: $id }) { run { id } } }", json!({ "id": run })).await;
    let query = "query($id: ID!) { run(id: $id) { status } }";
    let ended = |found: &Value| ["COMPLETED", "CANCELLED"].contains(&found["run"]["status"].as_str().unwrap());
    world.until("the run to be over", query, json!({ "id": run }), ended).await;
}

/// Creates an object, updates it, and deletes it if `delete` is set.
async fn defined(tried: &mut Tried<'_>, noun: &str, input: Value, change: Value, delete: bool) -> String {
    let made = id(&tried.twice(&format!("create{noun}"), input).await);
    let mut input = change;
    input["id"] = json!(made);
    tried.twice(&format!("update{noun}"), input).await;
    if delete {
        tried.twice(&format!("delete{noun}"), json!({ "id": made })).await;
    }
    made
}

both! {
    async fn every_mutation_that_takes_a_key_is_answered_alike(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        prepare(&world).await;
        let mut tried = Tried::new(&world).await;
        let all = &mut tried;
        let text = |of: &Value| of.as_str().unwrap().to_owned();
        // Definitions.
        for delete in [true, false] {
            let name = if delete { "Gone" } else { "Kept" };
            defined(all, "Goal", json!({ "name": name }), json!({ "name": format!("{name} 2") }), delete).await;
            defined(all, "Writer", json!({ "name": name, "body": "b" }), json!({ "instructions": "i" }), delete).await;
            defined(all, "Reviewer", json!({ "name": name }), json!({ "name": format!("{name} 2") }), delete).await;
            defined(all, "Member", json!({ "name": name, "email": format!("{name}@example.com") }), json!({ "name": format!("{name} 2") }), delete).await;
            defined(all, "MessageTemplate", json!({ "name": name, "subject": "s", "body": "b" }), json!({ "body": "c" }), delete).await;
            defined(all, "Segment", json!({ "name": name, "filter": { "kind": { "eq": "nothing" } } }), json!({ "name": format!("{name} 2") }), delete).await;
            defined(all, "Record", json!({ "kind": "ticket", "name": name }), json!({ "email": "x@example.com" }), delete).await;
            defined(all, "Agent", json!({ "name": name, "kind": "OUTSIDE" }), json!({ "description": "d" }), delete).await;
            let yaml = json!({ "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "steps": [{ "key": "s", "name": "S", "type": "wait", "assignedTo": "WORKFLOW", "config": { "duration": "1s" } }] }] }] }).to_string();
            defined(all, "RunTemplate", json!({ "name": name, "yaml": yaml }), json!({ "description": "d" }), delete).await;
            defined(all, "Campaign", json!({ "name": name }), json!({ "name": format!("{name} 2") }), delete).await;
        }
        all.twice("setStages", json!({ "recordKind": "order", "stages": ["New", "Paid"] })).await;
        all.twice("suppressAddress", json!({ "channel": "EMAIL", "address": "never@example.com", "reason": "r" })).await;
        let me = world.viewer.member_id().unwrap().to_string();
        all.twice("createApiKey", json!({ "name": "first", "role": "ADMIN", "memberId": me })).await;
        let key = all.twice("createApiKey", json!({ "name": "second", "role": "ADMIN", "memberId": me })).await;
        all.twice("revokeApiKey", json!({ "id": key["id"] })).await;
        let view = all.twice("saveView", json!({ "page": "runs", "name": "Late", "filter": { "late": true }, "shared": true })).await;
        all.twice("saveView", json!({ "id": view["id"], "name": "Later", "shared": false })).await;
        all.twice("deleteView", json!({ "id": view["id"] })).await;
        // The life cycle of a campaign, its runs and their messages.
        let plan = world.plan("EMAIL", 2).await;
        let other = id(&all.twice("duplicateCampaign", json!({ "id": plan.campaign })).await);
        all.twice("updateCampaign", json!({ "id": other, "name": "Other" })).await;
        all.twice("restoreCampaignVersion", json!({ "id": other, "version": 1 })).await;
        all.twice("submitCampaign", json!({ "id": plan.campaign })).await;
        all.twice("rejectCampaign", json!({ "id": plan.campaign, "reason": "r" })).await;
        for verb in ["submitCampaign", "approveCampaign", "pauseCampaign", "resumeCampaign"] {
            all.twice(verb, json!({ "id": plan.campaign })).await;
        }
        let test = all.twice("testRunCampaign", json!({ "campaignId": plan.campaign, "recipients": ["t@example.com"] })).await;
        world.until_run(&text(&test["id"]), "COMPLETED").await;
        let scheduled = all.twice("scheduleCampaign", json!({ "campaignId": plan.campaign, "at": "2027-01-01T00:00:00Z" })).await;
        all.twice("rescheduleRun", json!({ "id": scheduled["id"], "at": "2027-02-01T00:00:00Z" })).await;
        let schedule = world.ask("query($id: ID!) { campaign(id: $id) { schedules { nodes { id } } } }", json!({ "id": plan.campaign })).await;
        let schedule = schedule["campaign"]["schedules"]["nodes"][0]["id"].clone();
        all.twice("updateSchedule", json!({ "id": schedule, "at": "2027-03-01T00:00:00Z" })).await;
        for verb in ["pauseSchedule", "resumeSchedule", "endSchedule"] {
            all.twice(verb, json!({ "id": schedule })).await;
        }
        let run = text(&all.twice("runCampaign", json!({ "campaignId": plan.campaign })).await["id"]);
        let review = world.until_review(&run).await;
        for verb in ["pauseRun", "resumeRun", "refreshRun"] {
            all.twice(verb, json!({ "id": run })).await;
        }
        let messages = "query($id: ID!) { run(id: $id) { status communications(first: 9) { nodes { id status } } } }";
        let drafts = world.ask(messages, json!({ "id": run })).await;
        let draft = |i: usize| drafts["run"]["communications"]["nodes"][i]["id"].clone();
        all.twice("editCommunication", json!({ "id": draft(0), "body": "another" })).await;
        all.twice("approveCommunication", json!({ "id": draft(0) })).await;
        all.twice("rejectCommunication", json!({ "id": draft(1), "reason": "r" })).await;
        all.twice("assignStep", json!({ "id": review, "memberId": world.id_of("members", "name", "Kept 2").await })).await;
        all.twice("assignStep", json!({ "id": review, "memberId": null })).await;
        all.twice("approveStep", json!({ "id": review })).await;
        world.until("its message to go", messages, json!({ "id": run }), |found| {
            found["run"]["communications"]["nodes"].as_array().unwrap().iter().any(|one| one["status"] == "SENT")
        }).await;
        let reply = id(&all.twice("recordReply", json!({ "communicationId": draft(0), "body": "yes" })).await);
        all.twice("assignReply", json!({ "id": reply, "assigneeId": me })).await;
        for verb in ["handleReply", "reopenReply", "ignoreReply"] {
            all.twice(verb, json!({ "id": reply })).await;
        }
        over(&world, &run).await;
        let note = all.twice("addRunNote", json!({ "runId": run, "belongsTo": "GOAL", "text": "Shorter mails" })).await;
        all.twice("updateRunNote", json!({ "id": note["id"], "belongsTo": "CAMPAIGN", "text": "Even shorter ones" })).await;
        all.twice("deleteRunNote", json!({ "id": note["id"] })).await;
        let again = text(&all.twice("repeatRun", json!({ "id": run })).await["id"]);
        over(&world, &again).await;
        let (guided, steps) = world.own_run(&[("a", "custom", json!({}))], json!({})).await;
        all.twice("updateRun", json!({ "id": guided, "name": "Mended", "description": "d" })).await;
        let step = json!({ "definition": { "key": "b", "name": "B", "type": "note", "assignedTo": "HUMAN" } });
        let added = all.twice("addRunStep", json!({ "runId": guided, "step": step })).await;
        let tasks = world.ask("query($id: ID!) { run(id: $id) { phases { tasks { id } } } }", json!({ "id": guided })).await;
        let task = tasks["run"]["phases"][0]["tasks"][0]["id"].clone();
        all.twice("reorderRunSteps", json!({ "runId": guided, "taskId": task, "stepIds": [added["id"], steps[0]] })).await;
        all.twice("cancelRun", json!({ "id": guided })).await;
        all.twice("updateRunOutcome", json!({ "runId": guided, "outcome": "Nothing came of it", "reason": "r" })).await;
        all.twice("raiseEvent", json!({ "name": "payment.received", "recordIds": [plan.records[0]] })).await;
        all.twice("raiseEvent", json!({ "name": "payment.received", "runId": run })).await;
        all.twice("completeCampaign", json!({ "id": plan.campaign })).await;
        all.twice("cancelCampaign", json!({ "id": other })).await;
        all.twice("setCampaignTags", json!({ "id": other, "tags": ["b", "a"] })).await;
        for verb in ["archiveCampaign", "unarchiveCampaign"] {
            all.twice(verb, json!({ "id": other })).await;
        }
        // One record with an unknown message: resolving it ends the run.
        let record = world.create("record", json!({ "kind": "lead", "name": "Lost", "email": "dropdot@a.example", "attributes": { "first_name": "L", "company": "A" } })).await;
        let mut input = json!({ "name": "One", "recordId": record, "messageTemplateId": plan.template, "variables": { "offer": "o" } });
        for (field, list, name) in [("goalId", "goals", "Book calls"), ("writerId", "writers", "House"), ("reviewerId", "reviewers", "Duty")] {
            input[field] = json!(world.id_of(list, "name", name).await);
        }
        let campaign = world.create("campaign", input).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            world.act(verb, "campaign", json!({ "id": campaign })).await;
        }
        let run = text(&all.twice("runCampaign", json!({ "campaignId": campaign })).await["id"]);
        let review = world.until_review(&run).await;
        all.twice("approveStep", json!({ "id": review })).await;
        let lost = world.until("its message to be lost", messages, json!({ "id": run }), |found| found["run"]["communications"]["nodes"][0]["status"] == "UNKNOWN").await;
        all.twice("resolveCommunication", json!({ "id": lost["run"]["communications"]["nodes"][0]["id"], "resolution": "SENT" })).await;
        // A repeating schedule.
        let (campaign, ..) = single(&world, json!({ "name": "Repeating" })).await;
        let cron = json!({ "campaignId": campaign, "cron": "0 9 * * *", "timezone": "UTC" });
        world.ask("mutation($input: ScheduleCampaignInput!) { scheduleCampaign(input: $input) { schedule { id } } }", json!({ "input": cron })).await;
        let schedule = world.ask("query($id: ID!) { campaign(id: $id) { schedules { nodes { id } } } }", json!({ "id": campaign })).await;
        let schedule = schedule["campaign"]["schedules"]["nodes"][0]["id"].clone();
        all.twice("triggerSchedule", json!({ "id": schedule })).await;
        all.twice("skipOccurrence", json!({ "id": schedule })).await;
        all.twice("backfillSchedule", json!({ "id": schedule, "from": "2026-10-30T00:00:00Z", "to": "2026-11-01T00:00:00Z" })).await;
        // So many targets that it is stopped before its end.
        let targets: Vec<String> = (0..5_000).map(|_| entity::id::RunId::new().to_string()).collect();
        let bulk = id(&all.twice("startBulkAction", json!({ "verb": "PAUSE_RUNS", "ids": targets })).await);
        all.twice("stopBulkAction", json!({ "id": bulk })).await;
        // Human steps.
        let (_, run, step) = single(&world, json!({ "name": "Steps" })).await;
        let phase = world.ask("query($id: ID!) { run(id: $id) { phases { id } } }", json!({ "id": run })).await["run"]["phases"][0]["id"].clone();
        all.twice("releasePhase", json!({ "id": phase })).await;
        all.twice("startStep", json!({ "id": step })).await;
        all.twice("failStep", json!({ "id": step, "reason": "r" })).await;
        all.twice("retryRun", json!({ "id": run })).await;
        let now = "query($id: ID!) { step(id: $id) { status } }";
        world.until("the step to be due", now, json!({ "id": step }), |found| found["step"]["status"] == "QUEUED").await;
        for verb in ["startStep", "completeStep"] {
            all.twice(verb, json!({ "id": step })).await;
        }
        let approved = world.id_of("runTemplates", "key", "approved").await;
        let (_, _, step) = single(&world, json!({ "name": "Approved", "runTemplateId": approved })).await;
        for verb in ["startStep", "submitStep"] {
            all.twice(verb, json!({ "id": step })).await;
        }
        all.twice("rejectStep", json!({ "id": step, "reason": "r" })).await;
        world.apply(&json!({ "runTemplates": [{ "key": "two", "name": "Two", "phases": [{ "key": "p", "name": "P", "autonomous": false, "tasks": [{ "key": "t", "name": "T", "failWhen": "ALL", "steps": [
            { "key": "s", "name": "S", "type": "custom", "assignedTo": "HUMAN", "maxAttempts": 1 }, { "key": "u", "name": "U", "type": "custom", "assignedTo": "HUMAN" },
        ] }] }] }] }).to_string()).await;
        let two = world.id_of("runTemplates", "key", "two").await;
        let (_, _, step) = single(&world, json!({ "name": "Two", "runTemplateId": two })).await;
        all.twice("startStep", json!({ "id": step })).await;
        all.twice("failStep", json!({ "id": step, "reason": "r" })).await;
        all.twice("retryStep", json!({ "id": step })).await;
        for verb in ["startStep", "completeStep", "resetStep", "skipStep", "restartStep"] {
            all.twice(verb, json!({ "id": step })).await;
        }
        // Guided work and its actions.
        let definition = json!({ "definition": { "key": "all", "name": "All", "type": "custom", "assignedTo": "HUMAN", "config": { "create": "partnership" } } });
        let run = text(&all.twice("startGuidedRun", json!({ "name": "Guided", "steps": [definition] })).await["id"]);
        let found = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { id } } } }", json!({ "id": run })).await;
        let step = found["run"]["steps"]["nodes"][0]["id"].clone();
        all.twice("startStep", json!({ "id": step })).await;
        let oak = world.create("record", json!({ "kind": "partnership", "name": "Oak", "email": "oak@p.example" })).await;
        let link = json!({ "fromId": plan.records[0], "toId": oak, "role": "partnership" });
        all.twice("linkRecords", link.clone()).await;
        all.twice("unlinkRecords", link).await;
        all.twice("sendStepEmail", json!({ "stepId": step, "recordIds": [oak], "subject": "s", "body": "b" })).await;
        all.twice("updateStepStage", json!({ "stepId": step, "changes": [{ "recordId": oak, "stage": "MOU Sent" }] })).await;
        let at = crate::harness::noon() + chrono::Duration::days(1);
        let meeting = all.twice("scheduleStepMeeting", json!({ "stepId": step, "title": "M", "startsAt": at, "attendees": [{ "recordId": oak }] })).await;
        all.twice("moveMeeting", json!({ "id": meeting["id"], "startsAt": at + chrono::Duration::days(1) })).await;
        all.twice("cancelMeeting", json!({ "id": meeting["id"] })).await;
        let follow_up = all.twice("createStepFollowUp", json!({ "stepId": step, "title": "F", "recordId": oak })).await;
        for verb in ["completeFollowUp", "reopenFollowUp", "cancelFollowUp"] {
            all.twice(verb, json!({ "id": follow_up["id"] })).await;
        }
        let sprint = world.guided("mou-sprint", json!({ "name": "Sprint" })).await;
        let listed = world.guided_step(&sprint, "send_reminders").await;
        world.step_act("startStep", &listed, json!({})).await;
        all.twice("refreshStepRecords", json!({ "stepId": listed })).await;
        all.twice("addStepNote", json!({ "stepId": step, "text": "n", "recordIds": [oak] })).await;
        all.twice("createStepRecords", json!({ "stepId": step, "records": [{ "name": "A" }, { "name": "B" }] })).await;
        all.twice("completeStep", json!({ "id": step })).await;
        // A message that met an earlier one about its meeting in flight is looked at again a second later.
        world.clock.set(crate::harness::noon() + chrono::Duration::seconds(2));
        let way = "query($id: ID!) { run(id: $id) { messagesOnWay } }";
        world.until("its messages to go", way, json!({ "id": run }), |found| found["run"]["messagesOnWay"] == 0).await;
        all.twice("completeRun", json!({ "id": run, "outcome": "o" })).await;
        all.twice("eraseRecord", json!({ "id": oak, "reason": "asked for" })).await;
        all.twice("scheduleGuidedRun", json!({ "templateKey": "mou-sprint", "at": "2027-01-01T00:00:00Z" })).await;
        // A worker's steps: settled by its token.
        world.apply(&json!({ "agents": [{ "name": "hand" }], "runTemplates": [{ "key": "outside", "name": "Outside", "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "steps": [{ "key": "s", "name": "S", "type": "write", "assignedTo": "AGENT", "agent": "hand" }] }] }] }] }).to_string()).await;
        let outside = world.id_of("runTemplates", "key", "outside").await;
        single(&world, json!({ "name": "Outside", "runTemplateId": outside })).await;
        let claim = "mutation { claimSteps(input: { worker: \"w\", agent: \"hand\", limit: 1, leaseSeconds: 60 }) { steps { id token } } }";
        let mut claimed = Value::Null;
        while claimed.is_null() {
            claimed = world.ask(claim, json!({})).await["claimSteps"]["steps"][0].clone();
        }
        all.twice("settleSteps", json!({ "agent": "hand", "steps": [{ "id": claimed["id"], "token": claimed["token"], "result": { "a": 1 } }] })).await;
        tried.all_done();
        world.drop_unchecked().await;
    }
}

both! {
    async fn the_act_that_ends_a_run_of_one_record_is_answered_alike(kind) {
        let world = World::new(kind).await;
        prepare(&world).await;
        let mut tried = Tried::new(&world).await;
        for (verbs, ends) in [
            (&["completeStep"][..], "COMPLETED"),
            (&["skipStep"], "COMPLETED"),
            (&["failStep"], "FAILED"),
            (&["submitStep", "approveStep"], "COMPLETED"),
            (&["submitStep", "rejectStep"], "FAILED"),
            (&["failStep", "retryRun", "completeStep"], "COMPLETED"),
            (&["cancelRun"], "CANCELLED"),
            (&["pauseRun", "resumeRun", "completeStep"], "COMPLETED"),
            (&["releasePhase", "completeStep"], "COMPLETED"),
        ] {
            let key = if verbs[0] == "submitStep" { "approved" } else { "single" };
            let template = world.id_of("runTemplates", "key", key).await;
            let (campaign, run, step) = single(&world, json!({ "runTemplateId": template })).await;
            let phase = world.ask("query($id: ID!) { run(id: $id) { phases { id } } }", json!({ "id": run })).await["run"]["phases"][0]["id"].clone();
            if !verbs[0].ends_with("Run") {
                tried.twice("startStep", json!({ "id": step })).await;
            }
            for verb in verbs {
                if *verb == "completeStep" && verbs.len() > 1 {
                    let now = "query($id: ID!) { step(id: $id) { status } }";
                    // A retry restores the step in a sweep.
                    let due = world.until("the step", now, json!({ "id": step }), |found| found["step"]["status"] != "FAILED").await;
                    if due["step"]["status"] != "IN_PROGRESS" {
                        tried.twice("startStep", json!({ "id": step })).await;
                    }
                }
                let of = if verb.ends_with("Run") { json!({ "id": run }) } else if *verb == "releasePhase" { json!({ "id": phase }) } else { json!({ "id": step, "reason": "r" }) };
                tried.twice(verb, of).await;
            }
            // A retry's sweep may still be at work: the run ends with it.
            world.until_run(&run, ends).await;
            let found = world.ask("query($c: ID!) { campaign(id: $c) { status } }", json!({ "c": campaign })).await;
            assert_eq!(found["campaign"]["status"], if ends == "CANCELLED" { "ACTIVE" } else { ends }, "{verbs:?}");
        }
        world.end().await;
    }
}

pub async fn prepare(world: &World) {
    let template = |key: &str, approval: Value| {
        let step = json!({ "key": "s", "name": "S", "type": "custom", "assignedTo": "HUMAN", "maxAttempts": 1, "approval": approval });
        let tasks = json!([{ "key": "t", "name": "T", "steps": [step] }]);
        json!({ "key": key, "name": key, "phases": [{ "key": "p", "name": "P", "autonomous": false, "tasks": tasks }] })
    };
    let approval = json!({ "needed": 1, "selfApproval": true });
    let manifest = json!({ "runTemplates": [template("single", Value::Null), template("approved", approval)] });
    world.apply(&manifest.to_string()).await;
    world.create("goal", json!({ "name": "Single goal" })).await;
    world.create("writer", json!({ "name": "Single writer", "body": "b" })).await;
}
