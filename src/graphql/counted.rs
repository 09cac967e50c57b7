//! Counts the size of a response while it is built: nodes of lists, and fields that may be large. A
//! request whose response exceeds its limit stops building it.

use std::borrow::Cow;

use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::{MetaType, Registry};
use async_graphql::{
    ContainerType, Context, ContextBase, ContextSelectionSet, OutputType, Positioned, ServerError, ServerResult, Value,
};

use super::Error;
use super::selection::{self, RowFields};
use crate::kernel::cost::{self, answer};
use crate::kernel::error::Refusal;

/// A node of a list. Its content is counted once, except nested lists, whose nodes count
/// themselves.
#[derive(Debug)]
pub struct Node<T>(pub T);

/// A field that may be large; its whole content is counted.
#[derive(Debug)]
pub struct Counted<T>(pub T);

impl<T: ContainerType + RowFields> OutputType for Node<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.introspection_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        create(T::create_type_info, registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        // Before they are resolved: all nodes of a list are in progress at once.
        let fields = fields_of(ctx, &field.node.selection_set.node);
        cost::count_fields(fields).map_err(|refusal| over(refusal, field))?;
        let value = selection::row(ctx, &self.0).await?;
        cost::count_response_bytes(answer::shallow(&value)).map_err(|refusal| over(refusal, field))?;
        Ok(value)
    }
}

impl<T: OutputType> OutputType for Counted<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn qualified_type_name() -> String {
        T::qualified_type_name()
    }

    fn introspection_type_name(&self) -> Cow<'static, str> {
        self.0.introspection_type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        create(T::create_type_info, registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, field: &Positioned<Field>) -> ServerResult<Value> {
        cost::count_response_bytes(0).map_err(|refusal| over(refusal, field))?;
        let value = self.0.resolve(ctx, field).await?;
        count(&value, field)?;
        Ok(value)
    }
}

/// Counts the whole content of a field. Errors: LIMIT_EXCEEDED.
pub(super) fn count(value: &Value, field: &Positioned<Field>) -> ServerResult<()> {
    cost::count_response_bytes(answer::deep(value)).map_err(|refusal| over(refusal, field))
}

/// Returns a list without pages, whose objects' fields are counted before they are resolved. Errors:
/// LIMIT_EXCEEDED.
pub fn list<T>(ctx: &Context<'_>, items: Vec<T>) -> async_graphql::Result<Counted<Vec<T>>> {
    let fields = fields_of(ctx, &ctx.item.node.selection_set.node);
    cost::count_fields(fields.saturating_mul(items.len()))?;
    Ok(Counted(items))
}

/// The number of fields of an object, with those of its fragments and of the objects in it, and the
/// object itself.
fn fields_of<T>(ctx: &ContextBase<'_, T>, set: &SelectionSet) -> usize {
    let below = |selection: &Positioned<Selection>| match &selection.node {
        Selection::Field(field) => fields_of(ctx, &field.node.selection_set.node),
        Selection::InlineFragment(inline) => fields_of(ctx, &inline.node.selection_set.node),
        Selection::FragmentSpread(spread) => {
            let fragment = ctx.query_env.fragments.get(&spread.node.fragment_name.node);
            fragment.map_or(0, |fragment| fields_of(ctx, &fragment.node.selection_set.node))
        }
    };
    1 + set.items.iter().map(below).sum::<usize>()
}

/// Registers the type, and adds the specification's URL to the library's scalar JSON.
fn create(of: fn(&mut Registry) -> String, registry: &mut Registry) -> String {
    let name = of(registry);
    if let Some(MetaType::Scalar { specified_by_url, .. }) = registry.types.get_mut("JSON") {
        *specified_by_url = Some("https://datatracker.ietf.org/doc/html/rfc8259".to_owned());
    }
    name
}

fn over(refusal: Refusal, field: &Positioned<Field>) -> ServerError {
    async_graphql::Error::from(Error::from(refusal)).into_server_error(field.pos)
}
