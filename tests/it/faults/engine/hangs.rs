//! A mail server that hangs on one recipient delays nobody else: only that slot waits, and answered
//! messages are settled at once.

use serde_json::{Value, json};

use entity::id::OrgId;
use entity::member::Role;
use sortie::kernel::viewer::Viewer;

use crate::harness::api::{Answer, Api};
use crate::harness::life::Home;
use crate::harness::sink::{Sink, Stage};
use crate::harness::{World, key};

const COUNTS: &str =
    "query($id: ID!) { run(id: $id) { status sent: communications(statuses: [SENT]) { totalCount } } }";

both! {
    async fn one_that_hangs_holds_up_no_other(kind) {
        let sink = Sink::start().await;
        let world = World::with(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 30).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let review = world.until_review(&run).await;
        let trapped = sink.trap(Stage::Dot, 3);
        world.act("approveStep", "step", json!({ "id": review })).await;
        trapped.await.unwrap();
        world.until("all others to go", COUNTS, json!({ "id": run }), |data| data["run"]["sent"]["totalCount"] == 29).await;
        let statuses = "SELECT status, COUNT(*) FROM communication GROUP BY status ORDER BY status";
        assert_eq!(world.sql(statuses).await, [["SENDING", "1"], ["SENT", "29"]], "while the one is still in hand");
        // The run reports the wait once it takes longer than usual.
        let waits = "query($id: ID!) { run(id: $id) { waitingFor { code steps message } } }";
        assert_eq!(world.ask(waits, json!({ "id": run })).await["run"]["waitingFor"], json!([]));
        world.clock.set(world.clock.now() + chrono::Duration::seconds(15));
        let held = world.ask(waits, json!({ "id": run })).await["run"]["waitingFor"].clone();
        assert_eq!((&held[0]["code"], &held[0]["steps"]), (&json!("IN_HAND"), &json!(1)), "{held}");
        // Nor are those of another campaign delayed.
        let launched = "mutation($id: ID!) { runCampaign(input: { campaignId: $id, evenIfOpen: true }) { run { id } } }";
        let other = world.ask(launched, json!({ "id": plan.campaign })).await["runCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let review = world.until_review(&other).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        world.until("the other campaign's to go", COUNTS, json!({ "id": other }), |data| data["run"]["sent"]["totalCount"] == 30).await;
        // The hanging message is settled as soon as it is answered, too.
        if sink.in_hand() == 1 {
            sink.let_go(true);
            world.until_run(&run, "COMPLETED").await;
        }
        world.end().await;
    }
}

both! {
    async fn a_kill_makes_only_what_is_open_unknown(kind) {
        let sink = Sink::start().await;
        let home = Home::new(kind).await.with("SORTIE_SMTP_URL", sink.url()).with("SORTIE_SMTP_SECONDS", "60");
        home.import(12);
        let life = home.begin();
        let campaign = life.campaign().await;
        let run = life.launch(&campaign, "one").await.unwrap();
        let mut trapped = sink.trap(Stage::Dot, 2);
        while trapped.try_recv().is_err() {
            life.push(&run).await.unwrap();
        }
        let sent = |data: &Value| data["run"]["sent"]["totalCount"].as_i64();
        while sent(&life.ask(COUNTS, json!({ "id": run })).await.unwrap()) != Some(11) {}
        life.kill();
        home.gone().await;
        let life = home.begin();
        while life.resolve(&run, |_| true).await == 0 {}
        while life.push(&run).await.unwrap() != "COMPLETED" {}
        life.kill();
        let mut to: Vec<String> = sink.kept().into_iter().map(|mail| mail.to).collect();
        to.sort();
        let all = to.len();
        to.dedup();
        assert_eq!((all, to.len()), (12, 12), "everybody once");
        let unknown = "SELECT COUNT(*) FROM event WHERE kind = 'communication.unknown'";
        assert_eq!(home.count(unknown).await, 1);
        home.check();
        home.remove();
    }
}

both! {
    /// A mail server that allows few connections, or few messages per connection, is used within
    /// these limits, and its channel is not paused.
    async fn a_server_that_allows_little_is_used_within_it(kind) {
        for (connections, messages) in [(2, 0), (0, 3), (1, 0)] {
            let sink = Sink::start().await;
            sink.allow(connections, messages);
            let world = World::with(kind, Some(sink.url())).await;
            let plan = world.plan("EMAIL", 30).await;
            world.activate(&plan).await;
            let run = world.launch(&plan).await;
            let review = world.until_review(&run).await;
            world.act("approveStep", "step", json!({ "id": review })).await;
            // The test's clock stands still: a message postponed by seconds would never be sent.
            assert_eq!(world.until_run(&run, "COMPLETED").await["outcome"], "30 of 30 sent, 0 failed, 0 skipped");
            assert_eq!(sink.kept().len(), 30);
            world.end().await;
        }
    }
}

both! {
    /// An API without a response, or a language model without one, delays nobody else either.
    async fn an_api_or_a_model_that_hangs_holds_up_no_other(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        api.then([Answer::Silent, Answer::Silent]);
        let mail = json!({ "subject": "Hello", "body": "A word." }).to_string();
        let choice = json!({ "message": { "content": mail }, "finish_reason": "stop" });
        let model = Api::start(Answer::json(200, json!({ "model": "m", "choices": [choice], "usage": {} }))).await;
        model.then([Answer::Silent]);
        let url = model.url();
        let world = World::with_config(kind, move |config| {
            config.model_url = Some(format!("{url}/v1"));
            config.model_seconds = 120;
        })
        .await;
        let call = json!({ "key": "call", "type": "api_call", "assignedTo": "WORKFLOW", "config": { "method": "POST", "url": api.url(), "timeout": "100s" } });
        let phases = json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [call] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "calls", "name": "calls", "phases": phases }] }).to_string()).await;
        let plan = world.plan("EMAIL", 24).await;
        let called = world.fly("calls", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
        let done = "query($id: ID!) { run(id: $id) { steps(first: 100) { nodes { type status } } } }";
        let completed = |data: &Value, kind: &str| {
            let all = data["run"]["steps"]["nodes"].as_array().unwrap().iter();
            all.filter(|step| step["type"] == kind && step["status"] == "COMPLETED").count()
        };
        world.until("the other calls", done, json!({ "id": called }), |data| completed(data, "api_call") == 22).await;
        let writer = world.create("writer", json!({ "name": "Model", "kind": "AGENT", "instructions": "Be brief." })).await;
        let set = "mutation($id: ID!, $writer: ID!) { updateCampaign(input: { id: $id, writerId: $writer }) { campaign { id } } }";
        world.ask(set, json!({ "id": plan.campaign, "writer": writer })).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until("the other drafts", done, json!({ "id": run }), |data| completed(data, "draft_message") == 23).await;
        world.drop_unchecked().await;
    }
}

/// Waits until an API has received a number of requests.
async fn until_asked(api: &Api, count: usize) {
    let asked = async {
        while api.asked().len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), asked).await.expect("it is asked");
}

/// Has a plan's messages written by the language model, and launches it.
async fn launch_written(world: &World, plan: &crate::harness::plan::Plan) -> String {
    let writer = world.create("writer", json!({ "name": "Model", "kind": "AGENT", "instructions": "Be brief." })).await;
    let set = "mutation($id: ID!, $writer: ID!) { updateCampaign(input: { id: $id, writerId: $writer }) { campaign { id } } }";
    world.ask(set, json!({ "id": plan.campaign, "writer": writer })).await;
    world.activate(plan).await;
    world.launch(plan).await
}

const GHOST: &str = r#"{ "agents": [{ "name": "ghost", "kind": "BUILT_IN", "instructions": "You write.", "filter": "step.type == 'generation'" }],
    "runTemplates": [{ "key": "ghost", "name": "Ghost", "phases": [{ "key": "all", "name": "All", "autonomous": true, "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [
    { "key": "write", "type": "generation", "assignedTo": "AGENT", "agent": "ghost" }] }] }] }] }"#;

both! {
    /// An org whose language model hangs occupies at most half of the slots for drafts and for
    /// agents' steps; templated drafts wait for none of them, and another org's steps use the other
    /// slots.
    async fn one_orgs_model_that_hangs_holds_up_no_other_org(kind) {
        let mail = json!({ "subject": "Hello", "body": "A word." }).to_string();
        let choice = json!({ "message": { "content": mail }, "finish_reason": "stop" });
        let model = Api::start(Answer::json(200, json!({ "model": "m", "choices": [choice], "usage": {} }))).await;
        let url = model.url();
        let world = World::with_config(kind, move |config| {
            config.model_url = Some(format!("{url}/v1"));
            config.model_seconds = 120;
        })
        .await;
        let share = usize::try_from(sortie::kernel::limits::MODEL_BATCH).unwrap() / 2;
        let plan = world.plan("EMAIL", 30).await;
        model.then(vec![Answer::Silent; share]);
        launch_written(&world, &plan).await;
        until_asked(&model, share).await;
        let goal = world.create("goal", json!({ "name": "Another" })).await;
        let writer = world.create("writer", json!({ "name": "Templated" })).await;
        let reviewer = world.create("reviewer", json!({ "name": "Another" })).await;
        let rendered = world.create("campaign", json!({
            "name": "Rendered", "channel": "EMAIL", "goalId": goal, "writerId": writer, "reviewerId": reviewer,
            "messageTemplateId": plan.template, "segmentId": plan.segment, "variables": { "offer": "a trial" },
        })).await;
        let rendered = crate::harness::plan::Plan { campaign: rendered, template: String::new(), segment: String::new(), records: Vec::new() };
        world.activate(&rendered).await;
        let run = world.launch(&rendered).await;
        let done = "query($id: ID!) { run(id: $id) { steps(first: 100) { nodes { type status } } } }";
        let completed = |data: &Value, kind: &str| {
            let all = data["run"]["steps"]["nodes"].as_array().unwrap().iter();
            all.filter(|step| step["type"] == kind && step["status"] == "COMPLETED").count()
        };
        world.until("what is rendered", done, json!({ "id": run }), |data| completed(data, "draft_message") == 30).await;
        assert_eq!(model.asked().len(), share, "the org has no more slots than that");
        world.apply(GHOST).await;
        model.then(vec![Answer::Silent; share]);
        world.fly("ghost", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
        until_asked(&model, 2 * share).await;

        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let other = key(&world.db, &other, Role::Admin, None).await;
        *world.shown.lock().unwrap() = Some(other);
        let plan = world.plan("EMAIL", 8).await;
        let run = launch_written(&world, &plan).await;
        world.until("the other org's drafts", done, json!({ "id": run }), |data| completed(data, "draft_message") == 8).await;
        world.apply(GHOST).await;
        let run = world.fly("ghost", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
        world.until("the other org's agents", done, json!({ "id": run }), |data| completed(data, "generation") == 8).await;
        assert_eq!(model.asked().len(), 2 * share + 16);
        world.drop_unchecked().await;
    }
}
