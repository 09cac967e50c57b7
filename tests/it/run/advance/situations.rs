//! Situations by table, each with the decisions that it leads to.

use super::*;

#[test]
fn each_situation_leads_to_its_decisions() {
    use Begin::{FanOut, LeftOut, OnEvents, Steps};
    use Next::{
        BeginClose, CloseFanOut, ClosePhase, Complete, Fail, FindOpenRecipients, FindWaiting, SetStatus, SkipWaiting,
        StartPhase, Wait,
    };
    let one = || Situation::with_phases(1);
    let begin = Next::Begin;
    let steps = |first| move |i| Next::Begin(i, Steps { first });
    let table: Vec<(&str, Situation, Vec<Next>)> = vec![
        ("a run without phases", Situation::with_phases(0), vec![FindOpenRecipients, Complete]),
        (
            "a run without phases whose recipients have no outcome",
            Situation::with_phases(0).but(|it| it.has_open_recipients = Some(true)),
            vec![BeginClose],
        ),
        (
            "a run whose audience is not complete",
            Situation::with_phases(0).but(|it| it.run.audience_done = false),
            vec![Wait],
        ),
        (
            "an empty phase",
            one(),
            vec![StartPhase(0), FindWaiting(0), ClosePhase(0, PhaseTransition::Skip), FindOpenRecipients, Complete],
        ),
        (
            "a single step begins",
            one().task(0, |_| {}),
            vec![
                StartPhase(0),
                FindWaiting(0),
                steps(true)(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::InProgress),
                steps(false)(0),
                Wait,
            ],
        ),
        (
            "a task waits for another of its phase",
            one().task(0, |_| {}).task(0, |task| task.depends_on = after_task(0)),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SetStatus(1, TaskStatus::Blocked),
                steps(true)(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::InProgress),
                steps(false)(0),
                Wait,
            ],
        ),
        (
            "the other task has ended",
            one().task(0, done).task(0, |task| task.depends_on = after_task(0)),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Completed),
                steps(true)(1),
                FindWaiting(0),
                SetStatus(1, TaskStatus::InProgress),
                steps(false)(1),
                Wait,
            ],
        ),
        (
            "the other task has failed",
            one().task(0, failed).task(0, |task| task.depends_on = after_task(0)),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Failed),
                SetStatus(1, TaskStatus::Blocked),
                ClosePhase(0, PhaseTransition::Fail),
                Fail(0),
            ],
        ),
        (
            "a failed phase starts no later one, and its tasks follow their steps",
            Situation::with_phases(2)
                .task(0, failed)
                .task(1, |_| {})
                .but(|it| it.phases[0].status = PhaseStatus::Failed),
            vec![SetStatus(0, TaskStatus::Failed), Fail(0)],
        ),
        (
            "a step that ends after its run has failed",
            one().task(0, done).but(|it| {
                it.run.status = RunStatus::Failed;
                it.phases[0].status = PhaseStatus::Failed;
            }),
            vec![SetStatus(0, TaskStatus::Completed), Wait],
        ),
        (
            "a fan-out begins with the complete audience",
            one().task(0, fan_out),
            vec![StartPhase(0), FindWaiting(0), begin(0, FanOut), FindWaiting(0), Wait],
        ),
        (
            "a fan-out before the audience is complete",
            one().task(0, fan_out).but(|it| it.run.audience_done = false),
            vec![StartPhase(0), FindWaiting(0), Wait],
        ),
        (
            "a fan-out that a decision left out",
            one().task(0, |task| {
                fan_out(task);
                task.left_out_reason = Some("not chosen".into());
            }),
            vec![
                StartPhase(0),
                FindWaiting(0),
                begin(0, LeftOut),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                ClosePhase(0, PhaseTransition::Skip),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "a left-out fan-out does not wait for the audience",
            one()
                .task(0, |task| {
                    fan_out(task);
                    task.left_out_reason = Some("not chosen".into());
                })
                .but(|it| it.run.audience_done = false),
            vec![
                StartPhase(0),
                FindWaiting(0),
                begin(0, LeftOut),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                ClosePhase(0, PhaseTransition::Skip),
                Wait,
            ],
        ),
        (
            "a task on events before the audience is complete",
            one().task(0, fan_out).but(on_events).but(|it| {
                it.run.audience_done = false;
                it.phases[0].open_until = Some(noon() + Duration::hours(1));
            }),
            vec![StartPhase(0), FindWaiting(0), Wait],
        ),
        (
            "a task on events while its phase stays open",
            one().task(0, fan_out).but(on_events).but(|it| {
                it.phases[0].open_until = Some(noon() + Duration::hours(1));
            }),
            vec![StartPhase(0), FindWaiting(0), begin(0, OnEvents), FindWaiting(0), Wait],
        ),
        (
            "a task on events at the end of its phase's time",
            one().task(0, fan_out).but(on_events).but(|it| {
                it.phases[0].open_until = Some(noon());
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].fan_out_begun = true;
            }),
            vec![
                FindWaiting(0),
                CloseFanOut(0),
                SetStatus(0, TaskStatus::Skipped),
                FindWaiting(0),
                ClosePhase(0, PhaseTransition::Skip),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "a task on events behind one that has just ended takes what has arrived before it closes",
            one().task(0, done).task(0, fan_out).but(|it| {
                it.event_tasks = vec![it.tasks[1].id];
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].status = TaskStatus::InProgress;
                it.tasks[1].status = TaskStatus::Blocked;
                it.tasks[1].depends_on = after_task(0);
            }),
            vec![
                FindWaiting(0),
                SetStatus(0, TaskStatus::Completed),
                SetStatus(1, TaskStatus::Pending),
                begin(1, OnEvents),
                FindWaiting(0),
                CloseFanOut(1),
                SetStatus(1, TaskStatus::Skipped),
                FindWaiting(0),
                ClosePhase(0, PhaseTransition::Complete),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "a task on events behind one that has just ended closes nothing in a paused run",
            one().task(0, done).task(0, fan_out).but(|it| {
                it.run.status = RunStatus::Paused;
                it.event_tasks = vec![it.tasks[1].id];
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].status = TaskStatus::InProgress;
                it.tasks[1].status = TaskStatus::Blocked;
                it.tasks[1].depends_on = after_task(0);
            }),
            vec![FindWaiting(0), SetStatus(0, TaskStatus::Completed), SetStatus(1, TaskStatus::Pending), Wait],
        ),
        (
            "a task on events with an open step",
            one().task(0, fan_out).but(on_events).but(|it| {
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].fan_out_begun = true;
                it.tasks[0].in_progress = 1;
                it.tasks[0].status = TaskStatus::InProgress;
            }),
            vec![FindWaiting(0), Wait],
        ),
        (
            "a single step that waits for an event keeps its phase open until then",
            one().task(0, |_| {}).but(waits).but(|it| {
                it.phases[0].open_until = Some(noon() + Duration::hours(1));
            }),
            vec![StartPhase(0), FindWaiting(0), steps(true)(0), Wait],
        ),
        (
            "a single step whose event did not arrive",
            one().task(0, |_| {}).but(waits),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SkipWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                FindWaiting(0),
                ClosePhase(0, PhaseTransition::Skip),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "a single step that waits beside other work",
            one().task(0, |_| {}).task(0, |_| {}).but(waits).but(|it| {
                it.phases[0].status = PhaseStatus::Active;
                let task = &mut it.tasks[1];
                (task.fan_out_begun, task.pending, task.in_progress) = (true, 0, 1);
                task.status = TaskStatus::InProgress;
            }),
            vec![FindWaiting(0), steps(true)(0), Wait],
        ),
        (
            "a task behind one that waits for an event, before the time is up",
            one().task(0, |_| {}).task(0, |task| task.depends_on = after_task(0)).but(waits).but(|it| {
                it.phases[0].open_until = Some(noon() + Duration::hours(1));
            }),
            vec![StartPhase(0), FindWaiting(0), SetStatus(1, TaskStatus::Blocked), steps(true)(0), Wait],
        ),
        (
            "a task behind one whose event did not arrive begins",
            one().task(0, |_| {}).task(0, |task| task.depends_on = after_task(0)).but(waits),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SkipWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                steps(true)(1),
                FindWaiting(0),
                SetStatus(1, TaskStatus::InProgress),
                steps(false)(1),
                Wait,
            ],
        ),
        (
            "a fan-out behind one on events begins when the time is up, wherever it is declared",
            one().task(0, fan_out).task(0, fan_out).but(|it| {
                it.event_tasks = vec![it.tasks[1].id];
                it.tasks[0].depends_on = after_task(1);
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].status = TaskStatus::Blocked;
                it.tasks[1].fan_out_begun = true;
            }),
            vec![
                FindWaiting(0),
                CloseFanOut(1),
                SetStatus(1, TaskStatus::Skipped),
                begin(0, FanOut),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Pending),
                Wait,
            ],
        ),
        (
            "each of three tasks in a row waits for its own event",
            one()
                .task(0, |_| {})
                .task(0, |task| task.depends_on = after_task(0))
                .task(0, |task| task.depends_on = after_task(1))
                .but(|it| it.waiting = vec![it.tasks[0].id, it.tasks[1].id]),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SkipWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                SetStatus(2, TaskStatus::Blocked),
                steps(true)(1),
                FindWaiting(0),
                SkipWaiting(1),
                SetStatus(1, TaskStatus::Skipped),
                SetStatus(2, TaskStatus::Pending),
                steps(true)(2),
                FindWaiting(0),
                SetStatus(2, TaskStatus::InProgress),
                steps(false)(2),
                Wait,
            ],
        ),
        (
            "a task behind one that waits and one that works is not passed over",
            one()
                .task(0, |_| {})
                .task(0, |_| {})
                .task(0, |task| task.depends_on = Names(vec!["task_0".into(), "task_1".into()]))
                .but(waits)
                .but(|it| {
                    it.phases[0].status = PhaseStatus::Active;
                    it.tasks[2].status = TaskStatus::Blocked;
                    let task = &mut it.tasks[1];
                    (task.fan_out_begun, task.pending, task.in_progress) = (true, 0, 1);
                    task.status = TaskStatus::InProgress;
                }),
            vec![FindWaiting(0), steps(true)(0), Wait],
        ),
        (
            "a step that follows one of a task behind one that waits",
            one()
                .task(0, |_| {})
                .task(0, |task| task.depends_on = after_task(0))
                .task(0, |task| (task.fan_out_begun, task.fan_out) = (true, true))
                .but(waits)
                .but(|it| {
                    it.phases[0].status = PhaseStatus::Active;
                    it.tasks[1].status = TaskStatus::Blocked;
                    let (task, followed) = (it.tasks[2].id, vec![it.tasks[1].id]);
                    it.behind = vec![Behind { task, followed, steps: 1 }];
                }),
            vec![
                FindWaiting(0),
                SkipWaiting(0),
                SetStatus(0, TaskStatus::Skipped),
                SetStatus(1, TaskStatus::Pending),
                steps(true)(1),
                FindWaiting(0),
                SetStatus(1, TaskStatus::InProgress),
                steps(false)(1),
                Wait,
            ],
        ),
        (
            "everything has ended",
            Situation::with_phases(2).task(0, done).task(1, done),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Completed),
                ClosePhase(0, PhaseTransition::Complete),
                StartPhase(1),
                FindWaiting(1),
                SetStatus(1, TaskStatus::Completed),
                ClosePhase(1, PhaseTransition::Complete),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "a phase that a person has to release",
            one().task(0, done).but(|it| it.phases[0].autonomous = false),
            vec![StartPhase(0), FindWaiting(0), SetStatus(0, TaskStatus::Completed), Wait],
        ),
        (
            "a phase that a person has released",
            one().task(0, done).but(|it| {
                it.phases[0].autonomous = false;
                it.phases[0].advanced_by = Some(Actor::engine());
            }),
            vec![
                StartPhase(0),
                FindWaiting(0),
                SetStatus(0, TaskStatus::Completed),
                ClosePhase(0, PhaseTransition::Complete),
                FindOpenRecipients,
                Complete,
            ],
        ),
        (
            "guided work is completed by a person",
            one().task(0, done).but(|it| it.run.run_type = RunType::Guided),
            vec![StartPhase(0), FindWaiting(0), SetStatus(0, TaskStatus::Completed), Wait],
        ),
        (
            "a retry takes its failures as queued",
            one().task(0, failed).but(|it| {
                it.phases[0].status = PhaseStatus::Active;
                it.tasks[0].status = TaskStatus::Failed;
                it.tasks[0].retrying = true;
            }),
            vec![FindWaiting(0), SetStatus(0, TaskStatus::InProgress), Wait],
        ),
        ("a paused run starts no phase", one().task(0, |_| {}).but(|it| it.run.status = RunStatus::Paused), vec![Wait]),
        (
            "a paused run begins no task, but closes what ended",
            Situation::with_phases(2).task(0, done).task(0, |_| {}).but(|it| {
                it.run.status = RunStatus::Paused;
                it.phases[0].status = PhaseStatus::Active;
            }),
            vec![FindWaiting(0), SetStatus(0, TaskStatus::Completed), Wait],
        ),
        (
            "a paused run does not fail before it is resumed",
            one().task(0, failed).but(|it| {
                it.run.status = RunStatus::Paused;
                it.phases[0].status = PhaseStatus::Active;
            }),
            vec![FindWaiting(0), SetStatus(0, TaskStatus::Failed), ClosePhase(0, PhaseTransition::Fail), Wait],
        ),
        (
            "a run that has ended",
            one().task(0, done).but(|it| {
                it.run.status = RunStatus::Completed;
                it.phases[0].status = PhaseStatus::Completed;
            }),
            vec![Wait],
        ),
    ];
    for (name, mut situation, wanted) in table {
        assert_eq!(situation.advance(), wanted, "{name}");
    }
}

/// Makes every decision for a cancelled run.
fn close(situation: &mut Situation) -> Vec<cancelled::Next> {
    let mut made = Vec::new();
    while let Some(next) = cancelled::next(&situation.phases, &situation.tasks) {
        made.push(next);
        assert!(made.len() < 1_000, "planning does not end: {made:#?}");
        match next {
            cancelled::Next::StopFanOut(i) => {
                (situation.tasks[i].fan_out_done, situation.tasks[i].retrying) = (true, false);
            }
            cancelled::Next::SetStatus(i, status) => situation.tasks[i].status = status,
            cancelled::Next::SkipPhase(i) => {
                situation.phases[i].status = after(situation.phases[i].status, PhaseTransition::Cancel);
            }
        }
    }
    made
}

#[test]
fn a_cancelled_run_closes_all_that_nobody_holds() {
    use cancelled::Next::*;
    let one = || Situation::with_phases(1).but(|it| it.run.status = RunStatus::Cancelled);
    let skipped = |task: &mut task::Model| (task.pending, task.skipped) = (0, 1);
    let held = |task: &mut task::Model| {
        (task.pending, task.in_progress) = (0, 1);
        task.status = TaskStatus::InProgress;
    };
    let table: Vec<(&str, Situation, Vec<cancelled::Next>)> = vec![
        ("an empty phase", one(), vec![SkipPhase(0)]),
        ("a skipped step", one().task(0, skipped), vec![SetStatus(0, TaskStatus::Skipped), SkipPhase(0)]),
        (
            "a fan-out that has not begun",
            one().task(0, fan_out),
            vec![StopFanOut(0), SetStatus(0, TaskStatus::Skipped), SkipPhase(0)],
        ),
        (
            "a retry in progress",
            one().task(0, failed).but(|it| it.tasks[0].retrying = true),
            // Its failed steps count as queued until the mark is gone.
            vec![StopFanOut(0), SetStatus(0, TaskStatus::Failed), SkipPhase(0)],
        ),
        ("a step with a lease", one().task(0, held), vec![]),
        (
            "a step with a lease beside a skipped one",
            one().task(0, held).task(0, skipped),
            vec![SetStatus(1, TaskStatus::Skipped)],
        ),
        (
            "later phases close before the one with a lease",
            Situation::with_phases(2).task(0, held).task(1, skipped),
            vec![SetStatus(1, TaskStatus::Skipped), SkipPhase(1)],
        ),
        (
            "phases that have ended stay as they are",
            one().task(0, fan_out).but(|it| it.phases[0].status = PhaseStatus::Completed),
            vec![],
        ),
    ];
    for (name, mut situation, wanted) in table {
        assert_eq!(close(&mut situation), wanted, "{name}");
    }
}
