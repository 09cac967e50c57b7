//! What all laws of status have in common: they can be walked through, tested and printed.

use std::fmt::{Debug, Display, Write};

/// A status that is ruled by a total function.
pub trait StateMachine: Copy + Eq + Debug + Display + 'static {
    /// What may happen.
    type Transition: Copy + Eq + Debug + 'static;
    /// Everything that may happen.
    const TRANSITIONS: &'static [Self::Transition];
    /// Every status.
    fn states() -> Vec<Self>;
    /// The next status, or `None`: that edge does not exist.
    fn next(self, act: Self::Transition) -> Option<Self>;

    /// What may happen in this status.
    fn allowed(self) -> Vec<Self::Transition> {
        Self::TRANSITIONS.iter().copied().filter(|act| self.next(*act).is_some()).collect()
    }

    /// Whether nothing can happen any more.
    fn is_final(self) -> bool {
        self.allowed().is_empty()
    }
}

/// The word of an act as a person would say it: `Fail { again: true }` is "fail".
pub fn verb(act: &impl Debug) -> String {
    let shown = format!("{act:?}");
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

/// The law as a Mermaid state diagram, for `docs/states.md`.
pub fn diagram<L: StateMachine>() -> String {
    let mut edges: Vec<(String, String, Vec<String>)> = Vec::new();
    for from in L::states() {
        for act in L::TRANSITIONS {
            let Some(to) = from.next(*act) else { continue };
            let (from, to, verb) = (from.to_string(), to.to_string(), verb(act));
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
