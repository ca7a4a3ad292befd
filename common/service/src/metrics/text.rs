//! Text formats of metrics.

/// Media type of `OpenMetrics`, which supports exemplars.
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Media type of the older Prometheus text format, which every scraper can parse.
pub(super) const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns whether an `Accept` header names `OpenMetrics` with a weight above 0.
pub(super) fn wants_open_metrics(accept: Option<&str>) -> bool {
    accept.unwrap_or_default().split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts
            .next()
            .is_some_and(|media| media.eq_ignore_ascii_case("application/openmetrics-text"));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_named && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
    })
}

/// Converts `OpenMetrics` text to the older format. There, the names of counters and infos have
/// their suffix in every line, an info is a gauge, and exemplars do not exist.
pub(super) fn to_text_format(open_metrics: &str) -> String {
    let mut plain = String::with_capacity(open_metrics.len());
    let mut help = "";
    for line in open_metrics.lines() {
        if line.starts_with("# HELP ") {
            // The suffix depends on the type, which the next line contains.
            help = line;
            continue;
        }
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap_or((typed, "untyped"));
            let (ending, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            let text = help.strip_prefix("# HELP ").and_then(|help| help.strip_prefix(name));
            let text = text.unwrap_or_default();
            plain.push_str(&format!("# HELP {name}{ending}{text}\n"));
            plain.push_str(&format!("# TYPE {name}{ending} {kind}\n"));
        } else if !line.starts_with('#') {
            // An exemplar follows the sample: `name 1 # {trace_id="..."} 0.5`.
            plain.push_str(line.split_once(" # {").map_or(line, |(sample, _)| sample));
            plain.push('\n');
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_sent_only_if_accepted() {
        for (accept, expected) in [
            (None, false),
            (Some("*/*"), false),
            (Some("text/plain"), false),
            (Some("application/openmetrics-text"), true),
            (Some("application/openmetrics-text; version=1.0.0;q=0"), false),
            (Some("text/html, application/OpenMetrics-text;version=0.0.1;q=0.75"), true),
            // As Prometheus 2 and 3 send it.
            (
                Some(
                    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                     version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                ),
                true,
            ),
            (
                Some(
                    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                     text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                ),
                true,
            ),
        ] {
            assert_eq!(wants_open_metrics(accept), expected, "{accept:?}");
        }
    }
}
