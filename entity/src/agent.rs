//! A worker that claims steps: an external program, or a built-in agent that calls a language
//! model.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// The kind of an agent: where it runs, and which steps it may claim.
    pub enum AgentKind {
        /// An external program that claims steps assigned to agents.
        Outside,
        /// An external program that claims workflow steps of types that are not built in.
        Function,
        /// An agent within Sortie, which calls the configured language model.
        BuiltIn,
    }
}

/// One agent.
#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "agent")]
pub struct Model {
    /// The id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: AgentId,
    /// The tenant.
    pub org_id: OrgId,
    /// Name used by definitions and manifests; unique within the org.
    pub name: String,
    /// Description for people.
    pub description: String,
    /// The kind of agent.
    pub kind: AgentKind,
    /// Filter for the steps that it claims: a CEL condition over `step`, `task`, `phase`, `run` and
    /// `record`.
    pub filter: String,
    /// GraphQL selection on the step that is sent to the agent as context.
    pub context: String,
    /// JSON Schema that its results must satisfy.
    pub output_schema: Option<Json>,
    /// Instructions for the language model; empty for external programs.
    pub instructions: String,
    /// Creation time.
    pub created_at: DateTimeUtc,
    /// Time of the last change.
    pub updated_at: DateTimeUtc,
    /// Revision number, incremented by every change that is visible to users.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
