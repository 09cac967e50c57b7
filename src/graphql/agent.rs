//! Agents: workers that take steps.

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
use crate::kernel::validate;

/// A worker that takes steps: a program outside, or the built-in one that asks a language model.
pub struct Agent(pub entity::agent::Model);

/// A worker that takes steps: a program outside, or the built-in one that asks a language model.
#[Object]
impl Agent {
    /// The id.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// By which structures and manifests name it; unique within the org.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// For its readers; empty where nothing was said.
    async fn description(&self) -> &str {
        &self.0.description
    }

    /// Where it is at work.
    async fn kind(&self) -> AgentKind {
        self.0.kind
    }

    /// Which steps it takes: a condition in CEL over `step`, `task`, `phase`, `run` and `record`.
    async fn filter(&self) -> &str {
        &self.0.filter
    }

    /// What it is shown of a step: a GraphQL selection on it; empty: nothing but the step's own fields.
    async fn context(&self) -> &str {
        &self.0.context
    }

    /// The JSON Schema that its results must meet; null: any flat object.
    async fn output_schema(&self) -> Option<Counted<Json<Value>>> {
        self.0.output_schema.clone().map(Json).map(Counted)
    }

    /// What the language model is told; empty for programs outside.
    async fn instructions(&self) -> Counted<&str> {
        Counted(&self.0.instructions)
    }

    /// When it was made.
    async fn created_at(&self) -> DateTime<Utc> {
        self.0.created_at
    }

    /// When it was last changed.
    async fn updated_at(&self) -> DateTime<Utc> {
        self.0.updated_at
    }

    /// Counts its changes; pass it back as `expectedRevision`.
    async fn revision(&self) -> i32 {
        self.0.revision
    }
}

definition!(AgentQuery: agent, agents of Agent, AgentId, Agents);
deletion!(AgentDeletion: delete_agent of AgentId);

/// What is to be made.
#[derive(InputObject)]
pub struct CreateAgentInput {
    /// By which structures name it: letters, digits, _ and -.
    name: String,
    /// For its readers.
    description: Option<String>,
    /// Where it is at work; OUTSIDE unless said.
    kind: Option<AgentKind>,
    /// Which steps it takes, in CEL: `step.type == "generation"`. All that its kind may take, unless said.
    filter: Option<String>,
    /// What it is shown of a step: a GraphQL selection, `{ record { name email } run { name } }`.
    context: Option<String>,
    /// The JSON Schema that its results must meet.
    output_schema: Option<Json<Value>>,
    /// What the language model is told; for BUILT_IN.
    instructions: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What is to be changed: only what is given; null takes away.
#[derive(InputObject)]
pub struct UpdateAgentInput {
    /// Which one.
    id: ID,
    /// The revision that you saw; refused with CONFLICT when it has moved on.
    expected_revision: Option<i32>,
    /// Another name.
    name: Option<String>,
    /// Another description.
    description: Option<String>,
    /// Another filter.
    filter: Option<String>,
    /// Another context.
    context: Option<String>,
    /// Another schema.
    output_schema: MaybeUndefined<Json<Value>>,
    /// Other instructions.
    instructions: Option<String>,
    /// A key of your own: asking again with it within seven days does nothing again, and shows the same object.
    idempotency_key: Option<String>,
}

/// What was made or changed.
#[derive(SimpleObject)]
pub struct AgentPayload {
    /// As it is now.
    agent: Agent,
}

/// The noun's part of the mutation root.
#[derive(Default)]
pub struct AgentMutation;

#[Object]
impl AgentMutation {
    /// Makes one. Refused with BAD_USER_INPUT: a filter that does not parse, a context that the schema does not have; with
    /// CONFLICT for a name that is taken.
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

    /// Changes what is given. Refused with NOT_FOUND, CONFLICT, BAD_USER_INPUT as for making one.
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
