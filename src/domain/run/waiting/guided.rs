//! Reasons why guided work waits beyond its steps: unknown outcomes of its messages, failed steps, and
//! completion by a person.

use entity::member::Role;
use entity::{RunStatus, run};

use super::step_waits::StepWaits;
use super::{Reason, plain};

/// Adds the reasons; `closed` is true if all steps are closed, of which `failed` have failed. A paused
/// run can't be completed.
pub(super) fn reasons(run: &run::Model, found: &StepWaits, closed: bool, failed: i64, all: &mut Vec<Reason>) {
    let of_operators = |reason| Reason { roles: vec![Role::Operator], ..reason };
    if closed && run.in_flight > 0 {
        let message = format!("{} of its messages are in flight, or their outcome is unknown", run.in_flight);
        all.push(plain("MESSAGES", message, None));
    } else if closed && failed > 0 && run.status == RunStatus::InProgress {
        let message = format!("{failed} of its steps have failed: a person retries them, or skips them after that");
        all.push(of_operators(Reason { steps: Some(failed), ..plain("FAILED_STEPS", message, None) }));
    } else if closed && run.status == RunStatus::InProgress {
        all.push(of_operators(plain("COMPLETION", "its steps are closed: a person completes it", None)));
    } else if found.unknown > 0 {
        let messages = if found.unknown == 1 { "1 message".to_owned() } else { format!("{} messages", found.unknown) };
        all.push(of_operators(plain("RESOLUTION", format!("{messages} with unknown outcome"), None)));
    }
}
