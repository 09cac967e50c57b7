//! A step that crashes the process is set aside; and other faults of this kind without an attack.

use std::sync::Arc;

use entity::id::StepId;
use serde_json::{Value, json};
use sortie::engine::perform;
use sortie::kernel::db::{Tx, WriteContext};
use sortie::step_kind::{Claimed, Outcome, Work};
use tokio::sync::Notify;

use crate::harness::World;

/// Work that crashes the process if a certain step is in its batch.
struct Deadly {
    poison: StepId,
    dying: Arc<Notify>,
}

impl Work for Deadly {
    type Outcome = Value;
    const KIND: &'static str = "look";

    fn batch(&self) -> u64 {
        100
    }

    async fn perform(
        &self,
        _: &WriteContext,
        claimed: &[Claimed],
    ) -> sortie::kernel::error::Result<Vec<Outcome<Value>>> {
        if claimed.iter().any(|one| one.step.id == self.poison) {
            self.dying.notify_one();
            return std::future::pending().await;
        }
        Ok(claimed.iter().map(|_| Outcome::Done { result: json!({}), data: Value::Null }).collect())
    }

    async fn record(
        &self,
        _: &Tx,
        _: &entity::run::Model,
        _: &[(entity::step::Model, &Outcome<Value>)],
    ) -> sortie::kernel::error::Result<()> {
        Ok(())
    }
}

const STEPS: &str = "query($run: ID!) { run(id: $run) { status waitingFor { code } findings { code message } steps(first: 100) { nodes { id status reasonCode error } } } }";

both! {
    async fn a_step_that_ends_the_process_is_set_aside_alone(kind) {
        let world = World::without_server(kind, None).await;
        let steps = json!([{ "key": "s", "name": "Look", "type": "look", "assignedTo": "AGENT", "trigger": "immediate" }]);
        let tasks = json!([{ "key": "t", "name": "T", "fanOut": true, "steps": steps }]);
        let template = json!({ "key": "looks", "name": "Look", "phases": [{ "key": "p", "name": "P", "autonomous": true, "tasks": tasks }] });
        world.apply(&json!({ "agents": [{ "name": "looker" }], "runTemplates": [template] }).to_string()).await;
        world.many_records(kind, "lead", 40).await;
        let run = world.fly("looks", json!({ "segmentId": world.all_of("lead").await })).await;
        world.tick(false).await;
        // Engine steps of a kind that only this test executes.
        world.force("UPDATE step SET assigned_to = 'WORKFLOW', outside = FALSE WHERE kind = 'look'").await;
        let all = world.ask(STEPS, json!({ "run": run })).await["run"]["steps"]["nodes"].clone();
        let poison = all[17]["id"].as_str().unwrap().to_owned();
        let deadly = Deadly { poison: poison.parse().unwrap(), dying: Arc::default() };
        let mut deaths = 0;
        for life in 0..20 {
            // One process: it works until nothing is left to do, or until it dies in the middle of
            // a batch.
            loop {
                tokio::select! {
                    biased;
                    () = deadly.dying.notified() => {
                        deaths += 1;
                        break;
                    }
                    worked = perform::tick(world.engine_context(), &deadly) => if worked.unwrap() == 0 { break },
                }
            }
            let now = world.clock.now();
            world.clock.set(now + chrono::Duration::minutes(2));
            world.rescue().await;
            if life == 1 {
                // From the third attempt on the step is claimed alone, so that the others don't
                // fail with it.
                assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE lapse_count = 2").await, 40);
            }
        }
        assert_eq!(deaths, 5);
        let seen = world.ask(STEPS, json!({ "run": run })).await["run"].clone();
        let nodes = seen["steps"]["nodes"].as_array().unwrap();
        assert_eq!(nodes.iter().filter(|step| step["status"] == "COMPLETED").count(), 39, "{seen:#}");
        let set_aside = nodes.iter().find(|step| step["id"] == poison).unwrap();
        assert_eq!((&set_aside["status"], &set_aside["reasonCode"]), (&json!("FAILED"), &json!("POISONED")), "{set_aside:#}");
        assert!(seen["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "STEPS_FAILED"), "{seen:#}");
        // A retry by a person gives it all its attempts again.
        world.tick(false).await;
        world.ask("mutation($id: ID!) { retryRun(input: { id: $id }) { run { id } } }", json!({ "id": run })).await;
        world.tick(false).await;
        assert_eq!(world.number("SELECT COUNT(*) FROM step WHERE status = 'QUEUED' AND lapse_count = 0").await, 1);
        world.end().await;
    }
}
