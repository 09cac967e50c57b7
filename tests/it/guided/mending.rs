//! Runs that people mend: a new name, further steps, another order, a corrected outcome; and what of
//! it is refused, raced and killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use entity::id::OrgId;
use entity::member::Role;
use serde_json::{Value, json};
use sortie::domain::run::guided::add_step::{self, NewStep};
use sortie::domain::run::guided::structure::GuidedStepDraft;
use sortie::domain::run::guided::{outcome, reorder_steps};
use sortie::domain::run::update::{self, Changes};
use sortie::kernel::viewer::Viewer;

use crate::harness::life::Home;
use crate::harness::socket::Socket;
use crate::harness::{World, noon};

const UPDATE: &str =
    "mutation($input: UpdateRunInput!) { updateRun(input: $input) { run { id name description revision } } }";
const ADD: &str = "mutation($input: AddRunStepInput!) { addRunStep(input: $input) { step {
    id key name type status sequence description config dueAt assigneeRole assignee { memberId }
    task { id status progress { total pending } } run { id revision } } } }";
const REORDER: &str =
    "mutation($input: ReorderRunStepsInput!) { reorderRunSteps(input: $input) { run { id revision } } }";
const OUTCOME: &str = "mutation($input: UpdateRunOutcomeInput!) { updateRunOutcome(input: $input) { run { id status outcome revision } } }";
const RUN: &str =
    "query($id: ID!) { run(id: $id) { status revision outcome definition { phases { tasks { key steps { key } } } }
    phases { tasks { id key status progress { total pending completed } steps(first: 100) { nodes { key } } } } progress { fraction }
    availableActions { action allowed blockedBecause }
    steps(first: 100) { nodes { id key sequence status revision task { key } } } } }";

/// A step as a request declares it.
fn declared(key: &str, kind: &str, more: Value) -> Value {
    let mut step = json!({ "key": key, "name": format!("Step {key}"), "type": kind, "assignedTo": "HUMAN" });
    step.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({ "definition": step })
}

async fn read(world: &World, run: &str) -> Value {
    world.ask(RUN, json!({ "id": run })).await["run"].clone()
}

/// The id of the run's first task.
async fn task(world: &World, run: &str) -> String {
    read(world, run).await["phases"][0]["tasks"][0]["id"].as_str().unwrap().to_owned()
}

/// The keys of a run's steps in display order, which is that of its structure; its places have no
/// gap.
async fn order(world: &World, run: &str) -> Vec<String> {
    let run = read(world, run).await;
    let mut all = Vec::new();
    for task in run["definition"]["phases"][0]["tasks"].as_array().unwrap() {
        let of_task =
            run["steps"]["nodes"].as_array().unwrap().iter().filter(|step| step["task"]["key"] == task["key"]);
        let mut mine: Vec<(i64, &str)> =
            of_task.map(|step| (step["sequence"].as_i64().unwrap(), step["key"].as_str().unwrap())).collect();
        mine.sort_unstable();
        let (places, mine): (Vec<i64>, Vec<&str>) = mine.into_iter().unzip();
        assert!(places.iter().copied().eq(0..places.len() as i64), "{places:?}");
        let structure: Vec<&str> =
            task["steps"].as_array().unwrap().iter().map(|step| step["key"].as_str().unwrap()).collect();
        assert_eq!(mine, structure);
        let tasks = run["phases"][0]["tasks"].as_array().unwrap();
        let listed = tasks.iter().find(|one| one["key"] == task["key"]).unwrap()["steps"]["nodes"].as_array().unwrap();
        let listed: Vec<&str> = listed.iter().map(|step| step["key"].as_str().unwrap()).collect();
        assert_eq!(mine, listed, "the task's list is in its order");
        all.extend(mine.into_iter().map(str::to_owned));
    }
    all
}

async fn add(world: &World, run: &str, step: Value, more: Value) -> Value {
    let mut input = json!({ "runId": run, "step": step });
    input.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    world.ask(ADD, json!({ "input": input })).await["addRunStep"]["step"].clone()
}

/// Extensions of the first error, with its message.
async fn refused(world: &World, query: &str, input: Value) -> Value {
    let answer = world.post(query, json!({ "input": input })).await;
    assert!(answer["errors"][0].is_object(), "{input} was not refused: {answer:#}");
    let mut told = answer["errors"][0]["extensions"].clone();
    told["message"] = answer["errors"][0]["message"].clone();
    told
}

async fn number_of(world: &World, kind: &str) -> i64 {
    world.number(&format!("SELECT COUNT(*) FROM event WHERE kind = '{kind}'")).await
}

/// Payloads of the events of a kind, oldest first.
async fn payloads(world: &World, kind: &str) -> Vec<Value> {
    let all = world.ask_all_events().await;
    all.into_iter().filter(|event| event["kind"] == kind).map(|event| event["payload"].clone()).collect()
}

/// Ends all steps of a run and completes it.
async fn finish(world: &World, run: &str, outcome: &str) {
    for step in read(world, run).await["steps"]["nodes"].as_array().unwrap() {
        if step["status"] == "PENDING" {
            world.step_act("skipStep", step["id"].as_str().unwrap(), json!({})).await;
        }
    }
    let done = world.complete_run(run, outcome).await;
    assert_eq!(done["data"]["completeRun"]["run"]["status"], "COMPLETED", "{done:#}");
}

fn allowed(run: &Value, action: &str) -> bool {
    let all = run["availableActions"].as_array().unwrap();
    let one = all.iter().find(|one| one["action"] == action).unwrap();
    assert_eq!(one["allowed"] == true, one["blockedBecause"].is_null(), "{one}");
    one["allowed"] == true
}

both! {
    async fn a_run_gets_another_name_and_description(kind) {
        let world = World::without_server(kind, None).await;
        let (run, _) = world.own_run(&[("a", "custom", json!({}))], json!({ "description": "Before" })).await;
        let before = read(&world, &run).await["revision"].as_i64().unwrap();
        let update = async |input: Value| world.ask(UPDATE, json!({ "input": input })).await["updateRun"]["run"].clone();
        let named = update(json!({ "id": run, "name": "  Zürich, 46 ", "expectedRevision": before })).await;
        assert_eq!(named, json!({ "id": run, "name": "Zürich, 46", "description": "Before", "revision": before + 1 }));
        // What is omitted, null or the same as before changes nothing.
        for input in [json!({ "id": run }), json!({ "id": run, "name": null }), json!({ "id": run, "name": "Zürich, 46", "description": "Before" })] {
            assert_eq!(update(input.clone()).await, named, "{input}");
        }
        assert_eq!(update(json!({ "id": run, "description": "Two\nlines" })).await["description"], "Two\nlines");
        let cleared = update(json!({ "id": run, "description": null })).await;
        assert_eq!((&cleared["description"], &cleared["revision"]), (&json!(""), &json!(before + 3)));
        assert_eq!(refused(&world, UPDATE, json!({ "id": run, "name": "X", "expectedRevision": before })).await["code"], "CONFLICT");
        for (input, field) in [
            (json!({ "id": run, "name": "" }), "name"),
            (json!({ "id": run, "name": " \u{200b}" }), "name"),
            (json!({ "id": run, "name": "a\nb" }), "name"),
            (json!({ "id": run, "name": "n".repeat(10_000) }), "name"),
            (json!({ "id": run, "description": "ü".repeat(10_001) }), "description"),
            (json!({ "id": run, "description": "a\u{0}b" }), "description"),
            (json!({ "id": "goal_01h455vb4pex5vsknk084sn02q" }), "id"),
        ] {
            let told = refused(&world, UPDATE, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}: {told}");
        }
        assert_eq!(refused(&world, UPDATE, json!({ "id": "run_01h455vb4pex5vsknk084sn02q", "name": "x" })).await["code"], "NOT_FOUND");
        // It is found by its new name.
        let count = async |text: &str| world.ask("query($t: String) { runs(filter: { search: $t }) { totalCount } }", json!({ "t": text })).await["runs"]["totalCount"].clone();
        assert_eq!((count("ZÜRICH").await, count("one's own").await), (json!(1), json!(0)));
        let told = payloads(&world, "run.updated").await;
        assert_eq!(told.len(), 3, "{told:#?}");
        assert_eq!((&told[0]["name"], &told[0]["formerName"], &told[0]["formerDescription"]), (&json!("Zürich, 46"), &json!("Of one's own"), &json!(null)));
        assert_eq!((&told[2]["formerName"], &told[2]["formerDescription"]), (&json!(null), &json!("Two\nlines")));
        // Also when it has ended.
        finish(&world, &run, "").await;
        assert!(allowed(&read(&world, &run).await, "UPDATE"));
        assert_eq!(update(json!({ "id": run, "name": "Over" })).await["name"], "Over");
        world.end().await;
    }
}

both! {
    async fn the_run_of_a_campaign_gets_another_name(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        let renamed = world.ask(UPDATE, json!({ "input": { "id": run, "name": "Second wave", "description": "D" } })).await;
        assert_eq!((&renamed["updateRun"]["run"]["name"], &renamed["updateRun"]["run"]["description"]), (&json!("Second wave"), &json!("D")));
        let campaign = world.ask("query($id: ID!) { run(id: $id) { name campaign { name } } }", json!({ "id": run })).await;
        for text in ["second WAVE", campaign["run"]["campaign"]["name"].as_str().unwrap()] {
            let found = world.ask("query($t: String) { runs(filter: { search: $t }) { totalCount } }", json!({ "t": text })).await;
            assert_eq!(found["runs"]["totalCount"], 1, "{text}");
        }
        // A run that is only scheduled has the name of its schedule; its description is its own.
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-11-03T12:00:00Z\" }) { run { id name } } }";
        let scheduled = world.ask(schedule, json!({ "id": plan.campaign })).await["scheduleCampaign"]["run"].clone();
        let told = refused(&world, UPDATE, json!({ "id": scheduled["id"], "name": "Mine" })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("CONFLICT"), &json!("name")), "{told}");
        assert!(told["message"].as_str().unwrap().contains("updateSchedule"), "{told}");
        world.ask(UPDATE, json!({ "input": { "id": scheduled["id"], "name": scheduled["name"], "description": "Kept" } })).await;
        world.clock.set("2026-11-03T12:00:01Z".parse().unwrap());
        world.tick(true).await;
        let query = "query($id: ID!) { run(id: $id) { status name description } }";
        let fired = world.ask(query, json!({ "id": scheduled["id"] })).await["run"].clone();
        assert_eq!((&fired["name"], &fired["description"]), (&scheduled["name"], &json!("Kept")));
        assert_ne!(fired["status"], "SCHEDULED");
        let named = world.ask(UPDATE, json!({ "input": { "id": scheduled["id"], "name": "Mine" } })).await;
        assert_eq!(named["updateRun"]["run"]["name"], "Mine");
        world.end().await;
    }
}

both! {
    async fn a_step_is_added_where_it_is_wanted(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let (run, steps) = world.own_run(&[("a", "review", json!({})), ("b", "note", json!({}))], json!({ "assigneeId": member })).await;
        let task = task(&world, &run).await;
        let last = add(&world, &run, declared("c", "custom", json!({})), json!({})).await;
        assert_eq!((&last["status"], &last["sequence"], &last["task"]["id"]), (&json!("PENDING"), &json!(2), &json!(task)));
        // Steps that name nobody are for the run's assignee.
        assert_eq!((&last["assignee"]["memberId"], &last["dueAt"]), (&json!(member), &json!(null)));
        assert_eq!(last["task"]["progress"], json!({ "total": 3, "pending": 3 }));
        let more = json!({
            "description": "Look closely", "role": "REVIEWER", "dueIn": "2d", "assignee": "Mia@Example.com",
            "config": { "subject": "Hello {{ name }}", "body": "b" }, "resultSchema": { "type": "object", "required": ["read"] },
        });
        let second = add(&world, &run, declared("a", "email", more), json!({ "afterStepId": steps[0], "taskId": task })).await;
        assert_eq!((&second["key"], &second["sequence"], &second["description"]), (&json!("a_2"), &json!(1), &json!("Look closely")));
        assert_eq!((&second["assigneeRole"], &second["dueAt"]), (&json!("REVIEWER"), &json!((noon() + chrono::Duration::days(2)).to_rfc3339())));
        assert_eq!((&second["config"]["subject"], &second["assignee"]["memberId"]), (&json!("Hello {{ name }}"), &json!(member)));
        let weekly = world.id_of("runTemplates", "key", "weekly-pipeline-review").await;
        let at = noon() + chrono::Duration::hours(3);
        let taken = json!({ "templateId": weekly, "stepKey": "check_mou_status" });
        let taken = add(&world, &run, taken, json!({ "afterStepId": second["id"], "dueAt": at })).await;
        assert_eq!((&taken["name"], &taken["type"], &taken["dueAt"]), (&json!("Check MOU status"), &json!("review"), &json!(at.to_rfc3339())));
        assert_eq!(order(&world, &run).await, ["a", "a_2", "check_mou_status", "b", "c"]);
        // One with the same key again, also if the key is as long as it may be.
        let long = "k".repeat(60);
        for expected in [long.clone(), format!("{}_2", "k".repeat(58)), format!("{}_3", "k".repeat(58))] {
            assert_eq!(add(&world, &run, declared(&long, "note", json!({})), json!({})).await["key"], expected.as_str());
        }
        // It is a step like the others: it checks its result, and holds the run open.
        let id = second["id"].as_str().unwrap();
        world.step_act("startStep", id, json!({})).await;
        assert_eq!(world.step_refused("completeStep", id, json!({ "result": {} })).await["extensions"]["code"], "BAD_USER_INPUT");
        assert_eq!(world.step_act("completeStep", id, json!({ "result": { "read": true } })).await["status"], "COMPLETED");
        let told = world.complete_run(&run, "").await["errors"][0].clone();
        assert_eq!(told["extensions"]["openSteps"].as_array().unwrap().len(), 7, "{told}");
        let told = payloads(&world, "step.added").await;
        assert_eq!(told.len(), 6);
        assert_eq!((&told[0]["key"], &told[0]["sequence"], &told[0]["afterStepId"], &told[0]["memberId"]), (&json!("c"), &json!(2), &json!(steps[1]), &json!(member)));
        assert_eq!((&told[1]["type"], &told[1]["afterStepId"]), (&json!("email"), &json!(steps[0])));
        // The member can't be deleted while the step is open.
        let delete = "mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }";
        assert_eq!(world.refused(delete, json!({ "id": member })).await.0, "CONFLICT");
        finish(&world, &run, "done").await;
        world.ask(delete, json!({ "id": member })).await;
        world.end().await;
    }
}

both! {
    async fn the_runs_assignee_may_be_gone(kind) {
        let world = World::without_server(kind, None).await;
        let member = world.create("member", json!({ "name": "Mia", "email": "mia@example.com", "role": "OPERATOR" })).await;
        let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({ "assigneeId": member })).await;
        world.step_act("skipStep", &steps[0], json!({})).await;
        world.ask("mutation($id: ID!) { deleteMember(input: { id: $id }) { deletedId } }", json!({ "id": member })).await;
        let added = add(&world, &run, declared("b", "note", json!({})), json!({})).await;
        assert_eq!(added["assignee"], json!(null));
        world.end().await;
    }
}

both! {
    async fn a_wrong_step_is_refused_with_its_field(kind) {
        let world = World::without_server(kind, None).await;
        let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let (other, others) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let (own_task, other_task) = (task(&world, &run).await, task(&world, &other).await);
        let weekly = world.id_of("runTemplates", "key", "weekly-pipeline-review").await;
        let plain = || declared("b", "note", json!({}));
        let with = |more: Value| declared("b", "note", more);
        let past = noon() - chrono::Duration::seconds(1);
        for (step, more, field) in [
            (with(json!({ "type": "fly" })), json!({}), "step.definition.type"),
            (with(json!({ "assignedTo": "AGENT" })), json!({}), "step.definition.assignedTo"),
            (with(json!({ "name": " " })), json!({}), "step.definition.name"),
            (with(json!({ "key": "a b!" })), json!({}), "step.definition.key"),
            (with(json!({ "key": "k".repeat(61) })), json!({}), "step.definition.key"),
            (with(json!({ "when": "1 +" })), json!({}), "step.definition.when"),
            (with(json!({ "when": "true" })), json!({}), "step.definition.when"),
            (with(json!({ "trigger": "event:payment.received" })), json!({}), "step.definition.trigger"),
            (with(json!({ "config": { "nothing": 1 } })), json!({}), "step.definition.config"),
            (with(json!({ "config": { "subject": "s", "body": "b" } })), json!({}), "step.definition.config.subject"),
            (with(json!({ "type": "email", "config": { "subject": "{{ x", "body": "b" } })), json!({}), "step.definition.config.subject"),
            (with(json!({ "config": { "records": { "limit": 501, "linked": true } } })), json!({}), "step.definition.config.records.limit"),
            (with(json!({ "resultSchema": { "type": "nothing" } })), json!({}), "step.definition.resultSchema"),
            (with(json!({ "assignee": "nobody@example.com" })), json!({}), "step.definition.assignee"),
            (with(json!({ "maxAttempts": 0 })), json!({}), "step.definition.maxAttempts"),
            (json!({}), json!({}), "step"),
            (json!({ "templateId": weekly }), json!({}), "step"),
            (json!({ "templateId": weekly, "stepKey": "nothing" }), json!({}), "step.stepKey"),
            (json!({ "templateId": run, "stepKey": "nothing" }), json!({}), "step.templateId"),
            (plain(), json!({ "taskId": other_task }), "taskId"),
            (plain(), json!({ "afterStepId": others[0] }), "afterStepId"),
            (plain(), json!({ "taskId": own_task, "afterStepId": others[0] }), "afterStepId"),
            (plain(), json!({ "dueAt": past }), "dueAt"),
            (with(json!({ "dueIn": "1d" })), json!({ "dueAt": noon() + chrono::Duration::days(1) }), "dueAt"),
        ] {
            let mut input = json!({ "runId": run, "step": step });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let told = refused(&world, ADD, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!(field)), "{input}: {told}");
        }
        for (field, id) in [("taskId", "task_01h455vb4pex5vsknk084sn02q"), ("afterStepId", "step_01h455vb4pex5vsknk084sn02q"), ("runId", "run_01h455vb4pex5vsknk084sn02q")] {
            let mut input = json!({ "runId": run, "step": plain() });
            input[field] = json!(id);
            assert_eq!(refused(&world, ADD, input).await["code"], "NOT_FOUND", "{field}");
        }
        // All problems are told at once.
        let told = refused(&world, ADD, json!({ "runId": run, "step": with(json!({ "type": "fly", "trigger": "event:a.b", "maxAttempts": 0 })) })).await;
        let paths: BTreeSet<&str> = told["problems"].as_array().unwrap().iter().map(|problem| problem["path"].as_str().unwrap()).collect();
        assert_eq!(paths, BTreeSet::from(["maxAttempts", "trigger", "type"]), "{told}");
        // The task must be named where there are several.
        let one = |key: &str| json!({ "key": key, "name": key, "steps": [{ "key": format!("{key}_s"), "name": "S", "type": "note", "assignedTo": "HUMAN", "trigger": "manual" }] });
        let two = json!({ "runTemplates": [{ "key": "two", "name": "Two", "kind": "GUIDED", "phases": [{ "key": "p", "name": "P", "tasks": [one("left"), one("right")] }] }] });
        world.apply(&two.to_string()).await;
        let two = world.guided("two", json!({})).await;
        let told = refused(&world, ADD, json!({ "runId": two, "step": plain() })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("BAD_USER_INPUT"), &json!("taskId")), "{told}");
        assert!(told["message"].as_str().unwrap().contains("left (task_"), "{told}");
        let (left, right) = (world.guided_step(&two, "left_s").await, read(&world, &two).await["phases"][0]["tasks"][1]["id"].clone());
        add(&world, &two, plain(), json!({ "afterStepId": left })).await;
        add(&world, &two, plain(), json!({ "taskId": right })).await;
        assert_eq!(order(&world, &two).await, ["left_s", "b", "right_s", "b_2"]);
        let told = refused(&world, ADD, json!({ "runId": two, "step": plain(), "taskId": right, "afterStepId": left })).await;
        assert_eq!(told["field"], "afterStepId");
        // Nothing was written of what was refused.
        assert_eq!(order(&world, &run).await, ["a"]);
        assert_eq!((number_of(&world, "step.added").await, read(&world, &run).await["steps"]["nodes"][0]["id"].clone()), (2, json!(steps[0])));
        world.end().await;
    }
}

both! {
    async fn only_open_guided_work_is_mended(kind) {
        let world = World::without_server(kind, None).await;
        let step = || declared("z", "note", json!({}));
        let check = async |what: &str, run: &str, may_steps: bool, may_outcome: bool| {
            let now = read(&world, run).await;
            assert_eq!((allowed(&now, "ADD_STEP"), allowed(&now, "REORDER_STEPS")), (may_steps, may_steps), "{what}: {now:#}");
            assert_eq!(allowed(&now, "UPDATE_OUTCOME"), may_outcome, "{what}: {now:#}");
            assert!(allowed(&now, "UPDATE"));
            let task = now["phases"][0]["tasks"][0]["id"].as_str().unwrap_or("task_01h455vb4pex5vsknk084sn02q").to_owned();
            if !may_steps {
                let told = refused(&world, ADD, json!({ "runId": run, "step": step() })).await;
                let why = now["availableActions"].as_array().unwrap().iter().find(|one| one["action"] == "ADD_STEP").unwrap()["blockedBecause"].clone();
                assert_eq!((&told["code"], &told["message"]), (&json!("CONFLICT"), &why), "{what}");
                assert_eq!(refused(&world, REORDER, json!({ "runId": run, "taskId": task, "stepIds": [] })).await["code"], "CONFLICT", "{what}");
            } else {
                add(&world, run, step(), json!({})).await;
            }
            let answer = world.post(OUTCOME, json!({ "input": { "runId": run, "outcome": "O", "reason": "R" } })).await;
            assert_eq!(answer["errors"].is_null(), may_outcome, "{what}: {answer:#}");
        };
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        check("in progress", &run, true, false).await;
        let act = async |verb: &str, run: &str| drop(world.act(verb, "run", json!({ "id": run })).await);
        act("pauseRun", &run).await;
        check("paused", &run, true, false).await;
        act("resumeRun", &run).await;
        finish(&world, &run, "done").await;
        check("completed", &run, false, true).await;
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        act("cancelRun", &run).await;
        world.tick(true).await;
        check("cancelled", &run, false, true).await;
        let schedule = "mutation { scheduleGuidedRun(input: { templateKey: \"mou-sprint\", at: \"2027-01-01T00:00:00Z\" }) { run { id } } }";
        let scheduled = world.ask(schedule, json!({})).await["scheduleGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        check("scheduled", &scheduled, false, false).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        check("a campaign's run", &run, false, false).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        check("a campaign's cancelled run", &run, false, false).await;
        world.end().await;
    }
}

both! {
    async fn a_task_that_is_done_is_open_again_with_a_new_step(kind) {
        let world = World::without_server(kind, None).await;
        for verbs in [&["startStep", "completeStep"][..], &["skipStep"]] {
            let (run, steps) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
            let status = async || read(&world, &run).await["phases"][0]["tasks"][0]["status"].clone();
            for verb in verbs {
                world.step_act(verb, &steps[0], json!({})).await;
            }
            let done = if verbs.len() == 2 { "COMPLETED" } else { "SKIPPED" };
            assert_eq!(status().await, done);
            assert!(allowed(&read(&world, &run).await, "COMPLETE"));
            let paused = verbs.len() == 1;
            if paused {
                world.act("pauseRun", "run", json!({ "id": run })).await;
            }
            let added = add(&world, &run, declared("b", "note", json!({})), json!({})).await;
            assert_eq!((added["task"]["status"].clone(), status().await), (json!("IN_PROGRESS"), json!("IN_PROGRESS")));
            if paused {
                world.act("resumeRun", "run", json!({ "id": run })).await;
            }
            assert!(!allowed(&read(&world, &run).await, "COMPLETE"));
            for verb in ["startStep", "completeStep"] {
                world.step_act(verb, added["id"].as_str().unwrap(), json!({})).await;
            }
            assert_eq!(status().await, "COMPLETED");
            finish(&world, &run, "twice").await;
        }
        world.end().await;
    }
}

both! {
    async fn steps_that_have_not_begun_get_another_order(kind) {
        let world = World::without_server(kind, None).await;
        let named = ["a", "b", "c", "d"].map(|key| (key, "note", json!({})));
        let (run, ids) = world.own_run(&named, json!({})).await;
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| ids[i].clone());
        let task = task(&world, &run).await;
        let reorder = async |order: &[&String], more: Value| {
            let mut input = json!({ "runId": run, "taskId": task, "stepIds": order });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.post(REORDER, json!({ "input": input })).await
        };
        world.step_act("startStep", &b, json!({})).await;
        let before = read(&world, &run).await;
        let revision = before["revision"].as_i64().unwrap();
        let done = reorder(&[&d, &c, &a], json!({ "expectedRevision": revision })).await;
        assert_eq!(done["data"]["reorderRunSteps"]["run"]["revision"], revision + 1, "{done:#}");
        // The step in progress keeps its place; no step's own revision changes.
        assert_eq!(order(&world, &run).await, ["d", "b", "c", "a"]);
        let revisions = |run: &Value| run["steps"]["nodes"].as_array().unwrap().iter().map(|step| step["revision"].clone()).collect::<Vec<_>>();
        assert_eq!(revisions(&read(&world, &run).await), revisions(&before));
        // The same order again is no change.
        let again = reorder(&[&d, &c, &a], json!({})).await;
        assert_eq!(again["data"]["reorderRunSteps"]["run"]["revision"], revision + 1);
        let told = payloads(&world, "task.steps_reordered").await;
        assert_eq!(told, [json!({ "key": "steps", "name": "Steps", "stepIds": [d, c, a], "formerStepIds": [a, c, d] })]);
        for (order, more, code, field) in [
            (vec![&d, &c, &a], json!({ "expectedRevision": revision }), "CONFLICT", json!(null)),
            (vec![&d, &c, &a, &b], json!({}), "CONFLICT", json!("stepIds")),
            (vec![&d, &c], json!({}), "CONFLICT", json!("stepIds")),
            (vec![], json!({}), "CONFLICT", json!("stepIds")),
            (vec![&d, &d, &c, &a], json!({}), "BAD_USER_INPUT", json!("stepIds[1]")),
            (vec![&d, &run, &a], json!({}), "BAD_USER_INPUT", json!("stepIds[1]")),
        ] {
            let told = reorder(&order, more).await["errors"][0]["extensions"].clone();
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &field), "{order:?}: {told}");
            if field == "stepIds" {
                assert_eq!(told["pendingStepIds"], json!([d, c, a]), "{told}");
            }
        }
        let (other, others) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let told = reorder(&[&others[0], &d, &c, &a], json!({})).await["errors"][0]["extensions"].clone();
        assert_eq!(told["field"], "stepIds[0]");
        let told = refused(&world, REORDER, json!({ "runId": other, "taskId": task, "stepIds": [d, c, a] })).await;
        assert_eq!(told["field"], "taskId");
        assert_eq!(refused(&world, REORDER, json!({ "runId": run, "taskId": "task_01h455vb4pex5vsknk084sn02q", "stepIds": [] })).await["code"], "NOT_FOUND");
        let many = vec![&a; 1_001];
        assert_eq!(reorder(&many, json!({})).await["errors"][0]["extensions"]["code"], "LIMIT_EXCEEDED");
        assert_eq!(order(&world, &run).await, ["d", "b", "c", "a"]);
        // What is reset has not begun; a new step stands where it was put in the new order.
        world.step_act("resetStep", &b, json!({})).await;
        let added = add(&world, &run, declared("e", "note", json!({})), json!({ "afterStepId": d })).await;
        let e = added["id"].as_str().unwrap().to_owned();
        assert_eq!(order(&world, &run).await, ["d", "e", "b", "c", "a"]);
        assert!(reorder(&[&a, &b, &c, &d, &e], json!({})).await["errors"].is_null());
        assert_eq!(order(&world, &run).await, ["a", "b", "c", "d", "e"]);
        // A step whose work is done stays in its place, also when all others move around it.
        for verb in ["startStep", "completeStep"] {
            world.step_act(verb, &c, json!({})).await;
        }
        assert!(reorder(&[&e, &d, &b, &a], json!({})).await["errors"].is_null());
        assert_eq!(order(&world, &run).await, ["e", "d", "c", "b", "a"]);
        finish(&world, &run, "").await;
        world.end().await;
    }
}

both! {
    async fn tasks_of_all_runs_list_their_steps_beside_each_other(kind) {
        let world = World::without_server(kind, None).await;
        let plan = world.plan("EMAIL", 3).await;
        world.activate(&plan).await;
        let launched = world.launch(&plan).await;
        world.tick(true).await;
        let mut mended = Vec::new();
        for _ in 0..3 {
            let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
            let task = task(&world, &run).await;
            world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": [ids[1], ids[0]] } })).await;
            mended.push(run);
        }
        let query = "{ runs(first: 10) { nodes { id phases { tasks { fanOut progress { total } steps(first: 2) { totalCount nodes { key sequence } pageInfo { hasNextPage } } } } } } }";
        let found = world.ask(query, json!({})).await;
        let (mut fans, mut singles) = (0, 0);
        for run in found["runs"]["nodes"].as_array().unwrap() {
            for task in run["phases"].as_array().unwrap().iter().flat_map(|phase| phase["tasks"].as_array().unwrap()) {
                let (steps, total) = (&task["steps"], task["progress"]["total"].as_u64().unwrap());
                let nodes = steps["nodes"].as_array().unwrap();
                assert_eq!((steps["totalCount"].as_u64().unwrap(), nodes.len() as u64), (total, total.min(2)), "{task:#}");
                assert_eq!(steps["pageInfo"]["hasNextPage"], total > 2, "{task:#}");
                if task["fanOut"] == true {
                    fans += nodes.len();
                    continue;
                }
                singles += nodes.len();
                assert!(nodes.iter().enumerate().all(|(place, step)| step["sequence"] == place), "{task:#}");
                if mended.iter().any(|id| run["id"] == id.as_str()) {
                    assert_eq!((&nodes[0]["key"], &nodes[1]["key"]), (&json!("b"), &json!("a")));
                }
            }
        }
        assert!(fans > 1 && singles > 6, "{found:#}");
        assert!(found["runs"]["nodes"].as_array().unwrap().iter().any(|run| run["id"] == launched.as_str()));
        world.end().await;
    }
}

both! {
    async fn as_many_steps_as_a_run_may_have(kind) {
        let world = World::without_server(kind, None).await;
        let all: Vec<Value> = (0..997).map(|i| declared(&format!("s{i}"), "note", json!({}))).collect();
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id } } }";
        let started = world.ask(start, json!({ "input": { "name": "Long", "steps": all } })).await;
        let run = started["startGuidedRun"]["run"]["id"].as_str().unwrap().to_owned();
        let mut ids = Vec::new();
        let mut after = Value::Null;
        let page = "query($id: ID!, $after: String) { steps(filter: { runIds: [$id] }, first: 500, after: $after) { nodes { id } pageInfo { endCursor } } }";
        for _ in 0..2 {
            let found = world.ask(page, json!({ "id": run, "after": after })).await["steps"].clone();
            ids.extend(found["nodes"].as_array().unwrap().iter().map(|step| step["id"].clone()));
            after = found["pageInfo"]["endCursor"].clone();
        }
        let added = add(&world, &run, declared("last", "note", json!({})), json!({ "afterStepId": ids[0] })).await;
        assert_eq!(added["sequence"], 1);
        let told = refused(&world, ADD, json!({ "runId": run, "step": declared("more", "note", json!({})) })).await;
        assert_eq!((&told["code"], &told["field"]), (&json!("LIMIT_EXCEEDED"), &json!("step")), "{told}");
        // Pages of the task's steps are in its order.
        let task = task(&world, &run).await;
        let page = "query($id: ID!, $after: String) { node(id: $id) { ... on Run { phases { tasks { steps(first: 400, after: $after) { totalCount nodes { key sequence } pageInfo { hasNextPage endCursor } } } } } } }";
        let (mut seen, mut after) = (Vec::new(), Value::Null);
        loop {
            let found = world.ask(page, json!({ "id": run, "after": after })).await["node"]["phases"][0]["tasks"][0]["steps"].clone();
            assert_eq!(found["totalCount"], 998);
            seen.extend(found["nodes"].as_array().unwrap().iter().map(|step| step["sequence"].as_i64().unwrap()));
            after = found["pageInfo"]["endCursor"].clone();
            if found["pageInfo"]["hasNextPage"] == false {
                break;
            }
        }
        assert!(seen.into_iter().eq(0..998));
        ids.push(added["id"].clone());
        ids.reverse();
        world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": ids } })).await;
        assert_eq!(world.number("SELECT CAST(sequence AS bigint) FROM step WHERE key = 'last'").await, 0);
        assert_eq!(world.number("SELECT CAST(sequence AS bigint) FROM step WHERE key = 's0'").await, 997);
        assert_eq!(world.number("SELECT COUNT(DISTINCT sequence) FROM step").await, 998);
        world.end().await;
    }
}

both! {
    async fn several_who_mend_at_once(kind) {
        let world = Arc::new(World::new(kind).await);
        let named = ["a", "b", "c"].map(|key| (key, "note", json!({})));
        let (run, ids) = world.own_run(&named, json!({})).await;
        let task = task(&world, &run).await;
        // All that are added are there, each in a place of its own, and a key adds once.
        let mut twins = tokio::task::JoinSet::new();
        for i in 0..12 {
            let (world, run, first) = (world.clone(), run.clone(), ids[0].clone());
            twins.spawn(async move {
                let input = json!({ "runId": run, "step": declared("same", "note", json!({})), "afterStepId": first, "idempotencyKey": format!("twin {}", i % 6) });
                world.ask(ADD, json!({ "input": input })).await["addRunStep"]["step"]["id"].to_string()
            });
        }
        let made: BTreeSet<String> = twins.join_all().await.into_iter().collect();
        assert_eq!(made.len(), 6);
        let all = order(&world, &run).await;
        assert_eq!(all.len(), 9, "{all:?}");
        assert_eq!((all[0].as_str(), all[8].as_str()), ("a", "c"));
        // With the revision that both saw, one of two is refused.
        let revision = read(&world, &run).await["revision"].clone();
        let input = json!({ "runId": run, "step": declared("x", "note", json!({})), "expectedRevision": revision });
        let (one, two) = tokio::join!(world.post(ADD, json!({ "input": input })), world.post(ADD, json!({ "input": input })));
        let codes: BTreeSet<String> = [one, two].iter().map(|answer| answer["errors"][0]["extensions"]["code"].to_string()).collect();
        assert_eq!(codes, BTreeSet::from(["\"CONFLICT\"".to_owned(), "null".to_owned()]));
        // A new order while one of the steps is started: either comes first.
        for step in &ids {
            let run_now = read(&world, &run).await;
            let mut pending: Vec<(i64, Value)> = run_now["steps"]["nodes"].as_array().unwrap().iter()
                .filter(|step| step["status"] == "PENDING")
                .map(|step| (-step["sequence"].as_i64().unwrap(), step["id"].clone()))
                .collect();
            pending.sort_by_key(|(place, _)| *place);
            let turned: Vec<Value> = pending.into_iter().map(|(_, id)| id).collect();
            let input = json!({ "input": { "runId": run, "taskId": task, "stepIds": turned } });
            let (ordered, begun) = tokio::join!(world.post(REORDER, input), world.step_act("startStep", step, json!({})));
            assert_eq!(begun["status"], "IN_PROGRESS");
            let code = &ordered["errors"][0]["extensions"]["code"];
            assert!(code.is_null() || code == "CONFLICT", "{ordered:#}");
            order(&world, &run).await;
            world.step_act("completeStep", step, json!({})).await;
        }
        // Cancelled meanwhile: what was added before is skipped with the rest.
        let input = json!({ "input": { "runId": run, "step": declared("late", "note", json!({})) } });
        let cancel = "mutation($id: ID!) { cancelRun(input: { id: $id }) { run { status } } }";
        let (added, cancelled) = tokio::join!(world.post(ADD, input), world.ask(cancel, json!({ "id": run })));
        assert_eq!(cancelled["cancelRun"]["run"]["status"], "CANCELLED");
        let code = &added["errors"][0]["extensions"]["code"];
        assert!(code.is_null() || code == "CONFLICT", "{added:#}");
        let open = "query($id: ID!) { run(id: $id) { steps(filter: { statuses: [PENDING, IN_PROGRESS] }) { totalCount } } }";
        world.until("its steps to be skipped", open, json!({ "id": run }), |data| data["run"]["steps"]["totalCount"] == 0).await;
        let Ok(world) = Arc::try_unwrap(world) else { panic!("still shared") };
        world.end().await;
    }
}

both! {
    async fn a_live_list_shows_new_steps_and_their_order(kind) {
        let world = World::new(kind).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
        let task = task(&world, &run).await;
        let mut socket = Socket::open(world.address).await;
        let document = "subscription($run: ID!) { stepList(filter: { runIds: [$run] }) { kind nodes { id sequence } entered { node } } }";
        socket.subscribe("l", document, json!({ "run": run })).await;
        assert_eq!(socket.next().await["stepList"]["nodes"].as_array().unwrap().len(), 2);
        let added = add(&world, &run, declared("c", "note", json!({})), json!({ "afterStepId": ids[0] })).await;
        let item = socket.next().await["stepList"].clone();
        assert_eq!((&item["kind"], &item["entered"][0]["node"]), (&json!("CHANGED"), &added["id"]), "{item:#}");
        // The step behind it has moved on.
        assert!(item["nodes"].as_array().unwrap().contains(&json!({ "id": ids[1], "sequence": 2 })), "{item:#}");
        world.ask(REORDER, json!({ "input": { "runId": run, "taskId": task, "stepIds": [ids[1], added["id"], ids[0]] } })).await;
        let item = socket.next().await["stepList"].clone();
        for moved in [json!({ "id": ids[1], "sequence": 0 }), json!({ "id": ids[0], "sequence": 2 })] {
            assert!(item["nodes"].as_array().unwrap().contains(&moved), "{item:#}");
        }
        world.end().await;
    }
}

both! {
    async fn the_outcome_is_corrected(kind) {
        let world = World::new(kind).await;
        let (run, _) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let plan = world.plan("EMAIL", 1).await;
        world.activate(&plan).await;
        let launched = world.launch(&plan).await;
        world.until_review(&launched).await;
        let goals = async || world.ask("{ goals { nodes { id outcomes { runsByStatus { status count } recipientsByOutcome { outcome count } } } } }", json!({})).await;
        finish(&world, &run, "Three signed").await;
        let (before, goals_before) = (read(&world, &run).await, goals().await);
        let revision = before["revision"].as_i64().unwrap();
        let correct = async |outcome: Value, more: Value| {
            let mut input = json!({ "runId": run, "outcome": outcome, "reason": "miscounted" });
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            world.ask(OUTCOME, json!({ "input": input })).await["updateRunOutcome"]["run"].clone()
        };
        let two = correct(json!("Two signed"), json!({ "expectedRevision": revision })).await;
        assert_eq!(two, json!({ "id": run, "status": "COMPLETED", "outcome": "Two signed", "revision": revision + 1 }));
        assert_eq!(correct(json!("Two signed"), json!({})).await, two, "the same outcome is no change");
        for (input, code, field) in [
            (json!({ "runId": run, "outcome": "x", "reason": "r", "expectedRevision": revision }), "CONFLICT", json!(null)),
            (json!({ "runId": run, "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "ü".repeat(10_001), "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "a\u{0}b", "reason": "r" }), "BAD_USER_INPUT", json!("outcome")),
            (json!({ "runId": run, "outcome": "x", "reason": " \u{200b}" }), "BAD_USER_INPUT", json!("reason")),
            (json!({ "runId": "run_01h455vb4pex5vsknk084sn02q", "outcome": "x", "reason": "r" }), "NOT_FOUND", json!(null)),
        ] {
            let told = refused(&world, OUTCOME, input.clone()).await;
            assert_eq!((&told["code"], &told["field"]), (&json!(code), &field), "{input}: {told}");
        }
        assert_eq!(correct(json!(null), json!({ "idempotencyKey": "k" })).await["outcome"], json!(null));
        assert_eq!(correct(json!(null), json!({ "idempotencyKey": "k" })).await["outcome"], json!(null));
        let told = payloads(&world, "run.outcome_corrected").await;
        let changes: Vec<_> = told.iter().map(|payload| (&payload["before"], &payload["after"], &payload["reason"])).collect();
        let why = json!("miscounted");
        assert_eq!(changes, [(&json!("Three signed"), &json!("Two signed"), &why), (&json!("Two signed"), &json!(null), &why)]);
        // Its steps, its status and the goals' numbers are as they were.
        let after = read(&world, &run).await;
        for field in ["status", "phases", "steps", "progress"] {
            assert_eq!(after[field], before[field], "{field}");
        }
        assert_eq!(goals().await, goals_before);
        let audit = world.ask("{ audit(filter: { mutations: [\"updateRunOutcome\"], outcomes: [DONE] }) { nodes { targetId input } } }", json!({})).await;
        let first = audit["audit"]["nodes"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&first["targetId"], first["input"].to_string().contains("Two signed")), (&json!(run), true), "{audit:#}");
        world.end().await;
    }
}

both! {
    async fn roles_of_those_who_mend(kind) {
        let world = World::with_auth(kind).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({})), ("b", "note", json!({}))], json!({})).await;
        let task = task(&world, &run).await;
        let (viewer, operator, manager) = (world.key(Role::Viewer).await, world.key(Role::Operator).await, world.key(Role::Manager).await);
        let ask = async |key: &str, query: &str, input: Value| world.post_as(key, query, json!({ "input": input })).await.1;
        let code = |answer: &Value| answer["errors"][0]["extensions"]["code"].clone();
        for (query, input) in [
            (UPDATE, json!({ "id": run, "name": "N" })),
            (ADD, json!({ "runId": run, "step": declared("c", "note", json!({})) })),
            (REORDER, json!({ "runId": run, "taskId": task, "stepIds": [ids[1], ids[0]] })),
        ] {
            assert_eq!(code(&ask(&viewer, query, input.clone()).await), "FORBIDDEN");
            if query == REORDER {
                world.step_act("skipStep", &world.guided_step(&run, "c").await, json!({})).await;
            }
            let done = ask(&operator, query, input).await;
            assert!(done.get("errors").is_none(), "{done:#}");
        }
        finish(&world, &run, "first").await;
        let input = json!({ "runId": run, "outcome": "second", "reason": "r" });
        assert_eq!(code(&ask(&operator, OUTCOME, input.clone()).await), "FORBIDDEN");
        assert_eq!(ask(&manager, OUTCOME, input).await["data"]["updateRunOutcome"]["run"]["outcome"], "second");
        world.end().await;
    }
}

both! {
    async fn another_org_mends_nothing(kind) {
        let world = World::without_server(kind, None).await;
        let (run, ids) = world.own_run(&[("a", "note", json!({}))], json!({})).await;
        let other = Viewer::admin_of(&world.db, OrgId::new(), "Other").await.unwrap();
        let (task, db) = (task(&world, &run).await.parse().unwrap(), world.db.write());
        let (id, step) = (run.parse().unwrap(), ids[0].parse().unwrap());
        let changes = Changes { name: Some("Theirs".into()), description: Some(None) };
        assert!(update::update(&db, &other, id, None, &changes).await.is_err());
        let declared = serde_json::from_value(declared("b", "note", json!({}))["definition"].clone()).unwrap();
        let new = NewStep { draft: GuidedStepDraft::Own(Box::new(declared)), task_id: Some(task), after: Some(step), due_at: None };
        assert!(add_step::add(&db, &other, id, None, &new).await.is_err());
        assert!(reorder_steps::reorder(&db, &other, id, None, task, &[step]).await.is_err());
        finish(&world, &run, "ours").await;
        assert!(outcome::correct(&db, &other, id, None, Some("theirs"), "r").await.is_err());
        assert_eq!(read(&world, &run).await["outcome"], "ours");
        assert_eq!(order(&world, &run).await, ["a"]);
        world.end().await;
    }
}

both! {
    async fn a_kill_while_mending_leaves_nothing_half_done(kind) {
        let home = Home::new(kind).await;
        let life = home.begin();
        let start = "mutation($input: StartGuidedRunInput!) { startGuidedRun(input: $input) { run { id phases { tasks { id } } steps { nodes { id key } } } } }";
        let input = json!({ "name": "Mended", "steps": [declared("a", "note", json!({})), declared("b", "note", json!({}))] });
        let started = life.ask(start, json!({ "input": input })).await.unwrap()["startGuidedRun"]["run"].clone();
        life.kill();
        home.gone().await;
        let run = &started["id"];
        let id = |key: &str| started["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()["id"].clone();
        let (a, b) = (id("a"), id("b"));
        let add = json!({ "runId": run, "step": declared("c", "note", json!({})), "afterStepId": a, "idempotencyKey": "add" });
        let order = |ids: &[&Value]| json!({ "runId": run, "taskId": started["phases"][0]["tasks"][0]["id"], "stepIds": ids, "idempotencyKey": "order" });
        let mut added = Value::Null;
        for (place, query) in [("step_added:1", ADD), ("steps_reordered:1", REORDER)] {
            let input = if query == ADD { add.clone() } else { order(&[&b, &added, &a]) };
            let mut life = home.begin_at(Some(place)).unwrap();
            assert!(life.ask(query, json!({ "input": input })).await.is_none(), "{place}");
            let deadline = Instant::now() + Duration::from_secs(60);
            while !life.is_over() {
                assert!(Instant::now() < deadline, "never came to {place}");
                tokio::task::yield_now().await;
            }
            home.gone().await;
            home.check();
            assert_eq!(home.count("SELECT COUNT(*) FROM event WHERE kind IN ('step.added', 'task.steps_reordered')").await, i64::from(query == REORDER));
            // Repeated, it is done once.
            let life = home.begin();
            let first = life.ask(query, json!({ "input": input })).await.unwrap();
            assert_eq!(life.ask(query, json!({ "input": input })).await.unwrap(), first);
            if query == ADD {
                added = first["addRunStep"]["step"]["id"].clone();
            }
            life.kill();
            home.gone().await;
        }
        assert_eq!(home.texts("SELECT key FROM step ORDER BY sequence").await, ["b", "c", "a"]);
        home.check();
        home.remove();
    }
}
