//! A page of a list as a Relay connection. The library's own is generic in five places and compiles
//! some 30,000 lines of LLVM IR for each noun; here all nouns share the code.

use std::borrow::Cow;

use async_graphql::connection::{CursorType, PageInfo};
use async_graphql::indexmap::IndexMap;
use async_graphql::parser::types::Field;
use async_graphql::registry::{MetaField, MetaType, MetaTypeId, Registry};
use async_graphql::{ContainerType, ContextSelectionSet, ObjectType, OutputType, Positioned, ServerResult, Value};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};

use super::selection::{Answer, object};

/// A page of a list with its cursors, and with further fields about the whole list.
#[derive(Debug)]
pub struct Connection<K, T, C> {
    pub(super) rows: Vec<(K, T)>,
    pub(super) has_previous: bool,
    pub(super) has_next: bool,
    pub(super) totals: C,
}

impl<K, T: OutputType, C> Connection<K, T, C> {
    fn edge_type() -> String {
        format!("{}Edge", T::type_name())
    }
}

impl<K: CursorType + Send + Sync, T: OutputType, C: ObjectType> OutputType for Connection<K, T, C> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", T::type_name()).into()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        registry.create_output_type::<Self, _>(MetaTypeId::Object, |registry| {
            let node = T::create_type_info(registry);
            PageInfo::create_type_info(registry);
            let totals = registry.create_fake_output_type::<C>();
            define(registry, &T::type_name(), &node, totals, std::any::type_name::<Self>())
        })
    }

    async fn resolve(&self, ctx: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        let (connection, edge) = (Self::type_name(), Self::edge_type());
        resolve(ctx, self, [&connection, &edge]).await
    }
}

/// Defines the types of a connection and of its edges. Returns the connection's.
fn define(registry: &mut Registry, noun: &str, node: &str, totals: MetaType, rust_type: &'static str) -> MetaType {
    let edge = format!("{noun}Edge");
    let fields = [
        field("node", node, "The object."),
        field("cursor", "String!", "Position of the object in its list: pass it as `after` or `before`."),
    ];
    let about = format!("An entry of a list of {noun}, with its cursor.");
    registry.types.insert(edge.clone(), object_type(edge.clone(), about, fields.into_iter().collect(), rust_type));
    let mut fields: IndexMap<String, MetaField> = [
        field("pageInfo", "PageInfo!", "Where the page begins and ends, and if there are others."),
        field("edges", &format!("[{edge}!]!"), "The objects of the page in order, with their cursors."),
        field("nodes", &format!("[{node}]!"), "The objects of the page in order."),
    ]
    .into_iter()
    .collect();
    if let MetaType::Object { fields: more, .. } = totals {
        fields.extend(more);
    }
    object_type(format!("{noun}Connection"), format!("A page of a list of {noun}."), fields, rust_type)
}

fn field(name: &str, of: &str, about: &str) -> (String, MetaField) {
    let field = MetaField {
        name: name.to_owned(),
        description: Some(about.to_owned()),
        args: IndexMap::new(),
        ty: of.to_owned(),
        deprecation: Default::default(),
        cache_control: Default::default(),
        external: false,
        requires: None,
        provides: None,
        visible: None,
        shareable: false,
        inaccessible: false,
        tags: Vec::new(),
        override_from: None,
        compute_complexity: None,
        directive_invocations: Vec::new(),
        requires_scopes: Vec::new(),
    };
    (name.to_owned(), field)
}

fn object_type(name: String, about: String, fields: IndexMap<String, MetaField>, rust_type: &'static str) -> MetaType {
    MetaType::Object {
        name,
        description: Some(about),
        fields,
        cache_control: Default::default(),
        extends: false,
        shareable: false,
        resolvable: true,
        inaccessible: false,
        interface_object: false,
        tags: Vec::new(),
        keys: None,
        visible: None,
        is_subscription: false,
        rust_typename: Some(rust_type),
        directive_invocations: Vec::new(),
        requires_scopes: Vec::new(),
    }
}

/// A page whose types of nodes and totals are erased.
trait ErasedPage: Sync {
    fn count(&self) -> usize;
    fn cursor(&self, index: usize) -> Value;
    /// True if the list goes on before the page, and behind it.
    fn goes_on(&self) -> (bool, bool);
    /// Resolves a node with the context of its place in the response.
    fn node<'a>(
        &'a self,
        index: usize,
        ctx: &'a ContextSelectionSet<'a>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>>;
    /// Resolves a field about the whole list.
    fn total<'a>(
        &'a self,
        ctx: &'a ContextSelectionSet<'a>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>>;
}

impl<K: CursorType + Send + Sync, T: OutputType, C: ContainerType> ErasedPage for Connection<K, T, C> {
    fn count(&self) -> usize {
        self.rows.len()
    }

    fn cursor(&self, index: usize) -> Value {
        self.rows.get(index).map_or(Value::Null, |(cursor, _)| Value::String(cursor.encode_cursor()))
    }

    fn goes_on(&self) -> (bool, bool) {
        (self.has_previous, self.has_next)
    }

    fn node<'a>(
        &'a self,
        index: usize,
        ctx: &'a ContextSelectionSet<'a>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>> {
        self.rows[index].1.resolve(ctx, field).boxed()
    }

    fn total<'a>(
        &'a self,
        ctx: &'a ContextSelectionSet<'a>,
        field: &'a Positioned<Field>,
    ) -> BoxFuture<'a, ServerResult<Value>> {
        async move {
            let ctx = ctx.with_field(field);
            Ok(self.totals.resolve_field(&ctx).await?.unwrap_or_default())
        }
        .boxed()
    }
}

async fn resolve(
    ctx: &ContextSelectionSet<'_>,
    page: &dyn ErasedPage,
    [connection, edge]: [&str; 2],
) -> ServerResult<Value> {
    object(ctx, connection, &mut |field| match field.node.name.node.as_str() {
        "pageInfo" => Answer::Later(page_info(ctx, page, field).boxed()),
        "edges" => Answer::Later(list(ctx, page, field, Some(edge)).boxed()),
        "nodes" => Answer::Later(list(ctx, page, field, None).boxed()),
        _ => Answer::Later(page.total(ctx, field)),
    })
    .await
}

async fn page_info(
    ctx: &ContextSelectionSet<'_>,
    page: &dyn ErasedPage,
    field: &Positioned<Field>,
) -> ServerResult<Value> {
    let ctx = ctx.with_field(field);
    let ctx = ctx.with_selection_set(&field.node.selection_set);
    let (has_previous, has_next) = page.goes_on();
    object(&ctx, "PageInfo", &mut |field| {
        Answer::Ready(match field.node.name.node.as_str() {
            "hasPreviousPage" => has_previous.into(),
            "hasNextPage" => has_next.into(),
            "startCursor" => page.cursor(0),
            _ => page.count().checked_sub(1).map_or(Value::Null, |last| page.cursor(last)),
        })
    })
    .await
}

/// Resolves all nodes of the page, or its edges if their type is given. One that fails fails the list,
/// which has no nulls.
async fn list(
    ctx: &ContextSelectionSet<'_>,
    page: &dyn ErasedPage,
    field: &Positioned<Field>,
    edge: Option<&str>,
) -> ServerResult<Value> {
    let ctx = ctx.with_field(field);
    let ctx = ctx.with_selection_set(&field.node.selection_set);
    let each = (0..page.count()).map(|index| {
        let ctx = &ctx;
        async move {
            let ctx = ctx.with_index(index);
            let found = match edge {
                Some(edge) => self::edge(&ctx, page, index, edge).await,
                None => page.node(index, &ctx, field).await,
            };
            found.map_err(|err| ctx.set_error_path(err))
        }
    });
    Ok(Value::List(try_join_all(each).await?))
}

async fn edge(
    ctx: &ContextSelectionSet<'_>,
    page: &dyn ErasedPage,
    index: usize,
    type_name: &str,
) -> ServerResult<Value> {
    object(ctx, type_name, &mut |field| match field.node.name.node.as_str() {
        "cursor" => Answer::Ready(page.cursor(index)),
        _ => Answer::Later(
            async move {
                let ctx = ctx.with_field(field);
                let node = ctx.with_selection_set(&field.node.selection_set);
                page.node(index, &node, field).await.map_err(|err| ctx.set_error_path(err))
            }
            .boxed(),
        ),
    })
    .await
}
