//! A gigabyte is counted in bounded memory: the largest resident set of the services, as the kernel
//! tells it, while they take in and count documents and pages of that size. Everything is made at run
//! time and nothing of it is held in this process either.
//!
//! The same holds for a one-word document, and for one with more different words than are allowed.
//!
//! Tens of seconds with the debug build, and a few GB of disk for as long as it runs.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::client::Client;
use wordmill_tests::process::Process;
use wordmill_tests::stack::Stack;
use wordmill_tests::upload::Upload;
use wordmill_tests::wait_for;

pub const LIMIT: Duration = Duration::from_secs(900);
const GB: usize = 1_000_000_000;
/// What a worker may take besides the table of words.
const WORKER_BYTES_MAX: u64 = 96 << 20;
/// What a gateway may take.
pub const GATEWAY_BYTES_MAX: u64 = 96 << 20;
/// What one different word may take: its entry in the table and in the histogram, with room to grow.
const WORD_BYTES_MAX: u64 = 200;
/// How many different words a document may have.
const WORDS_MAX: u64 = 2_000_000;

/// What has to be raised for a gigabyte.
pub const SETTINGS: &[(&str, &str)] = &[
    ("WORDMILL_DOCUMENT_SIZE_MAX", "2GiB"),
    ("WORDMILL_DOCUMENTS_SPACE", "3GiB"),
    ("WORDMILL_FETCH_SIZE_MAX", "2GiB"),
    ("WORDMILL_FETCH_WIRE_SIZE_MAX", "2GiB"),
    ("WORDMILL_FETCH_TIMEOUT", "1h"),
    ("WORDMILL_ATTEMPT_DEADLINE", "1h"),
];

/// Returns the largest resident set that a process ever had, in bytes.
pub fn peak(process: &Process) -> u64 {
    process.peak_memory_bytes()
}

/// Returns a megabyte of text, and its number of words.
fn megabyte() -> (Vec<u8>, u64) {
    let mut text = Vec::with_capacity(1_000_000);
    let mut words = 0;
    while text.len() < 999_991 {
        text.extend_from_slice(format!("word{:04} ", words % 5000).as_bytes());
        words += 1;
    }
    text.resize(1_000_000, b' ');
    (text, words)
}

/// Serves one page of a gigabyte, written as it is asked for.
fn serve(block: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {GB}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        for _ in 0..GB / block.len() {
            stream.write_all(&block).expect("sent");
        }
    });
    url
}

/// Waits for a job, and checks on the way that its progress is told in bytes of all bytes.
fn finished(client: &Client, id: &str) -> Value {
    let mut progress = None;
    let job = wait_for("the job is final", LIMIT, || {
        let job = client.get(&format!("/v1/jobs/{id}")).json();
        let seen = &job["progress"];
        if seen["done_bytes"].as_u64().is_some_and(|done| done > 0) {
            assert_eq!(seen["total_bytes"], GB, "{seen}");
            progress = Some(seen.clone());
        }
        matches!(job["status"].as_str(), Some("succeeded" | "failed")).then_some(job)
    });
    assert!(progress.is_some(), "no progress was seen of {job}");
    job
}

pub fn upload(client: &Client, block: &[u8], blocks: usize) -> String {
    let length = (block.len() * blocks).to_string();
    let headers =
        [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", length.as_str())];
    let mut upload = Upload::begin(client, "POST", "/v1/jobs", &headers);
    for _ in 0..blocks {
        assert!(upload.send(block));
    }
    let answer = upload.answer();
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["job_id"].as_str().expect("a job id").to_owned()
}

pub fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

#[test]
fn a_gigabyte_is_counted_in_bounded_memory() {
    let stack = Stack::with(1, 1, SETTINGS);
    let (client, admin) = (stack.client(), Admin::of(&stack.nats));
    let (gateway, worker) = (&stack.gateways[0].process, &stack.workers[0].process);
    let (block, words) = megabyte();
    let expected = words * (GB / block.len()) as u64;

    let begun = Instant::now();
    let id = upload(client, &block, GB / block.len());
    let sent = begun.elapsed();
    let job = finished(client, &id);
    assert_eq!((&job["status"], &job["totals"]["words"]), (&json!("succeeded"), &json!(expected)));
    println!("upload of 1 GB: sent in {sent:.1?}, counted after {:.1?}", begun.elapsed());
    println!("  gateway {} MiB, worker {} MiB", mib(peak(gateway)), mib(peak(worker)));
    admin.wait_until_idle();
    wait_for("no document is kept", LIMIT, || (admin.messages("OBJ_documents") == 0).then_some(()));

    let begun = Instant::now();
    let job = finished(client, &client.submit_url(&serve(block)));
    assert_eq!((&job["status"], &job["totals"]["words"]), (&json!("succeeded"), &json!(expected)));
    println!("page of 1 GB: counted after {:.1?}", begun.elapsed());
    println!("  gateway {} MiB, worker {} MiB", mib(peak(gateway)), mib(peak(worker)));
    assert!(peak(worker) < WORKER_BYTES_MAX, "{} MiB", mib(peak(worker)));
    assert!(peak(gateway) < GATEWAY_BYTES_MAX, "{} MiB", mib(peak(gateway)));
}

#[test]
fn the_largest_histogram_takes_its_table_and_little_more() {
    let stack = Stack::with(1, 1, SETTINGS);
    let client = stack.client();
    let worker = &stack.workers[0].process;
    let text: String = (0..WORDS_MAX).map(|n| format!("w{n:x} ")).collect();
    let begun = Instant::now();
    let id = upload(client, text.as_bytes(), 1);
    let job = client.finished(&id, LIMIT);
    assert_eq!(job["totals"]["unique_words"], WORDS_MAX, "{job}");
    let peak = peak(worker);
    println!(
        "{WORDS_MAX} different words: after {:.1?}, worker {} MiB",
        begun.elapsed(),
        mib(peak)
    );
    assert!(peak < WORKER_BYTES_MAX + WORDS_MAX * WORD_BYTES_MAX, "{} MiB", mib(peak));
    let result = client.get(&format!("/v1/jobs/{id}/result?top=3"));
    let words = &result.json()["word_count"];
    assert_eq!(words, &json!({"w0": 1, "w1": 1, "w10": 1}), "{words}");
}

#[test]
fn more_different_words_than_may_be_end_with_a_named_failure() {
    let stack = Stack::with(1, 1, SETTINGS);
    let (client, worker) = (stack.client(), &stack.workers[0].process);
    let text: String = (0..=WORDS_MAX).map(|n| format!("w{n:x} ")).collect();
    // Each in two forms, which are told apart until the table is full.
    let forms: String = (0..=WORDS_MAX).map(|n| format!("É{n:x} é{n:x} ")).collect();
    for text in [text, forms] {
        let id = upload(client, text.as_bytes(), 1);
        let job = client.finished(&id, LIMIT);
        assert_eq!(job["status"], "failed", "{job}");
        assert_eq!(job["failure"]["code"], "too_many_unique_words", "{job}");
        assert_eq!(job["failure"]["retryable"], false, "{job}");
        let detail = job["failure"]["detail"].as_str().expect("a sentence");
        assert!(detail.contains("2000000"), "{detail}");
        client.get(&format!("/v1/jobs/{id}/result")).problem(409, "job_failed");
    }
    println!("{} different words: worker {} MiB", WORDS_MAX + 1, mib(peak(worker)));
    assert!(peak(worker) < WORKER_BYTES_MAX + WORDS_MAX * WORD_BYTES_MAX, "{}", mib(peak(worker)));
}

#[test]
fn one_giant_word_takes_no_memory() {
    const MEGABYTES: u64 = 200;
    let stack = Stack::with(1, 1, SETTINGS);
    let (client, worker) = (stack.client(), &stack.workers[0].process);
    for letter in ["a", "\u{e9}", "\u{6c34}", "\u{301}"] {
        let block = letter.repeat(1_000_000 / letter.len());
        let blocks = usize::try_from(MEGABYTES).expect("a number");
        let id = upload(client, block.as_bytes(), blocks);
        let job = client.finished(&id, LIMIT);
        assert_eq!(job["status"], "succeeded", "{job}");
        let characters = MEGABYTES * block.chars().count() as u64;
        assert_eq!(job["totals"]["characters"], characters, "{job}");
        if matches!(letter, "a" | "\u{e9}") {
            assert_eq!(job["totals"]["words"], 1, "{job}");
            assert_eq!(job["totals"]["overlong_words"], 1, "{job}");
            assert_eq!(job["totals"]["unique_words"], 0, "{job}");
        }
    }
    println!("words of {MEGABYTES} MB: worker {} MiB", mib(peak(worker)));
    assert!(peak(worker) < WORKER_BYTES_MAX, "{} MiB", mib(peak(worker)));
}
