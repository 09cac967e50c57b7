//! Agents: declarations of the workers that claim steps, with their queries and mutations.

use async_graphql::{Context, ID, InputObject, Json, MaybeUndefined, Object, Result, SimpleObject};
use chrono::{DateTime, Utc};
use entity::AgentKind;
use entity::id::AgentId;
use serde_json::Value;

use super::agent_context::check_context;
use super::viewer;
use crate::domain::plan::agent as noun;
use crate::graphql::counted::Counted;
use crate::graphql::record::given;
use crate::graphql::selection::RowFields;
use crate::kernel::validate;

/// A worker that claims steps: an external program, or the built-in agent, which calls a language
/// model.
pub struct Agent(pub entity::agent::Model);

impl RowFields for Agent {}

/// A worker that claims steps: an external program, or the built-in agent, which calls a language
/// model.
#[Object]
impl Agent {
    /// Global id; `node(id)` accepts it.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name that run templates and manifests refer to; unique within the org.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// Free text for readers; empty if none was given.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// The kind of worker: an external program or the built-in agent.
    async fn kind(&self) -> AgentKind {
        self.0.kind
    }

    /// Selects the steps that the agent claims: a CEL condition over `step`, `task`, `phase`, `run`
    /// and `record`.
    async fn filter(&self) -> &str {
        &self.0.filter
    }

    /// GraphQL selection on Step that the agent receives with each claimed step; if empty, it
    /// receives the step's own fields only.
    async fn context(&self) -> &str {
        &self.0.context
    }

    /// JSON Schema that the agent's results must satisfy; if null, any flat object is valid.
    async fn output_schema(&self) -> Option<Counted<Json<Value>>> {
        self.0.output_schema.clone().map(Json).map(Counted)
    }

    /// Instructions for the language model; empty for external programs.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// Creation time.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// Time of the last change.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Incremented by every change; pass it back as `expectedRevision` to detect conflicts.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(AgentQuery: agent, agents of Agent, AgentId, Agents);
deletion!(AgentDeletion: delete_agent of AgentId);

/// Fields of a new agent.
#[derive(InputObject)]
pub struct CreateAgentInput {
    /// The name that run templates refer to: letters, digits, `_` and `-`.
    name: String,
    /// Free text for readers.
    description: Option<String>,
    /// The kind of worker; OUTSIDE by default.
    kind: Option<AgentKind>,
    /// CEL condition that selects the steps to claim, e.g. `step.type == "generation"`. By default
    /// all steps that an agent of this kind may claim.
    filter: Option<String>,
    /// GraphQL selection on Step that the agent receives with each claimed step, e.g. `{ record {
    /// name email } run { name } }`.
    context: Option<String>,
    /// JSON Schema that the agent's results must satisfy.
    output_schema: Option<Json<Value>>,
    /// Instructions for the language model; used by BUILT_IN agents.
    instructions: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// Changes to an agent. Omitted fields stay as they are; null removes `outputSchema`, and leaves
/// others as they are.
#[derive(InputObject)]
pub struct UpdateAgentInput {
    /// Id of the agent.
    id: ID,
    /// Expected revision: rejected with CONFLICT if the agent has changed since. Null: not checked.
    expected_revision: Option<i32>,
    /// The new name.
    name: Option<String>,
    /// The new description.
    description: Option<String>,
    /// The new filter.
    filter: Option<String>,
    /// The new context.
    context: Option<String>,
    /// The new JSON Schema.
    output_schema: MaybeUndefined<Json<Value>>,
    /// The new instructions.
    instructions: Option<String>,
    /// Idempotency key. Repeating the request with the same key within seven days returns the
    /// original result.
    idempotency_key: Option<String>,
}

/// The created or changed agent.
#[derive(SimpleObject)]
pub struct AgentPayload {
    /// The agent after the change.
    agent: Agent,
}

/// Mutations for agents.
#[derive(Default)]
pub struct AgentMutation;

#[Object]
impl AgentMutation {
    /// Creates an agent. Rejected with BAD_USER_INPUT if the filter does not parse or the context
    /// selects unknown fields, and with CONFLICT if the name is taken.
    async fn create_agent(&self, ctx: &Context<'_>, input: CreateAgentInput) -> Result<AgentPayload> {
        check_context(ctx, input.context.as_deref()).await?;
        let fields = noun::Fields {
            name: Some(input.name),
            description: input.description,
            kind: input.kind,
            filter: input.filter,
            context: input.context,
            output_schema: input.output_schema.map(|schema| Some(schema.0)),
            instructions: input.instructions,
        };
        Ok(AgentPayload {
            agent: Agent(idempotent!(ctx, input.idempotency_key, |db| noun::create(db, viewer(ctx), &fields))),
        })
    }

    /// Updates the given fields. Rejected with NOT_FOUND, CONFLICT or BAD_USER_INPUT, as
    /// `createAgent` is.
    async fn update_agent(&self, ctx: &Context<'_>, input: UpdateAgentInput) -> Result<AgentPayload> {
        check_context(ctx, input.context.as_deref()).await?;
        let id = validate::id::<AgentId>("id", &input.id)?;
        let fields = noun::Fields {
            name: input.name,
            description: input.description,
            kind: None,
            filter: input.filter,
            context: input.context,
            output_schema: given(&input.output_schema).map(|schema| schema.map(|schema| schema.0)),
            instructions: input.instructions,
        };
        let expected = input.expected_revision;
        let changed =
            idempotent!(ctx, input.idempotency_key, |db| noun::update(db, viewer(ctx), id, expected, &fields));
        Ok(AgentPayload { agent: Agent(changed) })
    }
}
