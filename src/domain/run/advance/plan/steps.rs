//! Plans the single steps of a task that has begun: each is enqueued, skipped, offered to a person,
//! or left waiting, depending on its trigger.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use entity::definition::Trigger;
use entity::step::{self, Executor, StepReason};
use entity::task;

use crate::domain::run::dependents::{DependencyEnd, dependency_reason};
use crate::domain::run::step::ReasonText;
use crate::kernel::storable;

/// Decision about a pending step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Waits for an event or another step.
    Waits,
    /// Enqueued, available at this time.
    Fires(DateTime<Utc>),
    /// Left for a person to start, if its condition holds.
    Offered,
    /// Skipped.
    Skip(ReasonText),
}

/// Decides about a pending step. `previous` is the step before it in its task; `awaited` the outcome
/// of the step that its trigger names, none while that is open.
pub fn decide(
    now: DateTime<Utc>,
    task: &task::Model,
    step: &step::Model,
    previous: Option<&step::Model>,
    awaited: Option<DependencyEnd>,
) -> Decision {
    if let Some(why) = &task.left_out_reason {
        return Decision::Skip(ReasonText::new(StepReason::LeftOutByDecision, why.clone()));
    }
    match trigger_of(step) {
        Trigger::Immediate if step.assigned_to != Executor::Human => Decision::Fires(now),
        Trigger::Immediate | Trigger::Manual => Decision::Offered,
        Trigger::Event(_) => Decision::Waits,
        Trigger::Delay(span) => match previous {
            None => Decision::Fires(storable::after(now, span.chrono())),
            Some(previous) if end_of(previous).is_some() => {
                Decision::Fires(storable::after(previous.completed_at.unwrap_or(now), span.chrono()))
            }
            Some(_) => Decision::Waits,
        },
        Trigger::After(key) => match awaited {
            None => Decision::Waits,
            Some(DependencyEnd::Completed) => Decision::Fires(now),
            Some(end) => Decision::Skip(dependency_reason(&key, end)),
        },
    }
}

/// Trigger of a step.
pub(in crate::domain::run::advance) fn trigger_of(step: &step::Model) -> Trigger {
    step.trigger.parse().unwrap_or(Trigger::Manual)
}

/// Outcome of a step; none while it is open.
pub(in crate::domain::run::advance) fn end_of(step: &step::Model) -> Option<DependencyEnd> {
    DependencyEnd::of(step.status, step.result.is_some())
}

/// Outcome of all steps of a fan-out; none while one is open or may still be created.
pub fn end_of_fan_out(task: &task::Model) -> Option<DependencyEnd> {
    let counts = task.counts();
    match (task.fan_out_done && counts.open() == 0, counts.completed, counts.failed) {
        (false, _, _) => None,
        (true, 0, 0) => Some(DependencyEnd::Skipped),
        (true, 0, _) => Some(DependencyEnd::Failed),
        (true, _, _) => Some(DependencyEnd::Completed),
    }
}

/// Keys of those pending steps that wait for an event, directly or through other steps, each with
/// the event's trigger.
pub fn waiting_for_events(pending: &[step::Model]) -> HashMap<String, String> {
    let mut keys: HashMap<String, String> = HashMap::new();
    loop {
        let before = keys.len();
        for step in pending.iter() {
            let event = match step.trigger.parse() {
                Ok(Trigger::Event(_)) => Some(step.trigger.clone()),
                Ok(Trigger::After(key)) => keys.get(&key).cloned(),
                Ok(Trigger::Delay(_)) => pending
                    .iter()
                    .find(|other| other.task_id == step.task_id && other.sequence + 1 == step.sequence)
                    .and_then(|previous| keys.get(&previous.key).cloned()),
                Ok(Trigger::Immediate | Trigger::Manual) | Err(_) => None,
            };
            if let Some(event) = event {
                keys.insert(step.key.clone(), event);
            }
        }
        if keys.len() == before {
            return keys;
        }
    }
}
