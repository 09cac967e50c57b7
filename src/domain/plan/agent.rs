//! Agents, the workers that claim steps: find, create, update. Claiming itself is in `worker`.

use entity::AgentKind;
use entity::agent::{ActiveModel, COLUMN, Entity, Model};
use entity::api_key::Column as Key;
use entity::id::AgentId;
use entity::step::{Column as Step, Executor, StepStatus};
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};

use crate::domain::content::{cel, result_schema};
use crate::kernel::db::{Tx, WriteContext, error_codes};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits, row_limit, validate};
use crate::transact;

scoped!(agent, AgentId, "agent");
paged!(agent);
defined!(agent, AgentId, "agent");
deleted!(agent, AgentId, "agent";
    used by api_key as "key" where |id: AgentId| is(Key::AgentId, id).and(Key::RevokedAt.is_null()),
        step as "step" where |id: AgentId| is(Step::AssigneeId, id).and(Step::Status.is_in(StepStatus::OPEN));
    with api_key.AgentId);

/// The variables that a filter may use.
pub const FILTER_VARIABLES: &[&str] = &["step", "task", "phase", "run", "record"];

/// The fields of an agent; an update changes only the given ones.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// The name, by which run templates refer to it.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The place where it runs; fixed on creation.
    pub kind: Option<AgentKind>,
    /// The steps that it claims, in CEL; default: all steps for agents (or functions).
    pub filter: Option<String>,
    /// The data that it receives with a step: a GraphQL selection.
    pub context: Option<String>,
    /// The JSON Schema that its results must satisfy; `Some(None)` removes it.
    pub output_schema: Option<Option<Value>>,
    /// Instructions for the language model.
    pub instructions: Option<String>,
}

/// Returns the actor that an agent's actions are recorded under.
pub fn actor(agent: &Model) -> entity::Actor {
    entity::Actor {
        kind: entity::ActorKind::Agent,
        member_id: None,
        agent_id: Some(agent.id),
        name: agent.name.clone(),
    }
}

/// Returns the executor whose steps agents of a kind claim.
pub fn executor_of(kind: AgentKind) -> Executor {
    match kind {
        AgentKind::Function => Executor::Workflow,
        AgentKind::Outside | AgentKind::BuiltIn => Executor::Agent,
    }
}

/// True if agents of a kind can claim steps of an executor. Built-in agents claim none unless a
/// language model is configured.
pub fn takes(kind: AgentKind, executor: Executor, has_model: bool) -> bool {
    executor_of(kind) == executor && (kind != AgentKind::BuiltIn || has_model)
}

/// Returns all agents of the org.
pub async fn all(db: &impl ConnectionTrait, viewer: &Viewer) -> Result<Vec<Model>> {
    Ok(Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).all(db).await?)
}

/// Finds an agent by name. Errors: NOT_FOUND.
pub async fn by_name(db: &impl ConnectionTrait, viewer: &Viewer, name: &str) -> Result<Model> {
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.name.eq(name)).one(db).await?;
    found.ok_or_else(|| Refusal::not_found("agent", name).into())
}

/// Creates an agent. Errors: CONFLICT for a name that is taken; BAD_USER_INPUT for a missing name,
/// a filter that does not parse, an invalid schema.
pub async fn create(db: &WriteContext, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    check_before(fields).await?;
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// Same as [`create`], within the caller's transaction.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = check_name(fields.name.as_deref().unwrap_or_default())?;
    let mine = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id));
    row_limit::check_below(tx, viewer.org_id, mine, limits::AGENTS_OF_ORG, "name", "agents").await?;
    let row = ActiveModel {
        id: Set(AgentId::new()),
        org_id: Set(viewer.org_id),
        name: Set(name.clone()),
        description: Set(String::new()),
        kind: Set(fields.kind.unwrap_or(AgentKind::Outside)),
        filter: Set("true".to_owned()),
        context: Set(String::new()),
        output_schema: Set(None),
        instructions: Set(String::new()),
        created_at: Set(tx.now()),
        updated_at: Set(tx.now()),
        revision: Set(1),
    };
    let row = match apply(row, fields)?.insert(tx.db()).await {
        Err(err) if error_codes::is_duplicate(&err) => {
            return Err(Refusal::conflict(format!("an agent `{name}` already exists")).into());
        }
        other => other?,
    };
    created(tx, viewer, &row);
    Ok(row)
}

/// Updates the given fields. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(
    db: &WriteContext,
    viewer: &Viewer,
    id: AgentId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    check_before(fields).await?;
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// Same as [`update`], within the caller's transaction.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: AgentId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    if fields.kind.is_some_and(|kind| kind != found.kind) {
        return Err(Refusal::input("kind", "cannot be changed after creation").into());
    }
    let revision = found.revision;
    let mut row = found.into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(check_name(name)?);
    }
    let name = fields.name.clone().unwrap_or_default();
    save(tx, viewer, apply(row, fields)?, revision).await.map_err(|err| match err {
        Error::Internal(fault) if fault.is_duplicate() => {
            Refusal::conflict(format!("an agent `{name}` already exists")).into()
        }
        other => other,
    })
}

/// Checks filter and schema before the transaction; within it, the results are found in the cache.
async fn check_before(fields: &Fields) -> Result<()> {
    if fields.filter.is_none() && fields.output_schema.is_none() {
        return Ok(());
    }
    let fields = fields.clone();
    budget::run_here(move |_| judge(&fields)).await?
}

/// Rejects a filter that does not parse, and an invalid schema.
pub(crate) fn judge(fields: &Fields) -> Result<()> {
    if let Some(source) = &fields.filter {
        cel::check(source, FILTER_VARIABLES).map_err(|why| Refusal::input("filter", why))?;
    }
    if let Some(Some(schema)) = &fields.output_schema {
        result_schema::check(schema).map_err(|why| Refusal::input("outputSchema", why))?;
    }
    Ok(())
}

fn apply(mut row: ActiveModel, fields: &Fields) -> Result<ActiveModel> {
    if let Some(text) = &fields.description {
        row.description.set_if_not_equals(validate::text("description", text)?);
    }
    judge(fields)?;
    if let Some(source) = &fields.filter {
        row.filter.set_if_not_equals(source.clone());
    }
    if let Some(text) = &fields.context {
        if text.len() > limits::CONTEXT_BYTES {
            return Err(Refusal::input("context", format!("must be at most {} bytes", limits::CONTEXT_BYTES)).into());
        }
        row.context.set_if_not_equals(text.trim().to_owned());
    }
    if let Some(schema) = &fields.output_schema {
        row.output_schema.set_if_not_equals(schema.clone());
    }
    if let Some(text) = &fields.instructions {
        row.instructions.set_if_not_equals(validate::text("instructions", text)?);
    }
    Ok(row)
}

fn check_name(name: &str) -> Result<String> {
    let name = validate::name("name", name)?;
    if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        Ok(name)
    } else {
        Err(Refusal::input("name", "only letters, digits, _ and - are allowed, like `email-drafter`").into())
    }
}

/// Returns the values of a step for a filter. The executor is in lower case, as in run templates:
/// `agent`, `workflow`.
pub fn step_values(key: &str, name: &str, kind: &str, assigned_to: &str, attempt: i32) -> Value {
    let executor = assigned_to.to_lowercase();
    json!({ "key": key, "name": name, "type": kind, "assigned_to": executor, "assignedTo": executor, "attempt": attempt })
}
