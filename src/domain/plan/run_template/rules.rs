//! The rules for every structure. All problems are reported at once, each with its path.

use std::collections::{HashMap, HashSet};

use entity::definition::{Definition, PhaseDef, StepDef, TaskDef, Trigger};
use entity::step::Executor;

use super::wait_graph::{LocatedStep, WaitGraph, reaches};
use super::{Executors, Problem, kind};
use crate::domain::content::cel::VARIABLES;
use crate::domain::content::{cel, result_schema};
use crate::kernel::{budget, limits};

/// Checks a structure. Without `executors`, the assignment of steps is not checked.
pub fn problems(definition: &Definition, executors: Option<&Executors>) -> Vec<Problem> {
    let mut check = Check { definition, executors, problems: Vec::new() };
    budget::judging(budget::HELD, || check.all());
    check.problems.truncate(limits::PROBLEMS);
    check.problems
}

struct Check<'a> {
    definition: &'a Definition,
    executors: Option<&'a Executors>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn push_problem(&mut self, at: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(at, message));
    }

    fn all(&mut self) {
        let phases = &self.definition.phases;
        if phases.is_empty() {
            self.push_problem("phases", "the structure has no phase");
        }
        let parts: usize =
            phases.iter().map(|phase| 1 + phase.tasks.iter().map(|task| 1 + task.steps.len()).sum::<usize>()).sum();
        if parts > limits::DEFINITION_PARTS {
            self.push_problem(
                "phases",
                format!("must have at most {} phases, tasks and steps", limits::DEFINITION_PARTS),
            );
        }
        let steps = phases.iter().flat_map(|phase| &phase.tasks).flat_map(|task| &task.steps);
        if steps.filter(|step| step.result_schema.is_some()).count() > limits::DEFINITION_SCHEMAS {
            self.push_problem(
                "phases",
                format!("at most {} steps may have a `resultSchema`", limits::DEFINITION_SCHEMAS),
            );
            return;
        }
        let mut keys = Keys::default();
        for phase in phases {
            let at = format!("phases.{}", phase.key);
            if !keys.phases.insert(&phase.key) {
                self.push_problem(&at, "duplicate key");
            }
            self.phase(phase, &at, &mut keys);
        }
        let steps_by_key = steps_by_key(self.definition);
        for phase in phases {
            for task in &phase.tasks {
                for step in &task.steps {
                    let at = format!("phases.{}.tasks.{}.steps.{}", phase.key, task.key, step.key);
                    self.step(phase, task, step, &at, &steps_by_key);
                }
            }
        }
        if parts <= limits::DEFINITION_PARTS {
            self.problems.extend(WaitGraph::of(self.definition).problems());
        }
    }

    fn phase(&mut self, phase: &'a PhaseDef, at: &str, keys: &mut Keys<'a>) {
        if phase.tasks.is_empty() {
            self.push_problem(&format!("{at}.tasks"), "the phase has no task");
        }
        for task in &phase.tasks {
            let at = format!("{at}.tasks.{}", task.key);
            if !keys.tasks.insert(&task.key) {
                self.push_problem(&at, "duplicate key");
            }
            if task.steps.is_empty() {
                self.push_problem(&format!("{at}.steps"), "the task has no step");
            }
            for on in &task.depends_on {
                if !phase.tasks.iter().any(|other| other.key == *on) {
                    self.push_problem(&format!("{at}.dependsOn"), format!("`{on}` is not a task of this phase"));
                }
            }
            if reaches(phase, &task.key, &task.key) {
                self.push_problem(&format!("{at}.dependsOn"), "depends on itself, through other tasks");
            }
            self.when(&format!("{at}.when"), task.when.as_deref());
            for step in &task.steps {
                if !keys.steps.insert(&step.key) {
                    self.push_problem(&format!("{at}.steps.{}", step.key), "duplicate key");
                }
            }
            let on_event = |step: &StepDef| matches!(step.trigger, Trigger::Event(_));
            if task.fan_out && task.steps.iter().any(on_event) {
                let own: Vec<&str> = task.steps.iter().map(|step| step.key.as_str()).collect();
                for (i, step) in task.steps.iter().enumerate() {
                    let follows = matches!(&step.trigger, Trigger::After(key) if own.contains(&key.as_str()));
                    let follows = follows || (i > 0 && matches!(step.trigger, Trigger::Delay(_)));
                    if !on_event(step) && !follows {
                        let message =
                            "in a fan-out task with an event, every step must wait for an event or follow such a step";
                        self.push_problem(&format!("{at}.steps.{}.trigger", step.key), message);
                    }
                }
            }
        }
    }

    fn step(
        &mut self,
        phase: &PhaseDef,
        task: &TaskDef,
        step: &StepDef,
        at: &str,
        steps_by_key: &HashMap<&str, LocatedStep<'_>>,
    ) {
        let human = step.assigned_to == Executor::Human;
        if phase.autonomous && human && !matches!(step.trigger, Trigger::Event(_)) {
            self.push_problem(
                &format!("{at}.trigger"),
                "a human step in an autonomous phase needs an `event:` trigger",
            );
        }
        if step.max_attempts < 1 || step.max_attempts > 100 {
            self.push_problem(&format!("{at}.maxAttempts"), "must be 1 to 100");
        }
        if let Some(approval) = &step.approval {
            if kind::approval_of(step).is_none() {
                let message = format!(
                    "not allowed: the engine performs `{}` itself. Declare it on a step of a person, an agent or a function that this one follows",
                    step.kind
                );
                self.push_problem(&format!("{at}.approval"), message);
            }
            if !(1..=20).contains(&approval.needed) {
                self.push_problem(&format!("{at}.approval.needed"), "must be 1 to 20");
            }
        }
        if let Some(retry) = &step.retry {
            if retry.jitter.is_some_and(|jitter| !(0..=100).contains(&jitter)) {
                self.push_problem(&format!("{at}.retry.jitter"), "must be 0 to 100 percent");
            }
            if let (Some(pause), Some(most)) = (retry.pause, retry.most)
                && pause.0 > most.0
            {
                self.push_problem(&format!("{at}.retry.most"), "must not be shorter than `pause`");
            }
        }
        if let Some(schema) = &step.result_schema
            && let Err(why) = result_schema::check(&schema.0)
        {
            self.push_problem(&format!("{at}.resultSchema"), why);
        }
        self.when(&format!("{at}.when"), step.when.as_deref());
        self.trigger(phase, task, step, at, steps_by_key);
        self.executor(step, at);
        if step.kind == kind::DECISION {
            self.decision(phase, task, step, at);
        }
        let found = kind::problems(self.definition, task, step);
        self.problems.extend(found.into_iter().map(|(field, why)| Problem::new(format!("{at}.{field}"), why)));
    }

    /// Checks that every task a decision may skip waits for the decision.
    fn decision(&mut self, phase: &PhaseDef, task: &TaskDef, step: &StepDef, at: &str) {
        let settings = step.settings();
        let cases = settings["cases"].as_array().into_iter().flatten().map(|case| &case["skip"]);
        for key in cases.chain([&settings["otherwise"]]).flat_map(kind::names) {
            let here = phase.tasks.iter().any(|other| other.key == key) && key != task.key;
            let phases = &self.definition.phases;
            let of = phases.iter().position(|one| one.tasks.iter().any(|other| other.key == key));
            let mine = phases.iter().position(|one| one.key == phase.key);
            if (here && !reaches(phase, &key, &task.key)) || of < mine {
                let message = format!("`{key}` does not wait for the decision: make it depend on `{}`", task.key);
                self.push_problem(&format!("{at}.config"), message);
            }
        }
    }

    fn when(&mut self, at: &str, when: Option<&str>) {
        if let Some(source) = when
            && let Err(why) = cel::check(source, VARIABLES)
        {
            self.push_problem(at, why);
        }
    }

    fn trigger(
        &mut self,
        phase: &PhaseDef,
        task: &TaskDef,
        step: &StepDef,
        at: &str,
        steps_by_key: &HashMap<&str, LocatedStep<'_>>,
    ) {
        let Trigger::After(key) = &step.trigger else { return };
        let at = format!("{at}.trigger");
        let Some(before) = steps_by_key.get(key.as_str()) else {
            self.push_problem(&at, format!("there is no step `{key}`"));
            return;
        };
        let mine = self.definition.phases.iter().position(|one| one.key == phase.key).unwrap_or_default();
        if before.number > mine {
            self.push_problem(&at, format!("`{key}` belongs to a later phase"));
        }
        if before.task.on_event() && before.task.key != task.key {
            self.push_problem(
                &at,
                format!("`{key}` waits for an event, which may never occur: only steps of its own task can follow it"),
            );
        }
        let waits = |task: &TaskDef, on: &TaskDef| reaches(phase, &task.key, &on.key);
        if task.fan_out && !before.task.fan_out && before.number == mine && !waits(task, before.task) {
            let message =
                format!("`{key}` runs once, this step once per record: make the task depend on `{}`", before.task.key);
            self.push_problem(&at, message);
        }
    }

    fn executor(&mut self, step: &StepDef, at: &str) {
        if step.agent.is_some() && step.assigned_to == Executor::Human {
            self.push_problem(&format!("{at}.agent"), "not allowed: the step is assigned to a person");
        }
        if step.assignee.is_some() && step.assigned_to != Executor::Human {
            self.push_problem(
                &format!("{at}.assignee"),
                "only people are assigned by address; give an `agent` instead",
            );
        }
        let Some(executors) = self.executors else { return };
        match step.assigned_to {
            Executor::Human => {
                if let Some(email) = &step.assignee
                    && !executors.members.contains_key(&email.to_lowercase())
                {
                    self.push_problem(&format!("{at}.assignee"), format!("there is no member {email}"));
                }
            }
            Executor::Agent | Executor::Workflow => match &step.agent {
                Some(name) if !executors.agents.contains_key(name) => {
                    self.push_problem(&format!("{at}.agent"), format!("there is no agent {name}"));
                }
                _ => {
                    if let Some((field, why)) = executors.why_untaken(step) {
                        self.push_problem(&format!("{at}.{field}"), why);
                    }
                }
            },
        }
    }
}

#[derive(Default)]
struct Keys<'a> {
    phases: HashSet<&'a str>,
    tasks: HashSet<&'a str>,
    steps: HashSet<&'a str>,
}

fn steps_by_key(definition: &Definition) -> HashMap<&str, LocatedStep<'_>> {
    let mut all = HashMap::new();
    for (number, phase) in definition.phases.iter().enumerate() {
        for task in &phase.tasks {
            for step in &task.steps {
                all.entry(step.key.as_str()).or_insert(LocatedStep { number, phase, task, step });
            }
        }
    }
    all
}
