//! Lists of jobs among 1,000,000 records.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::stack::Stack;

/// Number of records.
const RECORDS: usize = 1_000_000;
/// One in this many records has the label of the filter.
const RARE_EVERY: usize = 100_000;
/// Maximum number of pages of a filtered list. Each page scans thousands of records.
const PAGES_MAX: usize = 1000;

fn job_id(n: usize) -> String {
    format!("0198f0c2-0000-7000-8000-{n:012x}")
}

/// Fetches a page of the list. Updates `slowest` with the duration of the request.
fn page(client: &Client, query: &str, slowest: &mut Duration) -> (Vec<String>, Option<String>) {
    let started = Instant::now();
    let answer = client.get(&format!("/v1/jobs?{query}"));
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    *slowest = started.elapsed().max(*slowest);
    let page = answer.json();
    let data = page["data"].as_array().expect("jobs").iter();
    let ids = data.map(|job| job["job_id"].as_str().expect("an id").to_owned()).collect();
    (ids, page["next_cursor"].as_str().map(str::to_owned))
}

#[test]
fn a_page_of_a_million_records_is_found_without_a_full_scan() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let first = client.submit(&json!({"text": "a text"}));
    assert_eq!(client.send("POST", &format!("/v1/jobs/{first}/cancel"), &[], &[]).status, 200);
    let subject = format!("$KV.job_state.public.{first}");
    let (template, _) = admin.last_message("KV_job_state", &subject).expect("a record");
    let template: Value = serde_json::from_str(&template).expect("JSON");

    let started = Instant::now();
    let mut headers = HeaderMap::new();
    headers.insert("Wordmill-Status", "cancelled");
    admin.publish_all_with((0..RECORDS).map(|n| {
        let mut record = template.clone();
        record["job_id"] = json!(job_id(n));
        if n % RARE_EVERY == 0 {
            record["labels"] = json!({"rare": "yes"});
        }
        let subject = format!("$KV.job_state.public.{}", job_id(n));
        (subject, headers.clone(), record.to_string())
    }));
    println!("{RECORDS} records written in {:?}", started.elapsed());

    // Full pages, beginning at the newest record.
    let mut expected = RECORDS;
    let mut query = "limit=100".to_owned();
    let mut slowest = Duration::ZERO;
    for _ in 0..30 {
        let (ids, next) = page(client, &query, &mut slowest);
        assert_eq!(ids, (expected - 100..expected).rev().map(job_id).collect::<Vec<_>>());
        expected -= 100;
        query = format!("limit=100&cursor={}", next.expect("a next cursor"));
    }
    println!("a page of 100: {slowest:?} at most");

    // A filtered scan of all records, with ten matches.
    let mut matching_ids = Vec::new();
    let mut pages = 0;
    let mut query = "label=rare:yes".to_owned();
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    loop {
        let (ids, next) = page(client, &query, &mut slowest);
        matching_ids.extend(ids);
        pages += 1;
        assert!(pages <= PAGES_MAX, "{pages} pages");
        let Some(next) = next else { break };
        query = format!("label=rare:yes&cursor={next}");
    }
    let rare_ids: Vec<_> = (0..RECORDS).step_by(RARE_EVERY).rev().map(job_id).collect();
    assert_eq!(matching_ids, rare_ids);
    println!("all matches in {pages} pages, {:?}; a page: {slowest:?} at most", started.elapsed());

    // The oldest page.
    let mut slowest = Duration::ZERO;
    let (ids, _) = page(client, "cursor=64&limit=100", &mut slowest);
    assert_eq!(ids.last(), Some(&first));
    println!("the last page: {slowest:?}");
}
