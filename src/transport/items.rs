//! Executes any operation item by item: a query or a mutation has one item, a subscription one for
//! each response.

use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::execute::{Item, execute, text};
use super::{Admitted, App, shared};

/// Executes any operation, item by item. An error is the last item.
pub fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    if admitted.operation.kind != OperationType::Subscription {
        let app = app.clone();
        return stream::once(async move {
            let cost = admitted.cost.clone();
            let payload = execute(&app, admitted).await.map(text);
            Item { payload, position: None, resume: None, held: Some(cost), shared: false }
        })
        .boxed();
    }
    let (transport, kind) = (admitted.transport, admitted.operation.kind.to_string());
    metrics::counter!("sortie_requests_total", "way" => transport, "kind" => kind, "outcome" => "OK").increment(1);
    let mut admitted = admitted;
    let stream_permit = admitted.stream_permit.take();
    let held = move |item| {
        let _ = &stream_permit;
        item
    };
    shared::items(app, admitted).map(held).boxed()
}
