//! State machines as data: every pair of status and transition, properties of the derivations, and
//! the diagrams.

use entity::bulk_action::BulkTransition;
use entity::campaign::CampaignTransition;
use entity::communication::CommunicationTransition;
use entity::definition::FailWhen;
use entity::phase::PhaseTransition;
use entity::run::RunTransition;
use entity::state_machine::{StateMachine, verb};
use entity::step::StepTransition;
use entity::task::{StepCounts, TaskFacts, TaskStatus};
use entity::{BulkStatus, CampaignStatus, CommunicationStatus, PhaseStatus, RunStatus, StepStatus};
use proptest::prelude::*;

/// The transitions of a state machine as `FROM verb TO`, compared with the list in the product
/// docs.
fn edges<L: StateMachine>() -> Vec<String> {
    let mut all = Vec::new();
    for from in L::states() {
        for act in L::TRANSITIONS {
            if let Some(to) = from.next(*act) {
                let edge = format!("{from} {} {to}", verb(act));
                if !all.contains(&edge) {
                    all.push(edge);
                }
            }
        }
    }
    all.sort();
    all
}

fn check<L: StateMachine>(wanted: &[&str]) {
    let mut wanted: Vec<String> = wanted.iter().map(|edge| (*edge).to_owned()).collect();
    wanted.sort();
    assert_eq!(edges::<L>(), wanted);
}

#[test]
fn campaign() {
    check::<CampaignStatus>(&[
        "DRAFT submit PENDING_APPROVAL",
        "PENDING_APPROVAL approve ACTIVE",
        "ACTIVE approve ACTIVE",
        "PENDING_APPROVAL reject DRAFT",
        "ACTIVE pause PAUSED",
        "PAUSED resume ACTIVE",
        "ACTIVE complete COMPLETED",
        "ACTIVE fail FAILED",
        "DRAFT cancel CANCELLED",
        "PENDING_APPROVAL cancel CANCELLED",
        "ACTIVE cancel CANCELLED",
        "PAUSED cancel CANCELLED",
        "FAILED reopen ACTIVE",
        "COMPLETED reopen ACTIVE",
    ]);
    assert_eq!(CampaignStatus::Active.next(CampaignTransition::Submit), None);
}

#[test]
fn run() {
    check::<RunStatus>(&[
        "SCHEDULED enqueue QUEUED",
        "SCHEDULED fail preflight FAILED",
        "SCHEDULED reschedule SCHEDULED",
        "QUEUED start IN_PROGRESS",
        "IN_PROGRESS pause PAUSED",
        "PAUSED resume IN_PROGRESS",
        "IN_PROGRESS complete COMPLETED",
        "IN_PROGRESS fail FAILED",
        "FAILED retry IN_PROGRESS",
        "COMPLETED retry IN_PROGRESS",
        "SCHEDULED cancel CANCELLED",
        "QUEUED cancel CANCELLED",
        "IN_PROGRESS cancel CANCELLED",
        "PAUSED cancel CANCELLED",
    ]);
    assert_eq!(RunStatus::Completed.next(RunTransition::Cancel), None);
}

#[test]
fn reply() {
    check::<entity::ReplyStatus>(&[
        "OPEN handle HANDLED",
        "OPEN ignore IGNORED",
        "HANDLED reopen OPEN",
        "IGNORED reopen OPEN",
    ]);
}

#[test]
fn phase() {
    check::<PhaseStatus>(&[
        "PENDING start ACTIVE",
        "PENDING cancel SKIPPED",
        "ACTIVE cancel SKIPPED",
        "ACTIVE complete COMPLETED",
        "ACTIVE skip SKIPPED",
        "ACTIVE fail FAILED",
        "FAILED retry ACTIVE",
        "COMPLETED reset ACTIVE",
        "COMPLETED retry ACTIVE",
        "COMPLETED reopen PENDING",
        "SKIPPED reopen PENDING",
    ]);
    assert_eq!(PhaseStatus::Pending.next(PhaseTransition::Complete), None);
}

#[test]
fn step() {
    check::<StepStatus>(&[
        "PENDING fire QUEUED",
        "QUEUED start IN_PROGRESS",
        "PENDING start IN_PROGRESS",
        "IN_PROGRESS complete COMPLETED",
        "IN_PROGRESS submit AWAITING_APPROVAL",
        "AWAITING_APPROVAL approve COMPLETED",
        "AWAITING_APPROVAL reject QUEUED",
        "AWAITING_APPROVAL reject FAILED",
        "IN_PROGRESS fail QUEUED",
        "IN_PROGRESS fail FAILED",
        "FAILED retry QUEUED",
        "PENDING skip SKIPPED",
        "QUEUED wait again PENDING",
        "QUEUED skip SKIPPED",
        "IN_PROGRESS skip SKIPPED",
        "AWAITING_APPROVAL skip SKIPPED",
        "IN_PROGRESS reset PENDING",
        "COMPLETED reset PENDING",
        "SKIPPED restart PENDING",
        "IN_PROGRESS lapse QUEUED",
        "IN_PROGRESS lapse FAILED",
    ]);
    assert_eq!(StepStatus::Completed.next(StepTransition::Start), None);
}

#[test]
fn communication() {
    check::<CommunicationStatus>(&[
        "DRAFT edit DRAFT",
        "APPROVED edit DRAFT",
        "DRAFT approve APPROVED",
        "DRAFT reject REJECTED",
        "APPROVED reject REJECTED",
        "APPROVED reserve SENDING",
        "SENDING accept SENT",
        "SENDING release APPROVED",
        "SENDING fail FAILED",
        "SENDING mark unknown UNKNOWN",
        "UNKNOWN resolve sent SENT",
        "UNKNOWN resolve send again APPROVED",
        "UNKNOWN resolve not sent FAILED",
        "DRAFT cancel CANCELLED",
        "APPROVED cancel CANCELLED",
        "APPROVED suppress SUPPRESSED",
        "DRAFT suppress SUPPRESSED",
        "FAILED retry APPROVED",
        "CANCELLED retry APPROVED",
    ]);
    assert_eq!(CommunicationStatus::Sent.next(CommunicationTransition::Reserve), None);
}

#[test]
fn bulk_action() {
    check::<BulkStatus>(&[
        "PENDING start RUNNING",
        "PENDING stop STOPPED",
        "RUNNING complete COMPLETED",
        "RUNNING stop STOPPED",
    ]);
    assert_eq!(BulkStatus::Stopped.next(BulkTransition::Start), None);
}

/// A message that was handed over is never handed over again without a person's decision.
#[test]
fn no_way_back_from_sending_but_by_a_refusal() {
    for act in CommunicationStatus::TRANSITIONS {
        let back = CommunicationStatus::Sending.next(*act) == Some(CommunicationStatus::Approved);
        assert_eq!(back, *act == CommunicationTransition::Release);
    }
}

prop_compose! {
    fn counts()(all in proptest::array::uniform7(0i64..4)) -> StepCounts {
        let [pending, queued, in_progress, awaiting_approval, completed, skipped, failed] = all;
        StepCounts { pending, queued, in_progress, awaiting_approval, completed, skipped, failed }
    }
}

fn rule() -> impl Strategy<Value = FailWhen> {
    prop_oneof![Just(FailWhen::Any), Just(FailWhen::All), (0u8..=100).prop_map(FailWhen::Percent)]
}

prop_compose! {
    fn situation()(
        counts in counts(), fan_out_done: bool, fail_when in rule(), depends_met: bool, phase_active: bool,
    ) -> TaskFacts {
        TaskFacts { counts, fan_out_done, fail_when, depends_met, phase_active, retrying: false }
    }
}

proptest! {
    #[test]
    fn a_closed_task_has_ended_and_an_open_one_only_by_failing(situation in situation()) {
        let status = situation.status();
        let ended = matches!(status, TaskStatus::Completed | TaskStatus::Skipped | TaskStatus::Failed);
        if situation.is_closed() {
            prop_assert!(ended);
        } else if ended {
            prop_assert_eq!(status, TaskStatus::Failed);
        }
    }

    #[test]
    fn without_failures_nothing_fails(mut situation in situation()) {
        situation.counts.failed = 0;
        prop_assert_ne!(situation.status(), TaskStatus::Failed);
    }

    #[test]
    fn all_fails_only_where_nothing_was_done(situation in situation()) {
        let all = TaskFacts { fail_when: FailWhen::All, ..situation };
        if all.status() == TaskStatus::Failed {
            prop_assert!(all.is_closed() && all.counts.completed == 0 && all.counts.failed > 0);
        }
    }

    #[test]
    fn a_failure_that_is_certain_stays(situation in situation(), more in counts()) {
        // Open steps may close in any way: a task that has failed early stays failed.
        if situation.fan_out_done && situation.status() == TaskStatus::Failed {
            let open = situation.counts.open();
            let mut later = situation;
            later.counts = StepCounts {
                pending: 0, queued: 0, in_progress: 0, awaiting_approval: 0,
                completed: situation.counts.completed + open.min(more.completed),
                skipped: situation.counts.skipped + (open - open.min(more.completed)),
                failed: situation.counts.failed,
            };
            prop_assert_eq!(later.status(), TaskStatus::Failed);
        }
    }

    #[test]
    fn blocked_only_in_an_active_phase_with_unmet_tasks(situation in situation()) {
        if situation.status() == TaskStatus::Blocked {
            prop_assert!(situation.phase_active && !situation.depends_met && !situation.is_closed());
        }
    }

    #[test]
    fn no_walk_leaves_the_law(acts in proptest::collection::vec(0usize..StepStatus::TRANSITIONS.len(), 0..40)) {
        // In every sequence of transitions a step that has left the open statuses returns to them
        // only by reset, restart or retry.
        let mut status = StepStatus::Pending;
        for act in acts {
            let act = StepStatus::TRANSITIONS[act];
            if let Some(next) = status.next(act) {
                if !StepStatus::OPEN.contains(&status) {
                    prop_assert!(matches!(act, StepTransition::Reset | StepTransition::Restart | StepTransition::Retry));
                }
                status = next;
            }
        }
    }
}

#[test]
fn the_docs_show_the_state_machines_as_they_are() {
    let readme = std::fs::read_to_string("docs/states.md").unwrap();
    for diagram in sortie::state_machines().split("### ").filter(|part| !part.is_empty()) {
        assert!(
            readme.contains(diagram.trim()),
            "print the state machines anew with `sortie state-machines`:\n{diagram}"
        );
    }
}
