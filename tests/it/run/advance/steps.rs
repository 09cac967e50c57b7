//! The planning of a task's single steps.

use entity::step::{self, Executor, StepReason, StepStatus};
use sortie::domain::run::advance::plan::steps::{Decision, decide, end_of_fan_out, waiting_for_events};
use sortie::domain::run::dependents::DependencyEnd;

use super::*;

fn a_step(task: &task::Model, key: &str, trigger: &str) -> step::Model {
    step::Model {
        id: StepId::new(),
        org_id: task.org_id,
        run_id: task.run_id,
        phase_id: task.phase_id,
        task_id: task.id,
        run_record_id: None,
        record_id: None,
        key: key.into(),
        name: key.into(),
        search: None,
        kind: "look".into(),
        sequence: 1,
        status: StepStatus::Pending,
        trigger: trigger.into(),
        content_source: None,
        assigned_to: Executor::Workflow,
        result: None,
        error: None,
        reason: None,
        available_at: noon(),
        attempt_count: 0,
        failure_count: 0,
        max_attempts: 3,
        lapse_count: 0,
        lease_owner: None,
        lease_expires_at: None,
        lease_token: None,
        started_at: None,
        started_by: None,
        completed_at: None,
        completed_by: None,
        assignee_id: None,
        assignee_role: None,
        outside: false,
        due_at: None,
        overdue_at: None,
        approval: None,
        created_at: noon(),
        revision: 1,
    }
}

fn the_task() -> task::Model {
    Situation::with_phases(1).task(0, |_| {}).tasks.remove(0)
}

#[test]
fn each_trigger_leads_to_its_decision() {
    let task = the_task();
    let step = |trigger: &str| a_step(&task, "later", trigger);
    let by_person = |trigger: &str| step::Model { assigned_to: Executor::Human, ..step(trigger) };
    let open = a_step(&task, "before", "immediate");
    let ended = |status, at| step::Model { status, completed_at: at, ..open.clone() };
    let (hour, ago) = (Duration::hours(1), noon() - Duration::minutes(10));
    let skips = |decision: Decision| match decision {
        Decision::Skip(why) => Some(why.code),
        _ => None,
    };
    let decided =
        |step: &step::Model, previous: Option<&step::Model>, awaited| decide(noon(), &task, step, previous, awaited);
    assert_eq!(decided(&step("immediate"), None, None), Decision::Fires(noon()));
    assert_eq!(decided(&by_person("immediate"), None, None), Decision::Offered);
    assert_eq!(decided(&step("manual"), None, None), Decision::Offered);
    assert_eq!(decided(&step("event:reply"), None, None), Decision::Waits);
    assert_eq!(decided(&step("delay:1h"), None, None), Decision::Fires(noon() + hour));
    assert_eq!(decided(&step("delay:1h"), Some(&open), None), Decision::Waits);
    for status in [StepStatus::Completed, StepStatus::Skipped, StepStatus::Failed] {
        let previous = ended(status, Some(ago));
        assert_eq!(decided(&step("delay:1h"), Some(&previous), None), Decision::Fires(ago + hour));
        let without_time = ended(status, None);
        assert_eq!(decided(&step("delay:1h"), Some(&without_time), None), Decision::Fires(noon() + hour));
    }
    let after = step("after:before");
    assert_eq!(decided(&after, None, None), Decision::Waits);
    assert_eq!(decided(&after, None, Some(DependencyEnd::Completed)), Decision::Fires(noon()));
    let of_failed = decided(&after, None, Some(DependencyEnd::Failed));
    assert_eq!(skips(of_failed), Some(StepReason::WaitedForFailed));
    let of_skipped = decided(&after, None, Some(DependencyEnd::Skipped));
    assert_eq!(skips(of_skipped), Some(StepReason::WaitedForSkipped));
}

#[test]
fn a_left_out_task_skips_its_steps_whatever_their_trigger() {
    let task = task::Model { left_out_reason: Some("not chosen".into()), ..the_task() };
    for trigger in ["immediate", "manual", "event:reply", "delay:1h", "after:before"] {
        let decision = decide(noon(), &task, &a_step(&task, "later", trigger), None, Some(DependencyEnd::Completed));
        let Decision::Skip(why) = decision else { panic!("{trigger}: {decision:?}") };
        assert_eq!((why.code, why.text.as_str()), (StepReason::LeftOutByDecision, "not chosen"));
    }
}

#[test]
fn a_fan_out_has_an_outcome_once_no_step_is_open_or_to_come() {
    let of = |done, open, completed, failed, skipped| {
        let (fan_out_done, queued) = (done, open);
        end_of_fan_out(&task::Model { fan_out_done, pending: 0, queued, completed, failed, skipped, ..the_task() })
    };
    assert_eq!(of(false, 0, 3, 0, 0), None);
    assert_eq!(of(true, 1, 3, 0, 0), None);
    assert_eq!(of(true, 0, 0, 0, 0), Some(DependencyEnd::Skipped));
    assert_eq!(of(true, 0, 0, 0, 2), Some(DependencyEnd::Skipped));
    assert_eq!(of(true, 0, 0, 1, 2), Some(DependencyEnd::Failed));
    assert_eq!(of(true, 0, 1, 9, 2), Some(DependencyEnd::Completed));
}

#[test]
fn steps_that_follow_a_waiting_one_wait_too() {
    let task = the_task();
    let at = |sequence, key: &str, trigger: &str| step::Model { sequence, ..a_step(&task, key, trigger) };
    // The order of the rows does not matter.
    let pending = [
        at(2, "third", "after:second"),
        at(4, "delayed", "delay:1h"),
        at(1, "second", "after:first"),
        at(3, "fourth", "after:third"),
        at(0, "first", "event:reply"),
        at(6, "other", "after:something"),
        at(7, "by_hand", "manual"),
        // The step before it does not wait.
        at(8, "late", "delay:1h"),
        // The step before it has ended.
        at(10, "last", "delay:1h"),
        // The step before it in its own task has ended, too.
        step::Model { task_id: TaskId::new(), ..at(5, "elsewhere", "delay:1h") },
    ];
    let mut waiting: Vec<(String, String)> = waiting_for_events(&pending).into_iter().collect();
    waiting.sort();
    let wanted = ["delayed", "first", "fourth", "second", "third"];
    assert_eq!(waiting, wanted.map(|key| (key.to_owned(), "event:reply".to_owned())));
    assert!(waiting_for_events(&pending[5..]).is_empty());
}
