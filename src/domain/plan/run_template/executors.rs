//! Looks up the agents and members that a structure names.

use std::collections::HashMap;

use entity::AgentKind;
use entity::definition::{Definition, StepDef};
use entity::id::{AgentId, MemberId};
use entity::step::Executor;
use sea_orm::ConnectionTrait;

use super::{kind, steps};
use crate::domain::plan::agent;
use crate::kernel::error::Result;
use crate::kernel::viewer::Viewer;

/// Possible executors of steps, by the names that structures use.
#[derive(Clone, Debug, Default)]
pub struct Executors {
    /// Agents and functions, by name.
    pub agents: HashMap<String, (AgentId, AgentKind)>,
    /// True if a language model is configured for built-in agents.
    pub has_model: bool,
    /// Members, by mail address in lower case.
    pub members: HashMap<String, MemberId>,
}

impl Executors {
    /// Reads the executors of the org that a structure names.
    pub async fn of(db: &impl ConnectionTrait, viewer: &Viewer, definition: &Definition) -> Result<Self> {
        let mut found = Self::default();
        let named = |step: &StepDef| kind::is_external(step) || step.agent.is_some() || step.assignee.is_some();
        if !steps(definition).any(named) {
            return Ok(found);
        }
        for row in agent::all(db, viewer).await? {
            found.agents.insert(row.name, (row.id, row.kind));
        }
        let emails: Vec<String> =
            steps(definition).filter_map(|step| step.assignee.as_ref()).map(|email| email.to_lowercase()).collect();
        for member in crate::domain::people::member::by_emails(db, viewer, &emails).await? {
            found.members.insert(member.email.to_lowercase(), member.id);
        }
        Ok(found)
    }

    /// States if a language model is configured, which the structure's check depends on.
    pub fn with_model(self, has_model: bool) -> Self {
        Self { has_model, ..self }
    }

    /// Returns the reason why no agent or function can claim a step: the one that it names, else
    /// any of the org. `None` if one can, or the engine itself does the step.
    pub(super) fn why_untaken(&self, step: &StepDef) -> Option<(&'static str, String)> {
        if !kind::is_external(step) {
            return None;
        }
        let takes = |kind: AgentKind| agent::takes(kind, step.assigned_to, self.has_model);
        if let Some(name) = &step.agent {
            let (_, kind) = self.agents.get(name)?;
            return (!takes(*kind)).then(|| ("agent", format!("{name} can't do it: {}", why_not(*kind))));
        }
        if self.agents.values().any(|(_, kind)| takes(*kind)) {
            return None;
        }
        if step.assigned_to == Executor::Workflow {
            let built_in = kind::BUILT_IN.join(", ");
            let why =
                format!("no workflow performs `{}`: available are {built_in}, and the org has no function", step.kind);
            return Some(("type", why));
        }
        let only_built_in = self.agents.values().any(|(_, kind)| *kind == AgentKind::BuiltIn);
        let why = if only_built_in {
            format!("no agent of the org can do it: {}", why_not(AgentKind::BuiltIn))
        } else {
            "the org has no agent".to_owned()
        };
        Some(("assignedTo", why))
    }
}

/// Returns the reason why an agent of a kind can't do a step that it does not take.
fn why_not(kind: AgentKind) -> &'static str {
    match kind {
        AgentKind::Outside => "agents do steps that are assigned to AGENT, functions those of WORKFLOW",
        AgentKind::Function => "functions do steps that are assigned to WORKFLOW, agents those of AGENT",
        AgentKind::BuiltIn => {
            "built-in agents do steps that are assigned to AGENT, with a language model (`--model-url`)"
        }
    }
}
