//! Structures that could never do their work are rejected before a run starts: steps that wait for
//! themselves, steps that nobody can take, messages without a text or a recipient.

use entity::definition::Definition;
use entity::id::AgentId;
use entity::{AgentKind, TemplateKind};
use serde_json::{Value, json};
use sortie::domain::plan::run_template::{Executors, problems_of, written};

use crate::harness::World;

fn structure(phases: Value) -> Definition {
    let (definition, problems) = written(&json!({ "phases": phases }));
    assert!(problems.is_empty(), "{problems:?}");
    definition
}

fn told(definition: &Definition, executors: Option<&Executors>) -> Vec<String> {
    problems_of(TemplateKind::Campaign, definition, executors).iter().map(ToString::to_string).collect()
}

fn phase(key: &str, tasks: Value) -> Value {
    json!({ "key": key, "name": key, "tasks": tasks })
}

fn task(key: &str, fan_out: bool, depends_on: &[&str], steps: Value) -> Value {
    json!({ "key": key, "name": key, "fanOut": fan_out, "dependsOn": depends_on, "steps": steps })
}

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger })
}

fn step(key: &str, kind: &str, assigned_to: &str) -> Value {
    let config = if kind == "email" { json!({ "subject": "s", "body": "b" }) } else { Value::Null };
    json!({ "key": key, "name": key, "type": kind, "assignedTo": assigned_to, "config": config })
}

/// The trigger's path and the circle, for steps of the phase `p`.
fn circle(task: &str, step: &str, names: &str) -> String {
    format!("phases.p.tasks.{task}.steps.{step}.trigger: waits for itself: {names}")
}

#[test]
fn steps_and_tasks_that_wait_for_themselves_are_named() {
    let cases = [
        (json!([task("t", false, &[], json!([human("a", "after:a")]))]), vec![circle("t", "a", "a → a")]),
        // A delay counts from the end of the step before it.
        (
            json!([task("t", false, &[], json!([human("a", "after:b"), human("b", "delay:1h")]))]),
            vec![circle("t", "a", "a → b → a"), circle("t", "b", "b → a → b")],
        ),
        (
            json!([
                task("t", false, &["u"], json!([human("a", "manual")])),
                task("u", false, &[], json!([human("b", "after:a")])),
            ]),
            vec![circle("u", "b", "b → a → task u → b")],
        ),
        (
            json!([
                task("t1", false, &[], json!([human("a", "after:b")])),
                task("t2", false, &[], json!([human("b", "after:c")])),
                task("t3", false, &["t1"], json!([human("c", "immediate")])),
            ]),
            vec![circle("t1", "a", "a → b → c → task t1 → a"), circle("t2", "b", "b → c → task t1 → a → b")],
        ),
        // A single step waits for all steps of a fan-out.
        (
            json!([
                task("fan", true, &["one"], json!([human("f", "manual")])),
                task("one", false, &[], json!([human("s", "after:f")])),
            ]),
            vec![circle("one", "s", "s → task fan → f → task one → s")],
        ),
    ];
    for (tasks, wanted) in cases {
        assert_eq!(told(&structure(json!([phase("p", tasks)])), None), wanted);
    }
}

#[test]
fn steps_that_wait_for_others_in_order_are_valid() {
    let tasks = json!([
        task("t", true, &[], json!([human("a", "manual"), human("b", "delay:1h"), human("c", "after:a")])),
        task("u", true, &["t"], json!([human("d", "after:c"), human("e", "delay:1 day")])),
        task("v", false, &["t", "u"], json!([human("f", "delay:1h"), human("g", "after:e"), human("h", "after:f")])),
    ]);
    let last = json!([task("w", false, &[], json!([human("i", "after:h")]))]);
    assert_eq!(told(&structure(json!([phase("p", tasks), phase("q", last)])), None), Vec::<String>::new());
}

#[test]
fn a_step_that_no_agent_can_take_is_named() {
    let org = |agents: &[(&str, AgentKind)], has_model| Executors {
        agents: agents.iter().map(|(name, kind)| ((*name).to_owned(), (AgentId::new(), *kind))).collect(),
        has_model,
        ..Executors::default()
    };
    let of = |assigned_to: &str, agent: Option<&str>| {
        let mut one = step("s", "translate", assigned_to);
        one["agent"] = json!(agent);
        structure(json!([phase("p", json!([task("t", false, &[], json!([one]))]))]))
    };
    let (outside, function, built_in) =
        (("drafter", AgentKind::Outside), ("counter", AgentKind::Function), ("ghost", AgentKind::BuiltIn));
    let cases = [
        (of("WORKFLOW", Some("drafter")), org(&[outside, function], true), Some("agent: drafter can't do it")),
        (of("AGENT", Some("counter")), org(&[outside, function], true), Some("agent: counter can't do it")),
        (of("AGENT", Some("ghost")), org(&[outside, built_in], false), Some("agent: ghost can't do it")),
        (of("AGENT", Some("nobody")), org(&[outside], true), Some("agent: there is no agent nobody")),
        (of("AGENT", None), org(&[function], true), Some("assignedTo: the org has no agent")),
        (of("AGENT", None), org(&[function, built_in], false), Some("assignedTo: no agent of the org can do it")),
        (of("WORKFLOW", None), org(&[outside, built_in], true), Some("type: no workflow performs `translate`")),
        (of("WORKFLOW", Some("counter")), org(&[function], false), None),
        (of("WORKFLOW", None), org(&[outside, function], false), None),
        (of("AGENT", Some("drafter")), org(&[outside], false), None),
        (of("AGENT", Some("ghost")), org(&[built_in], true), None),
        (of("AGENT", None), org(&[built_in], true), None),
        (of("AGENT", None), org(&[outside, built_in], false), None),
    ];
    for (definition, executors, wanted) in cases {
        let found = told(&definition, Some(&executors));
        match wanted {
            None => assert_eq!(found, Vec::<String>::new()),
            Some(wanted) => {
                assert!(
                    found.len() == 1 && found[0].starts_with(&format!("phases.p.tasks.t.steps.s.{wanted}")),
                    "{found:?}"
                );
            }
        }
    }
}

#[test]
fn messages_are_drafted_before_they_are_reviewed_and_sent() {
    let (draft, send) = (step("draft", "draft_message", "WORKFLOW"), step("send", "send_message", "WORKFLOW"));
    let review = step("review", "review_messages", "HUMAN");
    let with = |mut step: Value, field: &str, value: &str| {
        step[field] = json!(value);
        step
    };
    let drafts = || task("drafts", true, &[], json!([draft]));
    let p = |tasks: Value| json!([phase("p", tasks)]);
    let valid = [
        json!([phase("p", json!([drafts()])), phase("q", json!([task("out", true, &[], json!([send]))]))]),
        p(json!([drafts(), task("out", true, &["drafts"], json!([send]))])),
        p(json!([
            drafts(),
            task("look", false, &["drafts"], json!([review])),
            task("out", true, &["look"], json!([send]))
        ])),
        p(json!([task("both", true, &[], json!([draft, with(send.clone(), "trigger", "after:draft")]))])),
        p(json!([task("both", true, &[], json!([draft, with(send.clone(), "trigger", "delay:1h")]))])),
        p(json!([drafts(), task("out", true, &[], json!([with(send.clone(), "trigger", "after:draft")]))])),
        // Without drafts by the engine, people and agents write under other types.
        p(json!([task("mail", true, &[], json!([step("mail", "email", "WORKFLOW")]))])),
        p(json!([task("calls", true, &[], json!([step("call", "call", "HUMAN")]))])),
    ];
    for phases in valid {
        assert_eq!(told(&structure(phases.clone()), None), Vec::<String>::new(), "{phases:#}");
    }
    let again = |key: &str, kind: &str| step(key, kind, "WORKFLOW");
    let wrong = [
        (
            p(json!([task("both", true, &[], json!([draft, again("more", "draft_message")]))])),
            "both.steps.more.type: a recipient gets one drafted message, which `draft` is for",
        ),
        (
            p(json!([drafts(), task("out", true, &["drafts"], json!([send, again("more", "send_message")]))])),
            "out.steps.more.type: a recipient gets one drafted message, which `send` is for",
        ),
        (p(json!([task("out", true, &[], json!([send]))])), "out.steps.send.type: `send_message` needs messages"),
        (
            p(json!([drafts(), task("out", true, &[], json!([send]))])),
            "out.steps.send.type: `send_message` needs messages",
        ),
        (
            json!([phase("p", json!([task("out", true, &[], json!([send]))])), phase("q", json!([drafts()]))]),
            "out.steps.send.type: `send_message` needs messages",
        ),
        (
            p(json!([drafts(), task("look", false, &[], json!([review]))])),
            "look.steps.review.type: `review_messages` needs",
        ),
        (
            p(json!([drafts(), task("look", true, &["drafts"], json!([review]))])),
            "look.steps.review.type: `review_messages` is one step for all",
        ),
        (
            p(json!([drafts(), task("look", false, &["drafts"], json!([with(review.clone(), "trigger", "manual")]))])),
            "look.steps.review.trigger: must be `immediate`",
        ),
        (
            p(json!([
                drafts(),
                task("look", false, &["drafts"], json!([step("review", "review_messages", "WORKFLOW")]))
            ])),
            "look.steps.review.assignedTo: must be HUMAN",
        ),
        (
            p(json!([task("drafts", true, &[], json!([step("draft", "draft_message", "AGENT")]))])),
            "drafts.steps.draft.assignedTo: must be WORKFLOW",
        ),
        (
            p(json!([drafts(), task("out", true, &["drafts"], json!([step("send", "send_message", "HUMAN")]))])),
            "out.steps.send.assignedTo: must be WORKFLOW",
        ),
        (
            p(json!([task("mail", true, &[], json!([step("mail", "email", "HUMAN")]))])),
            "mail.steps.mail.assignedTo: must be WORKFLOW",
        ),
    ];
    for (phases, wanted) in wrong {
        let found = told(&structure(phases), None);
        assert!(found.len() == 1 && found[0].starts_with(&format!("phases.p.tasks.{wanted}")), "{wanted}: {found:?}");
    }
}

/// The check of the structure, of a preflight for a run.
async fn check(world: &World, campaign: &str) -> (String, String) {
    let query = "query($id: ID!) { preflight(campaignId: $id, action: RUN) { ready checks { code status message } } }";
    let report = world.ask(query, json!({ "id": campaign })).await["preflight"].clone();
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["code"] == "RUN_TEMPLATE").unwrap();
    assert!(check["status"] != "FAILED" || report["ready"] == false, "{report:#}");
    (check["status"].as_str().unwrap().to_owned(), check["message"].as_str().unwrap().to_owned())
}

const UPDATE: &str = "mutation($input: UpdateCampaignInput!) { updateCampaign(input: $input) { campaign { id } } }";

both! {
    async fn the_preflight_fails_if_a_campaign_would_send_to_nobody(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        world.activate(&plan).await;
        assert_eq!(check(&world, &plan.campaign).await.0, "PASSED");
        // Stored campaigns can have such overrides; they get a finding, and nothing starts.
        world.ask(UPDATE, json!({ "input": { "id": plan.campaign, "overrides": { "phases.processing": null } } })).await;
        let (status, message) = check(&world, &plan.campaign).await;
        assert_eq!(status, "FAILED");
        assert!(message.starts_with("phases.in_flight.tasks.send.steps.send.type: `send_message` needs messages"), "{message}");
        let launch = "mutation($id: ID!) { runCampaign(input: { campaignId: $id }) { run { id } preflight { ready } } }";
        let launched = world.ask(launch, json!({ "id": plan.campaign })).await["runCampaign"].clone();
        assert_eq!(launched, json!({ "run": null, "preflight": { "ready": false } }));
        world.end().await;
    }
}

both! {
    async fn a_message_outside_of_a_fan_out_needs_a_campaign_for_one_record(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 2).await;
        let phases = json!([phase("p", json!([task("t", false, &[], json!([step("mail", "email", "WORKFLOW")]))]))]);
        world.apply(&json!({ "runTemplates": [{ "key": "one", "name": "One", "phases": phases }] }).to_string()).await;
        let template = world.id_of("runTemplates", "key", "one").await;
        world.ask(UPDATE, json!({ "input": { "id": plan.campaign, "runTemplateId": template } })).await;
        let (status, message) = check(&world, &plan.campaign).await;
        assert_eq!(status, "FAILED");
        assert!(message.starts_with("phases.p.tasks.t.steps.mail.type: `email` has a recipient only in a fan-out"), "{message}");
        world.ask(UPDATE, json!({ "input": { "id": plan.campaign, "segmentId": null, "recordId": plan.records[0] } })).await;
        assert_eq!(check(&world, &plan.campaign).await.0, "PASSED");
        world.end().await;
    }
}

both! {
    async fn the_preflight_fails_if_no_agent_of_the_org_can_do_a_step(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        let phases = json!([phase("p", json!([task("t", true, &[], json!([step("look", "look", "AGENT")]))]))]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
        let template = world.id_of("runTemplates", "key", "looks").await;
        world.ask(UPDATE, json!({ "input": { "id": plan.campaign, "runTemplateId": template } })).await;
        let at = "phases.p.tasks.t.steps.look.assignedTo";
        for (name, agent_kind, status, wanted) in [
            ("counter", "FUNCTION", "FAILED", "the org has no agent"),
            ("ghost", "BUILT_IN", "FAILED", "no agent of the org can do it"),
            ("looker", "OUTSIDE", "PASSED", ""),
        ] {
            world.create("agent", json!({ "name": name, "kind": agent_kind })).await;
            let (found, message) = check(&world, &plan.campaign).await;
            assert_eq!(found, status, "{name}: {message}");
            assert!(status == "PASSED" || message.starts_with(&format!("{at}: {wanted}")), "{name}: {message}");
        }
        world.end().await;
    }
}
