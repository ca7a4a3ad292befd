//! Metrics: each one is documented and has the correct value.

use std::collections::{BTreeMap, BTreeSet};

use wordmill_tests::client::Client;
use wordmill_tests::metrics::Metrics;
use wordmill_tests::mixed::{self, SETTINGS, TRACE};
use wordmill_tests::stack::{Stack, Worker};
use wordmill_tests::{LIMIT, repository, wait_for};

/// A row of the tables of `docs/metrics.md`.
#[derive(Debug)]
struct DocumentedMetric {
    kind: String,
    labels: BTreeSet<String>,
    by_gateway: bool,
    by_worker: bool,
}

fn documented_metrics() -> BTreeMap<String, DocumentedMetric> {
    let page = std::fs::read_to_string(repository().join("docs/metrics.md")).expect("the page");
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows = page.lines().filter_map(|line| {
        let row = line.strip_prefix('|').filter(|row| row.starts_with(" `"))?;
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        assert!(cells.len() == 5, "name, type, labels, reported by, meaning: {line}");
        let row = DocumentedMetric {
            kind: cells[1].to_owned(),
            labels: quoted(cells[2]),
            by_gateway: cells[3].contains("gateway"),
            by_worker: cells[3].contains("worker"),
        };
        Some((cells[0].trim_matches('`').to_owned(), row))
    });
    let rows: BTreeMap<_, _> = rows.collect();
    assert!(rows.len() > 20, "{rows:?}");
    rows
}

/// Asserts that a service has exactly its documented metrics.
fn assert_documented(
    metrics: &Metrics,
    documented: &BTreeMap<String, DocumentedMetric>,
    is_shown: impl Fn(&DocumentedMetric) -> bool,
) {
    let of_page = documented.iter().filter(|(_, row)| is_shown(row));
    let of_page = of_page.map(|(name, row)| (name.clone(), (row.kind.clone(), row.labels.clone())));
    let shown = metrics.types.iter();
    let shown = shown.map(|(name, kind)| (name.clone(), (kind.clone(), metrics.labels(name))));
    let (of_page, shown): (BTreeMap<_, _>, BTreeMap<_, _>) = (of_page.collect(), shown.collect());
    for (name, row) in &of_page {
        assert_eq!(shown.get(name), Some(row), "{name} differs from its documentation");
    }
    for name in shown.keys() {
        assert!(of_page.contains_key(name), "{name} is not documented");
    }
}

/// Waits until a metric of a service has a value.
fn wait_for_value(client: &Client, name: &str, labels: &[(&str, &str)], value: f64) {
    let mut last = None;
    let condition_name = format!("{name} {labels:?} is {value}");
    wait_for(&condition_name, LIMIT, || {
        let now = Metrics::fetch(client).sum(name, labels);
        if last != now {
            eprintln!("{name} {labels:?}: {now:?}");
            last = now;
        }
        (now == Some(value)).then_some(())
    });
}

#[test]
fn every_metric_is_documented_and_correct() {
    let mut stack = Stack::with(1, 0, SETTINGS);
    let gateway = stack.client().clone();
    let mut jobs = mixed::submit_queued_jobs(&stack);

    // Without a worker.
    let lost = [("lane", "bulk"), ("outcome", "failed"), ("code", "lost")];
    wait_for_value(&gateway, "wordmill_jobs_finished_total", &lost, 1.0);
    let swept = [("action", "cancelled_message")];
    wait_for_value(&gateway, "wordmill_sweeper_actions_total", &swept, 1.0);
    wait_for_value(&gateway, "wordmill_jobs_waiting", &[("lane", "interactive")], 2.0);
    wait_for_value(&gateway, "wordmill_jobs_waiting", &[("lane", "bulk")], 1.0);
    assert_eq!(Metrics::fetch(&gateway).sum("wordmill_queue_depth", &[]), Some(3.0));
    let metrics = Metrics::fetch(&gateway);
    for lane in ["interactive", "bulk"] {
        let number = |name| metrics.sum(name, &[("lane", lane)]).expect("a number");
        assert!((3.0..60.0).contains(&number("wordmill_queue_oldest_age_seconds")), "{lane}");
        assert_eq!(number("wordmill_jobs_in_flight"), 0.0, "{lane}");
        assert_eq!(number("wordmill_dead_letters"), 0.0, "{lane}");
    }
    let age = metrics.sum("wordmill_oldest_unfinished_job_age_seconds", &[]).expect("an age");
    assert!((3.0..60.0).contains(&age), "{age}");
    assert_eq!(metrics.sum("wordmill_sweeper_active", &[]), Some(1.0));

    // With a worker.
    stack.workers.push(Worker::start(&stack.nats.address(), SETTINGS));
    let worker = stack.workers[0].health.clone();
    for job in &jobs {
        assert_eq!(gateway.wait_until_final(job, LIMIT)["status"], "succeeded");
    }
    jobs.extend(mixed::run_mixed_jobs(&gateway));
    wait_for_value(&gateway, "wordmill_dead_letters", &[("lane", "interactive")], 1.0);
    wait_for_value(&gateway, "wordmill_jobs_in_flight", &[("lane", "interactive")], 0.0);
    wait_for_value(&worker, "wordmill_worker_slots_busy", &[("lane", "interactive")], 0.0);
    let of_gateway = Metrics::fetch(&gateway);
    let of_worker = Metrics::fetch(&worker);
    let documented = documented_metrics();
    assert_documented(&of_gateway, &documented, |row| row.by_gateway);
    assert_documented(&of_worker, &documented, |row| row.by_worker);
    assert_mixed_load_is_counted(&of_gateway, &of_worker);

    for metrics in [&of_gateway, &of_worker] {
        for value in metrics.label_values() {
            assert!(!jobs.iter().any(|job| value.contains(job.as_str())), "{value}");
            assert!(!value.contains("127.0.0.1") && value != "public", "{value}");
        }
    }
    // The only request for a result, so that no other exemplar replaces its trace.
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let path = format!("/v1/jobs/{}/result", jobs[0]);
    assert_eq!(gateway.send("GET", &path, &[("traceparent", &traceparent)], &[]).status, 200);
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1")];
    for client in [&gateway, &worker] {
        let answer = client.send("GET", "/metrics", &accept, &[]);
        let kind = answer.header("content-type");
        assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
        assert!(answer.text.contains(&format!("# {{trace_id=\"{TRACE}\"}}")), "{}", answer.text);
    }
}

/// Name, labels and value of a sample.
type Sample<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Asserts the metrics after the mixed load.
fn assert_mixed_load_is_counted(gateway: &Metrics, worker: &Metrics) {
    const INTERACTIVE: (&str, &str) = ("lane", "interactive");
    const BULK: (&str, &str) = ("lane", "bulk");
    let accepted = "wordmill_jobs_submitted_total";
    let finished = "wordmill_jobs_finished_total";
    let attempts = "wordmill_attempts_total";
    let of_gateway: &[Sample<'_>] = &[
        (accepted, &[INTERACTIVE, ("outcome", "accepted")], 6.0),
        (accepted, &[INTERACTIVE, ("outcome", "repeated")], 1.0),
        (accepted, &[BULK, ("outcome", "accepted")], 3.0),
        (finished, &[BULK, ("outcome", "cancelled"), ("code", "")], 1.0),
        ("wordmill_sweeper_actions_total", &[("action", "lost")], 1.0),
        ("wordmill_problems_total", &[("code", "job_not_found")], 1.0),
        ("wordmill_jobs_waiting", &[INTERACTIVE], 0.0),
        ("wordmill_queue_depth", &[], 0.0),
        ("wordmill_jobs_waiting_for_retry", &[], 0.0),
        ("wordmill_dead_letters", &[BULK], 0.0),
        ("wordmill_queue_oldest_age_seconds", &[INTERACTIVE], 0.0),
        ("wordmill_broker_connected", &[], 1.0),
        (
            "http_server_request_duration_seconds_count",
            &[
                ("http_request_method", "POST"),
                ("http_route", "/v1/jobs"),
                ("http_response_status_code", "202"),
            ],
            9.0,
        ),
        (
            "http_server_request_duration_seconds_count",
            &[("http_route", "/v1/jobs/{id}"), ("http_response_status_code", "404")],
            1.0,
        ),
        ("wordmill_broker_request_duration_seconds_count", &[("operation", "publish")], 9.0),
    ];
    let of_worker: &[Sample<'_>] = &[
        (finished, &[INTERACTIVE, ("outcome", "succeeded"), ("code", "")], 4.0),
        (finished, &[BULK, ("outcome", "succeeded")], 1.0),
        (finished, &[("outcome", "failed"), ("code", "fetch_http_4xx")], 1.0),
        (finished, &[("outcome", "dead_lettered"), ("code", "fetch_http_5xx")], 1.0),
        (finished, &[], 7.0),
        (attempts, &[INTERACTIVE, ("outcome", "succeeded")], 4.0),
        (attempts, &[("outcome", "failed"), ("code", "fetch_http_4xx")], 1.0),
        (attempts, &[("outcome", "failed"), ("code", "fetch_http_5xx")], 3.0),
        ("wordmill_retries_total", &[INTERACTIVE, ("code", "fetch_http_5xx")], 2.0),
        ("wordmill_deliveries_total", &[INTERACTIVE], 8.0),
        ("wordmill_redeliveries_total", &[INTERACTIVE], 2.0),
        ("wordmill_deliveries_total", &[BULK], 1.0),
        ("wordmill_redeliveries_total", &[BULK], 0.0),
        ("wordmill_job_queue_wait_seconds_count", &[INTERACTIVE], 6.0),
        ("wordmill_attempt_duration_seconds_count", &[("source", "text")], 4.0),
        ("wordmill_attempt_duration_seconds_count", &[("source", "url")], 5.0),
        ("wordmill_fetch_duration_seconds_count", &[("outcome", "complete")], 1.0),
        ("wordmill_fetch_duration_seconds_count", &[("outcome", "fetch_http_5xx")], 3.0),
        ("wordmill_fetch_size_bytes_sum", &[("measure", "wire")], 6.0),
        ("wordmill_fetch_size_bytes_sum", &[("measure", "decoded")], 6.0),
        ("wordmill_worker_slots", &[], 64.0),
        ("wordmill_broker_connected", &[], 1.0),
    ];
    for (metrics, expected) in [(gateway, of_gateway), (worker, of_worker)] {
        for (name, labels, value) in expected {
            assert_eq!(metrics.sum(name, labels), Some(*value), "{name} {labels:?}");
        }
    }
    // Two jobs waited for a worker, each at least as long as the sweeper's grace period of 3 s.
    let waited = worker.sum("wordmill_job_queue_wait_seconds_sum", &[INTERACTIVE]);
    assert!(waited.is_some_and(|waited| waited > 6.0), "{waited:?}");
    let memory = worker.sum("process_resident_memory_bytes", &[]).expect("memory");
    assert!((1e6..1e10).contains(&memory), "{memory}");
}

#[test]
fn queue_metrics_are_omitted_without_a_broker() {
    let mut stack = Stack::with(1, 1, &[]);
    let gateway = stack.client().clone();
    let worker = stack.workers[0].health.clone();
    wait_for_value(&gateway, "wordmill_jobs_waiting", &[("lane", "bulk")], 0.0);
    stack.nats.process.kill();
    for client in [&gateway, &worker] {
        wait_for_value(client, "wordmill_broker_connected", &[], 0.0);
    }
    wait_for("the metrics of the queue are omitted", LIMIT, || {
        let metrics = Metrics::fetch(&gateway);
        let of_broker = [
            "wordmill_jobs_waiting",
            "wordmill_queue_oldest_age_seconds",
            "wordmill_queue_fill_ratio",
            "wordmill_jobs_in_flight",
            "wordmill_dead_letters",
        ];
        of_broker.iter().all(|name| metrics.sum(name, &[]).is_none()).then_some(())
    });
    assert!(Metrics::fetch(&gateway).sum("process_open_fds", &[]).is_some());
    stack.nats.restart();
    wait_for_value(&gateway, "wordmill_jobs_waiting", &[("lane", "bulk")], 0.0);
}

#[test]
fn unknown_methods_and_paths_create_no_series() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    for number in 0..20 {
        let method = format!("FETCH{number}");
        let path = format!("/nowhere/{number}");
        assert_eq!(client.send(&method, &path, &[], &[]).status, 404);
        assert_eq!(client.send(&method, "/v1/jobs", &[], &[]).status, 405);
    }
    let metrics = Metrics::fetch(client);
    let count = |route| {
        let labels = [("http_request_method", "_OTHER"), ("http_route", route)];
        metrics.sum("http_server_request_duration_seconds_count", &labels)
    };
    assert_eq!(count("none"), Some(20.0));
    assert_eq!(count("/v1/jobs"), Some(20.0));
    let values = metrics.label_values();
    assert!(values.iter().all(|value| !value.contains("FETCH") && !value.contains("/nowhere")));
}

/// Returns all words of a file that have the prefix of a metric.
fn metric_names_in(path: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(repository().join(path)).expect(path);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':'));
    let ours = ["wordmill_", "http_server_", "process_"];
    let is_ours = |word: &&str| ours.iter().any(|begin| word.starts_with(begin));
    words.filter(is_ours).map(str::to_owned).collect()
}

#[test]
fn rules_dashboard_and_runbooks_use_documented_names_only() {
    let documented = documented_metrics();
    for path in [
        "observability/prometheus/rules.yml",
        "observability/grafana/dashboards/wordmill.json",
        "docs/operations.md",
    ] {
        let names = metric_names_in(path);
        assert!(names.len() > 10, "{path}: {names:?}");
        for name in names {
            let endings = ["", "_bucket", "_count", "_sum"];
            let is_known = endings.iter().any(|ending| {
                name.strip_suffix(ending).is_some_and(|name| documented.contains_key(name))
            });
            assert!(is_known, "{path} uses {name}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_an_alert() {
    let read = |path| std::fs::read_to_string(repository().join(path)).expect(path);
    let rules = read("observability/prometheus/rules.yml");
    let page = read("docs/operations.md");
    let headings: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### Wordmill")).collect();
    let mut alerts = BTreeSet::new();
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name");
        let runbook = rule.split("runbook: ").nth(1).and_then(|rest| rest.lines().next());
        let expected = format!("docs/operations.md#{}", name.to_lowercase());
        assert_eq!(runbook, Some(expected.as_str()), "{name}");
        assert!(rule.contains("severity: page") != rule.contains("severity: ticket"), "{name}");
        alerts.insert(name.strip_prefix("Wordmill").expect("our prefix"));
    }
    assert!(alerts.len() >= 15, "{alerts:?}");
    assert_eq!(headings, alerts);
}
