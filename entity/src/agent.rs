//! A worker that takes steps: a program outside, or the built-in one that asks a language model.

use sea_orm::entity::prelude::*;

use crate::id::*;

text_enum! {
    /// Where an agent is at work.
    pub enum AgentKind {
        /// A program outside, which claims the steps that are done by agents.
        Outside,
        /// A program outside, which claims the steps of workflows that are not built in.
        Function,
        /// Sortie's own, which asks the language model that is configured.
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
    /// By which structures and manifests name it; unique within the org.
    pub name: String,
    /// For its readers.
    pub description: String,
    /// Where it is at work.
    pub kind: AgentKind,
    /// Which steps it takes: a condition in CEL over `step`, `task`, `phase`, `run` and `record`.
    pub filter: String,
    /// What it is shown of a step: a GraphQL selection on it.
    pub context: String,
    /// The JSON Schema that its results must meet.
    pub output_schema: Option<Json>,
    /// What the language model is told; empty for programs outside.
    pub instructions: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was last changed.
    pub updated_at: DateTimeUtc,
    /// Counts the changes that a person would name.
    pub revision: i32,
}

impl ActiveModelBehavior for ActiveModel {}
