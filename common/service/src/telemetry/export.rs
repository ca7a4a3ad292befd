//! Where spans go: over a bounded queue to a thread that encodes and sends them.
//!
//! Nothing here makes anybody wait. A queue that is full drops spans and counts them, a collector
//! that is away, hangs or refuses costs spans, and at the end there is a deadline.

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

/// Longest time for one export. A collector that hangs holds up the queue for as long.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(3);
/// Longest time that the end of the process waits for the last spans to be sent.
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

/// Spans that were lost: no room in the queue, or not taken by the collector.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns how many spans this process has lost so far, because the queue to the collector was full
/// or the collector did not take them.
#[must_use]
pub fn dropped_spans() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The exporter cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot send traces to {endpoint}: {source}")]
pub struct Error {
    endpoint: String,
    source: ExporterBuildError,
}

/// What is sent, where to, and in which portions.
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
    /// Reads the settings; `None` if spans have nowhere to go.
    pub(super) fn read(env: &mut Env, service: &'static str) -> Option<Self> {
        let base = env.read("OTEL_EXPORTER_OTLP_ENDPOINT", String::new(), endpoint);
        let full = env.read("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", String::new(), endpoint);
        let _: String =
            env.read("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".to_owned(), |name| {
                let reason = "only http/protobuf is spoken, which collectors serve on port 4318";
                (name == "http/protobuf").then(|| name.to_owned()).ok_or_else(|| reason.to_owned())
            });
        let is_disabled = env.read("OTEL_SDK_DISABLED", false, |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("neither true nor false".to_owned()),
        });
        let is_wanted = env.read("OTEL_TRACES_EXPORTER", "otlp".to_owned(), |text| match text {
            "otlp" | "none" => Ok(text.to_owned()),
            _ => Err("neither otlp nor none".to_owned()),
        }) == "otlp";
        let queue_max = env.number("OTEL_BSP_MAX_QUEUE_SIZE", 8192, 1, 1 << 20);
        let batch_max = env.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 1024, 1, 1 << 20);
        let export = Self {
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
        (is_wanted && !is_disabled && !export.endpoint.is_empty()).then_some(export)
    }

    /// Starts the thread that sends, and returns what makes spans.
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
        let watched = MonitoredExporter {
            exporter,
            endpoint: self.endpoint.clone(),
            waiting: Arc::clone(&waiting),
            fails: AtomicBool::new(false),
        };
        let batches = BatchSpanProcessor::builder(watched).with_batch_config(config).build();
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
        // OTEL_RESOURCE_ATTRIBUTES comes later and so replaces what is the same.
        Resource::builder_empty()
            .with_attributes(ours)
            .with_detector(Box::new(EnvResourceDetector::new()))
            .with_service_name(self.service.clone())
            .build()
    }
}

/// Checks an address; the rest of the URL is the collector's business.
fn endpoint(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(host) if !host.is_empty() => Ok(text.to_owned()),
        _ => Err("not a URL such as http://127.0.0.1:4318; TLS needs a collector beside the \
                  service"
            .to_owned()),
    }
}

/// Spans on their way. Finished by `main` when the service has ended.
#[derive(Debug)]
#[must_use]
pub struct Pipeline {
    provider: Option<SdkTracerProvider>,
}

impl Pipeline {
    /// Returns a pipeline for no spans.
    pub(super) fn none() -> Self {
        Self { provider: None }
    }

    /// Sends what is left, for at most 2 s. The rest is lost.
    pub fn finish(self) {
        let Some(provider) = self.provider else {
            return;
        };
        // The SDK's own limit does not hold while an export is under way.
        let (sender, done) = mpsc::channel();
        let flushing = std::thread::Builder::new().name("flush".to_owned()).spawn(move || {
            let _ = sender.send(provider.shutdown_with_timeout(FLUSH_TIME_MAX));
        });
        let flushed = flushing.is_ok() && done.recv_timeout(FLUSH_TIME_MAX).is_ok();
        let dropped = dropped_spans();
        if !flushed || dropped > 0 {
            warn!(flushed, dropped, "not all spans reached the collector");
        }
    }
}

/// Lets no more spans wait than there is room for, and counts those that find none.
#[derive(Debug)]
struct BoundedProcessor {
    batches: BatchSpanProcessor,
    /// Spans that are queued or being sent.
    waiting: Arc<AtomicUsize>,
    queue_max: usize,
}

impl SpanProcessor for BoundedProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // The processor behind has the same bound, but tells nobody how much it drops.
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

/// Counts what the collector did not take, and says so once when that begins and when it ends.
#[derive(Debug)]
struct MonitoredExporter<E> {
    exporter: E,
    endpoint: String,
    waiting: Arc<AtomicUsize>,
    fails: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for MonitoredExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = self.exporter.export(batch).await;
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let (endpoint, failed_before) =
            (&self.endpoint, self.fails.swap(result.is_err(), Ordering::Relaxed));
        match &result {
            Err(error) => {
                DROPPED.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
                if !failed_before {
                    warn!(endpoint, %error, "spans cannot be sent; they are dropped meanwhile");
                }
            }
            Ok(()) if failed_before => {
                info!(endpoint, dropped = dropped_spans(), "spans are sent again");
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
