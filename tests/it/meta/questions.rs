//! docs/questions.md: each sentence that it quotes stands in the source, and each of its queries and
//! subscriptions answers over an org that has such runs, replies, goals and segments.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::plan::Plan;
use crate::harness::socket::Socket;
use crate::harness::{World, cursor, noon};

/// The page's parts, each with its number of sentences and of documents: none disappears unnoticed.
const PARTS: [(&str, usize, usize); 5] =
    [("A dashboard's page", 2, 2), ("Runs", 95, 32), ("Replies", 7, 4), ("Goals", 5, 2), ("Segments", 4, 3)];

/// The sentences in the table of what can't be answered.
const UNANSWERED: usize = 4;

/// Parts of product.md that are quoted word for word, from these words up to the next ones.
const WHOLE: [(&str, &str); 3] = [
    ("## Runs list and run detail\n", "\n## "),
    ("\n**Why** (`findings`)", "\n\n"),
    ("\n**Waiting** (`waitingFor`)", "\n\n"),
];

const REPLY: &str =
    "mutation($id: ID!) { recordReply(input: { communicationId: $id, body: \"Yes, please\" }) { reply { id } } }";

/// Sentences, and the document that answers them.
struct Question {
    sentences: Vec<String>,
    document: String,
}

impl Question {
    /// Paths in the answer that the first line of the document says are not empty.
    fn shows(&self) -> Vec<&str> {
        let line = self.document.lines().next().and_then(|line| line.strip_prefix("# shows: "));
        line.unwrap_or_else(|| panic!("{} shows nothing", self.document)).split(", ").collect()
    }

    /// Those of the values that the document declares as variables.
    fn variables(&self, values: &Value) -> Value {
        let declared = |name: &str| self.document.contains(&format!("${name}:"));
        let all = values.as_object().unwrap().iter().filter(|(name, _)| declared(name));
        Value::Object(all.map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

fn page() -> String {
    std::fs::read_to_string("docs/questions.md").unwrap()
}

/// The questions of a part of the page, in order.
fn questions(page: &str, part: &str) -> Vec<Question> {
    let text = page.split_once(&format!("\n## {part}\n")).unwrap_or_else(|| panic!("no part {part}")).1;
    let text = text.split("\n## ").next().unwrap();
    let (mut all, mut sentences, mut document) = (Vec::new(), Vec::new(), None::<String>);
    for line in text.lines() {
        match &mut document {
            Some(_) if line == "```" => {
                assert!(!sentences.is_empty(), "{part}: a document without a sentence: {document:?}");
                let sentences = std::mem::take(&mut sentences);
                all.push(Question { sentences, document: document.take().unwrap() });
            }
            Some(text) => {
                text.push_str(line);
                text.push('\n');
            }
            None if line == "```graphql" => document = Some(String::new()),
            None => sentences.extend(line.strip_prefix("> - ").map(str::to_owned)),
        }
    }
    assert!(sentences.is_empty() && document.is_none(), "{part}: sentences without a document: {sentences:#?}");
    all
}

/// The file and the words that a line quotes; none for a source that is not included.
fn quotation(line: &str) -> Option<(&str, &str)> {
    let (file, rest) = line.strip_prefix('[')?.split_once("](reference/")?;
    let (_, quoted) = rest.split_once(": \"").unwrap_or_else(|| panic!("no words: {line}"));
    Some((file, quoted.rsplit_once('"').unwrap_or_else(|| panic!("no end: {line}")).0))
}

/// A text with a single space between its words.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn sentences_stand_in_their_sources() {
    let page = page();
    let (mut quoted, mut found) = (Vec::new(), Vec::new());
    for (part, ..) in PARTS {
        let questions = questions(&page, part);
        let lines: Vec<&String> = questions.iter().flat_map(|question| &question.sentences).collect();
        found.push((part, lines.len(), questions.len()));
        for line in lines {
            match quotation(line) {
                Some((file, words)) => quoted.push((file.to_owned(), words.to_owned())),
                None => {
                    let is_named = ["Lifecycle, \"", "Runs and goals, \""].iter().any(|name| line.starts_with(name));
                    assert!(is_named, "a sentence of no source: {line}");
                }
            }
        }
    }
    assert_eq!(found, PARTS, "sentences or documents were added or have disappeared");
    let table = page.split_once("\n## Not answerable yet\n").unwrap().1;
    let rows: Vec<&str> = table.lines().filter_map(|line| line.strip_prefix("| [")).collect();
    assert_eq!(rows.len(), UNANSWERED);
    for row in rows {
        let cell = format!("[{}", row.split_once(" | ").unwrap().0);
        let (file, words) = quotation(&cell).unwrap();
        quoted.push((file.to_owned(), words.to_owned()));
    }
    for (file, words) in &quoted {
        let source = std::fs::read_to_string(format!("docs/reference/{file}")).unwrap();
        assert!(joined(&source).contains(&joined(words)), "{file} does not say: {words}");
    }
    // What product.md says about the list, the detail, the findings and the reasons to wait is
    // quoted from the first word to the last.
    let product = std::fs::read_to_string("docs/reference/product.md").unwrap();
    let mut words: Vec<String> =
        quoted.iter().filter(|(file, _)| file == "product.md").map(|(_, words)| joined(words)).collect();
    words.sort_by_key(|words| std::cmp::Reverse(words.len()));
    for (from, to) in WHOLE {
        let text = product.split_once(from).unwrap_or_else(|| panic!("no {from}")).1;
        let named = from.trim_start_matches('\n').trim_start_matches("## Runs list and run detail\n");
        let text = joined(&format!("{named}{}", text.split(to).next().unwrap()));
        let left = words.iter().fold(text, |left, words| left.replace(words, " "));
        assert!(!left.contains(char::is_alphanumeric), "not quoted: {left}");
    }
}

/// True if a path leads to something in at least one item of each list on its way.
fn is_shown(value: &Value, path: &[&str]) -> bool {
    match (value, path) {
        (Value::Array(items), [_, ..]) => items.iter().any(|item| is_shown(item, path)),
        (_, [name, rest @ ..]) => is_shown(&value[name], rest),
        (Value::Array(items), []) => !items.is_empty(),
        (Value::Object(fields), []) => !fields.is_empty(),
        (Value::String(text), []) => !text.is_empty(),
        (Value::Number(number), []) => number.as_f64() != Some(0.0),
        (Value::Bool(holds), []) => *holds,
        (Value::Null, []) => false,
    }
}

impl World {
    /// The answer to a query, or the first item of a subscription.
    async fn answer(&self, question: &Question, values: &Value) -> Value {
        let variables = question.variables(values);
        if !question.document.contains("\nsubscription ") {
            return self.ask(&question.document, variables).await;
        }
        let mut socket = Socket::open(self.address).await;
        socket.subscribe("question", &question.document, variables).await;
        socket.next().await
    }

    /// Creates an active campaign with the parts of another one.
    async fn active(&self, name: &str, parts: &Value, more: Value) -> String {
        let mut input = parts.clone();
        input["name"] = json!(name);
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let campaign = self.create("campaign", input).await;
        for verb in ["submitCampaign", "approveCampaign"] {
            self.act(verb, "campaign", json!({ "id": campaign })).await;
        }
        campaign
    }

    async fn start(&self, campaign: &str) -> String {
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        let data = self.ask(launch, json!({ "id": campaign })).await;
        data["runCampaign"]["run"]["id"].as_str().unwrap_or_else(|| panic!("{data:#}")).to_owned()
    }
}

/// A campaign whose goal and writer have texts; its audience has a record without an address and a
/// suppressed one. Returns it with the input of a campaign with the same parts.
async fn outreach(world: &World) -> (Plan, Value) {
    let plan = world.plan("EMAIL", 5).await;
    world.create("record", json!({ "kind": "lead", "externalId": "none", "name": "No address" })).await;
    let query = "query($id: ID!) { campaign(id: $id) { goal { id } writer { id } reviewer { id } messageTemplate { id } segment { id } } }";
    let parts = world.ask(query, json!({ "id": plan.campaign })).await["campaign"].clone();
    let prepare = "mutation($goal: ID!, $writer: ID!) {
        updateGoal(input: { id: $goal, description: \"A call with somebody who decides\" }) { goal { id } }
        updateWriter(input: { id: $writer, instructions: \"Short and friendly\" }) { writer { id } }
        suppressAddress(input: { channel: EMAIL, address: \"lead4@example.com\", reason: \"asked\" }) { suppression { id } } }";
    world.ask(prepare, json!({ "goal": parts["goal"]["id"], "writer": parts["writer"]["id"] })).await;
    world.activate(&plan).await;
    let input = json!({
        "channel": "EMAIL", "variables": { "offer": "a trial" }, "goalId": parts["goal"]["id"], "writerId": parts["writer"]["id"],
        "reviewerId": parts["reviewer"]["id"], "messageTemplateId": parts["messageTemplate"]["id"], "segmentId": parts["segment"]["id"],
    });
    (plan, input)
}

/// A completed run: one message was edited and one rejected, two were answered, and one of the
/// answers is handled; with notes.
async fn completed(world: &World, plan: &Plan) -> String {
    let run = world.launch(plan).await;
    let review = world.until_review(&run).await;
    let query = "query($id: ID!) { run(id: $id) { communications { nodes { id toAddress } } } }";
    let messages = world.ask(query, json!({ "id": run })).await["run"]["communications"]["nodes"].clone();
    let to = |lead: usize| {
        let address = format!("lead{lead}@example.com");
        messages.as_array().unwrap().iter().find(|message| message["toAddress"] == address).unwrap()["id"].clone()
    };
    let judge = "mutation($edited: ID!, $rejected: ID!) {
        editCommunication(input: { id: $edited, subject: \"Hello again\" }) { communication { id } }
        rejectCommunication(input: { id: $rejected, reason: \"no\" }) { communication { id } } }";
    world.ask(judge, json!({ "edited": to(2), "rejected": to(3) })).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    world.until_run(&run, "COMPLETED").await;
    world.ask(REPLY, json!({ "id": to(0) })).await;
    let handled = world.ask(REPLY, json!({ "id": to(1) })).await["recordReply"]["reply"]["id"].clone();
    world.act("handleReply", "reply", json!({ "id": handled, "note": "Called" })).await;
    let note = "mutation($id: ID!) {
        c: addRunNote(input: { runId: $id, belongsTo: CAMPAIGN, text: \"Write earlier\" }) { runNote { id } }
        g: addRunNote(input: { runId: $id, belongsTo: GOAL, text: \"Ask for the director\" }) { runNote { id } }
        e: addRunNote(input: { runId: $id, belongsTo: EXECUTION, text: \"A holiday\" }) { runNote { id } } }";
    world.ask(note, json!({ "id": run })).await;
    run
}

/// A run that was cancelled during its review.
async fn cancelled(world: &World, plan: &Plan) -> String {
    let run = world.launch(plan).await;
    world.until_review(&run).await;
    world.act("cancelRun", "run", json!({ "id": run })).await;
    let query = "query($id: ID!) { run(id: $id) { status steps(filter: { statuses: [SKIPPED] }) { totalCount } } }";
    let is_over = |data: &Value| data["run"]["status"] == "CANCELLED" && data["run"]["steps"]["totalCount"] != 0;
    world.until("the steps to be skipped", query, json!({ "id": run }), is_over).await;
    run
}

/// A run whose messages are sent, one of them answered; it stays open for further answers.
async fn listening(world: &World, parts: &Value) -> String {
    let open = json!({ "overrides": [{ "path": "phases.in_flight.openFor", "value": "14 days" }] });
    let campaign = world.active("Listening", parts, open).await;
    let run = world.start(&campaign).await;
    let review = world.until_review(&run).await;
    world.act("approveStep", "step", json!({ "id": review })).await;
    let query = "query($id: ID!) { run(id: $id) { communications(statuses: [SENT]) { totalCount nodes { id } } } }";
    let are_sent = |data: &Value| data["run"]["communications"]["totalCount"] == 4;
    let sent = world.until("the messages to go", query, json!({ "id": run }), are_sent).await;
    world.ask(REPLY, json!({ "id": sent["run"]["communications"]["nodes"][0]["id"] })).await;
    let query = "query($id: ID!) { replies(filter: { runIds: [$id] }) { nodes { step { id } } } run(id: $id) { waitingFor { code } } }";
    let waits = |data: &Value| {
        let codes = data["run"]["waitingFor"].as_array().unwrap();
        !data["replies"]["nodes"][0]["step"].is_null() && codes.iter().any(|one| one["code"] == "EVENTS")
    };
    world.until("the answer to have a step", query, json!({ "id": run }), waits).await;
    run
}

/// A run whose only step was failed by a person.
async fn failed(world: &World, goal: &Value, record: &str) -> String {
    let step = json!({ "key": "s", "name": "Look", "type": "look", "assignedTo": "HUMAN", "maxAttempts": 1 });
    let tasks = json!([{ "key": "t", "name": "T", "steps": [step] }]);
    let template = json!({ "key": "one-step", "name": "One step", "phases": [{ "key": "p", "name": "P", "autonomous": false, "tasks": tasks }] });
    world.apply(&json!({ "runTemplates": [template] }).to_string()).await;
    let run = world.fly("one-step", json!({ "recordId": record, "goalId": goal })).await;
    let query =
        "query($id: ID!) { steps(filter: { runIds: [$id] }) { nodes { id availableActions { action allowed } } } }";
    let may_start = |data: &Value| {
        let actions = data["steps"]["nodes"][0]["availableActions"].as_array();
        actions.is_some_and(|all| all.contains(&json!({ "action": "START", "allowed": true })))
    };
    let found = world.until("the step to be startable", query, json!({ "id": run }), may_start).await;
    let step = found["steps"]["nodes"][0]["id"].as_str().unwrap();
    world.step_act("startStep", step, json!({})).await;
    world.step_act("failStep", step, json!({ "reason": "nobody there" })).await;
    world.until_run(&run, "FAILED").await;
    run
}

/// A scheduled run whose campaign was changed before the run fell due. Sets the clock.
async fn due(world: &World, parts: &Value) -> Value {
    let campaign = world.active("Due", parts, json!({})).await;
    let schedule =
        "mutation($id: ID!, $at: DateTime!) { scheduleCampaign(input: { campaignId: $id, at: $at }) { run { id } } }";
    world.ask(schedule, json!({ "id": campaign, "at": noon() + Duration::hours(1) })).await;
    let change = "mutation($id: ID!) { updateCampaign(input: { id: $id, variables: { offer: \"another\" } }) { campaign { id } } }";
    world.ask(change, json!({ "id": campaign })).await;
    world.clock.set(noon() + Duration::minutes(61));
    let query = "query($id: ID!) { runs(filter: { campaignIds: [$id], statuses: [FAILED] }) { nodes { id } } }";
    let is_over = |data: &Value| !data["runs"]["nodes"][0].is_null();
    world.until("the run to fall due", query, json!({ "id": campaign }), is_over).await["runs"]["nodes"][0]["id"]
        .clone()
}

/// The ids of a Weekly Pipeline Review in progress, of its first step, which is completed, and of
/// the step that updates stages; and a second guided run, which is completed.
async fn guided(world: &World) -> (String, String, String) {
    let mut partners = Vec::new();
    for (name, stage, ago) in [("Alder", "New Lead", None), ("Birch", "MOU Sent", Some(20))] {
        let contacted = ago.map(|days| noon() - Duration::days(days));
        let input = json!({ "kind": "partnership", "name": name, "stage": stage, "email": format!("{name}@partners.example"), "lastContactedAt": contacted });
        partners.push(world.create("record", input).await);
    }
    let run = world.guided("weekly-pipeline-review", json!({ "name": "This week", "linkedRecordIds": partners })).await;
    let review = world.guided_step(&run, "review_at_risk").await;
    for verb in ["startStep", "completeStep", "resetStep", "startStep"] {
        world.step_act(verb, &review, json!({})).await;
    }
    let work = "mutation($step: ID!, $record: ID!) {
        addStepNote(input: { stepId: $step, text: \"Needs attention\", recordIds: [$record] }) { step { id } }
        createStepFollowUp(input: { stepId: $step, title: \"Ring Alder\", recordId: $record }) { followUp { id } } }";
    world.ask(work, json!({ "step": review, "record": partners[0] })).await;
    world.step_act("completeStep", &review, json!({})).await;
    let (mail, calls) = (
        world.guided_step(&run, "draft_follow_up_emails").await,
        world.guided_step(&run, "schedule_weekly_calls").await,
    );
    let result = "query($id: ID!) { step(id: $id) { result } }";
    world.step_act("startStep", &mail, json!({})).await;
    let send = "mutation($step: ID!, $record: ID!) { sendStepEmail(input: { stepId: $step, recordIds: [$record] }) { communications { id } } }";
    let sent = world.ask(send, json!({ "step": mail, "record": partners[0] })).await["sendStepEmail"]["communications"]
        [0]["id"]
        .clone();
    world
        .until("the mail to go", result, json!({ "id": mail }), |data| data["step"]["result"]["emailsSent"] == 1)
        .await;
    world.ask(REPLY, json!({ "id": sent })).await;
    world.step_act("startStep", &calls, json!({})).await;
    let book = "mutation($step: ID!, $record: ID!, $at: DateTime!) { scheduleStepMeeting(input: { stepId: $step, title: \"Call\", startsAt: $at, attendees: [{ recordId: $record }] }) { meeting { id } } }";
    world.ask(book, json!({ "step": calls, "record": partners[1], "at": noon() + Duration::days(1) })).await;
    world
        .until("the invitation to go", result, json!({ "id": calls }), |data| {
            data["step"]["result"]["invitationsSent"] == 1
        })
        .await;
    let (notes, step) = world.own_run(&[("n", "note", json!({}))], json!({ "name": "Notes" })).await;
    world.step_act("startStep", &step[0], json!({})).await;
    world
        .ask(
            "mutation($id: ID!) { addStepNote(input: { stepId: $id, text: \"All told\" }) { step { id } } }",
            json!({ "id": step[0] }),
        )
        .await;
    world.step_act("completeStep", &step[0], json!({})).await;
    let done = world.complete_run(&notes, "All told").await;
    assert_eq!(done["data"]["completeRun"]["run"]["status"], "COMPLETED", "{done:#}");
    let stages = world.guided_step(&run, "update_pipeline_stages").await;
    (run, review, stages)
}

/// Fills an org; returns the page's variables by name.
async fn prepared(world: &World) -> Value {
    let (plan, parts) = outreach(world).await;
    let run = Box::pin(completed(world, &plan)).await;
    let test = "mutation($id: ID!) { testRunCampaign(input: { campaignId: $id, recipients: [\"me@example.com\"] }) { run { id } } }";
    let test = world.ask(test, json!({ "id": plan.campaign })).await["testRunCampaign"]["run"]["id"].clone();
    world.until_run(test.as_str().unwrap(), "COMPLETED").await;
    let cancelled = cancelled(world, &plan).await;
    let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, cron: \"0 9 * * *\", timezone: \"UTC\" }) { schedule { id } } }";
    world.ask(schedule, json!({ "id": plan.campaign })).await;
    let open = world.launch(&plan).await;
    world.until_review(&open).await;
    let listening = Box::pin(listening(world, &parts)).await;
    let failed = Box::pin(failed(world, &parts["goalId"], &plan.records[0])).await;
    let (guided, step, stages) = Box::pin(guided(world)).await;
    let due = Box::pin(due(world, &parts)).await;
    // The campaign is changed after its runs.
    let change =
        "mutation($id: ID!) { updateCampaign(input: { id: $id, instructions: \"More formal\" }) { campaign { id } } }";
    world.ask(change, json!({ "id": plan.campaign })).await;
    json!({
        "campaign": plan.campaign, "goal": parts["goalId"], "segment": plan.segment, "record": plan.records[0],
        "run": run, "cancelled": cancelled, "open": open, "listening": listening, "failed": failed, "due": due,
        "guided": guided, "step": step, "stages": stages,
        "since": noon() - Duration::days(1), "text": "Outreach", "after": cursor::at(0),
    })
}

both! {
    async fn each_sentence_is_answered(kind) {
        let world = World::new(kind).await;
        let values = Box::pin(prepared(&world)).await;
        let page = page();
        let mut empty = Vec::new();
        for question in PARTS.iter().flat_map(|(part, ..)| questions(&page, part)) {
            let answer = world.answer(&question, &values).await;
            for path in question.shows() {
                if !is_shown(&answer, &path.split('.').collect::<Vec<_>>()) {
                    empty.push(format!("{path} is empty: {}{answer:#}", question.document));
                }
            }
        }
        assert!(empty.is_empty(), "{}", empty.join("\n"));
        world.end().await;
    }
}
