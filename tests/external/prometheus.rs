//! A real Prometheus with the shipped configuration, rules and dashboard, on a running stack.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use url::form_urlencoded;
use wordmill_tests::client::Client;
use wordmill_tests::mixed::{self, SETTINGS, TRACE};
use wordmill_tests::process::Process;
use wordmill_tests::stack::{Stack, Worker};
use wordmill_tests::{LIMIT, pause, repository, wait_for};

const CONFIGURATION: &str = "observability/prometheus/prometheus.yml";
const RULES: &str = "observability/prometheus/rules.yml";

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).expect(path)
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(repository()).output();
    let output = output.expect("promtool runs: on Debian, run tests/external/install");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&text));
}

#[test]
fn promtool_accepts_the_rules_and_every_alert_has_a_test() {
    promtool(&["check", "config", CONFIGURATION]);
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", RULES]);
    promtool(&["test", "rules", "observability/prometheus/rules_test.yml"]);
    let tests = read("observability/prometheus/rules_test.yml");
    for rule in read(RULES).split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name");
        let named = format!("alertname: {name}\n");
        let tested = tests.split(&named).skip(1);
        let fires = tested.filter(|rest| rest.trim_start().starts_with("exp_alerts:\n")).count();
        let quiet = format!("alertname: {name}, exp_alerts: []");
        assert!(fires > 0 && tests.contains(&quiet), "{name}: fires in {fires} tests");
    }
}

/// A Prometheus that scrapes a stack every second.
struct Prometheus {
    client: Client,
    // Before `_directory`, so that the process stops before its directory is removed.
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts Prometheus with the shipped configuration. Only the targets and the intervals differ.
    fn start(gateways: &[Client], workers: &[Client]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = |name| directory.path().join(name).to_str().expect("a path").to_owned();
        let address = free_address();
        std::fs::write(path("prometheus.yml"), configuration(&address, gateways, workers))
            .and_then(|()| std::fs::write(path("rules.yml"), with_short_durations(&read(RULES))))
            .expect("the configuration is written");
        promtool(&["check", "config", &path("prometheus.yml")]);
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", path("prometheus.yml")));
        command.arg(format!("--storage.tsdb.path={}", path("data")));
        command.arg(format!("--web.listen-address={address}"));
        command.args(["--enable-feature=exemplar-storage", "--log.level=warn"]);
        let process = Process::start("prometheus", command);
        let client = Client::new(&address);
        wait_for("Prometheus is ready", LIMIT, || {
            let answer = client.try_send("GET", "/-/ready", &[], &[]).ok()?;
            (answer.status == 200).then_some(())
        });
        Self { client, _process: process, _directory: directory }
    }

    fn get_data(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let answer = self.client.get(&format!("/api/v1/{path}?{query}"));
        assert_eq!(answer.status, 200, "{path}?{query}: {answer:?}");
        answer.json()["data"].clone()
    }

    /// Returns the current values of an expression.
    fn values(&self, expression: &str) -> Vec<f64> {
        let data = self.get_data("query", &[("query", expression)]);
        let samples = data["result"].as_array().expect("samples");
        let value = |sample: &Value| sample["value"][1].as_str().expect("a value").parse();
        samples.iter().map(|sample| value(sample).expect("a number")).collect()
    }

    /// Returns the names of the firing alerts.
    fn firing(&self) -> BTreeSet<String> {
        let data = self.get_data("alerts", &[]);
        let alerts = data["alerts"].as_array().expect("alerts").iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").into()).collect()
    }

    fn wait_for_alert(&self, name: &str, fires: bool) {
        let condition_name = format!("{name} fires: {fires}");
        wait_for(&condition_name, LIMIT, || (self.firing().contains(name) == fires).then_some(()));
    }
}

/// Returns the shipped configuration with other targets and intervals of one second.
fn configuration(address: &str, gateways: &[Client], workers: &[Client]) -> String {
    let mut text = read(CONFIGURATION);
    for (name, port, clients) in [("gateway", 8080, gateways), ("worker", 9091, workers)] {
        let shipped = format!(
            "    dns_sd_configs:\n      - names: [{name}]\n        type: A\n        \
             port: {port}\n        refresh_interval: 10s\n"
        );
        let targets: Vec<_> = clients.iter().map(address_of).collect();
        let ours = format!("    static_configs:\n      - targets: {}\n", json!(targets));
        text = replace_once(&text, &shipped, &ours);
    }
    // The other targets do not run in the test, and their names cannot be resolved.
    text = replace_once(&text, "prometheus-web:9090", address);
    text = replace_once(&text, "\"jaeger:8888\"", "");
    for setting in ["scrape_interval", "scrape_timeout", "evaluation_interval"] {
        let shipped = text.lines().find(|line| line.trim().starts_with(setting));
        let shipped = shipped.expect(setting).to_owned();
        text = replace_once(&text, &shipped, &format!("  {setting}: 1s"));
    }
    text
}

/// Returns the rules with the shipped conditions, which must hold for only one second.
fn with_short_durations(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim().starts_with("for: ") {
        true => "        for: 1s\n".to_owned(),
        false => format!("{line}\n"),
    });
    lines.collect()
}

fn address_of(client: &Client) -> String {
    client.url("").replace("http://", "")
}

/// Replaces a text that must occur exactly once.
fn replace_once(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in {text}");
    text.replace(from, to)
}

/// Returns a free address.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Returns title and expression of each query of the dashboard, with the variables replaced as by
/// Grafana.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value =
        serde_json::from_str(&read("observability/grafana/dashboards/wordmill.json"))
            .expect("JSON");
    let mut queries = Vec::new();
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        assert_eq!(variable["name"], "lane", "the test supports only this variable");
        let query = variable["query"]["query"].as_str().expect("a query");
        let series = query.strip_prefix("label_values(").and_then(|q| q.split_once(','));
        queries.push(("variable lane".to_owned(), series.expect("a series").0.to_owned()));
    }
    for panel in dashboard["panels"].as_array().expect("panels") {
        if panel["type"] == "row" {
            continue;
        }
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().expect("targets") {
            let expression = target["expr"].as_str().expect("an expression");
            let expression = expression.replace("$lane", ".*").replace("$__rate_interval", "20s");
            assert!(!expression.contains('$'), "{title}: {expression}");
            queries.push((title.to_owned(), expression));
        }
    }
    assert!(queries.len() > 40, "{queries:?}");
    queries
}

#[test]
fn the_running_system_fills_the_dashboard_and_raises_alarms() {
    let mut stack = Stack::with(2, 0, SETTINGS);
    let late = Worker::start("127.0.0.1:1", SETTINGS);
    let health = late.health.clone();
    drop(late);
    let gateways: Vec<Client> = stack.gateways.iter().map(|g| g.client.clone()).collect();
    // The worker does not run yet, but its address is known.
    let prometheus = Prometheus::start(&gateways, std::slice::from_ref(&health));
    wait_for("both gateways are scraped", LIMIT, || {
        (prometheus.values("sum(up{job=\"wordmill-gateway\"})") == [2.0]).then_some(())
    });
    let waiting = mixed::submit_queued_jobs(&stack);
    for alert in ["WordmillNoWorker", "WordmillTargetDown", "WordmillJobsLost"] {
        prometheus.wait_for_alert(alert, true);
    }
    assert!(!prometheus.firing().contains("WordmillDeadLetters"));

    let listen = address_of(&health);
    let settings = [SETTINGS, &[("WORDMILL_WORKER_LISTEN", listen.as_str())]].concat();
    stack.workers.push(Worker::start(&stack.nats.address(), &settings));
    for job in &waiting {
        assert_eq!(stack.client().wait_until_final(job, LIMIT)["status"], "succeeded");
    }
    let load = Load::start(stack.client());
    prometheus.wait_for_alert("WordmillDeadLetters", true);
    prometheus.wait_for_alert("WordmillNoWorker", false);

    let mut missing = dashboard();
    wait_for_each("dashboard queries without a result", &mut missing, |(_, query)| {
        // A quantile is not a number for a route without recent requests.
        prometheus.values(query).iter().any(|value| value.is_finite())
    });
    assert_rules_are_evaluated(&prometheus);
    assert_exemplars_are_kept(&prometheus);
    load.stop();
}

/// Removes entries from `missing` once `is_present` holds, and waits until none is left.
fn wait_for_each<T: std::fmt::Debug>(
    description: &str,
    missing: &mut Vec<T>,
    is_present: impl Fn(&T) -> bool,
) {
    let end = std::time::Instant::now() + LIMIT;
    while !missing.is_empty() {
        assert!(std::time::Instant::now() < end, "timed out; {description}: {missing:#?}");
        missing.retain(|entry| !is_present(entry));
        pause(Duration::from_millis(200));
    }
}

/// A thread that submits jobs continuously.
struct Load {
    is_stopped: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(client: &Client) -> Self {
        let client = client.clone();
        let is_stopped = Arc::new(AtomicBool::new(false));
        let should_stop = Arc::clone(&is_stopped);
        let thread = std::thread::spawn(move || {
            while !should_stop.load(Ordering::Relaxed) {
                mixed::run_mixed_jobs(&client);
                client.submit(&json!({"text": "and so on", "lane": "bulk"}));
            }
        });
        Self { is_stopped, thread }
    }

    fn stop(self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("the load succeeds");
    }
}

/// Asserts that exactly the shipped rules are loaded, and that they are evaluated without an error.
fn assert_rules_are_evaluated(prometheus: &Prometheus) {
    let data = prometheus.get_data("rules", &[]);
    let groups = data["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> = groups.flat_map(|g| g["rules"].as_array().expect("rules")).collect();
    for rule in &rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_eq!(rule["lastError"], Value::Null, "{rule}");
    }
    let text = read(RULES);
    let count = |word| text.lines().filter(|line| line.trim().starts_with(word)).count();
    assert_eq!(rules.len(), count("- alert: ") + count("- record: "));
    for rule in rules.iter().filter(|rule| rule["type"] == "recording") {
        let name = rule["name"].as_str().expect("a name");
        assert!(!prometheus.values(name).is_empty(), "{name} has no value");
    }
}

/// Asserts that an exemplar of the queue wait, which the dashboard shows, contains the trace id of
/// its job.
fn assert_exemplars_are_kept(prometheus: &Prometheus) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
    let start = (now.as_secs() - 3600).to_string();
    let end = (now.as_secs() + 60).to_string();
    let query = "wordmill_job_queue_wait_seconds_bucket{lane=\"bulk\"}";
    let range = [("query", query), ("start", start.as_str()), ("end", end.as_str())];
    let data = prometheus.get_data("query_exemplars", &range);
    let series = data.as_array().expect("series").iter();
    let exemplars = series.flat_map(|series| series["exemplars"].as_array().expect("exemplars"));
    let ids: BTreeSet<&str> =
        exemplars.filter_map(|exemplar| exemplar["labels"]["trace_id"].as_str()).collect();
    assert!(ids.contains(TRACE), "{ids:?}");
}
