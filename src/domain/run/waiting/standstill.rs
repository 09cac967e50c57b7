//! Tasks that others block, and steps that wait for each other, or for a task that waits for them.
//! Structures with such steps are rejected; runs that started before they were need a person.

use entity::definition::Trigger;
use entity::step::StepStatus;
use entity::{RunStatus, RunType, TaskStatus, run, task};

use super::step_waits::{Group, StepWaits};
use super::{Reason, WaitGroup, plain};
use crate::kernel::limits;

/// Adds the reason of a run whose open steps are all pending, where nothing else moves it: no
/// person, no event, no time, no sweep.
pub(super) fn add_reason(run: &run::Model, found: &StepWaits, tasks: &[&task::Model], all: &mut Vec<Reason>) {
    let waits_for_step = |group: &&Group| matches!(group.trigger, Trigger::After(_) | Trigger::Delay(_));
    let is_held = run.status == RunStatus::InProgress
        && run.run_type != RunType::Guided
        && run.audience_done
        && found.sweeps.is_empty()
        && all.iter().all(|reason| reason.code == "BLOCKED")
        && tasks.iter().all(|task| task.fan_out_done || task.status == TaskStatus::Blocked)
        && found.groups.iter().all(|group| group.status == StepStatus::Pending)
        && !found.groups.iter().any(|group| matches!(group.trigger, Trigger::Event(_)));
    if !is_held {
        return;
    }
    let mut sum = WaitGroup::default();
    for group in found.groups.iter().filter(waits_for_step) {
        sum.add(group, group.count);
    }
    if sum.steps > 0 {
        let message = format!(
            "nothing moves the run: these steps wait for each other, or for a task that waits for them: {}; \
             skip one of them, or cancel the run",
            sum.names.join(", ")
        );
        all.push(sum.reason("STANDSTILL", message));
    }
}

/// Adds blocked tasks, if nothing progresses by itself.
pub(super) fn add_blocked_tasks(mine: &[&task::Model], tasks: &[task::Model], all: &mut Vec<Reason>) {
    for task in mine.iter().filter(|task| task.status == TaskStatus::Blocked) {
        let unmet = |key: &&String| !tasks.iter().any(|other| other.key == **key && other.status.meets_dependency());
        let names = task.depends_on.0.iter().filter(unmet).take(limits::USES_SHOWN as usize);
        let names: Vec<String> = names
            .map(|key| {
                tasks.iter().find(|other| other.key == *key).map_or_else(|| key.clone(), |other| other.name.clone())
            })
            .collect();
        let message = format!("{} waits for {}", task.name, names.join(", "));
        all.push(Reason { steps: Some(task.pending), ..plain("BLOCKED", message, None) });
    }
}
