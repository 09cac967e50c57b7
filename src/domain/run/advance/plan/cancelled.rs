//! Plans how a cancelled run closes, once its sweep has finished: tasks create no further steps,
//! and phases in which no worker holds a step are skipped.

use entity::PhaseStatus;
use entity::phase;
use entity::task::{self, TaskFacts, TaskStatus};

/// The next decision. Phases and tasks are given by their position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Marks that a task creates no further steps.
    StopFanOut(usize),
    /// Sets a task's status.
    SetStatus(usize, TaskStatus),
    /// Skips a phase.
    SkipPhase(usize),
}

/// Decides what closes next; `None` if nothing can be closed now. Each decision that is applied
/// removes its own cause, so asking again ends.
pub fn next(phases: &[phase::Model], tasks: &[task::Model]) -> Option<Next> {
    let is_open = |phase: &phase::Model| matches!(phase.status, PhaseStatus::Active | PhaseStatus::Pending);
    phases.iter().enumerate().filter(|(_, phase)| is_open(phase)).find_map(|(i, phase)| {
        let of_phase = || tasks.iter().enumerate().filter(|(_, task)| task.phase_id == phase.id);
        let of_tasks = of_phase().find_map(|(t, task)| in_task(phase, t, task));
        // Steps with a lease may still settle; their phase closes with the last of them.
        of_tasks.or_else(|| of_phase().all(|(_, task)| task.counts().open() == 0).then_some(Next::SkipPhase(i)))
    })
}

fn in_task(phase: &phase::Model, position: usize, task: &task::Model) -> Option<Next> {
    if task.counts().open() == 0 && (!task.fan_out_done || task.retrying) {
        return Some(Next::StopFanOut(position));
    }
    let facts = TaskFacts {
        counts: task.counts(),
        fan_out_done: task.fan_out_done,
        fail_when: task.fail_when.0,
        depends_met: true,
        phase_active: phase.status == PhaseStatus::Active,
        retrying: task.retrying,
    };
    let status = facts.status();
    (status != task.status).then_some(Next::SetStatus(position, status))
}
