//! Export of spans: a bounded queue, and a thread that encodes and sends them.
//!
//! Export never blocks the service. A full queue drops spans and counts them. If the collector is
//! unreachable, hangs or refuses spans, only these spans are lost. The flush at shutdown has a
//! deadline.

mod client;
mod key_values;
mod resource;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Compression, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use tracing::{info, warn};

pub(super) use self::settings::Export;

use self::client::Client;
use self::settings::ENDPOINT;
use crate::env::{SettingWarning, redact_url};

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

impl Export {
    /// Starts the exporting thread, and returns the tracer that creates spans.
    ///
    /// # Errors
    /// [`SettingWarning`] about a setting that prevents the export.
    pub(super) fn open(&self, instance: &str) -> Result<(Pipeline, SdkTracer), SettingWarning> {
        let client = Client::new(&self.endpoint, self.headers.clone(), &self.tls, self.timeout)?;
        let builder = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(self.endpoint.as_str())
            .with_timeout(self.timeout);
        // Without gzip, the builder reads the environment, with the same result.
        let builder =
            if self.is_compressed { builder.with_compression(Compression::Gzip) } else { builder };
        let exporter = builder.build().map_err(|error| SettingWarning {
            variable: ENDPOINT,
            value: redact_url(self.endpoint.as_str()),
            reason: format!("{error}; spans are not exported"),
        })?;
        let waiting = Arc::new(AtomicUsize::new(0));
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(self.queue_max)
            .with_max_export_batch_size(self.batch_max)
            .with_scheduled_delay(self.delay)
            .build();
        let monitored = MonitoredExporter {
            exporter,
            client,
            endpoint: redact_url(self.endpoint.as_str()),
            waiting: Arc::clone(&waiting),
            is_failing: AtomicBool::new(false),
        };
        let batches = BatchSpanProcessor::builder(monitored).with_batch_config(config).build();
        let provider = SdkTracerProvider::builder()
            .with_sampler(self.sampling.sampler())
            .with_resource(self.resource.build(instance))
            .with_span_processor(BoundedProcessor { batches, waiting, queue_max: self.queue_max })
            .build();
        let tracer = provider.tracer("wordmill");
        Ok((Pipeline { provider: Some(provider) }, tracer))
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
    client: Client,
    /// The endpoint, as shown in the log.
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
                let cause = self.client.take_error().unwrap_or_else(|| error.to_string());
                if !failed_before {
                    warn!(
                        endpoint,
                        error = cause,
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
