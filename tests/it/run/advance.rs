//! The planning of a run, without a database: situations by table, and whole runs of random shape
//! in an imitated world.

use chrono::{DateTime, Duration, Utc};
use entity::definition::FailWhen;
use entity::id::*;
use entity::phase::{self, Names, PhaseTransition};
use entity::task::{self, FailRule};
use entity::{Actor, Channel, PhaseStatus, RunStatus, RunType, TaskStatus, run};
use sortie::domain::run::advance::plan::{Begin, Behind, Facts, Next, Plan, cancelled};

use crate::harness::noon;

mod random;
mod situations;
mod steps;

/// The rows of a run, as a table of situations changes them.
#[derive(Clone)]
struct Situation {
    now: DateTime<Utc>,
    run: run::Model,
    phases: Vec<phase::Model>,
    tasks: Vec<task::Model>,
    event_tasks: Vec<TaskId>,
    waiting: Vec<TaskId>,
    behind: Vec<Behind>,
    has_open_recipients: Option<bool>,
}

impl Situation {
    /// A run in progress, with this many phases without tasks.
    fn with_phases(count: usize) -> Self {
        let run = a_run();
        let phases = (0..count).map(|sequence| a_phase(&run, sequence)).collect();
        Self {
            now: noon(),
            run,
            phases,
            tasks: Vec::new(),
            event_tasks: Vec::new(),
            waiting: Vec::new(),
            behind: Vec::new(),
            has_open_recipients: None,
        }
    }

    /// Adds a task to a phase; `change` makes it what the situation needs.
    fn task(mut self, phase: usize, change: impl FnOnce(&mut task::Model)) -> Self {
        let mut task = a_task(&self.phases[phase], self.tasks.len());
        change(&mut task);
        self.tasks.push(task);
        self
    }

    /// Changes what the table's row is about.
    fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.now,
            run: &self.run,
            phases: &self.phases,
            tasks: &self.tasks,
            event_tasks: &self.event_tasks,
            waiting: &self.waiting,
            behind: &self.behind,
            has_open_recipients: self.has_open_recipients,
        }
    }

    /// Makes every decision until the plan ends, and applies each to the rows as the database would
    /// show them. Single steps that begin are queued.
    fn advance(&mut self) -> Vec<Next> {
        let (mut plan, mut made) = (Plan::default(), Vec::new());
        loop {
            let next = plan.next(&self.facts());
            made.push(next);
            assert!(made.len() < 1_000, "planning does not end: {made:#?}");
            if next.is_last() {
                return made;
            }
            if self.apply(next) {
                plan.steps_changed();
            }
        }
    }

    /// Applies a decision. Returns true if steps changed.
    fn apply(&mut self, next: Next) -> bool {
        match next {
            Next::StartPhase(i) => self.phases[i].status = PhaseStatus::Active,
            Next::FindWaiting(_) => {}
            Next::SkipWaiting(i) => {
                let task = &mut self.tasks[i];
                let before = self.waiting.len();
                self.waiting.retain(|id| *id != task.id);
                let skipped = (before - self.waiting.len()) as i64;
                assert!(skipped > 0, "nothing waits: {task:?}");
                task.pending -= skipped;
                task.skipped += skipped;
            }
            Next::CloseFanOut(i) => self.tasks[i].fan_out_done = true,
            Next::SetStatus(i, status) => self.tasks[i].status = status,
            Next::Begin(i, begin) => return self.begin(i, begin),
            Next::ClosePhase(i, transition) => self.phases[i].status = after(self.phases[i].status, transition),
            Next::FindOpenRecipients => self.has_open_recipients = Some(false),
            Next::BeginClose | Next::Complete | Next::Fail(_) | Next::Wait => unreachable!("the plan has ended"),
        }
        false
    }

    fn begin(&mut self, i: usize, begin: Begin) -> bool {
        let waiting = self.waiting.iter().filter(|id| **id == self.tasks[i].id).count() as i64;
        let task = &mut self.tasks[i];
        task.fan_out_begun = true;
        match begin {
            Begin::LeftOut => task.fan_out_done = true,
            Begin::OnEvents | Begin::FanOut => {}
            Begin::Steps { .. } => {
                let ready = task.pending - waiting;
                task.pending -= ready;
                task.queued += ready;
                return ready > 0;
            }
        }
        false
    }
}

fn after(status: PhaseStatus, transition: PhaseTransition) -> PhaseStatus {
    entity::StateMachine::next(status, transition).expect("a transition of the state machine")
}

fn a_run() -> run::Model {
    run::Model {
        id: RunId::new(),
        org_id: OrgId::new(),
        campaign_id: Some(CampaignId::new()),
        goal_id: None,
        campaign_version: 1,
        campaign_name: "Campaign".into(),
        name: "Run".into(),
        run_type: RunType::Run,
        status: RunStatus::InProgress,
        channel: Channel::Email,
        schedule_id: None,
        occurrence_at: None,
        scheduled_for: None,
        buffered_at: None,
        backfill_for: None,
        queued_at: Some(noon()),
        started_at: Some(noon()),
        ended_at: None,
        audience_count: 0,
        audience_done: true,
        outcome: None,
        failure: None,
        parent_id: None,
        run_template_id: None,
        description: String::new(),
        in_flight: 0,
        by_model: false,
        created_by: Actor::engine(),
        search: String::new(),
        created_at: noon(),
        updated_at: noon(),
        revision: 1,
    }
}

fn a_phase(run: &run::Model, sequence: usize) -> phase::Model {
    phase::Model {
        id: PhaseId::new(),
        org_id: run.org_id,
        run_id: run.id,
        key: format!("phase_{sequence}"),
        name: format!("Phase {sequence}"),
        sequence: sequence as i32,
        status: PhaseStatus::Pending,
        autonomous: true,
        interrupt_events: Names::default(),
        advanced_by: None,
        open_until: None,
        started_at: None,
        completed_at: None,
        revision: 1,
    }
}

/// A task with one single step that is pending.
fn a_task(phase: &phase::Model, sequence: usize) -> task::Model {
    task::Model {
        id: TaskId::new(),
        org_id: phase.org_id,
        run_id: phase.run_id,
        phase_id: phase.id,
        key: format!("task_{sequence}"),
        name: format!("Task {sequence}"),
        sequence: sequence as i32 + 1,
        status: TaskStatus::Pending,
        fan_out: false,
        fan_out_begun: false,
        fan_out_done: true,
        retrying: false,
        fail_when: FailRule(FailWhen::Any),
        depends_on: Names::default(),
        pending: 1,
        queued: 0,
        in_progress: 0,
        awaiting_approval: 0,
        completed: 0,
        skipped: 0,
        failed: 0,
        due_at: None,
        left_out_reason: None,
        started_at: None,
        completed_at: None,
    }
}

/// Makes a task a fan-out that has no steps yet.
fn fan_out(task: &mut task::Model) {
    (task.fan_out, task.fan_out_done, task.pending) = (true, false, 0);
}

/// Makes a task one whose only step is completed.
fn done(task: &mut task::Model) {
    (task.fan_out_begun, task.pending, task.completed) = (true, 0, 1);
}

/// Makes a task one whose only step has failed.
fn failed(task: &mut task::Model) {
    (task.fan_out_begun, task.pending, task.failed) = (true, 0, 1);
}

fn after_task(number: usize) -> Names {
    Names(vec![format!("task_{number}")])
}

/// Makes the only task of a situation one on events.
fn on_events(situation: &mut Situation) {
    situation.event_tasks = vec![situation.tasks[0].id];
}

/// Makes the only task's step wait for an event.
fn waits(situation: &mut Situation) {
    situation.waiting = vec![situation.tasks[0].id];
}
