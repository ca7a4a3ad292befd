//! A queue that fills up says so early to bulk jobs, late to interactive ones, and answers polls.

use std::time::{Duration, Instant};

use serde_json::json;
use wordmill_tests::admin::Admin;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::pause;
use wordmill_tests::stack::Stack;
use wordmill_tests::wait_for;

const LIMIT: Duration = Duration::from_secs(10);

fn bulk(client: &Client) -> Answer {
    client.post("/v1/jobs", &json!({"text": "a", "lane": "bulk"}))
}

/// Waits until the gateway has noticed; it looks once a second.
fn bulk_is_declined(client: &Client) -> Answer {
    wait_for("bulk is declined", LIMIT, || {
        pause(Duration::from_millis(200));
        Some(bulk(client)).filter(|answer| answer.status != 202)
    })
}

fn full(answer: &Answer) {
    answer.problem(503, "queue_full");
    let after: u64 = answer.header("retry-after").expect("when").parse().expect("seconds");
    assert!((1..=60).contains(&after), "{answer:?}");
}

fn polls_and_the_older_contract(client: &Client, job_id: &str) {
    let started = Instant::now();
    assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json()["status"], "queued");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let older = client.post("/word-count", &json!({"url": "http://example.org/"}));
    assert_eq!(older.status, 500, "{older:?}");
    assert_eq!(older.json()["success"], false, "{older:?}");
    assert_eq!(older.json()["data"], json!({}), "{older:?}");
}

#[test]
fn bulk_is_declined_first_and_interactive_when_the_queue_is_full() {
    let stack = Stack::with(1, 0, &[]);
    let (client, admin) = (stack.client(), Admin::of(&stack.nats));
    admin.reconfigure("JOBS", |config| config.max_messages = 50);
    let job_id = client.submit(&json!({"text": "a"}));
    (0..39).for_each(|_| drop(client.submit(&json!({"text": "a"}))));
    full(&bulk_is_declined(client));
    let waiting = admin.messages("JOBS");
    assert!((40..50).contains(&waiting), "bulk was declined at {waiting} of 50");
    (waiting..50).for_each(|_| drop(client.submit(&json!({"text": "a"}))));
    full(&client.post("/v1/jobs", &json!({"text": "a"})));
    polls_and_the_older_contract(client, &job_id);
    assert_eq!(admin.messages("JOBS"), 50);
}

#[test]
fn bytes_are_bounded_like_the_number_of_jobs() {
    let stack = Stack::with(1, 0, &[]);
    let (client, admin) = (stack.client(), Admin::of(&stack.nats));
    admin.reconfigure("JOBS", |config| config.max_bytes = 200_000);
    let text = json!({"text": "word ".repeat(2000)});
    let job_id = client.submit(&text);
    let mut accepted = 1;
    let declined = wait_for("the queue is full", LIMIT, || {
        let answer = client.post("/v1/jobs", &text);
        accepted += u64::from(answer.status == 202);
        (answer.status != 202).then_some(answer)
    });
    full(&declined);
    assert!((15..20).contains(&accepted), "{accepted}");
    let small = bulk_is_declined(client);
    full(&small);
    let older = "http://example.org/".to_owned() + &"a".repeat(8000);
    wait_for("even small jobs find no room", LIMIT, || {
        (client.post("/v1/jobs", &json!({"url": older})).status == 503).then_some(())
    });
    assert_eq!(client.get(&format!("/v1/jobs/{job_id}")).json()["status"], "queued");
}
