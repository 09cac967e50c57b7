//! Commits wake only those loops of the engine that they may have given work.

use std::time::Instant;

use entity::Actor;
use entity::id::OrgId;
use serde_json::json;
use sortie::engine::wake;
use sortie::kernel::event::Event;
use sortie::kernel::event::kinds::KINDS;

use crate::harness::World;

/// The most looks at the queues that the loops make in one second without any commit.
const LOOKS_PER_TICK: u64 = 60;

both! {
    async fn a_person_s_step_wakes_no_queue(kind) {
        let world = World::new(kind).await;
        let mut steps = Vec::new();
        for _ in 0..100 {
            steps.extend(world.own_run(&[("a", "custom", json!({}))], json!({})).await.1);
        }
        world.db.keep_statements();
        world.db.take_statements();
        let began = Instant::now();
        for step in &steps {
            world.ask("mutation($id: ID!) { startStep(input: { id: $id }) { step { status } } }", json!({ "id": step })).await;
        }
        let ticks = began.elapsed().as_secs() + 2;
        let looks = world.db.take_statements().iter().filter(|statement| is_look(&statement.sql)).count() as u64;
        // Each commit woke every loop before: with its own looks, that were two thousand.
        assert!(looks > 0, "the statements of a look have changed");
        assert!(looks <= ticks * LOOKS_PER_TICK, "{looks} looks in {ticks} ticks");
        world.end().await;
    }
}

#[test]
fn an_event_that_queues_nothing_is_named() {
    let event = |kind: &&str| Event::new(OrgId::new(), *kind, &Actor::engine());
    let of = |concerns: fn(&Event) -> bool| -> Vec<&str> {
        KINDS.iter().copied().filter(|kind| concerns(&event(kind))).collect()
    };
    let quiet: Vec<&str> = KINDS.iter().copied().filter(|kind| !wake::queues_any_step(&event(kind))).collect();
    // A new kind wakes every loop of steps. Add it here only if what it queues has an event of its own.
    assert_eq!(quiet, QUIET);
    assert_eq!(of(wake::queues_message), of(wake::queues_any_step));
    let nouns = ["communication", "step", "task"];
    let of_others = |kind: &&str| !nouns.contains(&kind.split('.').next().unwrap());
    assert_eq!(of(wake::concerns_runs), of(wake::queues_any_step).into_iter().filter(of_others).collect::<Vec<_>>());
    assert!(of(wake::concerns_bulk_actions).iter().all(|kind| kind.starts_with("bulk_action.")));
    assert_eq!(of(wake::by_time_alone), Vec::<&str>::new());
}

/// The kinds of events that queue nothing.
const QUIET: &[&str] = &[
    "activity.recorded",
    "communication.cancelled",
    "communication.drafted",
    "communication.edited",
    "communication.failed",
    "communication.rejected",
    "communication.sending",
    "communication.sent",
    "communication.suppressed",
    "communication.unknown",
    "follow_up.cancelled",
    "follow_up.completed",
    "follow_up.created",
    "follow_up.overdue",
    "follow_up.reopened",
    "meeting.booked",
    "meeting.cancelled",
    "meeting.moved",
    "run_note.created",
    "run_note.updated",
    "saved_view.created",
    "saved_view.updated",
    "step.approval_given",
    "step.approved",
    "step.assigned",
    "step.awaiting_approval",
    "step.completed",
    "step.failed",
    "step.overdue",
    "step.records_refreshed",
    "step.skipped",
    "step.started",
    "task.blocked",
    "task.completed",
    "task.failed",
    "task.skipped",
    "task.started",
];

/// True for a statement by which an idle loop looks for work.
fn is_look(sql: &str) -> bool {
    ["WITH RECURSIVE found", "FROM \"sweep\"", "FROM \"schedule\"", "FROM \"bulk_action\"", "FROM \"follow_up\""]
        .iter()
        .any(|part| sql.contains(part))
}
