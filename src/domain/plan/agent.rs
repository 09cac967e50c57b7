//! Workers that take steps: find, make, change. What they may take is in `agent/take`.

use entity::AgentKind;
use entity::agent::{ActiveModel, COLUMN, Entity, Model};
use entity::api_key::Column as Key;
use entity::id::AgentId;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, Set};
use serde_json::{Value, json};

use crate::domain::content::{cel, result_schema};
use crate::kernel::db::{Db, Tx, dialect};
use crate::kernel::error::{Error, Refusal, Result};
use crate::kernel::references::is;
use crate::kernel::viewer::Viewer;
use crate::kernel::{budget, limits, validate};
use crate::transact;

scoped!(agent, AgentId, "agent");
paged!(agent);
saved!(agent, AgentId, "agent");
deleted!(agent, AgentId, "agent";
    used by api_key as "key" where |id: AgentId| is(Key::AgentId, id).and(Key::RevokedAt.is_null());
    with api_key.AgentId);

/// What a filter may speak of.
pub const FILTER_VARIABLES: &[&str] = &["step", "task", "phase", "run", "record"];

/// What an agent is made of; in a change, only what is given.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// By which structures name it.
    pub name: Option<String>,
    /// For its readers.
    pub description: Option<String>,
    /// Where it is at work; fixed once it is made.
    pub kind: Option<AgentKind>,
    /// Which steps it takes, in CEL; all that agents (or functions) do, unless said.
    pub filter: Option<String>,
    /// What it is shown of a step: a GraphQL selection.
    pub context: Option<String>,
    /// The JSON Schema that its results must meet; `Some(None)` takes it away.
    pub output_schema: Option<Option<Value>>,
    /// What the language model is told.
    pub instructions: Option<String>,
}

/// As whom an agent acts.
pub fn actor(agent: &Model) -> entity::Actor {
    entity::Actor {
        kind: entity::ActorKind::Agent,
        member_id: None,
        agent_id: Some(agent.id),
        name: agent.name.clone(),
    }
}

/// All of the org.
pub async fn all(db: &impl ConnectionTrait, viewer: &Viewer) -> Result<Vec<Model>> {
    Ok(Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).all(db).await?)
}

/// The one of a name. Errors: NOT_FOUND.
pub async fn by_name(db: &impl ConnectionTrait, viewer: &Viewer, name: &str) -> Result<Model> {
    let found = Entity::find().filter(COLUMN.org_id.eq(viewer.org_id)).filter(COLUMN.name.eq(name)).one(db).await?;
    found.ok_or_else(|| Refusal::not_found("agent", name).into())
}

/// Makes one. Refused: no name or one that is taken, a filter that does not parse, a schema that is none.
pub async fn create(db: &Db, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    before(fields).await?;
    transact!(db, |tx| create_in(tx, viewer, fields).await)
}

/// The same, in a transaction that does more.
pub(crate) async fn create_in(tx: &Tx, viewer: &Viewer, fields: &Fields) -> Result<Model> {
    let name = check_name(fields.name.as_deref().unwrap_or_default())?;
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
        Err(err) if dialect::is_duplicate(&err) => {
            return Err(Refusal::conflict(format!("there is an agent `{name}` already")).into());
        }
        other => other?,
    };
    tx.set_result(row.id);
    Ok(row)
}

/// Changes what is given. Errors: NOT_FOUND, CONFLICT, BAD_USER_INPUT.
pub async fn update(db: &Db, viewer: &Viewer, id: AgentId, expected: Option<i32>, fields: &Fields) -> Result<Model> {
    before(fields).await?;
    transact!(db, |tx| update_in(tx, viewer, id, expected, fields).await)
}

/// The same, in a transaction that does more.
pub(crate) async fn update_in(
    tx: &Tx,
    viewer: &Viewer,
    id: AgentId,
    expected: Option<i32>,
    fields: &Fields,
) -> Result<Model> {
    let found = must_lock(tx, viewer, id, expected).await?;
    if fields.kind.is_some_and(|kind| kind != found.kind) {
        return Err(Refusal::input("kind", "is fixed once an agent is made").into());
    }
    let revision = found.revision;
    let mut row = found.into_active_model();
    if let Some(name) = &fields.name {
        row.name.set_if_not_equals(check_name(name)?);
    }
    let name = fields.name.clone().unwrap_or_default();
    save(tx, apply(row, fields)?, revision).await.map_err(|err| match err {
        Error::Ours(fault) if fault.is_duplicate() => {
            Refusal::conflict(format!("there is an agent `{name}` already")).into()
        }
        other => other,
    })
}

/// Judges filter and schema before the transaction that keeps them: there they are known.
async fn before(fields: &Fields) -> Result<()> {
    if fields.filter.is_none() && fields.output_schema.is_none() {
        return Ok(());
    }
    let fields = fields.clone();
    budget::run_here(move |_| judge(&fields)).await?
}

/// Refuses a filter that does not parse, and a schema that is none.
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
            return Err(Refusal::input("context", format!("at most {} bytes", limits::CONTEXT_BYTES)).into());
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
        Err(Refusal::input("name", "letters, digits, _ and - only, like `email-drafter`").into())
    }
}

/// The values of a step for a filter. Its executor is written as the hierarchy's own texts write it: `agent`, `workflow`.
pub fn step_values(key: &str, name: &str, kind: &str, assigned_to: &str, attempt: i32) -> Value {
    let does = assigned_to.to_lowercase();
    json!({ "key": key, "name": name, "type": kind, "assigned_to": does, "assignedTo": does, "attempt": attempt })
}
