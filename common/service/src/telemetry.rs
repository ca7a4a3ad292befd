//! What a service says about itself: a log on standard output, and the spans of its work, if there
//! is a collector to send them to.
//!
//! Trace ids are always made and carried by [`wordmill_common::trace_context`]. It is optional to record
//! spans and to send them: without an endpoint there is no OpenTelemetry layer at all.

mod export;
mod log;
mod sampling;
mod span;

use std::fmt;

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, FilterFn, LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use self::export::Export;
use crate::env::Env;

pub use self::export::{Error, Pipeline, dropped_spans};
pub use self::span::{add_event, adopt, context, fail, link, note, record_trace_id};

/// The target of spans for requests that change nothing: they give log lines their trace id, and
/// are recorded only at level `debug`, because a client that polls makes many.
pub const POLL: &str = "wordmill::poll";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
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
    /// `WORDMILL_LOG`: what is logged, in the form of `tracing_subscriber`'s `EnvFilter`.
    pub filter: String,
    /// `WORDMILL_LOG_FORMAT`: `json` or `pretty`.
    pub format: LogFormat,
    /// `WORDMILL_TRACE`: which spans are recorded, in the form of `Targets`: `debug` adds stores,
    /// acknowledgements and polls to what is recorded for each job.
    spans: Targets,
    /// `OTEL_*`: where spans go, and which traces are recorded; `None` if nowhere.
    export: Option<Export>,
}

impl Config {
    /// Reads the settings of `service`, which is what its spans call it by default.
    pub fn read(env: &mut Env, service: &'static str) -> Self {
        let filter = env.read("WORDMILL_LOG", "info".to_owned(), |text| {
            EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
        });
        let format = env.read("WORDMILL_LOG_FORMAT", LogFormat::Json, |text| match text {
            "json" => Ok(LogFormat::Json),
            "pretty" => Ok(LogFormat::Pretty),
            _ => Err("neither json nor pretty".to_owned()),
        });
        let spans =
            env.read("WORDMILL_TRACE", Targets::new().with_default(LevelFilter::INFO), |text| {
                text.parse::<Targets>().map_err(|error| error.to_string())
            });
        Self { filter, format, spans, export: Export::read(env, service) }
    }
}

/// Starts the log, and traces if they have somewhere to go. Called once, by `main`, outside of an
/// async runtime. `instance` tells this process from others of the same service.
///
/// # Errors
/// If the exporter's settings cannot be used; the log has not been started then.
pub fn start(config: &Config, instance: &str) -> Result<Pipeline, Error> {
    // The broker's client repeats what we log ourselves, with more context.
    let events = EnvFilter::new(format!("async_nats=error,{}", config.filter));
    let log = log::LogLayer::new(config.format).with_filter(events.or(our_spans()));
    let registry = tracing_subscriber::registry().with(log);
    let Some(export) = &config.export else {
        registry.init();
        return Ok(Pipeline::none());
    };
    let (pipeline, tracer) = export.open(instance)?;
    registry.with(recorder(tracer, config.spans.clone())).init();
    Ok(pipeline)
}

/// Returns a name for a process that has none of its own.
#[must_use]
pub fn random_instance() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Lets the log know spans, whatever it shows of events: they name the job and the trace.
fn our_spans() -> FilterFn {
    fn is_ours(metadata: &Metadata<'_>) -> bool {
        let is_shown = metadata.is_span() && *metadata.level() <= Level::INFO;
        is_shown && metadata.target().starts_with("wordmill")
    }
    FilterFn::new(is_ours as fn(&Metadata<'_>) -> bool).with_max_level_hint(LevelFilter::INFO)
}

/// Returns the layer that records spans. It passes events over: what the log says would be a large
/// part of the cost and is found by trace id anyway. And it passes over what is not ours, the HTTP
/// client that sends the spans in particular.
fn recorder<S>(tracer: opentelemetry_sdk::trace::SdkTracer, spans: Targets) -> impl Layer<S>
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
