//! Looks up the agents and members that a structure names.

use std::collections::HashMap;

use entity::definition::{Definition, StepDef};
use entity::id::{AgentId, MemberId};
use sea_orm::ConnectionTrait;

use super::{kind, steps};
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Possible executors of steps, by the names that structures use.
#[derive(Clone, Debug, Default)]
pub struct Executors {
    /// Agents and functions, by name.
    pub agents: HashMap<String, AgentId>,
    /// True if the org has a function.
    pub functions: bool,
    /// Members, by mail address in lower case.
    pub members: HashMap<String, MemberId>,
}

impl Executors {
    /// Reads the executors of the org that a structure names.
    pub async fn of(db: &impl ConnectionTrait, viewer: &Viewer, definition: &Definition) -> Result<Self> {
        let mut found = Self::default();
        let named = |step: &StepDef| kind::is_external(step) || step.assignee.is_some();
        if !steps(definition).any(named) {
            return Ok(found);
        }
        for agent in crate::domain::plan::agent::all(db, viewer).await? {
            found.functions |= agent.kind == entity::AgentKind::Function;
            found.agents.insert(agent.name, agent.id);
        }
        let emails: Vec<String> =
            steps(definition).filter_map(|step| step.assignee.as_ref()).map(|email| email.to_lowercase()).collect();
        for member in crate::domain::people::member::by_emails(db, viewer, &emails).await? {
            found.members.insert(member.email.to_lowercase(), member.id);
        }
        Ok(found)
    }
}
