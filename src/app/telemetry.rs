//! Telemetry for operators: the log on standard error, traces for a collector (OpenTelemetry), and
//! metrics.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::kernel::clock::Clock;
use crate::kernel::config::{Config, LogFormat, Unreadable};
use crate::kernel::error::{Error, Result};
use crate::kernel::{terminal, tls};

/// Default log filter; the scheduler's own messages are of no use.
const DEFAULT_LOG_FILTER: &str = "warn,sortie=info,sqlx::pool=error,tokio_cron_scheduler=off";
/// Trace filter: requests, statements, and work from claim to settle.
const TRACE_FILTER: &str = "off,sortie=info,sea_orm=info";

/// The exporter of traces to a collector; `finish` sends the remaining ones.
#[derive(Debug, Default)]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Logs to standard error, and exports traces if a collector is configured. Without a
    /// configuration (commands that have none) it only logs.
    pub fn begin(config: Option<&Config>) -> Result<Self> {
        tls::begin();
        let directives = config.and_then(|config| config.log.as_deref()).unwrap_or(DEFAULT_LOG_FILTER);
        let filter =
            EnvFilter::try_new(directives).map_err(|err| Error::internal(format!("log: `{directives}`: {err}")))?;
        let log = fmt::layer().with_writer(std::io::stderr).log_internal_errors(false);
        let log = match config.map(|config| config.log_format).unwrap_or_default() {
            LogFormat::Text => log.with_ansi(std::io::stderr().is_terminal()).with_filter(filter).boxed(),
            LogFormat::Json => log.json().flatten_event(true).with_filter(filter).boxed(),
        };
        let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = vec![log];
        let provider = config.and_then(|config| config.otlp_endpoint.as_deref()).map(exporter).transpose()?;
        if let Some(provider) = &provider {
            let traces = tracing_opentelemetry::layer().with_tracer(provider.tracer("sortie"));
            layers.push(traces.with_filter(EnvFilter::new(TRACE_FILTER)).boxed());
        }
        tracing_subscriber::registry().with(layers).try_init().map_err(Error::internal)?;
        Ok(Self(provider))
    }

    /// Sends the remaining traces.
    pub fn finish(self) {
        if let Some(provider) = self.0
            && let Err(err) = provider.shutdown()
        {
            tracing::warn!(error = %err, "sending the last traces failed");
        }
    }
}

/// Reports why the process ends, as a line of text or of JSON in the form of the log. Returns the
/// exit code.
pub fn report_failure(format: LogFormat, failure: &str) -> ExitCode {
    let line = match format {
        LogFormat::Text => format!("sortie: {failure}"),
        LogFormat::Json => serde_json::json!({
            "timestamp": Clock::real().now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            "level": "ERROR",
            "message": "sortie ends with an error",
            "error": failure,
            "target": "sortie",
        })
        .to_string(),
    };
    terminal::err(format_args!("{line}\n"));
    ExitCode::FAILURE
}

/// Prints the help that was asked for, or what is wrong with the command line, the environment or the
/// file.
pub fn report_unreadable(unreadable: &Unreadable) -> ExitCode {
    if !unreadable.error.use_stderr() {
        unreadable.error.exit();
    }
    let message = unreadable.message();
    match unreadable.format {
        LogFormat::Text => terminal::err(format_args!("{message}")),
        LogFormat::Json => drop(report_failure(unreadable.format, message.trim_end())),
    }
    ExitCode::from(WRONG_USAGE)
}

/// Exit code of a command line that can't be read, as clap's.
const WRONG_USAGE: u8 = 2;

fn exporter(endpoint: &str) -> Result<SdkTracerProvider> {
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = SpanExporter::builder().with_http().with_endpoint(&endpoint).build();
    let exporter = exporter.map_err(|err| {
        let setting = "--otlp-endpoint (OTEL_EXPORTER_OTLP_ENDPOINT)";
        Error::internal(format!("{setting}: {err}; write it like http://127.0.0.1:4318"))
    })?;
    let resource = Resource::builder().with_service_name("sortie").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Returns the recorder of this process's metrics; installed at the first call.
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

/// Name and description of each metric, as in `/metrics` and docs/operations.md.
pub const METRICS: &[(&str, &str)] = &[
    ("sortie_requests_total", "GraphQL operations, by transport, kind and outcome"),
    ("sortie_request_seconds", "execution time of queries and mutations"),
    ("sortie_steps_claimed_total", "claimed steps, by kind"),
    (
        "sortie_steps_settled_total",
        "settled steps, by kind and outcome: done, later, skipped, unknown, retried, failed",
    ),
    ("sortie_leases_lapsed_total", "steps whose lease expired before the worker reported"),
    ("sortie_messages_total", "messages that were sent, by channel and resulting status"),
    ("sortie_failed_ticks_total", "failures of the engine's background jobs, by kind of work"),
    (
        "sortie_stuck_work",
        "pieces of work that failed three times in a row or more, and are set aside until their next try",
    ),
    ("sortie_channel_paused", "1 while a channel is paused because the receiving server accepts nothing, by channel"),
    ("sortie_work_seconds", "time from claim to settle of a batch of steps, by kind"),
    ("sortie_queue_steps", "steps that are due and wait for a worker"),
    ("sortie_queue_age_seconds", "time for which the oldest of them has waited"),
    ("sortie_log_unnumbered", "events that are committed and have no position yet (Postgres)"),
    (
        "sortie_log_followers",
        "live readers of the event log: subscriptions (identical ones count once) and internal readers",
    ),
    ("sortie_streams", "sockets and streams that are open"),
    ("sortie_connections", "connections that are open"),
    (
        "sortie_connections_refused_total",
        "refused connections: too many in total or of one address, or no more open files",
    ),
    (
        "sortie_failed_logins_total",
        "refused credentials, by reason; `slowed`: not checked, because too many of the address failed",
    ),
    ("sortie_pool_connections", "connections to the database, by pool and state"),
    ("sortie_statements_total", "statements that were sent to the database"),
];

fn describe() {
    for (name, description) in METRICS {
        match *name {
            name if name.ends_with("_total") => metrics::describe_counter!(name, *description),
            name if name.ends_with("_age_seconds") => metrics::describe_gauge!(name, *description),
            name if name.ends_with("_seconds") => metrics::describe_histogram!(name, *description),
            name => metrics::describe_gauge!(name, *description),
        }
    }
}
