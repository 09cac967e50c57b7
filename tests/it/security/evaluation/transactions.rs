//! Evaluation within a transaction delays it for a bounded time, and results are validated before
//! their transaction.

use std::time::{Duration, Instant};

use entity::member::Role;
use serde_json::{Value, json};
use sortie::kernel::budget;

use crate::harness::World;

const RECORD: &str = "mutation { createRecord(input: { kind: \"lead\", name: \"G\" }) { record { id } } }";

both! {
    /// Each of 400 steps has a condition that takes the maximum time: together more than half a
    /// minute.
    async fn conditions_of_one_transaction_have_a_bound_together(kind) {
        let world = World::without_server(kind, None).await;
        let numbers: Vec<String> = (0..140).map(|i| i.to_string()).collect();
        let numbers = numbers.join(", ");
        let when = format!("[{numbers}].all(a, [{numbers}].all(b, a + b >= 0))");
        let steps: Vec<Value> = (0..400)
            .map(|i| json!({ "key": format!("s{i}"), "type": "look", "assignedTo": "HUMAN", "when": when }))
            .collect();
        let phases = json!([{ "key": "all", "name": "All", "tasks": [{ "key": "t", "name": "T", "steps": steps }] }]);
        let yaml = json!({ "runTemplates": [{ "key": "looks", "name": "looks", "phases": phases }] }).to_string();
        world.apply(&yaml).await;
        world.create("record", json!({ "kind": "lead", "name": "Ann" })).await;
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("looks", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        let mut longest = Duration::ZERO;
        for _ in 0..5 {
            let begun = Instant::now();
            world.tick(false).await;
            longest = longest.max(begun.elapsed());
        }
        println!("the longest look took {longest:?}");
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE kind = 'look'").await, 400);
        // One tick is several transactions; the rest is the time of their statements.
        assert!(longest < 4 * (budget::ALL_TIME + budget::BATCH_TIME), "{longest:?}");
        world.drop_unchecked().await;
    }
}

both! {
    async fn results_are_judged_before_their_transaction(kind) {
        let world = World::with_auth(kind).await;
        let (admin, _) = world.tenant("other").await;
        let other = crate::harness::key(&world.db, &admin, Role::Manager, None).await;
        let ways: Vec<Value> = (0..400).map(|i| json!({ "enum": [i] })).collect();
        let schema = json!({ "properties": { "x": { "items": { "anyOf": ways } } } });
        let look = json!({ "key": "look", "type": "look", "assignedTo": "AGENT", "agent": "looker", "resultSchema": schema });
        let phases = json!([{ "key": "all", "name": "All", "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [look] }] }]);
        let manifest = json!({
            "agents": [{ "name": "looker", "filter": "true" }],
            "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }],
        });
        world.apply(&manifest.to_string()).await;
        for i in 0..60 {
            world.create("record", json!({ "kind": "lead", "name": format!("R{i}") })).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("looks", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        let queued = async {
            while world.number("SELECT COUNT(*) FROM step WHERE status = 'QUEUED'").await < 60 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), queued).await.expect("the steps are queued");
        let key = world.agent_key("looker").await;
        let items: Vec<usize> = (0..2_000).map(|i| i % 400).collect();
        let held: Vec<Value> = world
            .claim(&key, 60)
            .await
            .iter()
            .map(|step| json!({ "id": step["id"], "token": step["token"], "result": { "x": items } }))
            .collect();
        let settle = "mutation($steps: [SettleStepInput!]!) { settleSteps(input: { steps: $steps }) { steps { status code message } } }";
        let mut asked = Box::pin(world.post_as(&key, settle, json!({ "steps": held })));
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        let answer = loop {
            let since = Instant::now();
            let write = world.post_as(&other, RECORD, json!({}));
            let mut write = std::pin::pin!(write);
            tokio::select! {
                answer = &mut asked => break answer.1,
                (status, answer) = &mut write => {
                    assert!(status == 200 && answer.get("errors").is_none(), "{answer}");
                    longest = longest.max(since.elapsed());
                }
            }
        };
        drop(asked);
        let took = begun.elapsed();
        let steps = answer["data"]["settleSteps"]["steps"].as_array().unwrap_or_else(|| panic!("{answer:.500}")).clone();
        let done = steps.iter().filter(|step| step["status"] == "COMPLETED").count();
        println!("{done} of 60 results are judged, in {took:?}; a write of another org took {longest:?} at most");
        assert!(done > 0, "{answer:.500}");
        for step in steps.iter().filter(|step| step["status"] != "COMPLETED") {
            assert_eq!(step["code"], "LIMIT_EXCEEDED", "{step}");
        }
        assert!(longest < Duration::from_secs(2), "{longest:?}");
        assert!(took < Duration::from_secs(15), "{took:?}");
        // A worker whose leases have expired gets that error, whatever its results.
        let again = world.post_as(&key, settle, json!({ "steps": held })).await.1;
        assert_eq!(again["data"]["settleSteps"]["steps"][0]["code"], "CONFLICT", "{again:.500}");
        world.drop_unchecked().await;
    }
}

both! {
    /// A person's results are judged before their transaction, too: meanwhile others change the run.
    async fn results_of_people_are_judged_before_their_transaction(kind) {
        let world = World::with_auth(kind).await;
        let ways: Vec<Value> = (0..400).map(|i| json!({ "enum": [i] })).collect();
        let schema = json!({ "properties": { "x": { "items": { "anyOf": ways } } } });
        let look = json!({ "key": "look", "type": "look", "assignedTo": "HUMAN", "trigger": "immediate", "resultSchema": schema });
        let phases = json!([{ "key": "all", "name": "All", "tasks": [{ "key": "t", "name": "T", "fanOut": true, "steps": [look] }] }]);
        world.apply(&json!({ "runTemplates": [{ "key": "looks", "name": "Looks", "phases": phases }] }).to_string()).await;
        for i in 0..40 {
            world.create("record", json!({ "kind": "lead", "name": format!("R{i}") })).await;
        }
        let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
        world.fly("looks", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
        let queued = async {
            while world.number("SELECT COUNT(*) FROM step WHERE kind = 'look'").await < 40 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), queued).await.expect("the steps are there");
        let steps = world.ask("{ steps(first: 40) { nodes { id } } }", json!({})).await["steps"]["nodes"].clone();
        let steps: Vec<String> = steps.as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap().to_owned()).collect();
        let key = world.key(Role::Operator).await;
        let start = "mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }";
        let complete = "mutation($id: ID!, $result: JSON!) { completeStep(input: { id: $id, result: $result }) { step { status } } }";
        let skip = "mutation($id: ID!) { skipStep(input: { id: $id }) { step { status } } }";
        let items: Vec<usize> = (0..2_000).map(|i| i % 400).collect();
        let (_, told) = world.post_as(&key, start, json!({ "id": steps[0] })).await;
        assert_eq!(told["data"]["startStep"]["step"]["status"], "IN_PROGRESS", "{told}");
        // What is wrong is refused, as ever, and the step can be completed afterwards.
        let wrong = json!({ "id": steps[0], "result": { "x": [-1] } });
        let (_, told) = world.post_as(&key, complete, wrong).await;
        let error = &told["errors"][0]["extensions"];
        assert_eq!((&error["code"], &error["field"]), (&json!("BAD_USER_INPUT"), &json!("result")), "{told}");
        // While all threads of evaluation are taken, a result waits for its judgement, and others
        // change the run.
        let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let (taken, is_taken) = std::sync::mpsc::channel();
        let held: Vec<_> = (0..threads)
            .map(|_| {
                let ((held, is_over), taken) = (std::sync::mpsc::channel::<()>(), taken.clone());
                tokio::spawn(budget::run(budget::EvaluationPool::Request, move |_| {
                    let _ = taken.send(());
                    let _ = is_over.recv();
                }));
                held
            })
            .collect();
        tokio::task::block_in_place(|| (0..threads).for_each(|_| is_taken.recv().unwrap()));
        let result = json!({ "id": steps[0], "result": { "x": items } });
        let mut completed = Box::pin(world.post_as(&key, complete, result));
        for step in &steps[1..9] {
            let mut skipped = Box::pin(world.post_as(&key, skip, json!({ "id": step })));
            tokio::select! {
                (_, told) = &mut completed => panic!("judged without a thread of evaluation: {told:.500}"),
                (_, told) = &mut skipped => assert_eq!(told["data"]["skipStep"]["step"]["status"], "SKIPPED", "{told}"),
            }
        }
        drop(held);
        let (_, told) = completed.await;
        assert_eq!(told["data"]["completeStep"]["step"]["status"], "COMPLETED", "{told:.500}");
        world.drop_unchecked().await;
    }
}
