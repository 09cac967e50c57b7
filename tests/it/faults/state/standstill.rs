//! No run stands still: steps that wait for an event end with their phase, also with others behind
//! them, and a step that is done again gets its turn, or the restart is refused.

use chrono::Duration;
use serde_json::{Value, json};

use crate::harness::{World, noon};

fn human(key: &str, trigger: &str) -> Value {
    json!({ "key": key, "name": key, "type": "custom", "assignedTo": "HUMAN", "trigger": trigger, "maxAttempts": 1 })
}

fn task(key: &str, fan_out: bool, depends_on: &[&str], steps: Value) -> Value {
    let fail_when = if fan_out { "PERCENT(100)" } else { "ANY" };
    json!({ "key": key, "name": key, "fanOut": fan_out, "failWhen": fail_when, "dependsOn": depends_on, "steps": steps })
}

/// A run of one phase over two records, as far as it moves by itself.
async fn launched(world: &World, open_for: Option<&str>, tasks: Value) -> String {
    for name in ["ann", "bob"] {
        world.create("record", json!({ "kind": "lead", "name": name, "email": format!("{name}@example.com") })).await;
    }
    let mut phase = json!({ "key": "p", "name": "P", "tasks": tasks });
    if let Some(open_for) = open_for {
        phase["openFor"] = json!(open_for);
    }
    world.apply(&json!({ "runTemplates": [{ "key": "still", "name": "still", "phases": [phase] }] }).to_string()).await;
    let segment = world.create("segment", json!({ "name": "All", "filter": { "all": true } })).await;
    let run = world.fly("still", json!({ "segmentId": segment, "channel": "EMAIL" })).await;
    world.tick(false).await;
    run
}

/// Keys, statuses and reasons of the steps; of a fan-out only those of the first record.
async fn states(world: &World) -> Vec<String> {
    let sql = "SELECT s.key, s.status, COALESCE(s.reason, '-') FROM step s LEFT JOIN record r ON r.id = s.record_id \
               WHERE s.key <> 'hold' AND (r.name IS NULL OR r.name = 'ann') ORDER BY s.key";
    world.sql(sql).await.into_iter().map(|row| row.join(" ")).collect()
}

async fn tasks(world: &World) -> Vec<String> {
    let all = world.sql("SELECT key, status FROM task ORDER BY sequence").await;
    all.into_iter().map(|row| row.join(" ")).collect()
}

/// The first record's step with a key, or the single one.
async fn step(world: &World, key: &str) -> Value {
    let query = "{ steps(first: 100) { nodes { id key status availableAt error record { name } availableActions { action allowed blockedBecause } } } }";
    let all = world.ask(query, json!({})).await["steps"]["nodes"].clone();
    let fits = |step: &&Value| step["key"] == key && (step["record"].is_null() || step["record"]["name"] == "ann");
    all.as_array().unwrap().iter().find(fits).unwrap_or_else(|| panic!("no step {key}: {all:#}")).clone()
}

async fn act(world: &World, verb: &str, key: &str) -> Value {
    let id = step(world, key).await["id"].as_str().unwrap().to_owned();
    world.step_act(verb, &id, json!({ "reason": "not now" })).await
}

async fn waits(world: &World, run: &str) -> Vec<Value> {
    let query = "query($id: ID!) { run(id: $id) { waitingFor { code message } } }";
    world.ask(query, json!({ "id": run })).await["run"]["waitingFor"].as_array().unwrap().clone()
}

async fn raise(world: &World, run: &str) {
    let query = "mutation($run: ID) { raiseEvent(input: { name: \"c.go\", runId: $run }) { name } }";
    world.ask(query, json!({ "run": run })).await;
}

both! {
    async fn a_delay_behind_a_step_whose_event_does_not_come_ends_with_it(kind) {
        for open_for in [None, Some("2s")] {
            let world = World::without_server(kind, None).await;
            let steps = json!([human("e", "event:c.go"), human("f", "delay:1s"), human("g", "after:f")]);
            let run = launched(&world, open_for, json!([task("t", false, &[], steps)])).await;
            if open_for.is_some() {
                assert_eq!(states(&world).await, ["e PENDING -", "f PENDING -", "g PENDING -"]);
                let all = waits(&world, &run).await;
                assert!(all[0]["code"] == "EVENTS" && all[0]["message"].as_str().unwrap().contains("c.go"), "{all:#?}");
                world.clock.set(noon() + Duration::seconds(3));
                world.tick(false).await;
            }
            let skipped = ["e", "f", "g"].map(|key| format!("{key} SKIPPED EVENT_DID_NOT_COME"));
            assert_eq!(states(&world).await, skipped, "{open_for:?}");
            for key in ["e", "f", "g"] {
                assert_eq!(step(&world, key).await["error"], "event:c.go did not arrive");
            }
            world.until_run(&run, "COMPLETED").await;
            world.end().await;
        }
    }
}

both! {
    async fn a_task_behind_one_that_waits_for_an_event_begins_when_the_time_is_up(kind) {
        for (fan_out, open_for) in [(false, Some("2s")), (true, Some("2s")), (false, None), (true, None)] {
            let world = World::without_server(kind, None).await;
            // Declared before the task that it depends on, with one more behind it.
            let run = launched(&world, open_for, json!([
                task("u", fan_out, &["t"], json!([human("s", "immediate")])),
                task("t", fan_out, &[], json!([human("e", "event:c.go"), human("f", "delay:1s")])),
                task("v", false, &["u"], json!([human("last", "immediate")])),
            ])).await;
            if open_for.is_some() {
                assert_eq!(tasks(&world).await, ["u BLOCKED", "t PENDING", "v BLOCKED"], "{fan_out}");
                let all = waits(&world, &run).await;
                let events = all.iter().find(|one| one["code"] == "EVENTS").unwrap_or_else(|| panic!("{all:#?}"));
                assert!(events["message"].as_str().unwrap().contains("c.go"), "{events}");
                world.clock.set(noon() + Duration::seconds(3));
                world.tick(false).await;
            }
            assert_eq!(tasks(&world).await, ["u PENDING", "t SKIPPED", "v BLOCKED"], "{fan_out} {open_for:?}");
            let steps = states(&world).await;
            assert!(steps.contains(&"s PENDING -".to_owned()), "{steps:?}");
            assert_eq!(steps.iter().filter(|state| state.ends_with("EVENT_DID_NOT_COME")).count(), if fan_out { 0 } else { 2 });
            let codes: Vec<Value> = waits(&world, &run).await.iter().map(|one| one["code"].clone()).collect();
            assert!(codes.contains(&json!("PEOPLE")), "{codes:?}");
            world.act("cancelRun", "run", json!({ "id": run })).await;
            world.tick(false).await;
            world.end().await;
        }
    }
}

both! {
    async fn a_step_that_follows_one_behind_a_waiting_task_keeps_no_phase_open(kind) {
        for (fan_out, open_for) in [(false, Some("2s")), (true, Some("2s")), (false, None), (true, None)] {
            let world = World::without_server(kind, None).await;
            // x follows a step of u, which depends on t; its own task does not.
            launched(&world, open_for, json!([
                task("x", fan_out, &[], json!([human("x1", "after:s"), human("x2", "delay:1s")])),
                task("u", fan_out, &["t"], json!([human("s", "immediate")])),
                task("t", false, &[], json!([human("e", "event:c.go")])),
            ])).await;
            if open_for.is_some() {
                assert_eq!(tasks(&world).await, ["x PENDING", "u BLOCKED", "t PENDING"], "{fan_out}");
                world.clock.set(noon() + Duration::seconds(3));
                world.tick(false).await;
            }
            assert_eq!(tasks(&world).await, ["x PENDING", "u PENDING", "t SKIPPED"], "{fan_out} {open_for:?}");
            act(&world, "startStep", "s").await;
            act(&world, "completeStep", "s").await;
            if fan_out {
                assert_eq!(step(&world, "x1").await["status"], "QUEUED", "{open_for:?}");
            } else {
                assert_eq!(states(&world).await[1..], ["s COMPLETED -", "x1 QUEUED -", "x2 PENDING -"], "{open_for:?}");
            }
            world.end().await;
        }
    }
}

both! {
    async fn an_event_that_comes_in_time_lets_its_task_go_before_those_behind_it(kind) {
        let world = World::without_server(kind, None).await;
        let run = launched(&world, Some("2s"), json!([
            task("t", false, &[], json!([human("e", "event:c.go")])),
            // Its event may come as long as the task before it works.
            task("u", false, &["t"], json!([human("late", "event:c.late")])),
        ])).await;
        raise(&world, &run).await;
        world.tick(false).await;
        assert_eq!(states(&world).await, ["e QUEUED -", "late PENDING -"]);
        world.clock.set(noon() + Duration::seconds(3));
        world.tick(false).await;
        assert_eq!(states(&world).await, ["e QUEUED -", "late PENDING -"], "other work is left");
        act(&world, "startStep", "e").await;
        act(&world, "completeStep", "e").await;
        assert_eq!(states(&world).await, ["e COMPLETED -", "late SKIPPED EVENT_DID_NOT_COME"]);
        world.tick(false).await;
        world.until_run(&run, "COMPLETED").await;
        world.end().await;
    }
}

both! {
    async fn a_first_step_with_a_delay_gets_its_turn_again(kind) {
        let world = World::without_server(kind, None).await;
        launched(&world, None, json!([
            task("t", true, &[], json!([human("d", "delay:1h"), human("then", "after:d")])),
            task("h", false, &[], json!([human("hold", "immediate")])),
        ])).await;
        let at = json!((noon() + Duration::hours(1)).to_rfc3339());
        act(&world, "skipStep", "d").await;
        assert_eq!(states(&world).await, ["d SKIPPED PERSON", "then SKIPPED WAITED_FOR_SKIPPED"]);
        world.clock.set(noon() + Duration::minutes(10));
        assert_eq!(act(&world, "restartStep", "d").await["status"], "QUEUED");
        assert_eq!(step(&world, "d").await["availableAt"], at, "the delay counts from the task's begin");
        assert_eq!(states(&world).await, ["d QUEUED -", "then PENDING -"]);
        world.clock.set(noon() + Duration::hours(2));
        act(&world, "startStep", "d").await;
        assert_eq!(act(&world, "resetStep", "d").await["status"], "QUEUED");
        assert_eq!(step(&world, "d").await["availableAt"], json!((noon() + Duration::hours(2)).to_rfc3339()));
        act(&world, "startStep", "d").await;
        act(&world, "completeStep", "d").await;
        assert_eq!(states(&world).await, ["d COMPLETED -", "then QUEUED -"]);
        world.end().await;
    }
}

both! {
    async fn a_step_is_restarted_after_the_one_that_it_waits_for(kind) {
        // The tasks of the two steps, and what ends the first.
        for (first, then, ends) in [
            ((true, 0), (true, 0), "skip"), ((true, 0), (true, 0), "fail"), ((true, 0), (true, 0), "event"),
            ((false, 0), (false, 0), "skip"), ((false, 0), (true, 1), "skip"), ((true, 0), (false, 1), "skip"),
        ] {
            let what = format!("{first:?} {then:?} {ends}");
            let world = World::without_server(kind, None).await;
            let mut all = if then.1 == 0 {
                json!([task("t", first.0, &[], json!([human("h1", "immediate"), human("h2", "after:h1")]))])
            } else {
                json!([
                    task("t", first.0, &[], json!([human("h1", "immediate")])),
                    task("u", then.0, &["t"], json!([human("h2", "after:h1")])),
                ])
            };
            all.as_array_mut().unwrap().push(task("h", false, &[], json!([human("hold", "immediate")])));
            launched(&world, None, all).await;
            match ends {
                "fail" => {
                    act(&world, "startStep", "h1").await;
                    act(&world, "failStep", "h1").await;
                }
                // As an event that interrupts the phase leaves it.
                "event" => {
                    act(&world, "skipStep", "h1").await;
                    world.force("UPDATE step SET reason = 'INTERRUPTED' WHERE status = 'SKIPPED' AND key = 'h1'").await;
                }
                _ if first.0 && !then.0 => {
                    let ids = world.ask("{ steps(first: 100) { nodes { id key } } }", json!({})).await["steps"]["nodes"].clone();
                    for one in ids.as_array().unwrap().iter().filter(|one| one["key"] == "h1") {
                        world.step_act("skipStep", one["id"].as_str().unwrap(), json!({})).await;
                    }
                }
                _ => drop(act(&world, "skipStep", "h1").await),
            }
            world.tick(false).await;
            let h2 = step(&world, "h2").await;
            assert_eq!(h2["status"], "SKIPPED", "{what}");
            let why = match ends {
                "fail" => "it waits for h1, which failed: retry that first",
                _ => "it waits for h1, which was skipped: restart that first",
            };
            let offered = h2["availableActions"].as_array().unwrap().iter().find(|one| one["action"] == "RESTART").unwrap();
            assert_eq!((&offered["allowed"], &offered["blockedBecause"]), (&json!(false), &json!(why)), "{what}");
            let refused = world.step_refused("restartStep", h2["id"].as_str().unwrap(), json!({})).await;
            assert_eq!((&refused["message"], &refused["extensions"]["code"]), (&json!(why), &json!("CONFLICT")), "{what}");
            if then.1 == 0 {
                // The first one's restart brings the second back.
                act(&world, if ends == "fail" { "retryStep" } else { "restartStep" }, "h1").await;
                assert_eq!(step(&world, "h2").await["status"], "PENDING", "{what}");
            }
            world.end().await;
        }
    }
}

both! {
    async fn a_run_that_stands_still_is_found(kind) {
        let world = World::without_server(kind, None).await;
        launched(&world, None, json!([task("t", true, &[], json!([human("h1", "immediate"), human("h2", "after:h1")]))])).await;
        let found = async || {
            let all = sortie::app::check::check(&world.db).await.unwrap();
            all.into_iter().filter(|one| one.wrong > 0).map(|one| one.what).collect::<Vec<_>>()
        };
        assert!(found().await.is_empty());
        // Nothing adds the rest of its audience.
        world.force("UPDATE run SET audience_done = FALSE").await;
        assert!(found().await.iter().any(|what| what.starts_with("no run stands still")), "{:?}", found().await);
        world.force("UPDATE run SET audience_done = TRUE").await;
        assert!(found().await.is_empty());
        world.force("UPDATE step SET status = 'SKIPPED', reason = 'PERSON' WHERE key = 'h1'").await;
        assert!(found().await.iter().any(|what| what.starts_with("no run stands still")), "{:?}", found().await);
        world.drop_unchecked().await;
    }
}

both! {
    async fn refusals_name_what_somebody_can_do_and_skips_name_their_actor(kind) {
        let world = World::without_server(kind, None).await;
        world.create("agent", json!({ "name": "bot", "kind": "OUTSIDE" })).await;
        let agent = json!({ "key": "look", "name": "look", "type": "look", "assignedTo": "AGENT", "trigger": "immediate" });
        let run = launched(&world, None, json!([
            task("t", true, &[], json!([agent])),
            task("h", false, &[], json!([human("hold", "immediate")])),
        ])).await;
        let hold = step(&world, "hold").await["id"].as_str().unwrap().to_owned();
        let refused = world.step_refused("completeStep", &hold, json!({})).await;
        assert_eq!(refused["extensions"]["code"], "INVALID_TRANSITION");
        assert_eq!(refused["extensions"]["allowed"], json!(["start", "skip"]), "{refused}");
        act(&world, "skipStep", "look").await;
        let look = step(&world, "look").await["id"].as_str().unwrap().to_owned();
        let refused = world.step_refused("restartStep", &look, json!({})).await;
        assert_eq!(refused["message"], "only steps done by people can be restarted");
        world.act("cancelRun", "run", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'SKIPPED' AND completed_by IS NOT NULL").await, 3);
        assert_eq!(world.number("SELECT COUNT(*) FROM step").await, 3);
        world.end().await;
    }
}

both! {
    /// Templates with such steps are rejected; a run that started before says what holds it.
    async fn a_run_whose_steps_wait_for_each_other_says_so(kind) {
        let world = World::without_server(kind, None).await;
        let run = launched(&world, None, json!([task("t", false, &[], json!([human("a", "manual"), human("b", "after:a")]))])).await;
        let codes = |all: &[Value]| all.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        assert_eq!(codes(&waits(&world, &run).await), ["PEOPLE"]);
        world.force("UPDATE step SET \"trigger\" = 'after:b' WHERE key = 'a'").await;
        let all = waits(&world, &run).await;
        assert_eq!(codes(&all), ["STANDSTILL"]);
        assert!(all[0]["message"].as_str().unwrap().contains("waits for them: a, b;"), "{all:#?}");
        world.drop_unchecked().await;
    }
}
