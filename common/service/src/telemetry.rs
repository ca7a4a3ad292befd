//! Telemetry of a service: a log on standard output, and spans that are exported to a collector.
//!
//! Trace ids are always created and passed on, by [`wordmill_common::trace_context`]. Recording
//! spans is optional: without an endpoint, no OpenTelemetry layer is installed.

mod export;
mod log;
mod sampling;
mod span;

use std::fmt;

pub use opentelemetry::Value;
use tracing::{Level, Metadata, Subscriber, warn};
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use self::export::Export;
use crate::env::{Env, SettingWarning};

pub use self::export::{Pipeline, dropped_spans};
pub use self::span::{
    add_event, context, context_within, fail, link, record_trace_id, set_attribute, set_parent,
};

/// Target of the spans of requests that change nothing. They add the trace id to log messages, but
/// are recorded only at level `debug`, because a client that polls creates many of them.
pub const POLL: &str = "wordmill::poll";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line, for machines.
    Json,
    /// Text, for a terminal.
    Pretty,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Pretty => "pretty",
        })
    }
}

/// Settings of the log and of traces.
#[derive(Debug, Clone)]
pub struct Config {
    /// `WORDMILL_LOG`: events to log, in the syntax of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// `WORDMILL_LOG_FORMAT`: `json` or `pretty`.
    pub format: LogFormat,
    /// `WORDMILL_TRACE`: spans to record, in the syntax of `tracing_subscriber::filter::Targets`.
    /// Level `debug` adds stores, acknowledgements and polls to the spans of each job.
    spans: Targets,
    /// `OTEL_*`: destination and sampling of spans; `None` if they are not exported.
    export: Option<Export>,
    /// Values of `OTEL_*` that are not used.
    warnings: Vec<SettingWarning>,
}

impl Config {
    /// Reads the settings. `service` is the default service name in spans.
    pub fn read(env: &mut Env, service: &'static str) -> Self {
        let filter = env.read("WORDMILL_LOG", "info".to_owned(), |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
        });
        let format = env.read("WORDMILL_LOG_FORMAT", LogFormat::Json, |text| match text {
            "json" => Ok(LogFormat::Json),
            "pretty" => Ok(LogFormat::Pretty),
            _ => Err("must be json or pretty".to_owned()),
        });
        let spans =
            env.read("WORDMILL_TRACE", Targets::new().with_default(LevelFilter::INFO), |text| {
                text.parse::<Targets>().map_err(|error| error.to_string())
            });
        let export = Export::read(env, service);
        Self { filter, format, spans, export, warnings: env.take_warnings() }
    }
}

/// Starts the log, and the export of spans if it is configured. `main` must call it once, outside
/// of an async runtime. `instance` distinguishes this process from others of the same service.
///
/// The export is not essential: if its settings cannot be used, the log contains a warning.
pub fn start(config: &Config, instance: &str) -> Pipeline {
    // The broker's client logs the same errors as this program, with less context.
    let events = EnvFilter::new(format!("async_nats=error,{}", config.filter));
    let log = log::LogLayer::new(config.format).with_filter(events.or(wordmill_spans()));
    let registry = tracing_subscriber::registry().with(log);
    let mut warnings = config.warnings.clone();
    let export = config
        .export
        .as_ref()
        .and_then(|export| export.open(instance).map_err(|warning| warnings.push(warning)).ok());
    let pipeline = match export {
        Some((pipeline, tracer)) => {
            registry.with(span_layer(tracer, config.spans.clone())).init();
            pipeline
        }
        None => {
            registry.init();
            Pipeline::none()
        }
    };
    for SettingWarning { variable, value, reason } in warnings {
        warn!(variable, value, reason, "unusable OpenTelemetry setting");
    }
    pipeline
}

/// Returns a random name for a process that has no other one.
#[must_use]
pub fn random_instance() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Enables spans for the log layer, independently of the filter for events: they provide the job id
/// and the trace id.
fn wordmill_spans() -> FilterFn {
    fn is_ours(metadata: &Metadata<'_>) -> bool {
        let is_shown = metadata.is_span() && *metadata.level() <= Level::INFO;
        is_shown && metadata.target().starts_with("wordmill")
    }
    FilterFn::new(is_ours as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::INFO)
}

/// Returns the layer that records spans. It ignores events, which would be a large part of the
/// cost, and which can be found in the log by trace id. It also ignores spans of other crates, in
/// particular of the HTTP client that exports the spans.
fn span_layer<S>(tracer: opentelemetry_sdk::trace::SdkTracer, spans: Targets) -> impl Layer<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let is_recorded = filter_fn(move |metadata| {
        let level = match metadata.target() {
            POLL => &Level::DEBUG,
            _ => metadata.level(),
        };
        let is_span = metadata.is_span();
        let target = metadata.target();
        is_span && target.starts_with("wordmill") && spans.would_enable(target, level)
    });
    tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        .with_context_activation(false)
        .with_filter(is_recorded)
}
