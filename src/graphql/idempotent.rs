//! `idempotent!`: runs a mutation under its idempotency key. A repeated request returns the first
//! one's result.

use std::sync::Arc;

use async_graphql::{Context, Result};
use entity::id::{Id, InvalidId};
use serde_json::Value;

use crate::kernel::audit::Entry;
use crate::kernel::db::WriteContext;
use crate::kernel::error::Refusal;
use crate::kernel::idempotency::IdempotentRequest;

/// `idempotent!(ctx, key, |db| work)`: does the work in a write context with the key, or returns the
/// result of an earlier request, found with `|id| again` or the module's `must_find`.
macro_rules! idempotent {
    ($ctx:expr, $key:expr, |$db:ident| $work:expr) => {
        idempotent!($ctx, $key, |$db| $work, |id| noun::must_find($db.read(), $crate::graphql::viewer($ctx), id))
    };
    ($ctx:expr, $key:expr, |$db:ident| $work:expr, |$id:ident| $again:expr) => {{
        let $db = $crate::graphql::db($ctx);
        let _ = $db;
        let again = |$id| $again;
        let keyed = $crate::graphql::idempotent::keyed_for($ctx, $key.as_deref(), &again)?;
        let $db = &keyed;
        let outcome = match $crate::graphql::idempotent::lookup($db).await? {
            Some(_) => None,
            None => Some($work.await),
        };
        match (outcome, $db.idempotency().and_then($crate::kernel::idempotency::IdempotentRequest::repeat)) {
            (Some(Ok(done)), _) => done,
            (_, Some(made)) => again(entity::id::Id::from_uuid(made)).await?,
            (Some(Err(err)), None) => return Err(err.into()),
            (None, None) => {
                return Err($crate::kernel::error::Error::internal("an idempotency key has no result").into());
            }
        }
    }};
}

/// Id of a result of any type, for mutations whose payload does not contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnyResultId(uuid::Uuid);

impl Id for AnyResultId {
    const PREFIX: &'static str = "";
    fn uuid(self) -> uuid::Uuid {
        self.0
    }
    fn from_uuid(uuid: uuid::Uuid) -> Self {
        Self(uuid)
    }
}

impl std::fmt::Display for AnyResultId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for AnyResultId {
    type Err = InvalidId;
    fn from_str(text: &str) -> std::result::Result<Self, InvalidId> {
        text.parse().map(Self).map_err(|_| InvalidId { given: text.to_owned(), wanted: Self::PREFIX })
    }
}

/// Returns the write context with the given key, for a mutation whose repeated result is found by
/// an id of type `I`.
pub(super) fn keyed_for<I: Id, R>(
    ctx: &Context<'_>,
    key: Option<&str>,
    _: &impl FnOnce(I) -> R,
) -> Result<WriteContext> {
    Ok(keyed(ctx, key)?.with_result_noun(I::PREFIX))
}

/// The audit entries for the root fields of a mutation.
#[derive(Clone, Debug, Default)]
pub struct AuditEntries(pub Arc<[Arc<Entry>]>);

/// Returns the write context of this mutation, with the key and the audit entry if there are any.
pub(super) fn keyed(ctx: &Context<'_>, key: Option<&str>) -> Result<WriteContext> {
    let field = ctx.field();
    let alias = field.alias().unwrap_or(field.name());
    let entries = ctx.data_opt::<AuditEntries>();
    let entry = entries.and_then(|entries| entries.0.iter().find(|entry| entry.alias == alias));
    let context = super::db(ctx).write().with_audit_entry(entry.cloned());
    let Some(key) = key else { return Ok(context) };
    let mut input = Value::Null;
    for (name, value) in field.arguments().map_err(|err| Refusal::input("input", err.message))? {
        if name == "input" {
            input = value.into_json().map_err(crate::kernel::error::Error::internal)?;
        }
    }
    if let Some(input) = input.as_object_mut() {
        input.remove("idempotencyKey");
    }
    let request = IdempotentRequest::new(super::viewer(ctx), field.name(), key, &input)?;
    Ok(context.with_idempotency(request))
}

/// Returns what an earlier request with this key stored besides its result; JSON null if nothing.
pub(super) async fn stored_detail(ctx: &Context<'_>, key: Option<&str>) -> Result<Value> {
    let context = keyed(ctx, key)?;
    lookup(&context).await?;
    let detail = context.idempotency().and_then(IdempotentRequest::detail);
    Ok(detail.cloned().unwrap_or_default())
}

/// Returns the result of an earlier request with the same key; rejects the key if that request had
/// another input.
pub(super) async fn lookup(context: &WriteContext) -> Result<Option<uuid::Uuid>> {
    match context.idempotency() {
        Some(request) => Ok(request.lookup(context.read()).await?),
        None => Ok(None),
    }
}
