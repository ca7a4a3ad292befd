//! Metrics of the telemetry itself.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::telemetry::dropped_spans;

/// Collector that reads the number of dropped spans at each scrape.
#[derive(Debug)]
pub(super) struct TelemetryCollector;

impl Collector for TelemetryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let dropped = ConstCounter::new(dropped_spans());
        let help = "Spans dropped because the queue was full or the collector did not accept them";
        let kind = dropped.metric_type();
        dropped.encode(encoder.encode_descriptor(
            "wordmill_telemetry_dropped_spans",
            help,
            None,
            kind,
        )?)
    }
}
