//! Properties of a structure, derived from its steps.

use entity::definition::{Definition, StepDef};

use super::{CALL, DRAFT, EMAIL, REVIEW, SEND};

/// True if a step drafts or sends, so that content, addresses and a channel are needed.
pub fn communicates(definition: &Definition) -> bool {
    steps(definition).any(|step| matches!(step.kind.as_str(), DRAFT | SEND | CALL | EMAIL))
}

/// True if a step takes its content from the campaign: its writer and its message template.
pub fn is_templated(definition: &Definition) -> bool {
    steps(definition).any(|step| matches!(step.kind.as_str(), DRAFT | SEND | CALL))
}

/// True if content must pass a review.
pub fn has_review(definition: &Definition) -> bool {
    steps(definition).any(|step| step.kind == REVIEW)
}

/// Returns the number of steps that are created for each record.
pub fn steps_per_record(definition: &Definition) -> usize {
    let tasks = definition.phases.iter().flat_map(|phase| &phase.tasks);
    tasks.filter(|task| task.fan_out).map(|task| task.steps.len()).sum()
}

pub(crate) fn steps(definition: &Definition) -> impl Iterator<Item = &StepDef> {
    definition.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps)
}
