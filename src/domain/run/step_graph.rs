//! What follows what in a structure, worked out once per run: which steps wait for which, and who listens to events.

use std::collections::{HashMap, HashSet};

use entity::definition::{Definition, Span, StepDef, TaskDef, Trigger};

use crate::domain::plan::run_template::kind;

/// A step of a fan-out that waits for another of the same record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DependentStep {
    /// Its key.
    pub key: String,
    /// How long after the other's end, whatever that end; none: at once, and only where the other is completed.
    pub delay: Option<Span>,
}

/// What follows what.
#[derive(Clone, Debug, Default)]
pub struct StepGraph {
    /// By the key of the step that is waited for.
    pub dependents: HashMap<String, Vec<DependentStep>>,
    /// Single steps that wait for a step, by that step's key.
    pub singles: HashMap<String, Vec<String>>,
    /// Keys of the steps that are made once per record.
    pub fans: HashSet<String>,
    /// The events that steps wait for.
    pub events: HashSet<String>,
    /// Keys of decisions about one record.
    pub decisions: Vec<String>,
    /// Whether any step has a condition of its own or by its task.
    pub conditions: bool,
    /// Whether it sends nothing.
    pub silent: bool,
    /// Whether steps send messages of their own.
    pub emails: bool,
}

impl StepGraph {
    /// Of a structure.
    pub fn of(definition: &Definition) -> Self {
        let mut flow = Self { silent: !crate::domain::plan::run_template::communicates(definition), ..Self::default() };
        for task in definition.phases.iter().flat_map(|phase| &phase.tasks) {
            for (i, step) in task.steps.iter().enumerate() {
                flow.emails |= step.kind == kind::EMAIL;
                flow.conditions |= task.when.is_some() || step.when.is_some();
                if let Trigger::Event(name) = &step.trigger {
                    flow.events.insert(name.clone());
                }
                if task.fan_out {
                    flow.fan(task, i, step);
                } else if let Trigger::After(before) = &step.trigger {
                    flow.singles.entry(before.clone()).or_default().push(step.key.clone());
                }
            }
        }
        flow
    }

    fn fan(&mut self, task: &TaskDef, i: usize, step: &StepDef) {
        self.fans.insert(step.key.clone());
        if step.kind == kind::DECISION {
            self.decisions.push(step.key.clone());
        }
        let (before, delay) = match &step.trigger {
            Trigger::After(key) => (key.clone(), None),
            Trigger::Delay(span) if i > 0 => (task.steps[i - 1].key.clone(), Some(*span)),
            Trigger::Delay(_) | Trigger::Immediate | Trigger::Manual | Trigger::Event(_) => return,
        };
        self.dependents.entry(before).or_default().push(DependentStep { key: step.key.clone(), delay });
    }

    /// The steps that wait for one, by way of others or not.
    pub fn behind(&self, key: &str) -> Vec<String> {
        let (mut all, mut open) = (Vec::new(), vec![key.to_owned()]);
        while let Some(key) = open.pop() {
            let fans = self.dependents.get(&key).into_iter().flatten().map(|follower| &follower.key);
            for follower in fans.chain(self.singles.get(&key).into_iter().flatten()) {
                if !all.contains(follower) {
                    all.push(follower.clone());
                    open.push(follower.clone());
                }
            }
        }
        all
    }
}
