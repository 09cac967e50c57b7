//! Plans how a run advances, without reading or writing anything: rows in, decisions out. The
//! executor, `advance`, asks for the next decision, applies it, and shows the rows as they are then,
//! until the plan has ended.
//!
//! Phases are planned in order. In an active phase the statuses of all tasks are derived, then the
//! tasks that are ready begin; both repeat as long as a pass changed steps, because a task that ends
//! may let others begin at once. Then the phase closes if it can. In a failed phase, whose steps in
//! progress may still end, the statuses alone are derived.

use chrono::{DateTime, Utc};
use entity::id::TaskId;
use entity::phase::{self, PhaseTransition};
use entity::task::{self, TaskFacts};
use entity::{PhaseStatus, RunStatus, RunType, TaskStatus, run};

pub mod cancelled;
pub mod steps;

/// The state of a run, on which the next decision depends.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Current time.
    pub now: DateTime<Utc>,
    /// The run.
    pub run: &'a run::Model,
    /// The run's phases, in order.
    pub phases: &'a [phase::Model],
    /// The run's tasks, in order.
    pub tasks: &'a [task::Model],
    /// Fan-outs that create their steps as events arrive.
    pub event_tasks: &'a [TaskId],
    /// Tasks of the planned phase's single steps that wait for an event which has not arrived; one
    /// entry per step, as found at the last [`Next::FindWaiting`].
    pub waiting: &'a [TaskId],
    /// Pending steps of the planned phase that follow steps of its other tasks and do not wait for
    /// an event themselves, as found at the last [`Next::FindWaiting`].
    pub behind: &'a [Behind],
    /// True if a recipient of the run has no outcome; `None` before [`Next::FindOpenRecipients`].
    pub has_open_recipients: Option<bool>,
}

/// Pending steps of a task that follow steps of other tasks, directly or through other steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// Their task.
    pub task: TaskId,
    /// The other tasks.
    pub followed: Vec<TaskId>,
    /// Number of the steps.
    pub steps: i64,
}

/// The next decision. Phases and tasks are given by their position in the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Starts a phase.
    StartPhase(usize),
    /// Asks for the single steps of a phase that wait for an event.
    FindWaiting(usize),
    /// Skips the waiting steps of a task: nothing else keeps their phase open.
    SkipWaiting(usize),
    /// Closes an event task: no more steps are created.
    CloseFanOut(usize),
    /// Sets a task's status.
    SetStatus(usize, TaskStatus),
    /// Begins a task, or looks again at the open steps of one that has begun.
    Begin(usize, Begin),
    /// Closes a phase.
    ClosePhase(usize, PhaseTransition),
    /// Asks if a recipient of the run has no outcome.
    FindOpenRecipients,
    /// Ends the plan: begins the sweep that closes the recipients without an outcome.
    BeginClose,
    /// Ends the plan: completes the run.
    Complete,
    /// Ends the plan: fails the run because of a phase.
    Fail(usize),
    /// Ends the plan: the run waits for something outside.
    Wait,
}

/// The way in which a task begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// A fan-out that was left out creates no steps.
    LeftOut,
    /// A fan-out on events creates steps for those that have arrived.
    OnEvents,
    /// A sweep creates the steps of a fan-out.
    FanOut,
    /// The single steps of a task are enqueued, skipped or left waiting.
    Steps {
        /// True if the task has not begun before.
        first: bool,
    },
}

impl Next {
    /// Returns true if the plan has ended.
    pub fn is_last(self) -> bool {
        matches!(self, Self::BeginClose | Self::Complete | Self::Fail(_) | Self::Wait)
    }
}

/// Position of a plan within a run that is not cancelled.
#[derive(Clone, Debug)]
pub struct Plan {
    phase: usize,
    stage: Stage,
    /// True if all earlier phases are completed or skipped.
    are_earlier_done: bool,
    /// Tasks of the phase that wait for events no longer, as found at the start of the current pass.
    /// Tasks that depend on them begin first, and are judged in the next pass.
    over: Vec<usize>,
    /// True if the current pass over the phase changed steps.
    changed: bool,
}

/// Position within a phase.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Start,
    Active,
    Waiting,
    Derive { task: usize },
    Begin { task: usize },
    Close,
    Leave,
}

impl Default for Plan {
    fn default() -> Self {
        Self { phase: 0, stage: Stage::Start, are_earlier_done: true, over: Vec::new(), changed: false }
    }
}

impl Plan {
    /// Records that the decision just applied changed steps: their phase is looked at again.
    pub fn steps_changed(&mut self) {
        self.changed = true;
    }

    /// Decides what happens next.
    pub fn next(&mut self, facts: &Facts<'_>) -> Next {
        while let Some(phase) = facts.phases.get(self.phase) {
            if let Some(next) = self.next_in(facts, phase) {
                return next;
            }
        }
        if !is_running(facts) || !self.are_earlier_done || !facts.run.audience_done {
            return Next::Wait;
        }
        match facts.has_open_recipients {
            None => Next::FindOpenRecipients,
            Some(true) => Next::BeginClose,
            Some(false) => Next::Complete,
        }
    }

    /// Moves one stage on; returns the decision of the stage, if it makes one.
    fn next_in(&mut self, facts: &Facts<'_>, phase: &phase::Model) -> Option<Next> {
        match self.stage {
            Stage::Start => {
                self.stage = Stage::Active;
                let starts = phase.status == PhaseStatus::Pending && is_running(facts) && self.are_earlier_done;
                starts.then_some(Next::StartPhase(self.phase))
            }
            Stage::Active if phase.status == PhaseStatus::Failed => {
                self.over = Vec::new();
                self.stage = Stage::Derive { task: 0 };
                None
            }
            Stage::Active if phase.status != PhaseStatus::Active => {
                self.stage = Stage::Leave;
                None
            }
            Stage::Active => {
                self.stage = Stage::Waiting;
                Some(Next::FindWaiting(self.phase))
            }
            Stage::Waiting => {
                self.over = over(facts, phase);
                self.changed = !self.over.is_empty();
                self.stage = Stage::Derive { task: 0 };
                None
            }
            Stage::Derive { task: i } => match facts.tasks.get(i) {
                None => {
                    self.stage = match phase.status {
                        PhaseStatus::Failed => Stage::Leave,
                        _ if is_running(facts) => Stage::Begin { task: 0 },
                        _ => Stage::Close,
                    };
                    None
                }
                Some(task) if self.over.contains(&i) && is_to_create(facts, task) => Some(Next::CloseFanOut(i)),
                Some(task) if self.over.contains(&i) && waiting_in(facts, task) > 0 => Some(Next::SkipWaiting(i)),
                Some(task) => {
                    self.stage = Stage::Derive { task: i + 1 };
                    let status = status_of(facts, task);
                    // What has failed its phase stays failed until a retry.
                    let stays = phase.status == PhaseStatus::Failed && task.status == TaskStatus::Failed;
                    let differs = task.phase_id == phase.id && status != task.status;
                    (differs && !stays).then_some(Next::SetStatus(i, status))
                }
            },
            Stage::Begin { task: i } => match facts.tasks.get(i) {
                None => {
                    self.stage = if self.changed { Stage::Active } else { Stage::Close };
                    None
                }
                Some(task) => {
                    self.stage = Stage::Begin { task: i + 1 };
                    let begin = beginning(facts, phase, task)?;
                    self.changed |= matches!(begin, Begin::LeftOut | Begin::FanOut | Begin::OnEvents);
                    Some(Next::Begin(i, begin))
                }
            },
            Stage::Close => {
                self.stage = Stage::Leave;
                closing(facts, phase).map(|transition| Next::ClosePhase(self.phase, transition))
            }
            Stage::Leave if phase.status == PhaseStatus::Failed && is_running(facts) => Some(Next::Fail(self.phase)),
            Stage::Leave => {
                self.are_earlier_done &= matches!(phase.status, PhaseStatus::Completed | PhaseStatus::Skipped);
                self.stage = Stage::Start;
                self.phase += 1;
                None
            }
        }
    }
}

fn is_running(facts: &Facts<'_>) -> bool {
    facts.run.status == RunStatus::InProgress
}

fn is_on_event(facts: &Facts<'_>, task: &task::Model) -> bool {
    facts.event_tasks.contains(&task.id)
}

fn are_dependencies_met(facts: &Facts<'_>, task: &task::Model) -> bool {
    let met = |key: &String| facts.tasks.iter().any(|other| other.key == *key && other.status.meets_dependency());
    task.depends_on.0.iter().all(met)
}

/// Number of a task's single steps that wait for an event.
fn waiting_in(facts: &Facts<'_>, task: &task::Model) -> i64 {
    facts.waiting.iter().filter(|id| **id == task.id).count() as i64
}

/// True for a task on events that may create more steps.
fn is_to_create(facts: &Facts<'_>, task: &task::Model) -> bool {
    is_on_event(facts, task) && !task.fan_out_done
}

/// True if the waiting for events in an active phase may be over: the time for them is up, a task
/// that others may stand before has not begun, and all open steps are pending.
pub fn may_be_over(facts: &Facts<'_>, phase: &phase::Model) -> bool {
    let is_time_up = phase.open_until.is_none_or(|until| until <= facts.now);
    let of_phase = || facts.tasks.iter().filter(|task| task.phase_id == phase.id);
    let may_be_held = |task: &task::Model| !task.fan_out_begun && !task.depends_on.0.is_empty();
    is_time_up && of_phase().any(may_be_held) && of_phase().all(|task| task.counts().open() == task.counts().pending)
}

/// Tasks of an active phase that wait for events no longer: nothing else is left in the phase, and
/// the time for events is up. Single steps that wait for an event keep no phase open, and a task on
/// events creates steps only as long as the phase has other work.
///
/// A task that depends on one that waits, directly or through others, is no such work: it begins
/// when the waiting is over, and what it waits for itself is not over before that.
fn over(facts: &Facts<'_>, phase: &phase::Model) -> Vec<usize> {
    if phase.open_until.is_some_and(|until| until > facts.now) {
        return Vec::new();
    }
    let of_phase = || facts.tasks.iter().enumerate().filter(|(_, task)| task.phase_id == phase.id);
    // It takes the events that have arrived before it ends, once the audience is complete. The task
    // before it may have ended just now, and its status is not derived yet.
    let status_now = |task: &task::Model| if task.phase_id == phase.id { status_of(facts, task) } else { task.status };
    let is_met =
        |key: &String| facts.tasks.iter().any(|other| other.key == *key && status_now(other).meets_dependency());
    let is_to_begin = |task: &task::Model| is_to_create(facts, task) && !task.fan_out_begun;
    if of_phase().any(|(_, task)| is_to_begin(task) && task.depends_on.0.iter().all(is_met)) {
        return Vec::new();
    }
    let waits = |task: &task::Model| waiting_in(facts, task) > 0 || is_to_create(facts, task);
    let mut held: Vec<&str> = Vec::new();
    loop {
        let is_behind = |task: &task::Model| {
            let ends_later = |other: &task::Model| waits(other) || held.contains(&other.key.as_str());
            let depends_on = |other: &task::Model| task.depends_on.0.contains(&other.key);
            of_phase().any(|(_, other)| depends_on(other) && ends_later(other))
        };
        let found = of_phase().map(|(_, task)| task);
        let more: Vec<&str> = found
            .filter(|task| !task.fan_out_begun && !held.contains(&task.key.as_str()) && is_behind(task))
            .map(|task| task.key.as_str())
            .collect();
        if more.is_empty() {
            break;
        }
        held.extend(more);
    }
    let is_held = |task: &task::Model| held.contains(&task.key.as_str());
    // Steps that follow one of a task that can't begin.
    let is_stopped = |id: &TaskId| of_phase().any(|(_, task)| task.id == *id && is_held(task));
    let stopped_in = |task: &task::Model| {
        let mine = facts.behind.iter().filter(|behind| behind.task == task.id);
        mine.filter(|behind| behind.followed.iter().any(is_stopped)).map(|behind| behind.steps).sum::<i64>()
    };
    let only_waits = |task: &task::Model| {
        let open = task.counts().open();
        is_held(task)
            || (task.fan_out_done && open == waiting_in(facts, task) + stopped_in(task))
            || (is_on_event(facts, task) && open == 0)
    };
    if !of_phase().all(|(_, task)| only_waits(task)) {
        return Vec::new();
    }
    of_phase().filter(|(_, task)| waits(task) && !is_held(task)).map(|(i, _)| i).collect()
}

/// Status of a task of a phase that has begun.
fn status_of(facts: &Facts<'_>, task: &task::Model) -> TaskStatus {
    let of_task = TaskFacts {
        counts: task.counts(),
        fan_out_done: task.fan_out_done,
        fail_when: task.fail_when.0,
        depends_met: are_dependencies_met(facts, task),
        phase_active: true,
        retrying: task.retrying,
    };
    of_task.status()
}

/// The way in which a task begins or goes on now; none if it waits or has nothing to begin.
fn beginning(facts: &Facts<'_>, phase: &phase::Model, task: &task::Model) -> Option<Begin> {
    if task.phase_id != phase.id || !are_dependencies_met(facts, task) {
        return None;
    }
    if !task.fan_out {
        let has_unstarted = task.pending + task.queued > 0;
        return has_unstarted.then_some(Begin::Steps { first: !task.fan_out_begun });
    }
    if task.fan_out_begun {
        None
    } else if task.left_out_reason.is_some() {
        Some(Begin::LeftOut)
    } else if !facts.run.audience_done {
        // Events that arrive before the audience is complete are stored.
        None
    } else if is_on_event(facts, task) {
        Some(Begin::OnEvents)
    } else {
        Some(Begin::FanOut)
    }
}

/// The transition that closes an active phase; none while a task or a required person's action is
/// missing.
fn closing(facts: &Facts<'_>, phase: &phase::Model) -> Option<PhaseTransition> {
    // A person completes guided work.
    if facts.run.run_type == RunType::Guided {
        return None;
    }
    let statuses = || facts.tasks.iter().filter(|task| task.phase_id == phase.id).map(|task| task.status);
    if statuses().any(|status| status == TaskStatus::Failed) {
        Some(PhaseTransition::Fail)
    } else if statuses().all(|status| status == TaskStatus::Skipped) {
        Some(PhaseTransition::Skip)
    } else if statuses().all(TaskStatus::meets_dependency) && (phase.autonomous || phase.advanced_by.is_some()) {
        Some(PhaseTransition::Complete)
    } else {
        None
    }
}
