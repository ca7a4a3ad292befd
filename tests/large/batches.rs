//! Batches with 100,000 jobs in total.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::stack::Stack;
use wordmill_tests::wait_for;

const CALLS: usize = 10;
const LINES: usize = 10_000;
/// Number of distinct `number…` words in the lines.
const NUMBERS: usize = 100;
/// Maximum time until all batches are accepted, and until one is final.
const BATCH_TIME_MAX: Duration = Duration::from_secs(600);

#[test]
fn a_hundred_thousand_lines_are_counted_and_added_up() {
    let stack = Stack::with(1, 2, &[]);
    let client = stack.client();
    let body: String = (0..LINES)
        .map(|n| format!("{}\n", json!({"text": format!("line number{} of many", n % NUMBERS)})))
        .collect();
    let started = Instant::now();
    let batches: Vec<String> = (0..CALLS)
        .map(|call| {
            let key = format!("call-{call}");
            let headers =
                [("content-type", "application/x-ndjson"), ("idempotency-key", key.as_str())];
            // The broker may be overloaded for a short time. The request is repeated, as
            // documented.
            let send = || {
                wait_for("the batch is accepted", BATCH_TIME_MAX, || {
                    let answer = client.send("POST", "/v1/batches", &headers, body.as_bytes());
                    let beginning: String = answer.text.chars().take(2000).collect();
                    assert!([202, 503].contains(&answer.status), "{beginning}");
                    (answer.status == 202).then(|| answer.json())
                })
            };
            let sent = send();
            assert_fields(&sent, json!({"accepted": LINES, "refused": 0}));
            // Repeats a request, as a client does after a lost response.
            if call == 0 {
                assert_eq!(send()["lines"], sent["lines"]);
            }
            sent["batch_id"].as_str().expect("an id").to_owned()
        })
        .collect();
    println!("{} lines accepted in {:?}", CALLS * LINES, started.elapsed());
    for batch_id in &batches {
        let job = client.wait_until_final(batch_id, BATCH_TIME_MAX);
        assert_eq!(job["status"], "succeeded", "{job}");
        assert_eq!(job["counts"]["succeeded"], LINES, "{job}");
        let result = client.get(&format!("/v1/batches/{batch_id}/result")).json();
        assert_eq!(result["totals"]["words"], 4 * LINES, "{}", result["totals"]);
        let words = result["word_count"].as_object().expect("words");
        assert_eq!(words.len(), 3 + NUMBERS);
        for (word, count) in words {
            let expected = if word.starts_with("number") { LINES / NUMBERS } else { LINES };
            assert_eq!(*count, Value::from(expected), "{word}");
        }
    }
    println!("all batches are counted and merged in {:?}", started.elapsed());
    Admin::connect(&stack.nats).wait_until_idle();
    assert_eq!(
        Admin::connect(&stack.nats).message_count("KV_job_state"),
        (CALLS * (LINES + 1)) as u64
    );
}
