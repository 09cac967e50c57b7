//! Resolves the fields that a request selects of one object. The library's executor makes a future, a
//! queue entry and five closures for every field of every type; here all types share one loop, and
//! what a row already has needs no future.

use std::borrow::Cow;
use std::fmt::Display;
use std::future::ready;

use async_graphql::indexmap::IndexMap;
use async_graphql::indexmap::map::Entry;
use async_graphql::parser::types::{Field, Selection, SelectionSet};
use async_graphql::registry::Registry;
use async_graphql::{
    ContainerType, Context, ContextSelectionSet, Lookahead, Name, OutputType, Positioned, ServerError, ServerResult,
    Value,
};
use entity::columns::{Columns, PartialModel};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use sea_orm::EntityTrait;

use super::counted;
use super::loader::nested_page;
use crate::kernel::error::Result;
use crate::kernel::page::{Page, Window};

/// Names the fields of an object whose values its row has, each with the columns that it depends on;
/// then the fields that a resolver answers from some columns of the row, and those of the first whose size is
/// counted. One line for each field, so
/// that its value and its columns can't be forgotten apart.
macro_rules! row_fields {
    (
        $object:ty, entity::$table:ident, |$row:ident: $place:tt|
        $($name:literal [$($column:ident),+] => $value:expr,)+
        resolved from:
        $($other:literal [$($of:ident),+],)*
        $(large: $($large:literal),+)?
    ) => {
        impl $crate::graphql::selection::RowFields for $object {
            fn row_field(&self, name: &str) -> Option<async_graphql::Value> {
                use async_graphql::InputType;
                let $row = &self.$place;
                Some(match name {
                    $($name => $value,)+
                    _ => return None,
                })
            }

            $(fn is_large(name: &str) -> bool {
                [$($large),+].contains(&name)
            })?

            fn columns_of(name: &str) -> Option<entity::columns::Columns> {
                use entity::$table::Column::*;
                use entity::columns::PartialModel;
                Some(entity::$table::Model::columns(match name {
                    $($name => &[$($column),+],)+
                    $($other => &[$($of),+],)*
                    _ => return None,
                }))
            }
        }
    };
}

/// An object with fields whose values it already has.
pub trait RowFields {
    /// The value of a field without arguments, as its resolver returns it; `None` for a field that only
    /// its resolver knows. `api::selection` compares both.
    fn row_field(&self, name: &str) -> Option<Value> {
        let _ = name;
        None
    }

    /// True if the value of a field that the row has is counted in full, as by `Counted`.
    fn is_large(name: &str) -> bool {
        let _ = name;
        false
    }

    /// The columns that the value of a field depends on; `None` for a field that needs the whole row,
    /// or may need it.
    fn columns_of(name: &str) -> Option<Columns> {
        let _ = name;
        None
    }
}

/// Reads a page of a list of `T`: only the columns that the nodes' selection depends on, if those are
/// known. It is batched for all nodes of the outer list, or read directly if `alone`.
pub(super) fn nodes_page<'a, T, E>(
    ctx: &'a Context<'_>,
    window: Window<E>,
    alone: bool,
) -> BoxFuture<'a, Result<Page<E::Model>>>
where
    T: RowFields,
    E: EntityTrait + Send + Sync + 'static,
    E::Model: PartialModel<Entity = E> + Clone + Send + Sync + 'static,
{
    let window = match columns::<T>(&super::list::nodes(ctx)) {
        Some(columns) => window.only(columns),
        None => window,
    };
    nested_page(ctx, window, alone)
}

/// The columns that the selections depend on; `None` if the whole row may be needed.
pub(super) fn columns<T: RowFields>(selections: &[Lookahead<'_>]) -> Option<Columns> {
    let mut all = Columns::NONE;
    for object in selections.iter().flat_map(Lookahead::selection_fields) {
        for field in object.selection_set().filter(|field| field.name() != "__typename") {
            all = all.and(T::columns_of(field.name())?);
        }
    }
    Some(all)
}

/// An id as the value of a field.
pub(super) fn text(id: impl Display) -> Value {
    Value::String(id.to_string())
}

/// A single object that is resolved as the nodes of lists are.
#[derive(Debug)]
pub struct Row<T>(pub T);

impl<T: ContainerType + RowFields> OutputType for Row<T> {
    fn type_name() -> Cow<'static, str> {
        T::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        T::create_type_info(registry)
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        row(ctx, &self.0).await
    }
}

/// The value of a selected field.
pub(super) enum Answer<'a> {
    /// A value that the row has.
    Ready(Value),
    /// The answer of the field's resolver.
    Later(BoxFuture<'a, ServerResult<Value>>),
}

/// Resolves the selected fields of an object: those of its row at once, all others through their
/// resolvers, together.
pub(super) async fn row<T: ContainerType + RowFields>(ctx: &ContextSelectionSet<'_>, row: &T) -> ServerResult<Value> {
    let type_name = row.introspection_type_name();
    object(ctx, &type_name, &mut |field| match row.row_field(&field.node.name.node) {
        Some(value) if T::is_large(&field.node.name.node) => match counted::count(&value, field) {
            Ok(()) => Answer::Ready(value),
            Err(over) => Answer::Later(ready(Err(over)).boxed()),
        },
        Some(value) => Answer::Ready(value),
        None => Answer::Later(
            async move {
                let ctx = ctx.with_field(field);
                Ok(row.resolve_field(&ctx).await?.unwrap_or_default())
            }
            .boxed(),
        ),
    })
    .await
}

/// Resolves the selected fields of an object of this type, in the order of the selection. As in the
/// library, a field that fails adds its error to the response and is left out; the transport makes a
/// null of it.
pub(super) async fn object<'a>(
    ctx: &'a ContextSelectionSet<'_>,
    type_name: &str,
    answer: &mut (dyn FnMut(&'a Positioned<Field>) -> Answer<'a> + Send),
) -> ServerResult<Value> {
    let mut fields = Vec::with_capacity(ctx.item.node.items.len());
    collect(ctx, &ctx.item.node, type_name, &mut fields)?;
    let mut open = Vec::new();
    let mut values = Vec::with_capacity(fields.len());
    for (index, field) in fields.iter().enumerate() {
        let found = if field.node.name.node == "__typename" {
            Answer::Ready(Value::String(type_name.to_owned()))
        } else {
            answer(field)
        };
        values.push(match found {
            Answer::Ready(value) => Some(value),
            Answer::Later(future) => {
                open.push((index, future));
                None
            }
        });
    }
    let mut done = |index: usize, value| match value {
        Ok(value) => values[index] = Some(value),
        Err(err) => ctx.add_error(err),
    };
    if open.len() == 1 {
        // Most objects of lists have one such field, which needs no queue.
        for (index, future) in open {
            done(index, future.await);
        }
    } else if !open.is_empty() {
        let numbered = open.into_iter().map(|(index, future)| future.map(move |value| (index, value)));
        let mut open: FuturesUnordered<_> = numbered.collect();
        while let Some((index, value)) = open.next().await {
            done(index, value);
        }
    }
    let mut all = IndexMap::with_capacity(fields.len());
    for (field, value) in fields.iter().zip(values) {
        if let Some(value) = value {
            merge(&mut all, field.node.response_key().node.clone(), value);
        }
    }
    Ok(if all.is_empty() { Value::Null } else { Value::Object(all) })
}

/// Collects the fields of a selection set with those of its fragments that apply to the type.
fn collect<'a>(
    ctx: &'a ContextSelectionSet<'_>,
    set: &'a SelectionSet,
    type_name: &str,
    fields: &mut Vec<&'a Positioned<Field>>,
) -> ServerResult<()> {
    for selection in &set.items {
        let (condition, set) = match &selection.node {
            Selection::Field(field) => {
                fields.push(field);
                continue;
            }
            Selection::InlineFragment(inline) => (inline.node.type_condition.as_ref(), &inline.node.selection_set.node),
            Selection::FragmentSpread(spread) => {
                let name = &spread.node.fragment_name.node;
                let unknown = || ServerError::new(format!("Unknown fragment {name:?}."), Some(spread.pos));
                let fragment = ctx.query_env.fragments.get(name).ok_or_else(unknown)?;
                (Some(&fragment.node.type_condition), &fragment.node.selection_set.node)
            }
        };
        let applies = condition.is_none_or(|condition| {
            let condition = condition.node.on.node.as_str();
            let types = &ctx.schema_env.registry.types;
            condition == type_name || types.get(condition).is_some_and(|of| of.is_possible_type(type_name))
        });
        if applies {
            collect(ctx, set, type_name, fields)?;
        }
    }
    Ok(())
}

/// Adds a field to the response. One that is selected twice has the fields of both selections.
fn merge(all: &mut IndexMap<Name, Value>, name: Name, value: Value) {
    let mut known = match all.entry(name) {
        Entry::Vacant(free) => {
            free.insert(value);
            return;
        }
        Entry::Occupied(known) => known,
    };
    match (known.get_mut(), value) {
        (Value::Object(known), Value::Object(more)) => {
            for (name, value) in more {
                merge(known, name, value);
            }
        }
        (Value::List(known), Value::List(more)) => {
            for (known, more) in known.iter_mut().zip(more) {
                if let (Value::Object(known), Value::Object(more)) = (known, more) {
                    for (name, value) in more {
                        merge(known, name, value);
                    }
                }
            }
        }
        _ => {}
    }
}
