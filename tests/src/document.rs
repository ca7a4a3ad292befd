//! Submits documents as request bodies.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::client::{Answer, Client};

/// Submits a document. `query` is empty or a query string that begins with `?`.
pub fn post_document(
    client: &Client,
    query: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    client.send("POST", &format!("/v1/jobs{query}"), headers, body)
}

/// Asserts that a job was accepted, and returns its id.
pub fn require_accepted(answer: &Answer) -> String {
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["job_id"].as_str().expect("a job id").to_owned()
}

/// Compresses bytes with a module of python3, for example `gzip`. Every test machine has python3.
pub fn compress(module: &str, bytes: &[u8]) -> Vec<u8> {
    let program = format!(
        "import sys, {module}; sys.stdout.buffer.write({module}.compress(sys.stdin.buffer.read()))"
    );
    let mut child = Command::new("python3")
        .args(["-c", &program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 runs");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = bytes.to_vec();
    let writing =
        std::thread::spawn(move || input.write_all(&bytes).expect("python3 reads its input"));
    let output = child.wait_with_output().expect("python3 exits");
    writing.join().expect("the writer ends");
    assert!(output.status.success());
    output.stdout
}
