//! Endpoints for operators: liveness, readiness and metrics.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use entity::member::Role;
use serde_json::json;
use tokio::time::timeout;

use crate::app::telemetry;
use crate::domain::run::waiting;
use crate::graphql::role;
use crate::kernel::{limits, stuck};
use crate::transport::App;
use crate::transport::accept::Type;
use crate::transport::origin::Peer;
use crate::transport::response::refuse;

/// Returns 200 while the process is alive.
pub(super) async fn alive() -> Response {
    json_response(StatusCode::OK, json!({ "alive": true }))
}

/// Returns 200 if the server can work; otherwise 503 with the reason.
pub(super) async fn ready(State(app): State<App>) -> Response {
    let reason = if *app.stop.borrow() {
        Some("the server is stopping")
    } else {
        match timeout(limits::READY_TIME, app.db.answers()).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some("the database rejects queries"),
            Err(_) => Some("the database does not answer in time"),
        }
    };
    match reason {
        None => json_response(StatusCode::OK, status(&app).await),
        Some(reason) => json_response(StatusCode::SERVICE_UNAVAILABLE, json!({ "ready": false, "because": reason })),
    }
}

/// Describes a ready server, including work that is stuck and channels that are paused.
async fn status(app: &App) -> serde_json::Value {
    let read = async {
        let (stuck, count) = stuck::all(&app.db, limits::STUCK_SHOWN).await?;
        Ok::<_, crate::kernel::error::Error>((stuck, count, waiting::step_waits::channels(&app.db).await?))
    };
    let Ok(Ok((stuck, count, channels))) = timeout(limits::READY_TIME, read).await else {
        return json!({ "ready": true });
    };
    let mut warnings: Vec<String> = stuck
        .iter()
        .map(|row| {
            let of = row.run_id.map_or_else(|| "records".to_owned(), |run| run.to_string());
            let (since, next) = (row.since.to_rfc3339(), row.next_try_at.to_rfc3339());
            format!(
                "{} of {of} has failed since {since}, {} times so far; next attempt at {next}",
                row.work, row.failures
            )
        })
        .collect();
    let mut paused: Vec<String> = Vec::new();
    for (channel, (since, next, _)) in channels.into_iter().filter_map(|(of, state)| Some((of, state.paused?))) {
        let (since, next) = (since.to_rfc3339(), next.to_rfc3339());
        warnings.push(format!("the channel {channel} is paused since {since}; next attempt at {next}"));
        paused.push(channel.to_string());
    }
    if warnings.is_empty() {
        return json!({ "ready": true });
    }
    json!({ "ready": true, "stuckWork": count, "pausedChannels": paused, "warnings": warnings })
}

/// Returns the metrics in Prometheus format, to this machine and to admins.
pub(super) async fn metrics(State(app): State<App>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if let Err(error) = app.check_origin(&headers) {
        return refuse(Type::Json, &error);
    }
    if !peer.is_local(&headers) {
        let admitted = match app.principal(peer, &headers).await {
            Ok(principal) => role::require_role(&principal.viewer, Role::Admin, "/metrics").map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = admitted {
            return refuse(Type::Json, &error);
        }
    }
    let Some(handle) = telemetry::metrics() else {
        return json_response(
            StatusCode::SERVICE_UNAVAILABLE,
            json!({ "because": "the metrics recorder could not be installed" }),
        );
    };
    metrics::gauge!("sortie_streams").set(app.stream_quotas.count() as f64);
    metrics::gauge!("sortie_log_followers").set(app.db.followers() as f64);
    metrics::counter!("sortie_statements_total").absolute(app.db.statements());
    for (pool, open, idle) in app.db.pools() {
        metrics::gauge!("sortie_pool_connections", "pool" => pool, "state" => "idle").set(idle as f64);
        metrics::gauge!("sortie_pool_connections", "pool" => pool, "state" => "busy")
            .set(open.saturating_sub(idle) as f64);
    }
    // If the database does not answer, return the remaining metrics.
    if let Ok(Ok(queue)) = timeout(limits::READY_TIME, crate::domain::run::queue::queue(&app.db)).await {
        metrics::gauge!("sortie_queue_steps").set(queue.steps as f64);
        metrics::gauge!("sortie_queue_age_seconds").set(queue.age.as_seconds_f64());
        metrics::gauge!("sortie_log_unnumbered").set(queue.unnumbered as f64);
    }
    if let Ok(Ok((_, stuck))) = timeout(limits::READY_TIME, stuck::all(&app.db, 1)).await {
        metrics::gauge!("sortie_stuck_work").set(stuck as f64);
    }
    if let Ok(Ok(states)) = timeout(limits::READY_TIME, waiting::step_waits::channels(&app.db)).await {
        for channel in entity::Channel::all() {
            let paused = states.get(&channel).is_some_and(|state| state.paused.is_some());
            metrics::gauge!("sortie_channel_paused", "channel" => channel.to_string()).set(f64::from(u8::from(paused)));
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render()).into_response()
}

fn json_response(status: StatusCode, body: serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}
