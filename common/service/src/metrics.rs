//! Metrics that both services have, and the registry for the metrics of each service.
//!
//! A service creates a [`Catalogue`], registers its metrics, and serves the [`Exposition`] at
//! `/metrics`. The names are stable: `docs/metrics.md` lists all of them, and a test compares the
//! list with running services. Label values are from fixed sets and never contain an id, an owner
//! or a URL.

mod process;
mod telemetry;
mod text;

use std::hash::Hash;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, EncodeMetric, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use wordmill_common::id::Lane;
use wordmill_common::job::{Job, Status};
use wordmill_common::trace_context::{TraceId, TraceParent};

/// Buckets for the time that a client waits for a response, in seconds.
pub const RESPONSE_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets for the durations of a job, in seconds: from a text that is counted immediately to a
/// backlog of hours.
pub const JOB_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0,
    3600.0, 14400.0,
];
/// Buckets for sizes of documents, in bytes: 1 KiB to 256 MiB, each four times the previous one.
pub const DOCUMENT_BYTES: &[f64] = &[
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];

/// Counters by label set.
pub type Counters<L> = Family<L, Counter>;
/// Gauges by label set.
pub type Gauges<L> = Family<L, Gauge>;

/// Histograms by label set, with exemplars that link to traces.
#[derive(Debug, Clone)]
pub struct Distributions<L: Clone + Hash + Eq> {
    family: Family<L, HistogramWithExemplars<TraceLink>, Buckets>,
}

impl<L: Clone + Hash + Eq> Distributions<L> {
    /// Records a value, with the trace that it belongs to.
    pub fn observe(&self, labels: &L, value: f64, trace: Option<TraceLink>) {
        let now = trace.is_some().then(SystemTime::now);
        self.family.get_or_create(labels).observe(value, trace, now);
    }

    /// Records a duration, in seconds.
    pub fn observe_duration(&self, labels: &L, time: Duration, trace: Option<TraceLink>) {
        self.observe(labels, time.as_secs_f64(), trace);
    }
}

/// Upper bounds of the buckets of a histogram.
#[derive(Debug, Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<HistogramWithExemplars<TraceLink>> for Buckets {
    fn new_metric(&self) -> HistogramWithExemplars<TraceLink> {
        HistogramWithExemplars::new(self.0.iter().copied())
    }
}

/// Exemplar of a bucket: the trace of a value, `{trace_id="..."}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLink(TraceId);

impl TraceLink {
    /// Returns a link to a trace, or `None` if the trace is not recorded.
    #[must_use]
    pub fn to(trace: &TraceParent) -> Option<Self> {
        (trace.flags & 1 == 1).then_some(Self(trace.trace_id))
    }
}

impl EncodeLabelSet for TraceLink {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("trace_id", self.0.to_string()).encode(encoder.encode_label())
    }
}

/// The label `lane`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LaneLabel {
    /// `interactive` or `bulk`.
    lane: &'static str,
}

impl LaneLabel {
    /// Returns the label of a lane.
    #[must_use]
    pub fn of(lane: Lane) -> Self {
        Self { lane: lane.as_str() }
    }
}

/// Labels of a job that became final.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FinishedJobLabels {
    /// `interactive` or `bulk`.
    lane: &'static str,
    /// `succeeded`, `failed`, `dead_lettered` or `cancelled`.
    outcome: &'static str,
    /// Code of the failure; absent for other outcomes.
    code: Option<&'static str>,
}

/// Registry of the metrics of a service.
#[derive(Debug)]
pub struct Catalogue {
    registry: Registry,
}

impl Catalogue {
    /// Creates the catalogue of a service, with the metrics of its process.
    #[must_use]
    pub fn new(service: &'static str, version: &'static str) -> Self {
        let mut catalogue = Self { registry: Registry::default() };
        let build = Info::new([("service", service), ("version", version)]);
        catalogue.registry.register(
            "wordmill_build",
            "Always 1; the labels name the service and its version",
            build,
        );
        catalogue.collect(process::ProcessCollector);
        catalogue.collect(telemetry::TelemetryCollector);
        catalogue
    }

    /// Registers counters. The encoder adds `_total` to the name.
    pub fn counters<L: Label>(&mut self, name: &str, help: &str) -> Counters<L> {
        self.add(name, help, Counters::default())
    }

    /// Registers gauges.
    pub fn gauges<L: Label>(&mut self, name: &str, help: &str) -> Gauges<L> {
        self.add(name, help, Gauges::default())
    }

    /// Registers a gauge without labels.
    pub fn gauge(&mut self, name: &str, help: &str) -> Gauge {
        self.add(name, help, Gauge::default())
    }

    /// Registers histograms.
    pub fn distributions<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        buckets: &'static [f64],
    ) -> Distributions<L> {
        let family = Family::new_with_constructor(Buckets(buckets));
        Distributions { family: self.add(name, help, family) }
    }

    /// Registers a collector, which computes its metrics at each scrape.
    pub fn collect(&mut self, collector: impl Collector) {
        self.registry.register_collector(Box::new(collector));
    }

    /// Finishes the catalogue.
    #[must_use]
    pub fn finish(self) -> Exposition {
        Exposition { registry: self.registry }
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.registry.register(name, help, metric.clone());
        metric
    }
}

/// Requirements for a label set.
pub trait Label:
    Clone + Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static
{
}

impl<L: Clone + Hash + Eq + EncodeLabelSet + std::fmt::Debug + Send + Sync + 'static> Label for L {}

/// Metrics that both services have.
#[derive(Debug, Clone)]
pub struct CommonMetrics {
    broker_connected: Gauge,
    jobs_finished: Counters<FinishedJobLabels>,
    job_duration: Distributions<FinishedJobLabels>,
}

impl CommonMetrics {
    /// Registers the metrics.
    #[must_use]
    pub fn new(catalogue: &mut Catalogue) -> Self {
        Self {
            broker_connected: catalogue.gauge(
                "wordmill_broker_connected",
                "Whether the process is connected to the broker: 1 or 0",
            ),
            jobs_finished: catalogue.counters(
                "wordmill_jobs_finished",
                "Jobs that became final, counted by the process that wrote the final record",
            ),
            job_duration: catalogue.distributions(
                "wordmill_job_duration_seconds",
                "Time from the submission of a job until it was final, including waits and retries",
                JOB_SECONDS,
            ),
        }
    }

    /// Records whether the process is connected to the broker.
    pub fn set_broker_connected(&self, is_connected: bool) {
        self.broker_connected.set(i64::from(is_connected));
    }

    /// Records that a job has just become final. The process that wrote the final record calls it.
    pub fn record_finished_job(&self, job: &Job, trace: Option<TraceLink>) {
        // A dead-lettered job also has the status `failed`. Operators need to see the two apart.
        let outcome = if job.dead_lettered { "dead_lettered" } else { job.status.as_str() };
        let code = job.failure.as_ref().filter(|_| job.status == Status::Failed);
        let code = code.map(|failure| failure.code.label());
        let labels = FinishedJobLabels { lane: job.lane.as_str(), outcome, code };
        self.jobs_finished.get_or_create(&labels).inc();
        if let Some(finished_at) = job.finished_at {
            let took = finished_at.duration_since(job.created_at);
            // The timestamps come from the clocks of two hosts, so the difference may be negative.
            let took = Duration::try_from(took).unwrap_or_default();
            self.job_duration.observe_duration(&labels, took, trace);
        }
    }
}

/// All metrics of a service, ready to be rendered.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
}

/// Response to a scrape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsText {
    /// Value of the header `Content-Type`.
    pub content_type: &'static str,
    /// Body of the response.
    pub body: String,
}

impl Exposition {
    /// Renders all metrics in a format that the `Accept` header of the request allows:
    /// `OpenMetrics`, which supports exemplars, if the header names it, otherwise the older
    /// Prometheus text format.
    #[must_use]
    pub fn render(&self, accept: Option<&str>) -> MetricsText {
        let mut body = String::new();
        // Writing to a string cannot fail, and neither can the registered metrics.
        let written = prometheus_client::encoding::text::encode(&mut body, &self.registry);
        debug_assert!(written.is_ok());
        if text::wants_open_metrics(accept) {
            MetricsText { content_type: text::OPEN_METRICS, body }
        } else {
            MetricsText { content_type: text::TEXT_FORMAT, body: text::to_text_format(&body) }
        }
    }
}

/// Writes a gauge with one value per label set, for use in a [`Collector`].
///
/// # Errors
/// Those of the encoder.
pub fn encode_gauges<L: EncodeLabelSet>(
    encoder: &mut prometheus_client::encoding::DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, f64)>,
) -> Result<(), std::fmt::Error> {
    use prometheus_client::metrics::MetricType;
    use prometheus_client::metrics::gauge::ConstGauge;
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposition() -> Exposition {
        let mut catalogue = Catalogue::new("test", "1.2.3");
        let counters = catalogue.counters("wordmill_things", "Things");
        counters.get_or_create(&LaneLabel::of(Lane::Bulk)).inc_by(3);
        let times = catalogue.distributions("wordmill_time_seconds", "Time", &[0.1, 1.0]);
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        times.observe(&LaneLabel::of(Lane::Bulk), 0.5, TraceLink::to(&trace));
        let unrecorded = TraceParent { flags: 0, ..trace };
        times.observe(&LaneLabel::of(Lane::Bulk), 0.05, TraceLink::to(&unrecorded));
        catalogue.finish()
    }

    #[test]
    fn exemplars_name_recorded_traces() {
        let render = exposition().render(Some("application/openmetrics-text;version=1.0.0"));
        assert!(render.content_type.starts_with("application/openmetrics-text"));
        let bucket = |le| {
            let begin = format!(r#"wordmill_time_seconds_bucket{{le="{le}",lane="bulk"}}"#);
            render.body.lines().find(|line| line.starts_with(&begin)).unwrap().to_owned()
        };
        let link = r##" # {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.5 "##;
        assert!(bucket("1.0").contains(link), "{}", render.body);
        assert!(!bucket("0.1").contains('#'), "{}", render.body);
        assert!(render.body.ends_with("# EOF\n"));
    }

    #[test]
    fn the_text_format_has_the_same_values() {
        let render = exposition().render(None);
        assert_eq!(render.content_type, "text/plain; version=0.0.4; charset=utf-8");
        for line in [
            "# TYPE wordmill_things_total counter",
            r#"wordmill_things_total{lane="bulk"} 3"#,
            "# TYPE wordmill_time_seconds histogram",
            r#"wordmill_time_seconds_bucket{le="1.0",lane="bulk"} 2"#,
            "# TYPE wordmill_build_info gauge",
            r#"wordmill_build_info{service="test",version="1.2.3"} 1"#,
        ] {
            assert!(
                render.body.lines().any(|rendered| rendered == line),
                "no {line} in {}",
                render.body
            );
        }
        assert!(
            !render.body.contains("EOF") && !render.body.contains("trace_id"),
            "{}",
            render.body
        );
    }
}
