//! The route table: every success and every error that the API description promises is provoked on
//! each operation, and each limit of a request is tested on every operation that has it.
//!
//! Each list of cases has a test that sends its requests. Together, the lists must match
//! `docs/openapi.json` exactly: a new operation or code fails here until it has a case. The content
//! of the answers, other than status and code, is tested in the other modules.

mod case;
mod limits;
mod refusals;
mod successes;

use std::collections::BTreeSet;
use std::fs;
use std::thread;

use serde_json::json;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::closed_port;
use wordmill_tests::stack::Gateway;
use wordmill_tests::{LIMIT, repository, wait_for};

use self::case::{Case, Description, Names, Operation, UNKNOWN};

/// Operations whose `500 internal` a test cannot provoke, because they skip unreadable messages.
const UNTESTABLE_500: [&str; 6] = [
    "deleteDeadLetter",
    "getDeadLetter",
    "getQueue",
    "listDeadLetters",
    "listJobs",
    "replayDeadLetters",
];

#[test]
fn the_cases_match_the_described_answers_exactly() {
    let description = Description::read();
    let described: BTreeSet<(String, String)> = description
        .operations
        .iter()
        .flat_map(|operation| {
            operation.answers.iter().map(|answer| (operation.id.clone(), answer.clone()))
        })
        .collect();
    let lists = [
        successes::cases(),
        refusals::cases(),
        limits::sizes(),
        limits::disabled_webhooks_and_waiters(),
        limits::incomplete_bodies(),
        limits::stalled_bodies(),
        limits::quotas(),
        limits::full_store(),
        limits::small_queue(),
        limits::full_queue(),
        limits::full_webhooks(),
        limits::exhausted_budget(),
        without_broker(&description),
        without_key(&description),
        rate_limited(&description),
        unknown_host(&description),
        cross_site(&description),
    ];
    let mut tested: BTreeSet<(String, String)> = lists
        .iter()
        .flatten()
        .map(|case| (description.operation(case).id.clone(), case.expected.clone()))
        .collect();
    for id in UNTESTABLE_500 {
        let is_new = tested.insert((id.to_owned(), "500 internal".to_owned()));
        assert!(is_new, "{id} has a case");
    }
    let missing: Vec<_> = described.difference(&tested).collect();
    assert!(missing.is_empty(), "without a case: {missing:#?}");
    let unknown: Vec<_> = tested.difference(&described).collect();
    assert!(unknown.is_empty(), "not described: {unknown:#?}");
}

#[test]
fn every_route_has_a_row_in_the_guide() {
    let page = fs::read_to_string(repository().join("docs/api.md")).expect("the guide");
    let table = page.split("\n## Routes\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let table = table.expect("the table");
    for Operation { method, path, .. } in Description::read().operations {
        let start = format!("| `{method} {path}` |");
        let has_row = table.lines().any(|row| row.starts_with(&start));
        assert!(has_row, "docs/api.md has no row for {method} {path}");
    }
}

/// Returns a case for every operation that needs the broker, with the answer expected during an
/// outage.
fn without_broker(description: &Description) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for case in successes::cases() {
        let operation = description.operation(&case);
        // The older contract has only 500 for server errors.
        let expected = if operation.answers.contains("503 broker_unavailable") {
            "503 broker_unavailable"
        } else if operation.is_older && operation.answers.contains("500 internal") {
            "500 internal"
        } else {
            continue;
        };
        let is_first = cases.iter().all(|other| description.operation(other).id != operation.id);
        cases.extend(is_first.then(|| case.with_expected(expected)));
    }
    cases.push(Case::new("500", "GET /health"));
    cases.push(Case::new("503 not_ready", "GET /readyz"));
    cases
}

#[test]
fn every_operation_that_needs_the_broker_reports_its_absence() {
    let gateway = Gateway::start("127.0.0.1:1", &[("WORDMILL_WEBHOOK_SECRETS", successes::SECRET)]);
    let mut names = Names::default().all_ids(UNKNOWN);
    names.add("page", closed_port());
    // In parallel, because each request waits for the broker until its deadline.
    thread::scope(|scope| {
        for case in without_broker(&Description::read()) {
            let client = &gateway.client;
            let names = &names;
            scope.spawn(move || case.send_and_check(client, names));
        }
    });
}

/// Returns a case for every operation that has this answer in its description.
fn cases_for_answer(description: &Description, expected: &str) -> Vec<Case> {
    let operations = description.operations.iter().filter(|one| one.answers.contains(expected));
    operations
        .map(|one| Case::new(expected, &format!("{} {}", one.method, one.path)))
        .map(|case| case.with_name("{id}", UNKNOWN))
        .collect()
}

fn without_key(description: &Description) -> Vec<Case> {
    cases_for_answer(description, "401 unauthenticated")
}

fn rate_limited(description: &Description) -> Vec<Case> {
    cases_for_answer(description, "429 rate_limited")
}

fn unknown_host(description: &Description) -> Vec<Case> {
    let cases = cases_for_answer(description, "421 unknown_host");
    cases.into_iter().map(|case| case.header("host", "evil.example")).collect()
}

fn cross_site(description: &Description) -> Vec<Case> {
    let cases = cases_for_answer(description, "403 cross_site_request");
    cases.into_iter().map(|case| case.header("sec-fetch-site", "cross-site")).collect()
}

#[test]
fn without_keys_every_operation_refuses_cross_site_requests() {
    let gateway = Gateway::start("127.0.0.1:1", &[]);
    let description = Description::read();
    let names = Names::default();
    let unknown = unknown_host(&description);
    let cross_site = cross_site(&description);
    let methods: Vec<_> = description.operations.iter().map(|one| one.method.as_str()).collect();
    assert_eq!(unknown.len(), methods.len() - 4, "all but the probes and the metrics");
    assert_eq!(cross_site.len(), methods.iter().filter(|method| **method != "GET").count());
    for case in unknown.into_iter().chain(cross_site) {
        case.send_and_check(&gateway.client, &names);
    }
}

#[test]
fn every_operation_with_a_key_checks_the_key_and_its_rate() {
    let mut keys = Keyring::new();
    let limit = json!({"rate_limit": {"per_second": 1, "burst": 1}});
    let key = keys.add("hasty", &limit);
    let (name, path) = keys.setting();
    let gateway = Gateway::start("127.0.0.1:1", &[(name, &path)]);
    let description = Description::read();
    let names = Names::default();
    let unauthenticated = without_key(&description);
    let rate_limited = rate_limited(&description);
    assert!(unauthenticated.len() > 20 && unauthenticated.len() == rate_limited.len());
    for case in unauthenticated {
        let answer = case.send_and_check(&gateway.client, &names);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"wordmill\""));
    }
    let client = gateway.client.with_key(&key);
    for case in rate_limited {
        // The first request exhausts the rate limit, unless the machine is slow.
        let answer = wait_for("the rate limit is reached", LIMIT, || {
            client.get("/nothing");
            Some(case.send(&client, &names)).filter(|answer| answer.status == 429)
        });
        case.check(&answer);
        assert_eq!(answer.header("retry-after"), Some("1"), "{answer:?}");
        assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=1;w=1"), "{answer:?}");
    }
}
