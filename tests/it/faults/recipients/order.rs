//! Several events about one record count in the order in which they occurred, whatever their run
//! was doing meanwhile.

use serde_json::{Value, json};

use super::{person, recipient_outcomes};
use crate::harness::World;

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger, "maxAttempts": 1 })
}

fn task(key: &str, fan_out: bool, steps: Value) -> Value {
    json!({ "key": key, "name": key, "fanOut": fan_out, "failWhen": if fan_out { "PERCENT(100)" } else { "ANY" }, "steps": steps })
}

async fn launched(world: &World, phases: Value, audience: Value) -> String {
    world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases }] }).to_string()).await;
    let mut input = json!({ "channel": "EMAIL" });
    input.as_object_mut().unwrap().extend(audience.as_object().unwrap().clone());
    let run = world.fly("dun", input).await;
    world.tick(false).await;
    run
}

async fn everybody(world: &World) -> Value {
    json!({ "segmentId": world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await })
}

async fn raise(world: &World, name: &str, records: &[&String]) {
    let query =
        "mutation($name: String!, $ids: [ID!]) { raiseEvent(input: { name: $name, recordIds: $ids }) { name } }";
    world.ask(query, json!({ "name": name, "ids": records })).await;
}

/// Keys, statuses and reasons of the steps, with the names of their records.
async fn states(world: &World, keys: &str) -> Vec<String> {
    let sql = format!(
        "SELECT COALESCE(r.name, '-'), s.key, s.status, COALESCE(s.reason, '-') FROM step s LEFT JOIN record r ON r.id = s.record_id \
         WHERE s.key IN ({keys}) ORDER BY 1, 2"
    );
    world.sql(&sql).await.into_iter().map(|row| row.join(" ")).collect()
}

async fn step(world: &World, key: &str) -> String {
    let all = world.ask("{ steps(first: 100) { nodes { id key } } }", json!({})).await["steps"]["nodes"].clone();
    let found = all.as_array().unwrap().iter().find(|step| step["key"] == key).unwrap().clone();
    found["id"].as_str().unwrap().to_owned()
}

both! {
    async fn events_count_in_their_order_whatever_the_run_is_doing(kind) {
        let (paid, first, last) = ("payment.received", "alarm.raised", "zone.closed");
        for doing in ["work", "pause", "failure", "earlier phase"] {
            let world = World::without_server(kind, None).await;
            let mut ids = Vec::new();
            for name in ["ann", "bob", "cat", "dan", "eve", "fay"] {
                ids.push(person(&world, name, &format!("{name}@example.com")).await);
            }
            let tasks = json!([
                task("b", false, json!([human("bad", "immediate")])),
                task("t", true, json!([human("w", "immediate")])),
                task("pay", true, json!([human("paid", "event:payment.received")])),
            ]);
            let main = json!({ "key": "p", "name": "P", "interruptEvents": [paid, first, last], "tasks": tasks });
            let before = json!({ "key": "q", "name": "Q", "tasks": [task("l", false, json!([human("look", "immediate")]))] });
            let phases = if doing == "earlier phase" { json!([before, main]) } else { json!([main]) };
            let run = launched(&world, phases, everybody(&world).await).await;
            match doing {
                "pause" => drop(world.act("pauseRun", "run", json!({ "id": run })).await),
                "failure" => {
                    let bad = step(&world, "bad").await;
                    world.step_act("startStep", &bad, json!({})).await;
                    world.step_act("failStep", &bad, json!({ "reason": "no" })).await;
                    world.tick(false).await;
                    world.until_run(&run, "FAILED").await;
                }
                _ => {}
            }
            // What stops after the payment stops its step, too; what stops before it does not.
            for (name, about) in [
                (first, vec![&ids[1]]), (last, vec![&ids[3]]), (paid, vec![&ids[0], &ids[1], &ids[2], &ids[3], &ids[4]]),
                (first, vec![&ids[0], &ids[4]]), (last, vec![&ids[2]]), (paid, vec![&ids[4]]),
            ] {
                raise(&world, name, &about).await;
            }
            match doing {
                "pause" => drop(world.act("resumeRun", "run", json!({ "id": run })).await),
                "failure" => drop(world.act("retryRun", "run", json!({ "id": run })).await),
                "earlier phase" => {
                    let look = step(&world, "look").await;
                    world.step_act("startStep", &look, json!({})).await;
                    world.step_act("completeStep", &look, json!({})).await;
                }
                _ => {}
            }
            world.tick(false).await;
            let mut wanted = vec![
                "ann paid SKIPPED INTERRUPTED", "ann w SKIPPED INTERRUPTED",
                "bob paid PENDING -", "bob w SKIPPED INTERRUPTED",
                "cat paid SKIPPED INTERRUPTED", "cat w SKIPPED INTERRUPTED",
                "dan paid PENDING -", "dan w SKIPPED INTERRUPTED",
                "eve paid SKIPPED INTERRUPTED", "eve w SKIPPED INTERRUPTED",
                "fay w PENDING -",
            ];
            if doing == "earlier phase" {
                // Who is stopped before the fan-out has an outcome, and gets no further steps.
                wanted.retain(|state| !["ann w", "cat w", "eve w"].iter().any(|stopped| state.starts_with(stopped)));
            }
            assert_eq!(states(&world, "'w', 'paid'").await, wanted, "{doing}");
            let why = world.sql("SELECT s.error FROM step s JOIN record r ON r.id = s.record_id WHERE s.key = 'w' AND r.name = 'bob'").await;
            assert_eq!(why, [["interrupted by alarm.raised"]], "{doing}");
            let stopped = recipient_outcomes(&world, &run).await.into_iter().filter(|fate| fate[1] == "SKIPPED").count();
            assert_eq!(stopped, 5, "{doing}");
            world.end().await;
        }
    }
}

both! {
    async fn each_event_of_a_task_creates_its_own_steps(kind) {
        for early in [false, true] {
            let world = World::without_server(kind, None).await;
            let (ann, bob) = (person(&world, "ann", "ann@example.com").await, person(&world, "bob", "bob@example.com").await);
            let steps = json!([human("thank", "after:paid"), human("paid", "event:payment.received"), human("claim", "event:claim.made")]);
            let before = json!({ "key": "q", "name": "Q", "tasks": [task("l", false, json!([human("look", "immediate")]))] });
            let main = json!({ "key": "p", "name": "P", "openFor": "9 days", "tasks": [task("hear", true, steps), task("h", false, json!([human("hold", "immediate")]))] });
            launched(&world, json!([before, main]), everybody(&world).await).await;
            let begin = async || {
                let look = step(&world, "look").await;
                world.step_act("startStep", &look, json!({})).await;
                world.step_act("completeStep", &look, json!({})).await;
                world.tick(false).await;
            };
            if !early {
                begin().await;
            }
            raise(&world, "payment.received", &[&ann]).await;
            raise(&world, "claim.made", &[&ann, &bob]).await;
            if early {
                begin().await;
            }
            let all = ["ann claim PENDING -", "ann paid PENDING -", "ann thank PENDING -", "bob claim PENDING -"];
            assert_eq!(states(&world, "'claim', 'paid', 'thank'").await, all, "{early}");
            raise(&world, "claim.made", &[&ann]).await;
            assert_eq!(states(&world, "'claim', 'paid', 'thank'").await, all, "{early}");
            world.end().await;
        }
    }
}

both! {
    async fn a_single_step_whose_event_has_come_is_queued_when_it_is_done_again(kind) {
        let world = World::without_server(kind, None).await;
        person(&world, "ann", "ann@example.com").await;
        let tasks = json!([task("o", false, json!([human("order", "event:order.paid")])), task("h", false, json!([human("hold", "immediate")]))]);
        let run = launched(&world, json!([{ "key": "p", "name": "P", "openFor": "9 days", "tasks": tasks }]), everybody(&world).await).await;
        let order = step(&world, "order").await;
        let again = async |verb: &str| world.step_act(verb, &order, json!({})).await["status"].clone();
        world.step_act("skipStep", &order, json!({})).await;
        assert_eq!(again("restartStep").await, "PENDING");
        let raise = "mutation($run: ID!) { raiseEvent(input: { name: \"order.paid\", runId: $run }) { name } }";
        world.ask(raise, json!({ "run": run })).await;
        assert_eq!(states(&world, "'order'").await, ["- order QUEUED -"]);
        world.step_act("skipStep", &order, json!({})).await;
        assert_eq!(again("restartStep").await, "QUEUED");
        world.step_act("startStep", &order, json!({})).await;
        world.step_act("completeStep", &order, json!({})).await;
        assert_eq!(again("resetStep").await, "QUEUED");
        world.end().await;
    }
}

both! {
    async fn what_stopped_a_record_stops_the_later_phases_of_its_run(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let phase = |key: &str| {
            let steps = json!([human(&format!("{key}1"), "immediate"), human(&format!("{key}2"), &format!("after:{key}1"))]);
            json!({ "key": key, "name": key, "interruptEvents": ["order.cancelled"], "tasks": [task(&format!("t{key}"), false, steps)] })
        };
        let run = launched(&world, json!([phase("a"), phase("b")]), json!({ "recordId": ann })).await;
        raise(&world, "order.cancelled", &[&ann]).await;
        world.tick(false).await;
        assert_eq!(states(&world, "'a1', 'a2', 'b1', 'b2'").await, ["a1", "a2", "b1", "b2"].map(|key| format!("ann {key} SKIPPED INTERRUPTED")));
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

both! {
    async fn what_comes_after_the_end_counts_when_the_run_is_retried(kind) {
        let world = World::without_server(kind, None).await;
        let (ann, bob) = (person(&world, "ann", "ann@example.com").await, person(&world, "bob", "bob@example.com").await);
        person(&world, "cat", "cat@example.com").await;
        let phase = json!({ "key": "p", "name": "P", "interruptEvents": ["payment.received"], "tasks": [task("t", true, json!([human("w", "immediate")]))] });
        let run = launched(&world, json!([phase]), everybody(&world).await).await;
        let all = world.ask("{ steps(first: 100) { nodes { id record { name } } } }", json!({})).await["steps"]["nodes"].clone();
        for node in all.as_array().unwrap() {
            let (id, end) = (node["id"].as_str().unwrap(), if node["record"]["name"] == "cat" { "completeStep" } else { "failStep" });
            world.step_act("startStep", id, json!({})).await;
            world.step_act(end, id, json!({ "reason": "no" })).await;
        }
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        let raise = "mutation($run: ID!, $ids: [ID!]) { raiseEvent(input: { name: \"payment.received\", runId: $run, recordIds: $ids }) { name } }";
        world.ask(raise, json!({ "run": run, "ids": [ann] })).await;
        world.act("retryRun", "run", json!({ "id": run, "recipients": "FAILED" })).await;
        world.tick(false).await;
        assert_eq!(states(&world, "'w'").await, ["ann w SKIPPED INTERRUPTED", "bob w QUEUED -", "cat w COMPLETED -"]);
        world.step_act("startStep", &step_of(&world, &bob).await, json!({})).await;
        world.step_act("completeStep", &step_of(&world, &bob).await, json!({})).await;
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

async fn step_of(world: &World, record: &str) -> String {
    let query = "query($id: ID!) { steps(filter: { recordIds: [$id] }) { nodes { id } } }";
    let nodes = world.ask(query, json!({ "id": record })).await["steps"]["nodes"].clone();
    nodes[0]["id"].as_str().unwrap().to_owned()
}

both! {
    /// An event stops all that is open for the record but the steps that it wakes, also in the task
    /// that waits for it.
    async fn an_event_stops_the_other_steps_of_the_task_that_waits_for_it(kind) {
        for early in [false, true] {
            let world = World::without_server(kind, None).await;
            let ann = person(&world, "ann", "ann@example.com").await;
            let steps = json!([
                human("paid", "event:payment.received"), human("thank", "delay:2 days"),
                human("cancelled", "event:order.cancelled"), human("regret", "after:cancelled"),
            ]);
            let before = json!({ "key": "q", "name": "Q", "tasks": [task("l", false, json!([human("look", "immediate")]))] });
            let main = json!({
                "key": "p", "name": "P", "openFor": "9 days", "interruptEvents": ["order.cancelled"],
                "tasks": [task("hear", true, steps), task("h", false, json!([human("hold", "immediate")]))],
            });
            launched(&world, json!([before, main]), everybody(&world).await).await;
            let begin = async || {
                let look = step(&world, "look").await;
                world.step_act("startStep", &look, json!({})).await;
                world.step_act("completeStep", &look, json!({})).await;
                world.tick(false).await;
            };
            if !early {
                begin().await;
            }
            for event in ["payment.received", "order.cancelled"] {
                raise(&world, event, &[&ann]).await;
            }
            if early {
                begin().await;
            }
            let all = states(&world, "'paid', 'thank', 'cancelled', 'regret'").await;
            assert_eq!(all, [
                "ann cancelled PENDING -", "ann paid SKIPPED INTERRUPTED", "ann regret PENDING -", "ann thank SKIPPED INTERRUPTED",
            ], "{early}");
            world.end().await;
        }
    }
}

both! {
    /// The same in a run about one record, whose steps are single ones.
    async fn an_answer_stops_the_reminder_beside_the_step_that_handles_it(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let steps = json!([
            human("first", "immediate"), human("remind", "delay:2 days"), human("handle", "event:payment.received"),
            human("book", "after:handle"),
        ]);
        let phase = json!({ "key": "p", "name": "P", "interruptEvents": ["payment.received"], "tasks": [task("t", false, steps)] });
        launched(&world, json!([phase]), json!({ "recordId": ann })).await;
        let first = step(&world, "first").await;
        for verb in ["startStep", "completeStep"] {
            world.step_act(verb, &first, json!({})).await;
        }
        raise(&world, "payment.received", &[&ann]).await;
        assert_eq!(states(&world, "'remind', 'handle', 'book'").await, [
            "ann book PENDING -", "ann handle QUEUED -", "ann remind SKIPPED INTERRUPTED",
        ]);
        world.end().await;
    }
}
