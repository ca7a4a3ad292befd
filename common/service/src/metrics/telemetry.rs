//! What telemetry says about itself.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use crate::telemetry::dropped_spans;

/// Asks the exporter of spans whenever it is asked.
#[derive(Debug)]
pub(super) struct TelemetryCollector;

impl Collector for TelemetryCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let dropped = ConstCounter::new(dropped_spans());
        let help = "Spans that were dropped because they could not be sent in time";
        let kind = dropped.metric_type();
        dropped.encode(encoder.encode_descriptor(
            "wordmill_telemetry_dropped_spans",
            help,
            None,
            kind,
        )?)
    }
}
