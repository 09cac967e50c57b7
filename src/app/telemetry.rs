//! What an operator sees of the inside: the log on standard error, traces for a collector (OpenTelemetry), and metrics.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::kernel::config::{Config, LogFormat};
use crate::kernel::error::{Error, Result};
use crate::kernel::tls;

/// What is logged where nothing is said; the scheduler's own words are of no use to anybody.
const LOGGED: &str = "warn,sortie=info,sqlx::pool=error,tokio_cron_scheduler=off";
/// What is traced: requests, statements, and work from claim to settle.
const TRACED: &str = "off,sortie=info,sea_orm=info";

/// Traces on their way to a collector; what is left of them is sent when this is finished.
#[derive(Debug, Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Logs to standard error, and exports traces where a collector is configured. Without a configuration, for commands
    /// that have none, it only logs.
    pub fn begin(config: Option<&Config>) -> Result<Self> {
        tls::begin();
        let logged = config.and_then(|config| config.log.as_deref()).unwrap_or(LOGGED);
        let filter = EnvFilter::try_new(logged).map_err(|err| Error::ours(format!("log: `{logged}`: {err}")))?;
        let log = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
        let log = match config.map(|config| config.log_format).unwrap_or_default() {
            LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
            LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        };
        let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![log];
        let provider = config.and_then(|config| config.otlp_endpoint.as_deref()).map(exporter).transpose()?;
        if let Some(provider) = &provider {
            let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("sortie"));
            layers.push(traces.with_filter(EnvFilter::new(TRACED)).boxed());
        }
        tracing_subscriber::registry().with(layers).try_init().map_err(Error::ours)?;
        Ok(Self(provider))
    }

    /// Sends what has not been sent.
    pub fn finish(self) {
        if let Some(provider) = self.0
            && let Err(err) = provider.shutdown()
        {
            tracing::warn!(error = %err, "the last traces could not be sent");
        }
    }
}

fn exporter(endpoint: &str) -> Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
    let exporter = exporter.map_err(|err| {
        let told = "--otlp-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)";
        Error::ours(format!("{told}: {err}; write it like http://127.0.0.1:4318"))
    })?;
    let resource = Resource::builder().with_service_name("sortie").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Where the metrics of this process are kept; installed at the first call.
pub fn metrics() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    let install = || {
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &seconds).ok()?;
        let handle = builder.install_recorder().ok()?;
        describe();
        Some(handle)
    };
    HANDLE.get_or_init(install).as_ref()
}

/// A line for each metric, as `/metrics` and the README have it.
pub const METRICS: &[(&str, &str)] = &[
    ("sortie_requests_total", "GraphQL operations that were asked for, by way in, kind and outcome"),
    ("sortie_request_seconds", "how long queries and mutations took"),
    ("sortie_steps_claimed_total", "steps that a worker took, by kind"),
    (
        "sortie_steps_settled_total",
        "steps that a worker settled, by kind and outcome: done, later, skipped, unknown, retried, failed",
    ),
    ("sortie_leases_lapsed_total", "steps whose worker did not come back, and that were taken from it"),
    ("sortie_messages_total", "messages that were handed over, by channel, and by the status that it left them in"),
    ("sortie_failed_ticks_total", "times that a piece of the engine's work failed, by kind of work"),
    (
        "sortie_stuck_work",
        "pieces of work that failed three times in a row or more, and are set aside until their next try",
    ),
    ("sortie_channel_paused", "1 while a channel is paused because the other side takes nothing, by channel"),
    ("sortie_work_seconds", "how long a batch of steps took from claim to settle, by kind"),
    ("sortie_queue_steps", "steps that are due and wait for a worker"),
    ("sortie_queue_age_seconds", "how long the oldest of them has waited"),
    ("sortie_log_unnumbered", "events that are committed and have no position yet (Postgres)"),
    ("sortie_log_followers", "followers of the event log: subscriptions (like ones once), and what else reads it live"),
    ("sortie_streams", "sockets and streams that are open"),
    ("sortie_connections", "connections that are open"),
    (
        "sortie_connections_refused_total",
        "connections that were turned away: too many in all or of one address, or no more open files",
    ),
    (
        "sortie_failed_logins_total",
        "credentials that were refused, by reason; `slowed`: not looked at, since too many of the address failed",
    ),
    ("sortie_pool_connections", "connections to the database, by pool and state"),
    ("sortie_statements_total", "statements that were sent to the database"),
];

fn describe() {
    for (name, told) in METRICS {
        match *name {
            name if name.ends_with("_total") => metrics::describe_counter!(name, *told),
            name if name.ends_with("_age_seconds") => metrics::describe_gauge!(name, *told),
            name if name.ends_with("_seconds") => metrics::describe_histogram!(name, *told),
            name => metrics::describe_gauge!(name, *told),
        }
    }
}
