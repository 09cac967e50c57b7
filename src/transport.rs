//! GraphQL over HTTP and WebSocket, our own over the schema's executor. Who asks, and from where, is judged here.

pub mod http;
pub mod socket;

use std::sync::Arc;

use async_graphql::Request;
use async_graphql::parser::types::{ExecutableDocument, OperationType, Selection};
use axum::http::{HeaderMap, header};
use tokio::sync::watch;

use crate::db::Db;
use crate::graphql::Schema;
use crate::limits;
use crate::viewer::Viewer;

/// What every request needs.
#[derive(Clone)]
pub struct App {
    /// The schema.
    pub schema: Schema,
    /// The database.
    pub db: Arc<Db>,
    /// In development mode everybody is this viewer.
    pub viewer: Viewer,
    /// Set when the server is to stop.
    pub stop: watch::Receiver<bool>,
}

/// In development mode only a browser or program on this machine may ask: the name it asked for must be this
/// machine's (a page elsewhere that rebinds its name is turned away), and so must the page it comes from.
pub fn from_here(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).is_some_and(is_local);
    let origin =
        text(header::ORIGIN).is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| is_local(host)));
    host && origin
}

fn is_local(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    matches!(name, "localhost" | "127.0.0.1" | "[::1]")
}

/// Refuses what the executor lets through: documents over the limit, and subscriptions with several root fields.
pub fn guard(request: &mut Request) -> Result<(), String> {
    if request.query.len() > limits::DOCUMENT_BYTES {
        return Err(format!("the document is longer than {} bytes", limits::DOCUMENT_BYTES));
    }
    // What does not parse is told by the executor, with its place.
    match request.parsed_query() {
        Ok(document) if several_roots(document) => Err("a subscription has one root field".into()),
        _ => Ok(()),
    }
}

fn several_roots(document: &ExecutableDocument) -> bool {
    document.operations.iter().any(|(_, operation)| {
        let roots = &operation.node.selection_set.node.items;
        let fragments = roots.iter().any(|root| !matches!(root.node, Selection::Field(_)));
        operation.node.ty == OperationType::Subscription && (roots.len() > 1 || fragments)
    })
}
