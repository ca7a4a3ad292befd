//! Metrics of the process from the operating system, under the names that the client libraries of
//! Prometheus use. Linux only; on other systems there are none.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Collector that reads the state of this process at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

#[cfg(not(target_os = "linux"))]
impl Collector for ProcessCollector {
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use std::fs;

        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        use prometheus_client::metrics::gauge::ConstGauge;
        use rustix::process::{Resource, getrlimit};
        use rustix::time::{ClockId, clock_gettime};

        let cpu_time = clock_gettime(ClockId::ProcessCPUTime);
        #[expect(clippy::cast_precision_loss, reason = "seconds of a process stay below 2^52")]
        let cpu_s = cpu_time.tv_sec as f64 + cpu_time.tv_nsec as f64 / 1e9;
        let cpu = ConstCounter::new(cpu_s);
        let help = "Total user and system CPU time in seconds";
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            cpu.metric_type(),
        )?)?;
        let mut gauge = |name, help, value: u64| {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let kind = gauge.metric_type();
            gauge.encode(encoder.encode_descriptor(name, help, None, kind)?)
        };
        // Without `/proc`, only the CPU time and the limit of open files are reported.
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if let Some(resident_kib) = parse_field(&status, "VmRSS:") {
            gauge(
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
                resident_kib << 10,
            )?;
        }
        if let Some(threads) = parse_field(&status, "Threads:") {
            gauge("process_threads", "Number of threads", threads)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // The count includes the descriptor of the directory itself.
            let count = u64::try_from(open.count().saturating_sub(1)).unwrap_or(u64::MAX);
            gauge("process_open_fds", "Number of open file descriptors", count)?;
        }
        if let Some(max) = getrlimit(Resource::Nofile).current {
            gauge("process_max_fds", "Maximum number of open file descriptors", max)?;
        }
        Ok(())
    }
}

/// Returns the first number after `name` in the text of `/proc/self/status`. Memory sizes are in
/// KiB.
#[cfg(target_os = "linux")]
fn parse_field(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}
