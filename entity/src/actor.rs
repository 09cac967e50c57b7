//! The actor of a change: a member, an agent, or the engine itself.

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

use crate::id::{AgentId, MemberId};

text_enum! {
    /// The kind of an actor.
    pub enum ActorKind {
        /// A person of the org. Only a member's action counts as a person's action.
        Member,
        /// An agent, which claims steps.
        Agent,
        /// Sortie itself: its engine, or a command that the operator ran in a shell.
        Engine,
    }
}

/// An actor, with the name that it had at the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Actor {
    /// The kind of actor.
    pub kind: ActorKind,
    /// The member's id; null for the engine.
    pub member_id: Option<MemberId>,
    /// The agent's id; null for other actors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The name at the time of the action.
    pub name: String,
}

impl Actor {
    /// Returns the actor for Sortie's own engine.
    pub fn engine() -> Self {
        Self { kind: ActorKind::Engine, member_id: None, agent_id: None, name: "engine".into() }
    }

    /// Returns true for a person, whose action can complete a phase that is not autonomous.
    pub fn is_person(&self) -> bool {
        self.kind == ActorKind::Member
    }
}

impl crate::columns::Blank for Actor {
    fn blank() -> Self {
        Self::engine()
    }
}
