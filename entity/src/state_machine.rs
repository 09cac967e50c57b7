//! Common trait of the state machines, so that they can be enumerated, tested and printed.

use std::fmt::{Debug, Display, Write};

/// A status whose transitions are decided by a total function.
pub trait StateMachine: Copy + Eq + Debug + Display + 'static {
    /// The type of transitions.
    type Transition: Copy + Eq + Debug + 'static;
    /// Every transition.
    const TRANSITIONS: &'static [Self::Transition];
    /// Transitions that only the engine makes: errors do not list them as what may be done.
    const BY_ENGINE: &'static [Self::Transition] = &[];
    /// Every status.
    fn states() -> Vec<Self>;
    /// Returns the next status; `None` if the transition is not allowed.
    fn next(self, transition: Self::Transition) -> Option<Self>;

    /// Returns the transitions allowed in this status.
    fn allowed(self) -> Vec<Self::Transition> {
        Self::TRANSITIONS.iter().copied().filter(|transition| self.next(*transition).is_some()).collect()
    }

    /// Returns true if no transition is allowed.
    fn is_final(self) -> bool {
        self.allowed().is_empty()
    }
}

/// Returns the verb of a transition in lower case: `Fail { again: true }` is "fail".
pub fn verb(transition: &impl Debug) -> String {
    let shown = format!("{transition:?}");
    let word = shown.split_whitespace().next().unwrap_or_default();
    let mut verb = String::new();
    for (i, c) in word.chars().enumerate() {
        if c.is_uppercase() && i > 0 {
            verb.push(' ');
        }
        verb.extend(c.to_lowercase());
    }
    verb
}

/// Renders a state machine as a Mermaid state diagram, for `docs/states.md`.
pub fn diagram<L: StateMachine>() -> String {
    let mut edges: Vec<(String, String, Vec<String>)> = Vec::new();
    for from in L::states() {
        for transition in L::TRANSITIONS {
            let Some(to) = from.next(*transition) else { continue };
            let (from, to, verb) = (from.to_string(), to.to_string(), verb(transition));
            match edges.iter_mut().find(|edge| edge.0 == from && edge.1 == to) {
                Some(edge) if !edge.2.contains(&verb) => edge.2.push(verb),
                Some(_) => {}
                None => edges.push((from, to, vec![verb])),
            }
        }
    }
    let mut text = String::from("stateDiagram-v2\n");
    for (from, to, verbs) in edges {
        let _ = writeln!(text, "    {from} --> {to}: {}", verbs.join(", "));
    }
    text
}
