//! Events that arrive before their run has created the steps that they stop or wake: while the
//! audience is being loaded, during a fan-out, before the phase begins, while the run has failed.

use serde_json::{Value, json};

use super::{person, recipient_outcomes};
use crate::harness::World;

const RAISE: &str =
    "mutation($ids: [ID!]!) { raiseEvent(input: { name: \"payment.received\", recordIds: $ids }) { name } }";

/// A phase in which each record waits for a day, unless it pays: then a person has a step.
fn waiting() -> Value {
    let wait = json!({ "key": "w", "type": "wait", "assignedTo": "WORKFLOW", "config": { "duration": "1 day" } });
    let paid = json!({ "key": "paid", "type": "custom", "assignedTo": "HUMAN", "trigger": "event:payment.received" });
    let task = |key: &str, step: Value| json!({ "key": key, "name": key, "fanOut": true, "steps": [step] });
    json!({ "key": "two", "name": "Two", "autonomous": true, "interruptEvents": ["payment.received"], "tasks": [task("t", wait), task("pay", paid)] })
}

async fn launched(world: &World, phases: Value) -> String {
    world.apply(&json!({ "runTemplates": [{ "key": "dun", "name": "dun", "phases": phases }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    world.fly("dun", json!({ "segmentId": segment, "channel": "EMAIL" })).await
}

/// Keys, statuses and reasons of a run's steps, with how many there are.
async fn counts(world: &World) -> Vec<String> {
    let sql = "SELECT key, status, COALESCE(reason, '-'), COUNT(*) FROM step WHERE run_record_id IS NOT NULL GROUP BY key, status, reason ORDER BY key, status";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

both! {
    async fn events_while_a_run_is_made_stop_what_is_made_later(kind) {
        let world = World::without_server(kind, None).await;
        let ids = world.leads(520).await;
        let run = launched(&world, json!([waiting()])).await;
        let raise = async |numbers: &[usize]| {
            let about: Vec<&String> = numbers.iter().map(|i| &ids[*i]).collect();
            world.ask(RAISE, json!({ "ids": about })).await;
        };
        // Some recipients exist.
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM run_record").await, 500);
        raise(&[519]).await;
        world.tick_once().await;
        // All recipients exist, and no step.
        assert_eq!((world.number("SELECT COUNT(*) FROM run_record").await, world.number("SELECT COUNT(*) FROM step WHERE key = 'w'").await), (520, 0));
        raise(&[0, 518]).await;
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE key = 'w'").await, 500);
        raise(&[1, 517]).await;
        world.tick(false).await;
        assert_eq!(counts(&world).await, ["paid PENDING - 5", "w QUEUED - 515", "w SKIPPED INTERRUPTED 5"]);
        let stopped = recipient_outcomes(&world, &run).await.into_iter().filter(|one| one[1..] == ["SKIPPED", "INTERRUPTED: payment.received"]).count();
        let all = "SELECT COUNT(*) FROM run_record WHERE outcome = 'SKIPPED' AND reason = 'INTERRUPTED: payment.received'";
        assert!(stopped <= 5 && world.number(all).await == 5);
        world.end().await;
    }
}

both! {
    async fn an_event_before_a_phase_begins_stops_what_it_would_do(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        person(&world, "bob", "bob@example.com").await;
        let look = json!({ "key": "look", "name": "Look", "type": "custom", "assignedTo": "HUMAN" });
        let one = json!({ "key": "one", "name": "One", "autonomous": false, "tasks": [{ "key": "l", "name": "L", "steps": [look] }] });
        let run = launched(&world, json!([one, waiting()])).await;
        // An event before the run's start does not affect it.
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        world.tick(false).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { id key } } } }", json!({ "id": run })).await;
        let look = steps["run"]["steps"]["nodes"][0]["id"].clone();
        for act in ["startStep", "completeStep"] {
            world.act(act, "step", json!({ "id": look })).await;
        }
        world.tick(false).await;
        assert_eq!(counts(&world).await, ["paid PENDING - 1", "w QUEUED - 1", "w SKIPPED INTERRUPTED 1"]);
        assert_eq!(recipient_outcomes(&world, &run).await, [["ann", "SKIPPED", "INTERRUPTED: payment.received"], ["bob", "", ""]]);
        world.end().await;
    }
}

both! {
    async fn a_task_on_events_behind_another_takes_what_came_before_that_one_ended(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        person(&world, "bob", "bob@example.com").await;
        let human = |key: &str, trigger: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger });
        let look = json!({ "key": "l", "name": "L", "steps": [human("look", "immediate")] });
        let pay = json!({ "key": "pay", "name": "Pay", "fanOut": true, "dependsOn": ["l"], "steps": [human("paid", "event:payment.received")] });
        let run = launched(&world, json!([{ "key": "one", "name": "One", "tasks": [look, pay] }])).await;
        world.tick(false).await;
        world.ask(RAISE, json!({ "ids": [ann] })).await;
        let done = async |key: &str| {
            let steps = world.ask("query($id: ID!) { run(id: $id) { steps { nodes { id key } } } }", json!({ "id": run })).await;
            let step = steps["run"]["steps"]["nodes"].as_array().unwrap().iter().find(|step| step["key"] == key).unwrap()["id"].clone();
            for act in ["startStep", "completeStep"] {
                world.act(act, "step", json!({ "id": step })).await;
            }
            world.tick(false).await;
        };
        // Nothing but the other task keeps the phase open: the events that came are all that come.
        done("look").await;
        assert_eq!(counts(&world).await, ["paid PENDING - 1"]);
        done("paid").await;
        world.until_run(&run, "COMPLETED").await;
        assert_eq!(counts(&world).await, ["paid COMPLETED - 1"]);
        world.end().await;
    }
}

both! {
    async fn a_single_step_is_woken_by_what_came_before_its_phase(kind) {
        let world = World::without_server(kind, None).await;
        let ann = person(&world, "ann", "ann@example.com").await;
        let stranger = world.create("record", json!({ "kind": "contact", "name": "Eve" })).await;
        let look = |key: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN" });
        let paid = |key: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": "event:payment.received" });
        let then = json!({ "key": "then", "name": "Then", "type": "custom", "assignedTo": "HUMAN", "trigger": "after:paid" });
        let task = |key: &str, steps: Value| json!({ "key": key, "name": key, "steps": steps });
        let later = json!({ "key": "late", "name": "Late", "dependsOn": ["work"], "steps": [paid("late_paid")] });
        let phases = json!([
            { "key": "one", "name": "One", "tasks": [task("a", json!([look("look")]))] },
            { "key": "two", "name": "Two", "tasks": [task("b", json!([paid("paid"), then]))] },
            { "key": "three", "name": "Three", "tasks": [task("work", json!([look("more")])), later] },
        ]);
        world.apply(&json!({ "runTemplates": [{ "key": "pay", "name": "pay", "phases": phases }] }).to_string()).await;
        let segment = world.create("segment", json!({ "name": "Leads", "filter": { "kind": { "eq": "lead" } } })).await;
        let of_run = "mutation($run: ID, $ids: [ID!]) { raiseEvent(input: { name: \"payment.received\", runId: $run, recordIds: $ids }) { name } }";
        let step = "query($id: ID!) { run(id: $id) { status steps { nodes { id key status reasonCode } } } }";
        for (who, comes) in [("nobody", false), ("stranger", false), ("wrong run", false), ("record", true), ("run", true)] {
            let run = world.fly("pay", json!({ "name": who, "segmentId": segment, "channel": "EMAIL" })).await;
            world.tick(false).await;
            match who {
                "stranger" => drop(world.ask(of_run, json!({ "ids": [stranger] })).await),
                "wrong run" => drop(world.ask(of_run, json!({ "run": run, "ids": [stranger] })).await),
                "record" => drop(world.ask(of_run, json!({ "ids": [ann] })).await),
                "run" => drop(world.ask(of_run, json!({ "run": run })).await),
                _ => {}
            }
            let now = async |key: &str| {
                let data = world.ask(step, json!({ "id": run })).await;
                data["run"]["steps"]["nodes"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap().clone()
            };
            let done = async |key: &str| {
                for act in ["startStep", "completeStep"] {
                    world.act(act, "step", json!({ "id": now(key).await["id"] })).await;
                }
            };
            done("look").await;
            world.tick(false).await;
            if !comes {
                assert_eq!((now("paid").await["status"].clone(), now("paid").await["reasonCode"].clone()), (json!("SKIPPED"), json!("EVENT_DID_NOT_COME")), "{who}");
                world.act("cancelRun", "run", json!({ "id": run })).await;
                world.tick(false).await;
                continue;
            }
            assert_eq!((&now("paid").await["status"], &now("then").await["status"]), (&json!("QUEUED"), &json!("PENDING")), "{who}");
            done("paid").await;
            done("then").await;
            world.tick(false).await;
            // Also in a task that has not started.
            assert_eq!(now("late_paid").await["status"], "PENDING", "{who}");
            done("more").await;
            assert_eq!(now("late_paid").await["status"], "QUEUED", "{who}");
            done("late_paid").await;
            world.tick(false).await;
            world.until_run(&run, "COMPLETED").await;
        }
        world.end().await;
    }
}

both! {
    async fn what_comes_while_a_run_has_failed_is_told_when_it_goes_on(kind) {
        let world = World::without_server(kind, None).await;
        let mut ids = Vec::new();
        for name in ["ann", "bob", "cat", "dan"] {
            ids.push(person(&world, name, &format!("{name}@example.com")).await);
        }
        let human = |key: &str, trigger: &str| json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger, "maxAttempts": 1 });
        let fan = |key: &str, step: Value| json!({ "key": key, "name": key, "fanOut": true, "failWhen": "PERCENT(100)", "steps": [step] });
        let tasks = json!([
            { "key": "b", "name": "B", "steps": [human("bad", "immediate")] },
            fan("t", human("w", "immediate")),
            fan("pay", human("paid", "event:payment.received")),
            { "key": "o", "name": "O", "steps": [human("order", "event:order.paid")] },
        ]);
        let run = launched(&world, json!([{ "key": "p", "name": "P", "interruptEvents": ["payment.received"], "tasks": tasks }])).await;
        world.tick(false).await;
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps(first: 50) { nodes { id key record { id } } } } }", json!({ "id": run })).await;
        let id_of = |key: &str, record: Option<&String>| {
            let all = steps["run"]["steps"]["nodes"].as_array().unwrap();
            let found = all.iter().find(|step| step["key"] == key && record.is_none_or(|id| step["record"]["id"] == json!(id)));
            found.unwrap()["id"].clone()
        };
        for id in [id_of("w", Some(&ids[1])), id_of("w", Some(&ids[2])), id_of("bad", None)] {
            world.act("startStep", "step", json!({ "id": id })).await;
            world.act("failStep", "step", json!({ "id": id, "reason": "no" })).await;
        }
        world.tick(false).await;
        world.until_run(&run, "FAILED").await;
        let before = counts(&world).await;
        assert_eq!(before, ["w FAILED PERSON 2", "w PENDING - 2"]);
        // The first waits, the second has failed; and the event is about the run as a whole.
        world.ask(RAISE, json!({ "ids": [ids[0], ids[1]] })).await;
        world.ask("mutation($run: ID!) { raiseEvent(input: { name: \"order.paid\", runId: $run }) { name } }", json!({ "run": run })).await;
        assert_eq!(counts(&world).await, before, "a run that has failed stays as it is");
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(counts(&world).await, ["paid PENDING - 2", "w PENDING - 1", "w QUEUED - 1", "w SKIPPED INTERRUPTED 2"]);
        let single = world.sql("SELECT key, status FROM step WHERE run_record_id IS NULL ORDER BY key").await;
        assert_eq!(single, [["bad", "QUEUED"], ["order", "QUEUED"]]);
        let recipient_outcomes = recipient_outcomes(&world, &run).await;
        assert_eq!(recipient_outcomes.iter().map(|fate| fate[1].as_str()).collect::<Vec<_>>(), ["SKIPPED", "SKIPPED", "", ""], "{recipient_outcomes:?}");
        world.end().await;
    }
}

/// A phase in which people work on each record, one step after the other; a payment interrupts it.
fn in_turn() -> Value {
    let step =
        |key: &str, trigger: &str| json!({ "key": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger });
    let steps = json!([step("a", "immediate"), step("look", "after:a"), step("b", "after:look")]);
    json!({ "key": "one", "name": "One", "interruptEvents": ["payment.received"], "tasks": [
        { "key": "t", "name": "t", "fanOut": true, "steps": steps },
        // It keeps the phase open.
        { "key": "hold", "name": "hold", "steps": [{ "key": "hold", "type": "custom", "assignedTo": "HUMAN" }] },
    ] })
}

/// Ids of the steps with a key, in the order of their records.
async fn steps_of(world: &World, key: &str) -> Vec<String> {
    let all = "{ steps(first: 50) { nodes { id key record { name } } } }";
    let mut nodes = world.ask(all, json!({})).await["steps"]["nodes"].as_array().unwrap().clone();
    nodes.retain(|node| node["key"] == *key);
    nodes.sort_by_key(|node| node["record"]["name"].as_str().unwrap().to_owned());
    nodes.iter().map(|node| node["id"].as_str().unwrap().to_owned()).collect()
}

both! {
    async fn a_restarted_step_whose_trigger_has_fired_can_be_done(kind) {
        let world = World::without_server(kind, None).await;
        world.leads(1).await;
        launched(&world, json!([in_turn()])).await;
        world.tick(false).await;
        let (a, look, b) = (steps_of(&world, "a").await.remove(0), steps_of(&world, "look").await.remove(0), steps_of(&world, "b").await.remove(0));
        for verb in ["startStep", "completeStep"] {
            world.step_act(verb, &a, json!({})).await;
        }
        world.step_act("skipStep", &look, json!({})).await;
        assert_eq!(counts(&world).await, ["a COMPLETED - 1", "b SKIPPED WAITED_FOR_SKIPPED 1", "look SKIPPED PERSON 1"]);
        assert_eq!(world.step_act("restartStep", &look, json!({})).await["status"], "QUEUED");
        assert_eq!(counts(&world).await, ["a COMPLETED - 1", "b PENDING - 1", "look QUEUED - 1"]);
        for id in [&look, &b] {
            for verb in ["startStep", "completeStep"] {
                world.step_act(verb, id, json!({})).await;
            }
        }
        assert_eq!(counts(&world).await, ["a COMPLETED - 1", "b COMPLETED - 1", "look COMPLETED - 1"]);
        world.end().await;
    }
}

both! {
    async fn what_waits_again_was_stopped_by_what_came_meanwhile(kind) {
        let world = World::without_server(kind, None).await;
        let ids = world.leads(2).await;
        launched(&world, json!([in_turn()])).await;
        world.tick(false).await;
        for a in steps_of(&world, "a").await {
            for verb in ["startStep", "completeStep"] {
                world.step_act(verb, &a, json!({})).await;
            }
        }
        let looks = steps_of(&world, "look").await;
        for look in &looks {
            world.step_act("skipStep", look, json!({})).await;
        }
        // One of them pays before the step that was skipped is taken up again.
        world.ask(RAISE, json!({ "ids": [ids[0]] })).await;
        for look in &looks {
            world.step_act("restartStep", look, json!({})).await;
        }
        assert_eq!(counts(&world).await, ["a COMPLETED - 2", "b PENDING - 1", "b SKIPPED WAITED_FOR_SKIPPED 1", "look QUEUED - 2"]);
        world.end().await;
    }
}

both! {
    async fn an_event_about_a_recipient_that_a_failed_run_has_not_added_counts_after_the_retry(kind) {
        let world = World::without_server(kind, None).await;
        let ids = world.leads(510).await;
        let beside = json!({ "key": "beside", "steps": [{ "key": "beside", "type": "beside", "assignedTo": "HUMAN", "maxAttempts": 1 }] });
        let mut phase = waiting();
        phase["autonomous"] = json!(false);
        phase["tasks"].as_array_mut().unwrap().push(beside);
        let run = launched(&world, json!([phase])).await;
        world.tick_once().await;
        assert_eq!(world.number("SELECT COUNT(*) FROM run_record").await, 500);
        let steps = world.ask("query($id: ID!) { run(id: $id) { steps(filter: { types: [\"beside\"] }) { nodes { id } } } }", json!({ "id": run })).await;
        let beside = steps["run"]["steps"]["nodes"][0]["id"].clone();
        for act in ["startStep", "failStep"] {
            world.act(act, "step", json!({ "id": beside, "reason": "no" })).await;
        }
        world.until_run(&run, "FAILED").await;
        assert_eq!(world.number("SELECT COUNT(*) FROM run_record").await, 500);
        world.ask(RAISE, json!({ "ids": [ids[509]] })).await;
        world.act("retryRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        let of_it = "SELECT s.key || ' ' || s.status FROM step s JOIN record r ON r.id = s.record_id WHERE r.external_id = 'L-509' ORDER BY s.key";
        assert_eq!(world.sql(of_it).await, [["paid PENDING"], ["w SKIPPED"]]);
        world.end().await;
    }
}
