//! Executes any operation item by item: a query or a mutation has one item, a subscription one for
//! each response.

use async_graphql::parser::types::OperationType;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::execute::{Item, execute, text};
use super::{Admitted, App, shared};
use crate::kernel::{event, large};

/// Executes any operation, item by item. An error is the last item; a temporary one of a
/// subscription has the cursor to resume from, as soon as a position is known.
pub fn items(app: &App, admitted: Admitted) -> BoxStream<'static, Item> {
    if admitted.operation.kind != OperationType::Subscription {
        let app = app.clone();
        return stream::once(async move {
            let cost = admitted.cost.clone();
            let payload = match execute(&app, admitted).await {
                Ok(bytes) => Ok(large::run(bytes.len(), || text(bytes)).await),
                Err(error) => Err(error),
            };
            Item { payload, position: None, resume: None, held: Some(cost), shared: false, snapshot: false }
        })
        .boxed();
    }
    let (transport, kind) = (admitted.transport, admitted.operation.kind.to_string());
    metrics::counter!("sortie_requests_total", "way" => transport, "kind" => kind, "outcome" => "OK").increment(1);
    let mut admitted = admitted;
    // Its document and variables are charged as long as it is open.
    let held = (admitted.stream_permit.take(), admitted.cost.clone());
    let (org_id, mut delivered) = (admitted.org_id, shared::starting_position(&admitted));
    let resumable = move |mut item: Item| {
        let _ = &held;
        item.resume = item.resume.max(delivered);
        if let (Err(error), Some(position)) = (&item.payload, item.resume) {
            item.payload = Err(error.clone().resumable(&event::cursor(org_id, position)));
        }
        delivered = delivered.max(item.position);
        item
    };
    shared::items(app, admitted).map(resumable).boxed()
}
