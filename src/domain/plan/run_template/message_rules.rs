//! The rules for steps that draft, review and send messages: the engine does them, in order, and
//! each message has a recipient. Structures that break them would run to their end and send to
//! nobody.

use entity::definition::{Definition, Trigger};
use entity::step::Executor;

use super::wait_graph::{LocatedStep, WaitGraph};
use super::{DRAFT, EMAIL, Problem, REVIEW, SEND};

/// Returns the problems with the message steps of a campaign's structure.
pub(super) fn problems(definition: &Definition) -> Vec<Problem> {
    let mut found = Vec::new();
    let (mut drafts, mut sends) = (None, None);
    for (step, is_drafted) in WaitGraph::of(definition).steps_with_drafts() {
        let kind = step.step.kind.as_str();
        let first = match kind {
            DRAFT => Some(drafts.get_or_insert(&step.step.key)),
            SEND => Some(sends.get_or_insert(&step.step.key)),
            _ => None,
        };
        if let Some(first) = first.filter(|first| **first != &step.step.key) {
            let message = format!(
                "a recipient gets one drafted message, which `{first}` is for: use `{EMAIL}` steps for further messages"
            );
            found.push(Problem::new(step.path("type"), message));
        }
        match kind {
            DRAFT | SEND | EMAIL if step.step.assigned_to != Executor::Workflow => {
                let message = format!("must be WORKFLOW for `{kind}`; for work of people and agents use another type");
                found.push(Problem::new(step.path("assignedTo"), message));
            }
            REVIEW => review(&step, &mut found),
            _ => {}
        }
        if matches!(kind, SEND | REVIEW) && !is_drafted {
            let message = format!(
                "`{kind}` needs messages: add a `{DRAFT}` step that is done before it, in an earlier phase or in a task \
                 that this one depends on"
            );
            found.push(Problem::new(step.path("type"), message));
        }
    }
    found
}

/// Checks that a review is one step for the whole run, which the engine starts.
fn review(step: &LocatedStep<'_>, found: &mut Vec<Problem>) {
    if step.step.assigned_to != Executor::Human {
        found.push(Problem::new(step.path("assignedTo"), format!("must be HUMAN for `{REVIEW}`")));
    }
    if step.step.trigger != Trigger::Immediate {
        let message = format!("must be `immediate` for `{REVIEW}`: the engine starts it once its task begins");
        found.push(Problem::new(step.path("trigger"), message));
    }
    if step.task.fan_out {
        let message = format!("`{REVIEW}` is one step for all messages of the run: it can't be in a fan-out");
        found.push(Problem::new(step.path("type"), message));
    }
}

/// Returns the message steps that have no recipient in a run over many records: those outside of
/// fan-outs. In a run about one record they have that one.
pub fn without_recipient(definition: &Definition) -> Vec<Problem> {
    let mut found = Vec::new();
    for phase in &definition.phases {
        for task in phase.tasks.iter().filter(|task| !task.fan_out) {
            for step in task.steps.iter().filter(|step| matches!(step.kind.as_str(), DRAFT | SEND | EMAIL)) {
                let path = format!("phases.{}.tasks.{}.steps.{}.type", phase.key, task.key, step.key);
                let message = format!(
                    "`{}` has a recipient only in a fan-out: set `fanOut` for the task, or choose one record as the \
                     campaign's audience",
                    step.kind
                );
                found.push(Problem::new(path, message));
            }
        }
    }
    found
}
