//! The graph of waits among the steps and tasks of a structure: a step waits for the begin of its
//! task and for the step that its trigger names; a task begins after the tasks that it depends on,
//! and ends after all its steps.
//!
//! Phases run in order and are no nodes: a step that waits for one of a later phase is reported by
//! itself, so that all other circles lie within a phase.

use std::collections::{HashMap, HashSet, VecDeque};

use entity::definition::{Definition, PhaseDef, StepDef, TaskDef, Trigger};

use super::{Problem, kind};
use crate::kernel::limits;

/// The graph of a structure.
pub(super) struct WaitGraph<'a> {
    nodes: Vec<Node<'a>>,
    /// The nodes that each node waits for.
    waits_for: Vec<Vec<usize>>,
    /// The node that each step waits for because of its trigger.
    by_trigger: HashMap<usize, usize>,
}

/// A step, or the begin or end of a task.
#[derive(Clone, Copy)]
enum Node<'a> {
    Begin,
    End(&'a TaskDef),
    Step(LocatedStep<'a>),
}

/// A step with its phase and task.
#[derive(Clone, Copy)]
pub(super) struct LocatedStep<'a> {
    /// Position of the phase.
    pub(super) number: usize,
    pub(super) phase: &'a PhaseDef,
    pub(super) task: &'a TaskDef,
    pub(super) step: &'a StepDef,
}

impl LocatedStep<'_> {
    /// Returns the path of the step's part with a name.
    pub(super) fn path(&self, part: &str) -> String {
        format!("phases.{}.tasks.{}.steps.{}.{part}", self.phase.key, self.task.key, self.step.key)
    }
}

impl<'a> WaitGraph<'a> {
    /// Builds the graph of a structure. Names of parts that there are not are left out, and so is
    /// the `dependsOn` of tasks that depend on themselves, or on such: that is reported by itself.
    pub(super) fn of(definition: &'a Definition) -> Self {
        let mut graph = Self { nodes: Vec::new(), waits_for: Vec::new(), by_trigger: HashMap::new() };
        for (number, phase) in definition.phases.iter().enumerate() {
            graph.add_phase(number, phase);
        }
        graph
    }

    fn add_phase(&mut self, number: usize, phase: &'a PhaseDef) {
        let (mut tasks, mut steps) = (HashMap::new(), HashMap::new());
        let mut located = Vec::new();
        for task in &phase.tasks {
            let (begin, end) = (self.add(Node::Begin), self.add(Node::End(task)));
            tasks.entry(task.key.as_str()).or_insert((begin, end));
            for (i, step) in task.steps.iter().enumerate() {
                let node = self.add(Node::Step(LocatedStep { number, phase, task, step }));
                self.waits_for[node].push(begin);
                self.waits_for[end].push(node);
                steps.entry(step.key.as_str()).or_insert((node, task, end));
                located.push((node, task, i, step));
            }
        }
        for (node, task, i, step) in located {
            let awaited = match &step.trigger {
                // A single step waits for all steps of a fan-out.
                Trigger::After(key) => steps
                    .get(key.as_str())
                    .map(|(before, of, end)| if of.fan_out && !task.fan_out { *end } else { *before }),
                // The steps of a task are added one after the other.
                Trigger::Delay(_) if i > 0 => Some(node - 1),
                Trigger::Delay(_) | Trigger::Immediate | Trigger::Manual | Trigger::Event(_) => None,
            };
            if let Some(awaited) = awaited {
                self.waits_for[node].push(awaited);
                self.by_trigger.insert(node, awaited);
            }
        }
        let numbers: HashMap<&str, usize> =
            phase.tasks.iter().zip(0..).map(|(task, i)| (task.key.as_str(), i)).collect();
        let depends_on =
            |task: &TaskDef| task.depends_on.iter().filter_map(|on| numbers.get(on.as_str()).copied()).collect();
        let circular = held(&phase.tasks.iter().map(depends_on).collect::<Vec<Vec<usize>>>());
        for (_, task) in phase.tasks.iter().enumerate().filter(|(i, _)| !circular.contains(i)) {
            let Some((begin, _)) = tasks.get(task.key.as_str()) else { continue };
            let ends = task.depends_on.iter().filter_map(|on| tasks.get(on.as_str()).map(|(_, end)| *end));
            self.waits_for[*begin].extend(ends);
        }
    }

    fn add(&mut self, node: Node<'a>) -> usize {
        self.nodes.push(node);
        self.waits_for.push(Vec::new());
        self.nodes.len() - 1
    }

    /// Returns the steps that wait for themselves, each with the shortest circle through its
    /// trigger.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let held = held(&self.waits_for);
        let mut found = Vec::new();
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| held.contains(i)) {
            let (Node::Step(step), Some(awaited)) = (node, self.by_trigger.get(&i)) else { continue };
            let Some(way) = self.way(*awaited, i, &held) else { continue };
            let names: Vec<String> = [i].iter().chain(&way).filter_map(|node| self.name(*node)).collect();
            found.push(Problem::new(step.path("trigger"), format!("waits for itself: {}", names.join(" → "))));
            if found.len() == limits::PROBLEMS {
                break;
            }
        }
        found
    }

    /// Returns the shortest way from a node to one that it waits for, both included.
    fn way(&self, from: usize, to: usize, within: &HashSet<usize>) -> Option<Vec<usize>> {
        let mut came_from: HashMap<usize, usize> = HashMap::from([(from, from)]);
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            if node == to {
                let mut way = vec![node];
                let mut at = node;
                while at != from {
                    at = came_from[&at];
                    way.push(at);
                }
                way.reverse();
                return Some(way);
            }
            for next in self.waits_for[node].iter().filter(|next| within.contains(next)) {
                if !came_from.contains_key(next) {
                    came_from.insert(*next, node);
                    open.push_back(*next);
                }
            }
        }
        None
    }

    fn name(&self, node: usize) -> Option<String> {
        match self.nodes[node] {
            Node::Step(step) => Some(step.step.key.clone()),
            Node::End(task) => Some(format!("task {}", task.key)),
            Node::Begin => None,
        }
    }

    /// Returns each step, with true if the run's messages are drafted before it: in an earlier
    /// phase, or by a step that it waits for.
    pub(super) fn steps_with_drafts(&self) -> Vec<(LocatedStep<'a>, bool)> {
        let steps = || {
            self.nodes.iter().enumerate().filter_map(|(i, node)| match node {
                Node::Step(step) => Some((i, *step)),
                Node::Begin | Node::End(_) => None,
            })
        };
        let first = steps().filter(|(_, step)| step.step.kind == kind::DRAFT).map(|(_, step)| step.number).min();
        let drafted = self.behind_drafts();
        steps()
            .map(|(i, step)| (step, drafted.contains(&i) || first.is_some_and(|number| number < step.number)))
            .collect()
    }

    /// Returns the nodes that wait for a draft.
    fn behind_drafts(&self) -> HashSet<usize> {
        let behind = behind(&self.waits_for);
        let drafts = |node: &Node<'_>| matches!(node, Node::Step(step) if step.step.kind == kind::DRAFT);
        let mut open: Vec<usize> =
            self.nodes.iter().enumerate().filter(|(_, node)| drafts(node)).map(|(i, _)| i).collect();
        let mut found = HashSet::new();
        while let Some(node) = open.pop() {
            open.extend(behind[node].iter().copied().filter(|after| found.insert(*after)));
        }
        found
    }
}

/// Returns the nodes that are never reached: those in a circle, and those behind one.
fn held(waits_for: &[Vec<usize>]) -> HashSet<usize> {
    let behind = behind(waits_for);
    let mut open: Vec<usize> = waits_for.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..waits_for.len()).filter(|node| open[*node] == 0).collect();
    let mut held: HashSet<usize> = (0..waits_for.len()).collect();
    while let Some(node) = ready.pop() {
        held.remove(&node);
        for after in &behind[node] {
            open[*after] -= 1;
            if open[*after] == 0 {
                ready.push(*after);
            }
        }
    }
    held
}

/// Returns the nodes that wait for each node.
fn behind(waits_for: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut behind: Vec<Vec<usize>> = vec![Vec::new(); waits_for.len()];
    for (node, awaited) in waits_for.iter().enumerate() {
        awaited.iter().for_each(|on| behind[*on].push(node));
    }
    behind
}

/// True if a task depends on another, directly or indirectly.
pub(super) fn reaches(phase: &PhaseDef, from: &str, to: &str) -> bool {
    let mut seen = HashSet::new();
    let mut open = vec![from];
    while let Some(key) = open.pop() {
        let Some(task) = phase.tasks.iter().find(|task| task.key == key) else { continue };
        for on in &task.depends_on {
            if on == to {
                return true;
            }
            if seen.insert(on.as_str()) {
                open.push(on);
            }
        }
    }
    false
}
