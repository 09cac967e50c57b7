//! Every built-in kind of step: done, failed, done twice, and killed between claim and settle. A
//! new kind fails here until it declares how it is tested.

use serde_json::{Value, json};
use sortie::domain::plan::run_template::kind::{self, BUILT_IN};

use crate::harness::World;
use crate::harness::api::{Answer, Api};
use crate::harness::life::{Home, Life};

/// A step of a kind: the settings with which it succeeds, and those with which it fails; none if
/// its failures come from outside of the step and have tests of their own.
fn tried(kind: &str, api: &str) -> (Value, Option<Value>) {
    match kind {
        kind::DRAFT | kind::SEND | kind::SUMMARISE => (json!({}), None),
        kind::EMAIL => (
            json!({ "subject": "For {{ record.name }}", "body": "{{ variables.offer }}" }),
            Some(json!({ "subject": "For {{ results.nobody.name }}", "body": "x" })),
        ),
        kind::API_CALL => (
            json!({ "method": "POST", "url": format!("{api}/once"), "body": { "who": "{{ record.name }}" }, "output": { "id": "/id" } }),
            Some(json!({ "url": format!("{api}/once"), "output": { "id": "/nothing/there" } })),
        ),
        kind::WAIT => (json!({ "duration": "1s" }), Some(json!({ "until": "{{ record.name }}" }))),
        kind::DECISION => (
            json!({ "cases": [{ "when": "record.employees >= 0", "skip": [] }] }),
            Some(json!({ "cases": [{ "when": "record.nothing > 0", "skip": [] }] })),
        ),
        kind::UPDATE_RECORD => {
            (json!({ "attributes": { "seen": "yes" } }), Some(json!({ "stage": "{{ record.nobody }}" })))
        }
        new => panic!("{new} is a new kind: say how it is tried, and how it fails"),
    }
}

/// A template with a task per kind, over records; or with a failing task for each kind that can
/// fail.
fn template(api: &str, failing: bool) -> Value {
    let tasks = BUILT_IN.iter().filter_map(|kind| {
        let (done, failed) = tried(kind, api);
        let settings = if failing { failed? } else { done };
        let before = match *kind {
            kind::SEND => json!([kind::DRAFT]),
            _ => json!([]),
        };
        let step = json!({
            "key": format!("{kind}_step"), "name": kind, "type": kind, "assignedTo": "WORKFLOW", "config": settings,
            "maxAttempts": if failing { 1 } else { 5 },
        });
        Some(json!({ "key": kind, "name": kind, "fanOut": *kind != kind::SUMMARISE, "dependsOn": before, "steps": [step], "failWhen": "PERCENT(100)" }))
    });
    json!([{ "key": "all", "name": "All", "autonomous": true, "tasks": tasks.collect::<Vec<_>>() }])
}

fn manifest(api: &str) -> String {
    json!({ "runTemplates": [
        { "key": "all-kinds", "name": "All kinds", "phases": template(api, false) },
        { "key": "all-fail", "name": "All fail", "phases": template(api, true) },
    ] })
    .to_string()
}

both! {
    async fn each_fails_for_good_and_says_why(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        let world = World::new(kind).await;
        world.apply(&manifest(&api.url())).await;
        let plan = world.plan("EMAIL", 2).await;
        let template = world.id_of("runTemplates", "key", "all-fail").await;
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id resolvedDefinition { problems { path message } } } } }";
        let changed = world.ask(change, json!({ "id": plan.campaign, "to": template })).await;
        assert_eq!(changed["updateCampaign"]["campaign"]["resolvedDefinition"]["problems"], json!([]));
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.until_run(&run, "COMPLETED").await;
        let failing = BUILT_IN.iter().filter(|kind| tried(kind, "").1.is_some()).count();
        let query = "query($run: ID!) { steps(filter: { runIds: [$run] }, first: 100) { nodes { key status error } } }";
        let steps = world.ask(query, json!({ "run": run })).await;
        let steps = steps["steps"]["nodes"].as_array().unwrap();
        assert_eq!(steps.len(), 2 * failing);
        assert!(steps.iter().all(|step| step["status"] == "FAILED" && step["error"].as_str().is_some_and(|why| why.len() > 5)), "{steps:#?}");
        // Private addresses are rejected unless allowed; the record is unchanged.
        let records = world.ask("{ records { nodes { stage attributes } } }", json!({})).await;
        assert!(records["records"]["nodes"].as_array().unwrap().iter().all(|record| record["stage"] == "New" && record["attributes"]["seen"].is_null()));
        world.end().await;
    }
}

async fn count(life: &Life, run: &str, status: &str) -> Option<usize> {
    let query = "query($run: ID!, $status: StepStatus!) { steps(filter: { runIds: [$run], statuses: [$status] }, first: 100) { nodes { key } } }";
    let data = life.ask(query, json!({ "run": run, "status": status })).await?;
    Some(data["steps"]["nodes"].as_array().unwrap().len())
}

both! {
    async fn each_is_killed_between_claim_and_settle_and_done_once(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        let home = Home::new(kind).await.with("SORTIE_CALL_PRIVATE", "127.0.0.0/8");
        home.import(3);
        let file = home.folder().join("kinds.json");
        std::fs::write(&file, manifest(&api.url())).unwrap();
        let (applied, said) = home.run(&["apply", "-f", file.to_str().unwrap()]);
        assert!(applied && said.contains("2 created"), "{said}");
        let life = home.begin();
        let campaign = life.campaign().await;
        let templates = life.ask("{ runTemplates { nodes { id key } } }", json!({})).await.unwrap();
        let nodes = templates["runTemplates"]["nodes"].as_array().unwrap();
        let all = nodes.iter().find(|one| one["key"] == "all-kinds").unwrap()["id"].clone();
        let change = "mutation($id: ID!, $to: ID!) { updateCampaign(input: { id: $id, runTemplateId: $to }) { campaign { id } } }";
        life.ask(change, json!({ "id": campaign, "to": all })).await.unwrap();
        let approve = "mutation($id: ID!) { approveCampaign(input: { id: $id }) { preflight { ready } } }";
        life.ask(approve, json!({ "id": campaign })).await.unwrap();
        life.kill();
        // The run is launched, and the server killed again and again: after a claim, within a
        // settle, in the sweeps between.
        let mut run = None;
        let mut deaths = 0;
        for failpoint in ["claimed:1", "settling:1", "claimed:2", "settling:2", "settled:1", "reserved:1", "claimed:1"] {
            let Some(life) = home.begin_at(Some(failpoint)) else { deaths += 1; continue };
            if run.is_none() {
                run = life.launch(&campaign, "kinds").await;
            }
            // Until the process is dead, or nothing is left to do.
            let died = loop {
                let Some(run) = &run else { break true };
                match life.push(run).await.as_deref() {
                    None => break true,
                    Some("COMPLETED") => break false,
                    Some(_) => tokio::task::yield_now().await,
                }
            };
            deaths += usize::from(died);
            life.kill();
            home.gone().await;
        }
        let life = home.begin();
        let run = match run {
            Some(run) => run,
            None => life.launch(&campaign, "kinds").await.unwrap(),
        };
        loop {
            // A person resolves mails that were in a hand-over at the kill; the outbox shows
            // whether they were sent.
            life.resolve(&run, |_| true).await;
            if life.push(&run).await.unwrap() == "COMPLETED" {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(deaths >= 3, "{deaths} deaths");
        let fans = BUILT_IN.len() - 1;
        assert_eq!(count(&life, &run, "COMPLETED").await, Some(3 * fans + 1));
        // An API that was called twice got the same idempotency key: three steps, three keys.
        let keys: std::collections::BTreeSet<String> = api.asked().iter().map(|one| one["key"].as_str().unwrap().to_owned()).collect();
        assert_eq!(keys.len(), 3, "{:#?}", api.asked());
        let records = life.ask("{ records { nodes { attributes } } }", json!({})).await.unwrap();
        assert!(records["records"]["nodes"].as_array().unwrap().iter().all(|record| record["attributes"]["seen"] == "yes"));
        let mails = home.count("SELECT COUNT(*) FROM communication WHERE status = 'SENT'").await;
        assert_eq!(mails, 6, "one from the campaign's content and one of the step's own for each lead");
        life.kill();
        home.gone().await;
        home.check();
        home.remove();

    }
}
