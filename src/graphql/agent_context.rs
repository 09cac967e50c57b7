//! Executes an agent's context: a GraphQL selection on a step, with the agent's permissions and
//! under the usual limits.

use std::sync::OnceLock;

use async_graphql::{Context, Request, Result, Variables};
use entity::id::{Id, StepId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::communication::Sender;
use super::{Schema, db, schema, with_viewer};
use crate::kernel::error::Refusal;
use crate::kernel::viewer::Viewer;

/// The schema that executes contexts; built on first use.
#[derive(Default)]
pub struct Reader(OnceLock<Schema>);

/// Rejects a selection that is not valid on a step.
pub(super) async fn check_context(ctx: &Context<'_>, selection: Option<&str>) -> Result<()> {
    let Some(selection) = selection.filter(|selection| !selection.trim().is_empty()) else { return Ok(()) };
    let viewer = Viewer { role: entity::member::Role::Viewer, ..super::viewer(ctx).clone() };
    // No step has the nil id, so the selection is validated and nothing is read.
    match read(ctx, &viewer, selection, StepId::from_uuid(Uuid::nil())).await {
        Ok(_) => Ok(()),
        Err(why) => Err(Refusal::input("context", why).into()),
    }
}

/// Returns the result of a selection on a step; the error is a message for people.
pub(super) async fn read(
    ctx: &Context<'_>,
    viewer: &Viewer,
    selection: &str,
    step: StepId,
) -> std::result::Result<Value, String> {
    let selection = selection.trim();
    let selection = selection.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(selection);
    let query = format!("query($id: ID!) {{ step(id: $id) {{ {selection} }} }}");
    // Exactly one root selection: a selection with extra braces could add others.
    let document = super::document::parse(&query).map_err(|err| err.message)?;
    let fields = document.operations.iter().map(|(_, operation)| operation.node.selection_set.node.items.len());
    if fields.collect::<Vec<_>>() != [1] || !document.fragments.is_empty() {
        return Err("must be a single selection on a step, e.g. `{ record { name email } }`".into());
    }
    let Ok(reader) = ctx.data::<Reader>() else { return Err("the schema has no context reader".into()) };
    let schema = reader.0.get_or_init(|| schema(Some(db(ctx).clone())));
    let mut request = Request::new(query).variables(Variables::from_json(json!({ "id": step.to_string() })));
    if let Some(sender) = ctx.data_opt::<Sender>() {
        request = request.data(sender.clone());
    }
    let answer = Box::pin(super::batching::execute(schema, with_viewer(request, db(ctx), viewer))).await;
    if let Some(err) = answer.errors.first() {
        return Err(err.message.clone());
    }
    let data = answer.data.into_json().map_err(|err| err.to_string())?;
    Ok(data["step"].clone())
}
