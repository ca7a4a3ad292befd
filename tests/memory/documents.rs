//! Memory of the services for large documents and pages: 1 GB of text, one giant word, and too many
//! distinct words.
//!
//! The text of 1 GB is generated while it is sent, and occupies 1 GB of disk at the broker.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::Client;
use wordmill_tests::document::require_accepted;
use wordmill_tests::upload::Upload;
use wordmill_tests::wait_for;

use crate::{assert_below, start_stack};

/// Maximum time of a job with the largest allowed document.
pub const DOCUMENT_TIME_MAX: Duration = Duration::from_secs(120);
const GB: usize = 1_000_000_000;
/// Maximum memory of a service without the word table. Measured: 21 MiB for a gateway, 19 MiB for a
/// worker.
const SERVICE_BYTES_MAX: u64 = 32 << 20;
/// Maximum memory for a form of a word: its entries in the table and in the histogram, with spare
/// capacity. Measured: 146 bytes in the largest histogram, 76 bytes in the largest table.
const FORM_BYTES_MAX: u64 = 200;
/// Maximum number of distinct words in a document.
const WORDS_MAX: u64 = 2_000_000;
/// Maximum number of word forms in a table, for example `É1` and `é1`. The worker merges forms when
/// there are more.
const FORMS_MAX: u64 = WORDS_MAX / 2 * 3;

/// Settings that raise default limits below 1 GB.
const SETTINGS: &[(&str, &str)] = &[
    ("WORDMILL_DOCUMENT_SIZE_MAX", "2GiB"),
    ("WORDMILL_DOCUMENTS_SPACE", "3GiB"),
    ("WORDMILL_FETCH_SIZE_MAX", "2GiB"),
    ("WORDMILL_FETCH_WIRE_SIZE_MAX", "2GiB"),
    ("WORDMILL_FETCH_TIMEOUT", "1h"),
    ("WORDMILL_ATTEMPT_DEADLINE", "1h"),
];

/// Returns 1 MB of text, and its number of words.
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

/// Serves one page of 1 GB, generated while it is sent.
fn serve(block: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut lines = BufReader::new(stream.try_clone().expect("a clone")).lines();
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {GB}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).expect("the bytes are sent");
        for _ in 0..GB / block.len() {
            stream.write_all(&block).expect("the bytes are sent");
        }
    });
    url
}

/// Waits for a job, and checks that its progress reports the total size, for example
/// `done_bytes` 5,000,000 of `total_bytes` 1,000,000,000.
fn wait_until_final(client: &Client, id: &str) -> Value {
    let mut progress = None;
    let job = wait_for("the job is final", DOCUMENT_TIME_MAX, || {
        let job = client.get(&format!("/v1/jobs/{id}")).json();
        let current = &job["progress"];
        if current["done_bytes"].as_u64().is_some_and(|done| done > 0) {
            assert_eq!(current["total_bytes"], GB, "{current}");
            progress = Some(current.clone());
        }
        matches!(job["status"].as_str(), Some("succeeded" | "failed")).then_some(job)
    });
    assert!(progress.is_some(), "the job reported no progress: {job}");
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
    require_accepted(&upload.answer())
}

#[test]
fn a_gigabyte_is_counted_in_bounded_memory() {
    let stack = start_stack(1, 1, SETTINGS);
    let client = stack.client();
    let gateway = &stack.gateways[0].process;
    let worker = &stack.workers[0].process;
    let (block, words) = megabyte();
    let expected = words * (GB / block.len()) as u64;

    let begun = Instant::now();
    let id = upload(client, &block, GB / block.len());
    let sent = begun.elapsed();
    let job = wait_until_final(client, &id);
    assert_fields(&job, json!({"status": "succeeded", "totals.words": expected}));
    println!("upload of 1 GB: sent in {sent:.1?}, counted after {:.1?}", begun.elapsed());

    let begun = Instant::now();
    let job = wait_until_final(client, &client.submit_url(&serve(block)));
    assert_fields(&job, json!({"status": "succeeded", "totals.words": expected}));
    println!("page of 1 GB: counted after {:.1?}", begun.elapsed());
    assert_below(SERVICE_BYTES_MAX, worker.peak_memory_bytes(), "1 GB, worker");
    assert_below(SERVICE_BYTES_MAX, gateway.peak_memory_bytes(), "1 GB, gateway");
}

#[test]
fn the_largest_histogram_uses_little_more_than_its_table() {
    let stack = start_stack(1, 1, SETTINGS);
    let client = stack.client();
    let worker = &stack.workers[0].process;
    let text: String = (0..WORDS_MAX).map(|n| format!("w{n:x} ")).collect();
    let id = upload(client, text.as_bytes(), 1);
    let job = client.wait_until_final(&id, DOCUMENT_TIME_MAX);
    assert_eq!(job["totals"]["unique_words"], WORDS_MAX, "{job}");
    let bytes_max = SERVICE_BYTES_MAX + WORDS_MAX * FORM_BYTES_MAX;
    assert_below(bytes_max, worker.peak_memory_bytes(), "largest histogram");
    let result = client.get(&format!("/v1/jobs/{id}/result?top=3"));
    let words = &result.json()["word_count"];
    assert_eq!(words, &json!({"w0": 1, "w1": 1, "w10": 1}), "{words}");
}

#[test]
fn too_many_unique_words_fail_the_job() {
    let stack = start_stack(1, 1, SETTINGS);
    let client = stack.client();
    let worker = &stack.workers[0].process;
    let text: String = (0..=WORDS_MAX).map(|n| format!("w{n:x} ")).collect();
    // Two forms of each word.
    let forms: String = (0..=WORDS_MAX).map(|n| format!("É{n:x} é{n:x} ")).collect();
    for text in [text, forms] {
        let id = upload(client, text.as_bytes(), 1);
        let job = client.wait_until_final(&id, DOCUMENT_TIME_MAX);
        assert_eq!(job["status"], "failed", "{job}");
        assert_eq!(job["failure"]["code"], "too_many_unique_words", "{job}");
        assert_eq!(job["failure"]["retryable"], false, "{job}");
        let detail = job["failure"]["detail"].as_str().expect("a sentence");
        assert!(detail.contains("2000000"), "{detail}");
        client.get(&format!("/v1/jobs/{id}/result")).expect_problem(409, "job_failed");
    }
    let bytes_max = SERVICE_BYTES_MAX + FORMS_MAX * FORM_BYTES_MAX;
    assert_below(bytes_max, worker.peak_memory_bytes(), "too many distinct words");
}

#[test]
fn one_giant_word_uses_bounded_memory() {
    const MEGABYTES: u64 = 200;
    /// Measured: 47 to 48 MiB.
    const WORKER_BYTES_MAX: u64 = 72 << 20;
    let stack = start_stack(1, 1, SETTINGS);
    let client = stack.client();
    let worker = &stack.workers[0].process;
    for letter in ["a", "\u{e9}", "\u{6c34}", "\u{301}"] {
        let block = letter.repeat(1_000_000 / letter.len());
        let blocks = usize::try_from(MEGABYTES).expect("a number");
        let id = upload(client, block.as_bytes(), blocks);
        let job = client.wait_until_final(&id, DOCUMENT_TIME_MAX);
        assert_eq!(job["status"], "succeeded", "{job}");
        let characters = MEGABYTES * block.chars().count() as u64;
        assert_eq!(job["totals"]["characters"], characters, "{job}");
        if matches!(letter, "a" | "\u{e9}") {
            assert_eq!(job["totals"]["words"], 1, "{job}");
            assert_eq!(job["totals"]["overlong_words"], 1, "{job}");
            assert_eq!(job["totals"]["unique_words"], 0, "{job}");
        }
    }
    let name = format!("words of {MEGABYTES} MB");
    assert_below(WORKER_BYTES_MAX, worker.peak_memory_bytes(), &name);
}
