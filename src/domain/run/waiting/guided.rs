//! Reasons why guided work waits beyond its steps: the fate of its messages, and the person who completes it.

use entity::member::Role;
use entity::run;

use super::step_waits::StepWaits;
use super::{Reason, plain};

/// The reasons, for work whose steps are all closed or not.
pub(super) fn reasons(run: &run::Model, found: &StepWaits, closed: bool, all: &mut Vec<Reason>) {
    let of_operators = |reason| Reason { roles: vec![Role::Operator], ..reason };
    if closed && run.on_way > 0 {
        let told = format!("{} of its messages are on their way, or their fate is unknown", run.on_way);
        all.push(plain("MESSAGES", told, None));
    } else if closed {
        all.push(of_operators(plain("COMPLETION", "its steps are closed: a person completes it", None)));
    } else if found.unknown > 0 {
        let what = if found.unknown == 1 { "1 message".to_owned() } else { format!("{} messages", found.unknown) };
        all.push(of_operators(plain("RESOLUTION", format!("{what} whose fate is unknown"), None)));
    }
}
