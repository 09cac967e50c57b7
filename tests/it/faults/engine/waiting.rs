//! Reasons for which a run waits, in every situation: for whom or what, how many steps could start
//! now, until when. And the reasons for its outcome.

use chrono::Duration;
use serde_json::{Value, json};

use super::{codes, reason, step, template, waits};
use crate::harness::api::{Answer, Api};
use crate::harness::{World, noon};

/// A template of one phase, task by task.
fn phase(key: &str, more: Value, tasks: Value) -> String {
    let mut phase = json!({ "key": "all", "name": "All", "autonomous": true, "tasks": tasks });
    phase.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "runTemplates": [{ "key": key, "name": key, "phases": [phase] }] }).to_string()
}

async fn lead(world: &World, id: &str) -> String {
    let input = json!({ "kind": "lead", "externalId": id, "name": id, "email": format!("{id}@example.com"), "attributes": { "first_name": id } });
    world.create("record", input).await
}

async fn until_code(world: &World, run: &str, code: &str) {
    let has = |data: &Value| data["run"]["waitingFor"].as_array().unwrap().iter().any(|one| one["code"] == code);
    world
        .until(code, "query($id: ID!) { run(id: $id) { waitingFor { code message } } }", json!({ "id": run }), has)
        .await;
}

async fn only_step(world: &World, run: &str, key: &str) -> Value {
    let query = "query($run: ID!) { steps(filter: { runIds: [$run] }, first: 100) { nodes { id key status } } }";
    let found = world.ask(query, json!({ "run": run })).await;
    found["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap().clone()
}

both! {
    async fn people_are_waited_for_as_many_as_could_begin(kind) {
        let world = World::without_server(kind, None).await;
        let member = "mutation { createMember(input: { name: \"Ann\", email: \"ann@example.com\", role: MANAGER }) { member { id } } }";
        world.ask(member, json!({})).await;
        let tasks = json!([
            { "key": "t_now", "name": "Now", "steps": [
                { "key": "now", "type": "look", "assignedTo": "HUMAN" },
                { "key": "then", "type": "look", "assignedTo": "HUMAN", "trigger": "after:now" },
                { "key": "last", "type": "look", "assignedTo": "HUMAN", "trigger": "delay:3 days" },
            ] },
            { "key": "t_ann", "name": "Hers", "steps": [{ "key": "hers", "type": "look", "assignedTo": "HUMAN", "trigger": "manual", "assignee": "ann@example.com" }] },
            { "key": "t_boss", "name": "Boss", "steps": [{ "key": "boss", "type": "look", "assignedTo": "HUMAN", "role": "MANAGER" }] },
            { "key": "t_after", "name": "Afterwards", "dependsOn": ["t_now", "t_boss"], "steps": [{ "key": "after", "type": "look", "assignedTo": "HUMAN" }] },
            { "key": "t_later", "name": "Later", "steps": [{ "key": "later", "type": "look", "assignedTo": "HUMAN", "trigger": "delay:2h" }] },
            { "key": "t_verdict", "name": "Verdict", "steps": [{ "key": "verdict", "type": "look", "assignedTo": "HUMAN", "approval": { "needed": 1 } }] },
        ]);
        world.apply(&phase("people", json!({ "autonomous": false }), tasks)).await;
        let record = lead(&world, "a").await;
        let run = world.fly("people", json!({ "recordId": record })).await;
        world.tick(true).await;
        let all = waits(&world, &run).await;
        let told: Vec<(&str, i64)> = all.iter().map(|one| (one["code"].as_str().unwrap(), one["steps"].as_i64().unwrap_or(-1))).collect();
        assert_eq!(told, [("PEOPLE", 1), ("PEOPLE", 1), ("PEOPLE", 1), ("DELAY", 1), ("PEOPLE", 1), ("BLOCKED", 1)], "{all:#?}");
        assert_eq!((&all[0]["roles"], &all[0]["who"], &all[0]["step"]["key"]), (&json!(["OPERATOR"]), &json!([]), &json!("now")));
        assert_eq!((&all[1]["roles"], &all[1]["who"]), (&json!([]), &json!([{ "kind": "MEMBER", "name": "Ann" }])));
        assert_eq!(all[2]["roles"], json!(["MANAGER"]));
        assert_eq!(all[3]["until"], "2026-11-02T14:00:00+00:00");
        assert!(all[5]["message"].as_str().unwrap().contains("Afterwards waits for Now, Boss"), "{all:#?}");
        // Started and completed: its dependents can start, one more step for a person.
        let now = only_step(&world, &run, "now").await;
        world.act("startStep", "step", json!({ "id": now["id"] })).await;
        assert!(waits(&world, &run).await[0]["message"].as_str().unwrap().contains("1 step is waiting for people, begun"));
        world.act("completeStep", "step", json!({ "id": now["id"] })).await;
        let first = waits(&world, &run).await[0].clone();
        assert_eq!((&first["code"], &first["steps"], &first["step"]["key"]), (&json!("PEOPLE"), &json!(1), &json!("then")), "queued, and a person's");
        let then = only_step(&world, &run, "then").await;
        world.act("startStep", "step", json!({ "id": then["id"] })).await;
        world.act("completeStep", "step", json!({ "id": then["id"] })).await;
        let all = waits(&world, &run).await;
        assert_eq!((&all[0]["code"], &all[0]["until"]), (&json!("DELAY"), &json!("2026-11-05T12:00:00+00:00")), "{all:#?}");
        // The step is due: a person can start it.
        world.clock.set(noon() + Duration::hours(2));
        let later: Vec<Value> = waits(&world, &run).await.into_iter().filter(|one| one["message"].as_str().unwrap().starts_with("Later")).collect();
        assert_eq!((later.len(), &later[0]["code"], &later[0]["steps"]), (1, &json!("PEOPLE"), &json!(1)));
        // Submitted: the run waits for somebody who may release it.
        let verdict = only_step(&world, &run, "verdict").await;
        world.act("startStep", "step", json!({ "id": verdict["id"] })).await;
        world.act("submitStep", "step", json!({ "id": verdict["id"] })).await;
        let told = reason(&world, &run, "APPROVAL").await;
        assert_eq!((&told["steps"], &told["roles"], &told["step"]["key"]), (&json!(1), &json!(["REVIEWER"]), &json!("verdict")));
        // Paused: that is reported first; nobody can approve or begin anything.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        let left = codes(&world, &run).await;
        assert!(left[0] == "RUN_PAUSED" && !left.iter().any(|code| code == "APPROVAL" || code == "PEOPLE"), "{left:?}");
        let campaign = world.ask("query($id: ID!) { run(id: $id) { campaign { id } } }", json!({ "id": run })).await["run"]["campaign"]["id"].clone();
        world.act("pauseCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(codes(&world, &run).await[..2], ["CAMPAIGN_PAUSED", "RUN_PAUSED"]);
        world.act("resumeCampaign", "campaign", json!({ "id": campaign })).await;
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(true).await;
        assert!(waits(&world, &run).await.is_empty(), "it has ended");
        world.end().await;
    }
}

both! {
    async fn workers_times_retries_and_events_are_told_with_their_time(kind) {
        let world = World::with_auth(kind).await;
        let tasks = json!([
            { "key": "t_look", "name": "Look", "fanOut": true, "steps": [{ "key": "look", "type": "look", "assignedTo": "AGENT" }] },
            { "key": "t_wait", "name": "Rest", "fanOut": true, "steps": [{ "key": "rest", "type": "wait", "assignedTo": "WORKFLOW", "config": { "duration": "1h" } }] },
            { "key": "t_point", "name": "Point", "fanOut": true, "steps": [{ "key": "point", "type": "wait", "assignedTo": "WORKFLOW", "config": { "until": "2026-11-03T00:00:00Z" } }] },
            { "key": "t_reply", "name": "Replies", "fanOut": true, "steps": [{ "key": "reply", "type": "handle", "assignedTo": "HUMAN", "trigger": "event:order.changed" }] },
        ]);
        world.apply(&phase("zoo", json!({ "openFor": "14 days" }), tasks)).await;
        // The org has an agent, but none whose filter admits such steps.
        world.apply(&json!({ "agents": [{ "name": "blind", "filter": "step.type == 'hear'" }] }).to_string()).await;
        for id in ["a", "b", "c"] {
            lead(&world, id).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("zoo", json!({ "segmentId": segment })).await;
        until_code(&world, &run, "NO_AGENT").await;
        let point = "query($run: ID!) { steps(filter: { runIds: [$run], types: [\"wait\"] }, first: 10) { nodes { key status attemptCount } } }";
        world.until("the points to be looked at", point, json!({ "run": run }), |data| {
            let all = data["steps"]["nodes"].as_array().unwrap();
            all.len() == 6 && all.iter().all(|step| step["status"] == "QUEUED" && step["attemptCount"] == i64::from(step["key"] == "point"))
        }).await;
        let all = waits(&world, &run).await;
        let told: Vec<(&str, i64, &str)> = all.iter().map(|one| (one["code"].as_str().unwrap(), one["steps"].as_i64().unwrap_or(-1), one["until"].as_str().unwrap_or_default())).collect();
        assert_eq!(told, [
            ("NO_AGENT", 3, ""),
            ("WAIT", 3, "2026-11-02T13:00:00+00:00"),
            ("WAIT", 3, "2026-11-03T00:00:00+00:00"),
            ("EVENTS", -1, "2026-11-16T12:00:00+00:00"),
        ], "{all:#?}");
        assert!(all[3]["message"].as_str().unwrap().contains("order.changed"), "{all:#?}");
        world.apply(&json!({ "agents": [{ "name": "looker", "filter": "step.type == 'look' && record.name != ''" }] }).to_string()).await;
        assert_eq!(codes(&world, &run).await[0], "WORKERS");
        let key = world.agent_key("looker").await;
        let mine = world.claim(&key, 2).await;
        let told = reason(&world, &run, "WORKERS").await;
        assert_eq!(told["steps"], 1, "those in hand are at work");
        assert!(told["message"].as_str().unwrap().ends_with("; 2 more in hand"), "{told}");
        let fail = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status } } }";
        let ends: Vec<Value> = mine.iter().map(|step| json!({ "id": step["id"], "token": step["token"], "error": "no line", "retryable": true })).collect();
        world.post_as(&key, fail, json!({ "steps": ends })).await;
        let told = reason(&world, &run, "RETRY").await;
        assert!(told["steps"] == 2 && told["message"].as_str().unwrap().contains("attempt 2 of 5"), "{told:#}");
        let until: chrono::DateTime<chrono::Utc> = told["until"].as_str().unwrap().parse().unwrap();
        assert!(until > noon() && until < noon() + Duration::seconds(3), "{until}");
        assert_eq!(reason(&world, &run, "WORKERS").await["steps"], 1);
        // The event arrives: the run waits for a person, with a step that could start.
        let records = world.ask("{ records(first: 1) { nodes { id } } }", json!({})).await;
        let raise = "mutation($id: ID!) { raiseEvent(input: { name: \"order.changed\", recordIds: [$id] }) { name } }";
        world.ask(raise, json!({ "id": records["records"]["nodes"][0]["id"] })).await;
        let told = reason(&world, &run, "PEOPLE").await;
        assert_eq!((&told["steps"], &told["step"]["key"]), (&json!(1), &json!("reply")), "{told:#}");
        world.end().await;
    }
}

both! {
    async fn a_run_that_is_scheduled_or_at_its_gate_says_so(kind) {
        let world = World::without_server(kind, None).await;
        let tasks = json!([{ "key": "t", "name": "T", "steps": [{ "key": "look", "type": "look", "assignedTo": "HUMAN" }] }]);
        world.apply(&phase("gate", json!({ "autonomous": false }), tasks)).await;
        let record = lead(&world, "a").await;
        let goal = world.create("goal", json!({ "name": "A goal" })).await;
        let input = json!({ "name": "gate", "runTemplateId": world.id_of("runTemplates", "key", "gate").await, "goalId": goal, "recordId": record });
        let campaign = world.create("campaign", input).await;
        world.act("submitCampaign", "campaign", json!({ "id": campaign })).await;
        world.act("approveCampaign", "campaign", json!({ "id": campaign })).await;
        let schedule = "mutation($id: ID!) { scheduleCampaign(input: { campaignId: $id, at: \"2026-11-02T13:00:00Z\" }) { run { id } } }";
        let run = world.ask(schedule, json!({ "id": campaign })).await["scheduleCampaign"]["run"]["id"].as_str().unwrap().to_owned();
        let told = reason(&world, &run, "SCHEDULED").await;
        assert_eq!((&told["until"], &told["steps"]), (&json!("2026-11-02T13:00:00+00:00"), &Value::Null));
        world.clock.set(noon() + Duration::hours(1));
        world.tick(true).await;
        assert_eq!(codes(&world, &run).await, ["PEOPLE"]);
        // In a pause people can't start it: it waits for the pause alone.
        world.act("pauseRun", "run", json!({ "id": run })).await;
        assert_eq!(codes(&world, &run).await, ["RUN_PAUSED"]);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        world.act("pauseCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(codes(&world, &run).await, ["CAMPAIGN_PAUSED"]);
        world.act("resumeCampaign", "campaign", json!({ "id": campaign })).await;
        assert_eq!(codes(&world, &run).await, ["PEOPLE"]);
        let look = only_step(&world, &run, "look").await;
        world.act("skipStep", "step", json!({ "id": look["id"], "reason": "no need" })).await;
        world.tick(true).await;
        let left = codes(&world, &run).await;
        assert!(left.is_empty() || left == ["RELEASE"], "{left:?}");
        world.end().await;
    }
}

both! {
    async fn a_paused_run_does_not_wait_to_be_released(kind) {
        let world = World::without_server(kind, None).await;
        let wait = step("wait", json!({ "until": "2026-11-02T11:00:00Z" }));
        let wait = json!({ "key": "wait", "type": wait["type"], "assignedTo": wait["assignedTo"], "config": wait["config"] });
        let tasks = json!([{ "key": "t", "name": "T", "steps": [wait] }]);
        world.apply(&phase("gate", json!({ "autonomous": false }), tasks)).await;
        let record = lead(&world, "a").await;
        let run = world.fly("gate", json!({ "recordId": record })).await;
        world.tick(false).await;
        assert_eq!(world.perform(&sortie::step_kind::wait::Wait).await, 1);
        world.tick(false).await;
        assert_eq!(codes(&world, &run).await, ["RELEASE"]);
        world.act("pauseRun", "run", json!({ "id": run })).await;
        assert_eq!(codes(&world, &run).await, ["RUN_PAUSED"]);
        world.act("resumeRun", "run", json!({ "id": run })).await;
        assert_eq!(codes(&world, &run).await, ["RELEASE"]);
        world.end().await;
    }
}

both! {
    async fn findings_say_how_many_failed_why_and_which(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        api.on("/a", Answer::Says(402, None, "no funds".into()));
        api.on("/b", Answer::Says(402, None, "no funds".into()));
        api.on("/c", Answer::Says(404, None, "unknown".into()));
        let world = World::new(kind).await;
        let call = json!({ "method": "POST", "url": format!("{}/{{{{ record.external_id }}}}", api.url()) });
        world.apply(&template("calls", true, &[("charge", step("api_call", call))])).await;
        let mut ids = Vec::new();
        for id in ["a", "b", "c", "d"] {
            ids.push(lead(&world, id).await);
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("calls", json!({ "segmentId": segment })).await;
        world.until_run(&run, "COMPLETED").await;
        let query = "query($id: ID!) { run(id: $id) { failure findings { code severity message count recordIds } } }";
        let found = world.ask(query, json!({ "id": run })).await["run"]["findings"].clone();
        let failed: Vec<&Value> = found.as_array().unwrap().iter().filter(|one| one["code"] == "STEPS_FAILED").collect();
        assert_eq!((failed.len(), &failed[0]["count"], &failed[0]["severity"]), (2, &json!(2), &json!("ERROR")), "{found:#}");
        assert!(failed[0]["message"].as_str().unwrap().contains("it answered 402: no funds"), "{found:#}");
        assert_eq!(failed[0]["recordIds"], json!([ids[0], ids[1]]));
        assert_eq!((&failed[1]["count"], &failed[1]["recordIds"]), (&json!(1), &json!([ids[2]])));
        // The run's failure reason is the step's own.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut charge = step("api_call", json!({ "url": format!("http://127.0.0.1:{port}/") }));
        charge["maxAttempts"] = json!(1);
        let tasks = json!([{ "key": "t", "name": "T", "steps": [{ "key": "charge", "name": "Charge", "type": "api_call", "assignedTo": "WORKFLOW", "maxAttempts": 1, "config": charge["config"] }] }]);
        world.apply(&phase("one", json!({ "name": "Processing" }), tasks)).await;
        let run = world.fly("one", json!({ "recordId": ids[0] })).await;
        let failure = world.until_run(&run, "FAILED").await["failure"].as_str().unwrap().to_owned();
        assert!(failure.starts_with("the phase Processing failed: Charge: ") && failure.contains("Connection refused"), "{failure}");
        let found = world.ask(query, json!({ "id": run })).await["run"]["findings"].clone();
        assert_eq!((&found[0]["code"], &found[0]["severity"], &found[0]["message"]), (&json!("FAILURE"), &json!("ERROR"), &json!(failure)));
        world.end().await;
    }
}

both! {
    async fn findings_of_a_flight_name_whom_it_did_not_reach(kind) {
        let sink = crate::harness::sink::Sink::start().await;
        let world = World::without_server(kind, Some(sink.url())).await;
        let plan = world.plan("EMAIL", 8).await;
        for input in [json!({ "id": plan.records[0], "email": null }), json!({ "id": plan.records[1], "unsubscribed": true })] {
            world.ask("mutation($input: UpdateRecordInput!) { updateRecord(input: $input) { record { id } } }", json!({ "input": input })).await;
        }
        let suppress = "mutation { suppressAddress(input: { channel: EMAIL, address: \"lead2@example.com\", reason: \"bounced\" }) { suppression { id } } }";
        world.ask(suppress, json!({})).await;
        world.activate(&plan).await;
        let run = world.launch(&plan).await;
        world.tick(true).await;
        let review = world.until_review(&run).await;
        world.act("approveStep", "step", json!({ "id": review })).await;
        sink.refuse("@example.com");
        world.tick(true).await;
        let query = "query($id: ID!) { run(id: $id) { status findings { code severity message count recordIds } } }";
        let told = world.ask(query, json!({ "id": run })).await["run"].clone();
        let of = |code: &str| -> Vec<Value> { told["findings"].as_array().unwrap().iter().filter(|one| one["code"] == code).cloned().collect() };
        let failed = of("FAILED");
        assert_eq!((failed.len(), &failed[0]["count"]), (1, &json!(5)), "{told:#}");
        assert!(failed[0]["message"].as_str().unwrap().contains("550"), "{told:#}");
        assert_eq!(failed[0]["recordIds"], json!(plan.records[3..8]));
        let away: i64 = of("SUPPRESSED").iter().chain(&of("LEFT_OUT")).map(|one| one["count"].as_i64().unwrap()).sum();
        assert_eq!(away, 3, "{told:#}");
        assert!(of("SUPPRESSED").iter().any(|one| one["recordIds"] == json!([plan.records[2]])), "{told:#}");
        world.end().await;
    }
}

both! {
    async fn a_mail_that_is_to_go_later_is_a_delay(kind) {
        let world = World::without_server(kind, None).await;
        let mail = |key: &str, trigger: &str| json!({ "key": key, "type": "email", "assignedTo": "WORKFLOW", "trigger": trigger, "config": { "subject": "s", "body": "b" } });
        let tasks = json!([{ "key": "t", "name": "Mails", "steps": [mail("later", "delay:3 days")] }]);
        world.apply(&phase("mails", json!({}), tasks)).await;
        let record = lead(&world, "a").await;
        let run = world.fly("mails", json!({ "recordId": record })).await;
        world.tick(true).await;
        let all = waits(&world, &run).await;
        assert_eq!(codes(&world, &run).await, ["DELAY"]);
        assert_eq!((&all[0]["until"], &all[0]["steps"]), (&json!("2026-11-05T12:00:00+00:00"), &json!(1)), "{all:#?}");
        // Once the step is due, the run waits for nothing.
        world.clock.set(noon() + Duration::days(3));
        world.tick(true).await;
        assert!(codes(&world, &run).await.is_empty());
        world.end().await;
    }
}

both! {
    /// Undoing a skip also restores the steps that were skipped because of it.
    async fn a_restarted_step_is_waited_for_again(kind) {
        let world = World::without_server(kind, None).await;
        let look = json!({ "key": "look", "name": "Look", "type": "look", "assignedTo": "HUMAN", "trigger": "immediate" });
        let mail = json!({ "key": "mail", "name": "Mail", "type": "email", "assignedTo": "WORKFLOW", "trigger": "after:look", "config": { "subject": "Hello", "body": "A word." } });
        let task = json!({ "key": "t", "name": "T", "fanOut": true, "steps": [look, mail] });
        let phases = json!([{ "key": "all", "name": "All", "tasks": [task] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "looks", "phases": phases }] }).to_string()).await;
        let plan = world.plan("EMAIL", 2).await;
        let run = world.fly("looks", json!({ "segmentId": plan.segment, "channel": "EMAIL" })).await;
        world.tick(false).await;
        let steps = "query($id: ID!) { run(id: $id) { steps(first: 50) { nodes { id key status reasonCode } } } }";
        let all = world.ask(steps, json!({ "id": run })).await["run"]["steps"]["nodes"].clone();
        let looks: Vec<_> = all.as_array().unwrap().iter().filter(|step| step["key"] == "look").map(|step| step["id"].clone()).collect();
        let of = async |key: &str, status: &str| {
            let all = world.ask(steps, json!({ "id": run })).await["run"]["steps"]["nodes"].clone();
            all.as_array().unwrap().iter().filter(|step| step["key"] == key && step["status"] == status).count()
        };
        world.act("skipStep", "step", json!({ "id": looks[0], "reason": "not now" })).await;
        assert_eq!(of("mail", "SKIPPED").await, 1);
        world.act("restartStep", "step", json!({ "id": looks[0] })).await;
        assert_eq!((of("mail", "SKIPPED").await, of("mail", "PENDING").await), (0, 2));
        for look in &looks {
            world.act("startStep", "step", json!({ "id": look })).await;
            world.act("completeStep", "step", json!({ "id": look })).await;
        }
        assert_eq!(of("mail", "QUEUED").await, 2);
        world.drop_unchecked().await;
    }
}
