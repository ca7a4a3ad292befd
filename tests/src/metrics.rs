//! Metrics of the services, in the text format of Prometheus.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::Client;

/// One scrape of `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Type of each metric, by name.
    pub types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Fetches the metrics of a service in the text format 0.0.4.
    pub fn fetch(client: &Client) -> Self {
        let answer = client.get("/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::parse(&answer.text)
    }

    /// Parses the text format 0.0.4.
    ///
    /// # Panics
    /// If a line is invalid, or the type of a metric appears twice.
    pub fn parse(text: &str) -> Self {
        let mut metrics = Self::default();
        for line in text.lines() {
            if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').expect("a name and a type");
                let before = metrics.types.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} twice");
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                metrics.samples.push(Sample {
                    name: name.to_owned(),
                    labels: parse_labels(labels.strip_suffix('}').expect("the labels' end")),
                    value: value.parse().expect("a number"),
                });
            }
        }
        metrics
    }

    /// Returns the sum of all series with this name and these labels, or `None` if no series
    /// matches. Series may have further labels. An empty value matches a missing label.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let has = |sample: &&Sample| {
            let matches = |(label, value): &(&str, &str)| {
                sample.labels.get(*label).map_or("", String::as_str) == *value
            };
            sample.name == name && labels.iter().all(matches)
        };
        let values: Vec<f64> = self.samples.iter().filter(has).map(|sample| sample.value).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Returns the label names of a metric, without `le`.
    pub fn labels(&self, name: &str) -> BTreeSet<String> {
        let is_of = |sample: &&Sample| {
            let rest = sample.name.strip_prefix(name);
            rest.is_some_and(|rest| matches!(rest, "" | "_bucket" | "_sum" | "_count"))
        };
        let labels = self.samples.iter().filter(is_of).flat_map(|sample| sample.labels.keys());
        labels.filter(|label| *label != "le").cloned().collect()
    }

    /// Returns the values of all labels.
    pub fn label_values(&self) -> BTreeSet<&str> {
        self.samples.iter().flat_map(|sample| sample.labels.values()).map(String::as_str).collect()
    }
}

/// Parses `name="value",name="value"`. Values must not contain quotes or commas.
fn parse_labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (name, value) = label.split_once('=').expect("a label");
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}
