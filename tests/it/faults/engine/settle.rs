//! A result that can't be stored fails its own step, once, and no other: answers, results, times.

use chrono::Duration;
use serde_json::{Value, json};

use super::{refuse, step, take_again, template};
use crate::harness::api::{Answer, Api};
use crate::harness::{World, noon};

const STEPS: &str = "query($run: ID!) { steps(filter: { runIds: [$run] }, first: 500) { nodes { id key status error result attemptCount availableAt record { externalId } } } }";

async fn steps(world: &World, run: &str) -> Vec<Value> {
    world.ask(STEPS, json!({ "run": run })).await["steps"]["nodes"].as_array().unwrap().clone()
}

async fn until_steps(world: &World, run: &str, count: usize, done: impl Fn(&Value) -> bool) -> Vec<Value> {
    let what = format!("{count} steps as wanted");
    let all = |data: &Value| {
        let steps = data["steps"]["nodes"].as_array().unwrap();
        steps.len() == count && steps.iter().all(&done)
    };
    let found = world.until(&what, STEPS, json!({ "run": run }), all).await;
    found["steps"]["nodes"].as_array().unwrap().clone()
}

fn is_closed(step: &Value) -> bool {
    ["COMPLETED", "FAILED", "SKIPPED"].contains(&step["status"].as_str().unwrap())
}

both! {
    async fn an_answer_that_no_database_holds_fails_its_step_once_and_no_other(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        let nested = format!("{{\"id\": {}1{}}}", "[".repeat(100), "]".repeat(100));
        for (path, body) in [
            ("/L-1", r#"{"id": "a\u0000b"}"#),
            ("/L-2", r#"{"id": 123456789012345678901234567890}"#),
            ("/L-3", r#"{"id": {"k\u0000": 1}}"#),
            ("/L-4", nested.as_str()),
            ("/L-5", r#"{"id": 18446744073709551615}"#),
            ("/L-6", r#"{"id": "\ud83d\ude00 fine \uffff"}"#),
        ] {
            api.on(path, Answer::Says(200, None, body.to_owned()));
        }
        // A rejection's text is stored as the reason, without the characters that can't be stored.
        api.on("/L-7", Answer::Says(400, None, "no\u{0}pe".into()));
        let world = World::new(kind).await;
        let call = json!({ "method": "POST", "url": format!("{}/{{{{ record.external_id }}}}", api.url()), "output": { "id": "/id" } });
        world.apply(&template("calls", true, &[("call", step("api_call", call))])).await;
        world.leads(9).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("calls", json!({ "segmentId": segment })).await;
        world.until_run(&run, "COMPLETED").await;
        for step in steps(&world, &run).await {
            let of = step["record"]["externalId"].as_str().unwrap().to_owned();
            let error = step["error"].as_str().unwrap_or_default();
            let (status, words) = match of.as_str() {
                "L-1" => ("FAILED", "UNSTORABLE: the result can't be stored at id: must not contain the character U+0000"),
                "L-3" => ("FAILED", "U+0000"),
                "L-2" | "L-5" => ("FAILED", "numbers must lie between"),
                "L-4" => ("FAILED", "nested"),
                "L-7" => ("FAILED", "it answered 400: no"),
                _ => ("COMPLETED", ""),
            };
            assert_eq!((&step["status"], &step["attemptCount"]), (&json!(status), &json!(1)), "{of}: {step:#}");
            assert!(error.contains(words) && !error.contains('\u{0}'), "{of}: {error}");
            assert_eq!(api.asked().iter().filter(|one| one["path"] == format!("/{of}")).count(), 1, "{of}");
        }
        world.end().await;
    }
}

both! {
    async fn what_a_worker_brings_is_kept_as_given(kind) {
        let world = World::with_auth(kind).await;
        let look = json!({ "type": "look", "assignedTo": "AGENT", "resultSchema": {} });
        let mut manifest: Value = serde_json::from_str(&template("looks", true, &[("look", look)])).unwrap();
        manifest["agents"] = json!([{ "name": "looker", "filter": "true" }]);
        world.apply(&manifest.to_string()).await;
        let given = [
            json!("hello"), json!("123"), json!("true"), json!("null"), json!(""), json!(true), json!(false), json!(1),
            json!(1.5), json!(-9007199254740993_i64), json!(9223372036854775807_i64), json!([]), json!([1, "a", null]),
            json!({}), json!({ "a": null, "b": { "c": "\"quoted\"" } }), json!("{\"a\": 1}"), json!("ünïcödé \u{10ffff}"),
        ];
        world.leads(given.len()).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("looks", json!({ "segmentId": segment })).await;
        world.until("its steps", STEPS, json!({ "run": run }), |data| data["steps"]["nodes"].as_array().unwrap().len() == given.len()).await;
        let key = world.agent_key("looker").await;
        let mine = world.claim(&key, 100).await;
        assert_eq!(mine.len(), given.len());
        let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code message } } }";
        let ends: Vec<Value> = mine.iter().zip(&given).map(|(step, result)| json!({ "id": step["id"], "token": step["token"], "result": result })).collect();
        let told = world.post_as(&key, settle, json!({ "steps": ends })).await.1;
        for one in told["data"]["settleSteps"]["steps"].as_array().unwrap_or_else(|| panic!("{told:#}")) {
            assert_eq!(one["status"], "COMPLETED", "{one}");
        }
        let kept = steps(&world, &run).await;
        for (step, result) in mine.iter().zip(&given) {
            let found = kept.iter().find(|one| one["id"] == step["id"]).unwrap();
            assert_eq!(&found["result"], result);
        }
        world.end().await;
    }
}

both! {
    async fn one_step_that_cannot_be_settled_stays_alone(kind) {
        let api = Api::start(Answer::json(200, json!({ "id": 1 }))).await;
        let world = World::new(kind).await;
        // Whatever the database rejects in this step does not affect the others.
        refuse(&world, kind, "no_bad", "UPDATE", "step", "NEW.key = 'bad' AND NEW.status = 'COMPLETED'").await;
        let call = |path: &str| step("api_call", json!({ "method": "POST", "url": format!("{}/{path}", api.url()) }));
        let all: Vec<(String, Value)> = (0..7).map(|i| (format!("good{i}"), call("good"))).chain([("bad".to_owned(), call("bad"))]).collect();
        let all: Vec<(&str, Value)> = all.iter().map(|(key, step)| (key.as_str(), step.clone())).collect();
        world.apply(&template("calls", false, &all)).await;
        world.leads(1).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("calls", json!({ "segmentId": segment })).await;
        for step in until_steps(&world, &run, 8, is_closed).await {
            let bad = step["key"] == "bad";
            assert_eq!((step["status"] == "FAILED", step["attemptCount"].as_i64()), (bad, Some(1)), "{step:#}");
            assert_eq!(step["error"].as_str().unwrap_or_default().starts_with("UNSTORABLE"), bad, "{step:#}");
        }
        assert_eq!(api.asked().iter().filter(|one| one["path"] == "/bad").count(), 1, "the call is not made again");
        take_again(&world, kind, "no_bad", "step").await;
        world.end().await;
    }
}

both! {
    async fn a_wait_to_either_end_of_time_is_claimed_once(kind) {
        let world = World::new(kind).await;
        let until = [
            ("9999-12-31T23:59:59-05:00", "FAILED"),
            ("9999-12-31T23:59:59.999999Z", "QUEUED"),
            ("9999-12-31T23:59:59+14:00", "QUEUED"),
            ("+10000-01-01T00:00:00Z", "FAILED"),
            ("+262000-01-01T00:00:00Z", "FAILED"),
            ("0000-12-31T23:59:59Z", "FAILED"),
            ("-0001-01-01T00:00:00Z", "FAILED"),
            ("-262000-01-01T00:00:00Z", "FAILED"),
            ("0001-01-01T00:00:00Z", "COMPLETED"),
            ("0001-01-01T00:00:00+01:00", "FAILED"),
            ("2026-11-02T12:00:00Z", "COMPLETED"),
            ("2026-11-02T12:00:01Z", "QUEUED"),
            ("9999-12-31", "QUEUED"),
            ("soon", "FAILED"),
        ];
        for (i, (at, _)) in until.iter().enumerate() {
            world.create("record", json!({ "kind": "lead", "externalId": format!("L-{i}"), "name": "L", "attributes": { "until": at } })).await;
        }
        let wait = step("wait", json!({ "until": "{{ record.until }}" }));
        world.apply(&template("waits", true, &[("wait", wait)])).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("waits", json!({ "segmentId": segment })).await;
        let is_through = |step: &Value| step["attemptCount"] == 1 && step["status"] != "IN_PROGRESS";
        until_steps(&world, &run, until.len(), is_through).await;
        // Another run's wait steps are done meanwhile by the same worker loop: none of these is
        // claimed again.
        let short = step("wait", json!({ "duration": "1s" }));
        world.apply(&template("short", true, &[("wait", short)])).await;
        let other = world.fly("short", json!({ "segmentId": segment })).await;
        until_steps(&world, &other, until.len(), |step| step["status"] == "QUEUED").await;
        world.clock.set(noon() + Duration::seconds(1));
        world.until_run(&other, "COMPLETED").await;
        for step in steps(&world, &run).await {
            let of: usize = step["record"]["externalId"].as_str().unwrap()[2..].parse().unwrap();
            let (at, status) = until[of];
            let (status, attempts) = if at == "2026-11-02T12:00:01Z" { ("COMPLETED", 2) } else { (status, 1) };
            assert_eq!((&step["status"], &step["attemptCount"]), (&json!(status), &json!(attempts)), "{at}: {step:#}");
            assert_eq!(step["error"].as_str().unwrap_or_default().contains("until:"), status == "FAILED", "{at}: {step:#}");
        }
        world.drop_unchecked().await;
    }
}

both! {
    async fn a_span_that_leads_beyond_time_ends_with_it(kind) {
        let world = World::new(kind).await;
        world.clock.set("9999-12-30T00:00:00Z".parse().unwrap());
        let mut long = step("wait", json!({ "duration": "3650 days" }));
        long["dueIn"] = json!("3650 days");
        let mut late = step("wait", json!({ "duration": "1s" }));
        late["trigger"] = json!("delay:3650 days");
        world.apply(&template("ends", false, &[("long", long), ("late", late)])).await;
        world.leads(1).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        let run = world.fly("ends", json!({ "segmentId": segment })).await;
        for step in until_steps(&world, &run, 2, |step| step["status"] == "QUEUED").await {
            assert_eq!((&step["availableAt"], &step["attemptCount"]), (&json!("9999-12-31T23:59:59.999999+00:00"), &json!(0)), "{step:#}");
        }
        world.drop_unchecked().await;
    }
}
