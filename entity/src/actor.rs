//! Who did something: a member, or the engine itself.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, MemberId};

text_enum! {
    /// The kinds of those who act.
    pub enum ActorKind {
        /// A person of the org; only a member's act is a person's act.
        Member,
        /// A program that takes steps.
        Agent,
        /// Sortie itself: its engine, or a command of the operator's shell.
        Engine,
    }
}

/// Who did something, with the name as it was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Actor {
    /// A member, or the engine.
    pub kind: ActorKind,
    /// The member's id; none for the engine.
    pub member_id: Option<MemberId>,
    /// The agent's id; none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The name as it was at the time.
    pub name: String,
}

impl Actor {
    /// Sortie's own engine.
    pub fn engine() -> Self {
        Self { kind: ActorKind::Engine, member_id: None, agent_id: None, name: "engine".into() }
    }

    /// Whether this is a person, whose act opens a gate.
    pub fn is_person(&self) -> bool {
        self.kind == ActorKind::Member
    }
}
