//! Structures of guided work before they are stored: those of templates, and steps that a request
//! takes from templates or declares.

use std::collections::{HashMap, HashSet};

use entity::definition::{Definition, Overrides, StepDef};
use entity::id::*;
use entity::{TemplateKind, run_template as template};
use sea_orm::ConnectionTrait;

use crate::domain::plan::run_template::layer::Resolved;
use crate::domain::plan::run_template::{self, Chain, Executors, Problem, built_in, problems_of};
use crate::domain::run::snapshot;
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::viewer::Viewer;
use crate::kernel::{limits, validate};

/// Step that a request gives.
#[derive(Clone, Debug)]
pub enum GuidedStepDraft {
    /// A template's step, by its key.
    Of(RunTemplateId, String),
    /// A step defined in the request.
    Own(Box<StepDef>),
}

/// Structure to be started, with the context of its validation.
#[derive(Clone, Debug)]
pub(super) struct PreparedStructure {
    /// Input field for error messages.
    pub(super) field: &'static str,
    pub(super) definition: Definition,
    executors: Executors,
    /// Problems of form.
    pub(super) problems: Vec<Problem>,
    /// Keys of the steps of a request, each with its place in the input; empty for a template's.
    places: Vec<(String, String)>,
}

impl PreparedStructure {
    pub(super) async fn of(
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        field: &'static str,
        resolved: Resolved,
    ) -> Result<Self> {
        let executors = Executors::of(db, viewer, &resolved.definition).await?;
        Ok(Self { field, definition: resolved.definition, executors, problems: resolved.problems, places: Vec::new() })
    }

    /// All problems of the structure. Those of a request's steps have their paths in the input.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut all = self.problems.clone();
        let of_rules = problems_of(TemplateKind::Guided, &self.definition, Some(&self.executors));
        // Some are problems of form, too.
        all.extend(of_rules.into_iter().filter(|problem| !self.problems.contains(problem)));
        if !self.places.is_empty() {
            all.iter_mut().for_each(|problem| problem.path = self.place(&problem.path));
        }
        all
    }

    /// The place in the input of a path in the structure; the list of steps where it is none of them.
    fn place(&self, path: &str) -> String {
        let mut found = self.places.iter().filter_map(|(key, place)| match below_step(path, key)? {
            "" => Some(place.clone()),
            field => Some(format!("{place}.{field}")),
        });
        found.next().unwrap_or_else(|| self.field.to_owned())
    }

    /// Rejects a structure with problems. Errors: BAD_USER_INPUT with all of them in `problems`;
    /// LIMIT_EXCEEDED if the validation ran out of time.
    pub(super) fn reject_if(&self, problems: &[Problem]) -> Result<()> {
        match self.places.is_empty() {
            true => run_template::reject_if_problems(self.field, problems),
            false => run_template::reject_at_first(self.field, problems),
        }
    }
}

/// Resolves a template's structure.
pub(super) async fn resolved(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    id: Option<RunTemplateId>,
) -> Result<(Resolved, template::Model)> {
    let id = id.ok_or_else(|| Error::internal("scheduled work has a template"))?;
    let template = run_template::must_find(db, viewer, id).await?;
    if template.kind != TemplateKind::Guided {
        let message = "this template is for campaigns: launch a campaign that uses it";
        return Err(Refusal::input("templateId", message).into());
    }
    let chain = Chain::of(db, template).await?;
    Ok((chain.resolve(&Overrides::default()), chain.template))
}

/// Definitions of the templates that a request takes steps from.
#[derive(Default)]
struct Templates(HashMap<RunTemplateId, Definition>);

impl Templates {
    /// Returns the step of a draft; errors name the draft by its path in the input.
    async fn declared(
        &mut self,
        db: &impl ConnectionTrait,
        viewer: &Viewer,
        draft: &GuidedStepDraft,
        path: &str,
    ) -> Result<StepDef> {
        let (id, key) = match draft {
            GuidedStepDraft::Own(step) => return Ok(step.as_ref().clone()),
            GuidedStepDraft::Of(id, key) => (id, key),
        };
        if !self.0.contains_key(id) {
            if self.0.len() == limits::START_TEMPLATES {
                let message = format!("steps from at most {} templates", limits::START_TEMPLATES);
                return Err(Refusal::input("steps", message).into());
            }
            self.0.insert(*id, resolved(db, viewer, Some(*id)).await?.0.definition);
        }
        let found = snapshot::step(&self.0[id], key).cloned();
        found.ok_or_else(|| {
            let message = format!("{id} has no step `{}`", validate::printable(key));
            Refusal::input(&format!("{path}.stepKey"), message).into()
        })
    }
}

/// Builds a structure from templates' steps and new steps; duplicate keys get a number.
pub(super) async fn ad_hoc_structure(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    name: &str,
    drafts: &[GuidedStepDraft],
) -> Result<PreparedStructure> {
    if drafts.is_empty() || drafts.len() > limits::DEFINITION_PARTS {
        return Err(Refusal::input("steps", format!("1 to {}", limits::DEFINITION_PARTS)).into());
    }
    let mut templates = Templates::default();
    let mut steps: Vec<StepDef> = Vec::new();
    let (mut keys, mut numbers) = (HashSet::new(), HashMap::<String, usize>::new());
    let mut places = Vec::with_capacity(drafts.len());
    for (i, one) in drafts.iter().enumerate() {
        let mut step = templates.declared(db, viewer, one, &format!("steps[{i}]")).await?;
        let base_key = step.key.clone();
        let number = numbers.entry(base_key.clone()).or_insert(1);
        while !keys.insert(step.key.clone()) {
            *number += 1;
            step.key = format!("{base_key}_{number}");
        }
        let place = match one {
            GuidedStepDraft::Own(_) => format!("steps[{i}].definition"),
            GuidedStepDraft::Of(..) => format!("steps[{i}]"),
        };
        places.push((step.key.clone(), place));
        steps.push(step);
    }
    let definition = built_in::guided::definition(name, steps);
    // Validated like a written structure: keys, names, bounds.
    let (read, problems) = run_template::written(&serde_json::to_value(&definition)?);
    let executors = Executors::of(db, viewer, &read).await?;
    let definition = Definition { template: String::new(), ..definition };
    Ok(PreparedStructure { field: "steps", definition, executors, problems, places })
}

/// Step to be added to a run, validated.
#[derive(Debug)]
pub(super) struct PreparedStep {
    pub(super) declared: StepDef,
    /// Structure of the step alone, in which its executors are looked up.
    pub(super) alone: Definition,
}

/// Reads the step of a draft and what its validation depends on.
pub(super) async fn load_step(
    db: &impl ConnectionTrait,
    viewer: &Viewer,
    draft: &GuidedStepDraft,
) -> Result<PreparedStructure> {
    let declared = Templates::default().declared(db, viewer, draft, "step").await?;
    let definition = built_in::guided::definition("step", vec![declared]);
    let (read, problems) = run_template::written(&serde_json::to_value(&definition)?);
    let executors = Executors::of(db, viewer, &read).await?;
    let field = match draft {
        GuidedStepDraft::Own(_) => "step.definition",
        GuidedStepDraft::Of(..) => "step",
    };
    Ok(PreparedStructure { field, definition, executors, problems, places: Vec::new() })
}

impl PreparedStep {
    /// Rejects a step with problems: the error names the first field, and has all problems, each with
    /// its path within the step. Errors: BAD_USER_INPUT; LIMIT_EXCEEDED if the validation ran out of
    /// time.
    pub(super) fn of(structure: PreparedStructure, problems: &[Problem]) -> Result<Self> {
        let PreparedStructure { field, definition: alone, .. } = structure;
        let mut steps = alone.phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps);
        let declared = steps.next().cloned().ok_or_else(|| Error::internal("a step is missing"))?;
        let problems: Vec<Problem> = problems.iter().map(|problem| within_step(problem, &declared.key)).collect();
        run_template::reject_at_first(field, &problems)?;
        Ok(Self { declared, alone })
    }
}

/// The problem with its path within the step.
fn within_step(problem: &Problem, key: &str) -> Problem {
    let path = below_step(&problem.path, key).unwrap_or(&problem.path).to_owned();
    Problem { path, message: problem.message.clone() }
}

/// The part of a path in a request's structure that is below the step with a key; none elsewhere.
fn below_step<'a>(path: &'a str, key: &str) -> Option<&'a str> {
    let below = path.strip_prefix("phases.work.tasks.steps.steps.")?;
    let written = validate::printable(&crate::domain::content::yaml::key_of(key));
    let field = below.strip_prefix(key).or_else(|| below.strip_prefix(written.as_str()))?;
    if field.is_empty() { Some("") } else { field.strip_prefix('.') }
}
