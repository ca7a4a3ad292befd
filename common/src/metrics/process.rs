//! What the operating system says about the process, under the names that Prometheus' own
//! libraries use. Linux only; elsewhere nothing is said.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Looks at this process whenever it is asked.
#[derive(Debug)]
pub(super) struct OfProcess;

#[cfg(not(target_os = "linux"))]
impl Collector for OfProcess {
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        Ok(())
    }
}

#[cfg(target_os = "linux")]
impl Collector for OfProcess {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::counter::ConstCounter;
        use prometheus_client::metrics::gauge::ConstGauge;

        // What cannot be read is not said; a process without /proc works all the same.
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        let Ok(stat) = process.stat() else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "ticks of a process stay far below 2^52")]
        let cpu_s = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        let cpu = ConstCounter::new(cpu_s);
        let help = "Time on processors, in user and in system mode";
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
        let resident = stat.rss.saturating_mul(procfs::page_size());
        gauge("process_resident_memory_bytes", "Memory in use", resident)?;
        gauge("process_threads", "Threads", u64::try_from(stat.num_threads).unwrap_or_default())?;
        if let Ok(count) = process.fd_count() {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            gauge("process_open_fds", "Open files and connections", count)?;
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            gauge("process_max_fds", "Most files and connections that may be open", most)?;
        }
        Ok(())
    }
}
