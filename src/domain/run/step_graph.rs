//! Dependency graph of a run's structure, built once per run: steps that wait for other steps, and
//! steps that wait for events.

use std::collections::{HashMap, HashSet};

use entity::definition::{Definition, Span, StepDef, TaskDef, Trigger};

use crate::domain::plan::run_template::kind;

/// Step of a fan-out that waits for another step of the same record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependentStep {
    /// Key of the waiting step.
    pub key: String,
    /// Delay after the other step's end, whatever its outcome; none: at once, and only if the other
    /// step completed.
    pub delay: Option<Span>,
}

/// Dependencies between the steps of a structure.
#[derive(Clone, Debug, Default)]
pub struct StepGraph {
    /// Waiting steps of fan-outs, by the key of the step they wait for.
    pub dependents: HashMap<String, Vec<DependentStep>>,
    /// Keys of waiting single steps, by the key of the step they wait for.
    pub singles: HashMap<String, Vec<String>>,
    /// Keys of the fan-out steps, created once per record.
    pub fan_out_keys: HashSet<String>,
    /// Names of the events that steps wait for.
    pub events: HashSet<String>,
    /// Keys of fan-out decisions, which are about one record each.
    pub decisions: Vec<String>,
    /// True if any step or task has a condition.
    pub conditions: bool,
    /// True if the structure sends nothing.
    pub silent: bool,
    /// True if steps send messages of their own (`email`).
    pub emails: bool,
}

impl StepGraph {
    /// Builds the graph of a structure.
    pub fn of(definition: &Definition) -> Self {
        let mut graph =
            Self { silent: !crate::domain::plan::run_template::communicates(definition), ..Self::default() };
        for task in definition.phases.iter().flat_map(|phase| &phase.tasks) {
            for (i, step) in task.steps.iter().enumerate() {
                graph.emails |= step.kind == kind::EMAIL;
                graph.conditions |= task.when.is_some() || step.when.is_some();
                if let Trigger::Event(name) = &step.trigger {
                    graph.events.insert(name.clone());
                }
                if task.fan_out {
                    graph.fan(task, i, step);
                } else if let Some(before) = followed(task, i, step) {
                    graph.singles.entry(before.to_owned()).or_default().push(step.key.clone());
                }
            }
        }
        graph
    }

    fn fan(&mut self, task: &TaskDef, i: usize, step: &StepDef) {
        self.fan_out_keys.insert(step.key.clone());
        if step.kind == kind::DECISION {
            self.decisions.push(step.key.clone());
        }
        let Some(before) = followed(task, i, step) else { return };
        let delay = match &step.trigger {
            Trigger::Delay(span) => Some(*span),
            _ => None,
        };
        self.dependents.entry(before.to_owned()).or_default().push(DependentStep { key: step.key.clone(), delay });
    }

    /// Keys of the direct dependents of a step.
    pub fn followers<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        let fans = self.dependents.get(key).into_iter().flatten().map(|dependent| dependent.key.as_str());
        fans.chain(self.singles.get(key).into_iter().flatten().map(String::as_str))
    }

    /// Keys of all direct and indirect dependents of a step.
    pub fn dependents_of(&self, key: &str) -> Vec<String> {
        let (mut all, mut open) = (Vec::new(), vec![key.to_owned()]);
        while let Some(key) = open.pop() {
            for dependent in self.followers(&key) {
                if !all.iter().any(|known| known == dependent) {
                    all.push(dependent.to_owned());
                    open.push(dependent.to_owned());
                }
            }
        }
        all
    }
}

/// Key of the step whose end a step waits for.
fn followed<'a>(task: &'a TaskDef, i: usize, step: &'a StepDef) -> Option<&'a str> {
    match &step.trigger {
        Trigger::After(key) => Some(key),
        Trigger::Delay(_) if i > 0 => Some(&task.steps[i - 1].key),
        Trigger::Delay(_) | Trigger::Immediate | Trigger::Manual | Trigger::Event(_) => None,
    }
}
