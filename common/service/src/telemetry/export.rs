//! Export of spans: a bounded queue, and a thread that encodes and sends them.
//!
//! Export never blocks the service. A full queue drops spans and counts them. If the collector is
//! unreachable, hangs or refuses spans, only these spans are lost. The flush at shutdown has a
//! deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::resource::EnvResourceDetector;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use tracing::{info, warn};

use super::sampling::Sampling;
use crate::env::Env;

/// Timeout of one export. A collector that hangs blocks the queue for this time.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(3);
/// Maximum time that shutdown waits for the last spans to be sent.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

/// Number of lost spans: the queue was full, or the collector did not accept them.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of spans that this process has lost, because the queue was full or the
/// collector did not accept them.
#[must_use]
pub fn dropped_spans() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The exporter cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot send traces to {endpoint}: {source}")]
pub struct Error {
    endpoint: String,
    source: ExporterBuildError,
}

/// Settings of the exporter.
#[derive(Debug, Clone)]
pub(super) struct Export {
    endpoint: String,
    service: String,
    sampling: Sampling,
    queue_max: usize,
    batch_max: usize,
    delay: Duration,
}

impl Export {
    /// Reads the settings. Returns `None` if spans are not exported.
    pub(super) fn read(env: &mut Env, service: &'static str) -> Option<Self> {
        let base = env.read("OTEL_EXPORTER_OTLP_ENDPOINT", String::new(), check_endpoint);
        let full = env.read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", String::new(), check_endpoint);
        let _: String =
            env.read("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned(), |name| {
                let reason = "must be http/protobuf, which collectors accept on port 4318";
                (name == "http/protobuf").then(|| name.to_owned()).ok_or_else(|| reason.to_owned())
            });
        let is_disabled = env.read("OTEL_SDK_DISABLED", false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        });
        let is_selected = env.read("OTEL_TRACES_EXPORTER", "otlp".to_owned(), |text| match text {
            "otlp" | "none" => Ok(text.to_owned()),
            _ => Err("must be otlp or none".to_owned()),
        }) == "otlp";
        let queue_max = env.number("OTEL_BSP_MAX_QUEUE_SIZE", 8192, 1, 1 << 20);
        let batch_max = env.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1024, 1, 1 << 20);
        let export = Self {
            // As OpenTelemetry specifies: the traces endpoint is used unchanged, and a path is
            // appended to the general endpoint.
            endpoint: if full.is_empty() && !base.is_empty() {
                format!("{}/v1/traces", base.trim_end_matches('/'))
            } else {
                full
            },
            service: env.text("OTEL_SERVICE_NAME", service),
            sampling: Sampling::read(env),
            queue_max: usize::try_from(queue_max).unwrap_or(usize::MAX),
            batch_max: usize::try_from(batch_max.min(queue_max)).unwrap_or(usize::MAX),
            delay: Duration::from_millis(
                env.number("OTEL_BSP_SCHEDULE_DELAY", 1000, 1, 600_000).into(),
            ),
        };
        (is_selected && !is_disabled && !export.endpoint.is_empty()).then_some(export)
    }

    /// Starts the exporting thread, and returns the tracer that creates spans.
    pub(super) fn open(&self, instance: &str) -> Result<(Pipeline, SdkTracer), Error> {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_endpoint(&self.endpoint)
            .with_timeout(EXPORT_TIME_MAX)
            .build()
            .map_err(|source| Error { endpoint: self.endpoint.clone(), source })?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(self.queue_max)
            .with_max_export_batch_size(self.batch_max)
            .with_scheduled_delay(self.delay)
            .build();
        let monitored = MonitoredExporter {
            exporter,
            endpoint: self.endpoint.clone(),
            waiting: Arc::clone(&waiting),
            is_failing: AtomicBool::new(false),
        };
        let batches = BatchSpanProcessor::builder(monitored).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(self.sampling.sampler())
            .with_resource(self.resource(instance))
            .with_span_processor(BoundedProcessor { batches, waiting, queue_max: self.queue_max })
            .build();
        let tracer = provider.tracer("wordmill");
        Ok((Pipeline { provider: Some(provider) }, tracer))
    }

    fn resource(&self, instance: &str) -> Resource {
        let ours = [
            KeyValue::new("service.namespace", "wordmill"),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance.to_owned()),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ];
        // `OTEL_RESOURCE_ATTRIBUTES` is applied later, so it overrides these attributes.
        Resource::builder_empty()
            .with_attributes(ours)
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_service_name(self.service.clone())
            .build()
    }
}

/// Checks the scheme of an endpoint and that it names a host. The rest of the URL is not checked.
fn check_endpoint(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("must be an http URL such as http://127.0.0.1:4318; for TLS, run a collector \
                  next to the service"
            .to_owned()),
    }
}

/// Export of spans. `main` must call [`Pipeline::finish`] after the service has stopped.
#[derive(Debug)]
#[must_use]
pub struct Pipeline {
    provider: Option<SdkTracerProvider>,
}

impl Pipeline {
    /// Creates a pipeline that exports nothing.
    pub(super) fn none() -> Self {
        Self { provider: None }
    }

    /// Sends the remaining spans, for at most `FLUSH_TIME_MAX`. Spans that are not sent by then are
    /// lost.
    pub fn finish(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // The SDK does not enforce its own timeout while an export runs, so flush in a thread and
        // wait for it with a timeout.
        let (sender, done) = mpsc::channel();
        let flushing = std::thread::Builder::new().name("flush".to_owned()).spawn(move || {
            let _ = sender.send(provider.shutdown_with_timeout(FLUSH_TIME_MAX));
        });
        let flushed = flushing.is_ok() && done.recv_timeout(FLUSH_TIME_MAX).is_ok();
        let dropped = dropped_spans();
        if !flushed || dropped > 0 {
            warn!(flushed, dropped, "some spans were not exported before shutdown");
        }
    }
}

/// Limits the number of queued spans, and counts those that are dropped.
#[derive(Debug)]
struct BoundedProcessor {
    batches: BatchSpanProcessor,
    /// Number of spans that are queued or being sent.
    waiting: Arc<AtomicUsize>,
    queue_max: usize,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // The batch processor has the same limit, but does not report how many spans it drops.
        if self.waiting.fetch_add(1, Ordering::Relaxed) < self.queue_max {
            self.batches.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts the spans that the collector did not accept. Logs once when exports start to fail, and
/// once when they succeed again.
#[derive(Debug)]
struct MonitoredExporter<E> {
    exporter: E,
    endpoint: String,
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for MonitoredExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        // The spans leave the queue in either case: a failed export is not retried.
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let (endpoint, failed_before) =
            (&self.endpoint, self.is_failing.swap(result.is_err(), Ordering::Relaxed));
        match &result {
            Err(error) => {
                DROPPED.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
                if !failed_before {
                    warn!(
                        endpoint,
                        %error,
                        "cannot send spans; dropping them until the collector accepts them again"
                    );
                }
            }
            Ok(()) if failed_before => {
                info!(endpoint, dropped = dropped_spans(), "the collector accepts spans again");
            }
            Ok(()) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
