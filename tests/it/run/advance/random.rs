//! Whole runs of random shape: people, workers and events act in random order, and the run is
//! advanced after each.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

/// Task as a random run declares it.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Single steps: so many can start with the task, so many wait for an event.
    Steps { ready: i64, waiting: i64 },
    /// A fan-out with so many steps.
    FanOut(i64),
    /// A fan-out that a decision left out.
    LeftOut,
    /// A fan-out on events.
    OnEvents,
}

#[derive(Clone, Debug)]
struct Declared {
    kind: Kind,
    depends_on: Option<Index>,
    fail_when: FailWhen,
}

#[derive(Clone, Debug)]
struct Shape {
    /// Tasks of each phase, true for an autonomous phase, and the hours for which it stays open.
    phases: Vec<(Vec<Declared>, bool, Option<i64>)>,
    audience_done: bool,
    has_open_recipients: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    let kind = prop_oneof![
        4 => (0..3i64, 0..2i64).prop_map(|(ready, waiting)| Kind::Steps { ready, waiting }),
        3 => (0..4i64).prop_map(Kind::FanOut),
        1 => Just(Kind::LeftOut),
        1 => Just(Kind::OnEvents),
    ];
    let fail_when = prop_oneof![Just(FailWhen::Any), Just(FailWhen::All), Just(FailWhen::Percent(50))];
    let task = (kind, any::<Option<Index>>(), fail_when).prop_map(|(kind, depends_on, fail_when)| Declared {
        kind,
        depends_on,
        fail_when,
    });
    let phase = (prop::collection::vec(task, 0..4), any::<bool>(), prop::option::of(0..5i64));
    (prop::collection::vec(phase, 0..4), any::<bool>(), any::<bool>())
        .prop_map(|(phases, audience_done, has_open_recipients)| Shape { phases, audience_done, has_open_recipients })
}

/// Something that happens outside the planning.
#[derive(Clone, Copy, Debug)]
enum Act {
    Complete,
    Fail,
    Skip,
    EndSweep,
    Arrive,
    AudienceDone,
    PauseOrResume,
    HourPasses,
    Release,
}

fn acts() -> impl Strategy<Value = Vec<(Act, Index)>> {
    use Act::*;
    let act = prop_oneof![
        4 => Just(Complete),
        1 => Just(Fail),
        1 => Just(Skip),
        3 => Just(EndSweep),
        2 => Just(Arrive),
        1 => Just(AudienceDone),
        1 => Just(PauseOrResume),
        1 => Just(HourPasses),
        1 => Just(Release),
    ];
    prop::collection::vec((act, any::<Index>()), 0..40)
}

/// A run with what the database would know beside its phases and tasks.
struct Imitated {
    rows: Situation,
    kinds: Vec<Kind>,
    /// Number of steps of each task that wait for an event.
    waits: Vec<i64>,
    begun: BTreeSet<usize>,
    has_open_recipients: bool,
}

impl Imitated {
    fn new(shape: &Shape) -> Self {
        let mut rows = Situation::with_phases(shape.phases.len());
        rows.run.audience_done = shape.audience_done;
        let mut kinds = Vec::new();
        for (p, (tasks, autonomous, open_hours)) in shape.phases.iter().enumerate() {
            rows.phases[p].autonomous = *autonomous;
            rows.phases[p].open_until = open_hours.map(|hours| noon() + Duration::hours(hours));
            let mut before: Vec<usize> = Vec::new();
            for declared in tasks {
                let number = kinds.len();
                rows = rows.task(p, |task| {
                    task.fail_when = FailRule(declared.fail_when);
                    if let Some(index) = declared.depends_on.filter(|_| !before.is_empty()) {
                        task.depends_on = after_task(*index.get(&before));
                    }
                    match declared.kind {
                        Kind::Steps { ready, waiting } => task.pending = ready + waiting,
                        Kind::FanOut(_) | Kind::OnEvents => fan_out(task),
                        Kind::LeftOut => {
                            fan_out(task);
                            task.left_out_reason = Some("not chosen".into());
                        }
                    }
                });
                before.push(number);
                if matches!(declared.kind, Kind::OnEvents) {
                    rows.event_tasks.push(rows.tasks[number].id);
                }
                kinds.push(declared.kind);
            }
        }
        let waits = kinds.iter().map(|kind| match kind {
            Kind::Steps { waiting, .. } => *waiting,
            Kind::FanOut(_) | Kind::LeftOut | Kind::OnEvents => 0,
        });
        let has_open_recipients = shape.has_open_recipients;
        Self { rows, waits: waits.collect(), kinds, begun: BTreeSet::new(), has_open_recipients }
    }

    fn has_ended(&self) -> bool {
        !self.rows.run.status.is_open()
    }

    /// Advances the run to the end of its plan, and checks each decision.
    fn advance(&mut self) {
        self.rows.has_open_recipients = None;
        let mut plan = Plan::default();
        for _ in 0..1_000 {
            let next = plan.next(&self.rows.facts());
            if next.is_last() {
                return self.end(next);
            }
            match next {
                Next::FindWaiting(phase) => {
                    let id = self.rows.phases[phase].id;
                    let of_phase = self.rows.tasks.iter().zip(&self.waits).filter(|(task, _)| task.phase_id == id);
                    self.rows.waiting = of_phase
                        .flat_map(|(task, waits)| std::iter::repeat_n(task.id, usize::try_from(*waits).unwrap()))
                        .collect();
                }
                Next::SkipWaiting(i) => self.waits[i] = 0,
                Next::CloseFanOut(i) => {
                    let task = &self.rows.tasks[i];
                    let is_met = |key: &String| {
                        self.rows.tasks.iter().any(|other| other.key == *key && other.status.meets_dependency())
                    };
                    let has_begun = self.begun.contains(&i);
                    assert!(has_begun || !task.depends_on.0.iter().all(is_met), "{task:?} takes no event that came");
                }
                Next::Begin(_, Begin::Steps { first: false }) => {}
                Next::Begin(i, _) => assert!(self.begun.insert(i), "the task {i} begins twice"),
                Next::SetStatus(i, status) => assert_ne!(self.rows.tasks[i].status, status),
                _ => {}
            }
            if self.rows.apply(next) {
                plan.steps_changed();
            }
            if next == Next::FindOpenRecipients {
                self.rows.has_open_recipients = Some(self.has_open_recipients);
            }
        }
        panic!("planning does not end");
    }

    fn end(&mut self, next: Next) {
        match next {
            Next::Complete | Next::BeginClose => {
                for task in &self.rows.tasks {
                    assert_eq!(task.counts().open(), 0, "{task:?}");
                    assert!(task.status.meets_dependency(), "{task:?}");
                }
                assert!(self.rows.phases.iter().all(|phase| phase.status.is_over()));
                if next == Next::Complete {
                    assert!(!self.has_open_recipients);
                    self.rows.run.status = RunStatus::Completed;
                }
                self.has_open_recipients = false;
            }
            Next::Fail(phase) => {
                assert_eq!(self.rows.phases[phase].status, PhaseStatus::Failed);
                self.rows.run.status = RunStatus::Failed;
            }
            _ => assert_eq!(next, Next::Wait),
        }
    }

    /// Lets something happen to one of the tasks to which it can.
    fn act(&mut self, act: Act, which: Index) {
        let (now, rows) = (self.rows.now, &mut self.rows);
        let among = |fits: &dyn Fn(usize) -> bool| {
            let fitting: Vec<usize> = (0..self.kinds.len()).filter(|i| fits(*i)).collect();
            (!fitting.is_empty()).then(|| *which.get(&fitting))
        };
        match act {
            Act::Complete | Act::Fail | Act::Skip => {
                if let Some(i) = among(&|i| rows.tasks[i].queued > 0) {
                    rows.tasks[i].queued -= 1;
                    match act {
                        Act::Complete => rows.tasks[i].completed += 1,
                        Act::Fail => rows.tasks[i].failed += 1,
                        _ => rows.tasks[i].skipped += 1,
                    }
                }
            }
            Act::EndSweep => {
                let sweeping = |i: usize| {
                    matches!(self.kinds[i], Kind::FanOut(_))
                        && rows.tasks[i].fan_out_begun
                        && !rows.tasks[i].fan_out_done
                };
                if let Some(i) = among(&sweeping)
                    && let Kind::FanOut(count) = self.kinds[i]
                {
                    rows.tasks[i].queued += count;
                    rows.tasks[i].fan_out_done = true;
                }
            }
            Act::Arrive => {
                let creates = |i: usize| {
                    matches!(self.kinds[i], Kind::OnEvents)
                        && rows.tasks[i].fan_out_begun
                        && !rows.tasks[i].fan_out_done
                };
                if let Some(i) = among(&|i| self.waits[i] > 0 || creates(i)) {
                    let waits = self.waits[i].min(1);
                    self.waits[i] -= waits;
                    // The steps of a task that has not begun start with it.
                    if rows.tasks[i].fan_out_begun {
                        rows.tasks[i].pending -= waits;
                        rows.tasks[i].queued += 1;
                    }
                }
            }
            Act::AudienceDone => rows.run.audience_done = true,
            Act::PauseOrResume => {
                rows.run.status = match rows.run.status {
                    RunStatus::InProgress => RunStatus::Paused,
                    _ => RunStatus::InProgress,
                };
            }
            Act::HourPasses => rows.now = now + Duration::hours(1),
            Act::Release => {
                for phase in rows.phases.iter_mut().filter(|phase| phase.status == PhaseStatus::Active) {
                    phase.advanced_by = Some(Actor::engine());
                }
            }
        }
    }

    /// Lets everybody do what is left, without failures, until the run has ended.
    fn drive_to_the_end(&mut self, first: Index) {
        self.rows.run.status = RunStatus::InProgress;
        for _ in 0..200 {
            self.advance();
            if self.has_ended() {
                return;
            }
            for act in [Act::AudienceDone, Act::EndSweep, Act::Complete, Act::HourPasses, Act::Release] {
                self.act(act, first);
            }
        }
        panic!("the run does not end: {:#?}", self.rows.tasks);
    }
}

proptest! {
    #[test]
    fn planning_ends_begins_each_task_once_and_completes_only_what_has_ended(
        shape in shape(),
        acts in acts(),
        first in any::<Index>(),
    ) {
        let mut run = Imitated::new(&shape);
        run.advance();
        for (act, which) in acts {
            if run.has_ended() {
                break;
            }
            run.act(act, which);
            run.advance();
        }
        if !run.has_ended() {
            run.drive_to_the_end(first);
        }
        let failed = run.rows.run.status == RunStatus::Failed;
        prop_assert!(failed || run.rows.tasks.iter().all(|task| task.status.meets_dependency()));
        // A run that has ended stays as it is: nothing is planned for it.
        run.rows.has_open_recipients = None;
        if run.rows.phases.iter().all(|phase| phase.status != PhaseStatus::Active) {
            prop_assert_eq!(Plan::default().next(&run.rows.facts()), Next::Wait);
        }
    }
}
