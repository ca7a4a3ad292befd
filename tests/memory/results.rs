//! Memory of a gateway while clients of the older contract read a large result at the same time.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::Client;
use wordmill_tests::process::Process;

use crate::documents::{DOCUMENT_TIME_MAX, upload};
use crate::{assert_below, start_stack};

/// Maximum memory of a gateway. Measured: 27 to 31 MiB.
const GATEWAY_BYTES_MAX: u64 = 48 << 20;
/// Maximum response time of `/livez`: the typical timeout of a liveness probe, with a margin for
/// busy machines.
const LIVEZ_TIME_MAX: Duration = Duration::from_secs(3);

/// Resets the peak resident set size (`VmHWM`) of a process to its current size.
fn reset_peak(process: &Process) {
    std::fs::write(format!("/proc/{}/clear_refs", process.id()), "5").expect("the peak is reset");
}

/// Requests a path, reads the start of the response, waits for `may_read`, then reads the rest.
/// Returns the length of the rest, in bytes.
fn read_late(client: &Client, path: &str, encoding: &str, may_read: &mpsc::Receiver<()>) -> u64 {
    let address = client.address();
    let mut stream = TcpStream::connect(address).expect("a connection");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: {encoding}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("the request is sent");
    let mut begin = [0; 15];
    stream.read_exact(&mut begin).expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 200 OK");
    may_read.recv_timeout(DOCUMENT_TIME_MAX).expect("the other readers have finished");
    std::io::copy(&mut stream, &mut std::io::sink()).expect("the rest of the answer")
}

#[test]
fn a_large_result_is_streamed_to_clients_of_the_older_contract() {
    const WORDS: usize = 255_000;
    const TEXT_BYTES: u64 = 60_000_000;
    let stack = start_stack(1, 1, &[]);
    let client = stack.client();
    let gateway = &stack.gateways[0].process;
    let text: String = (0..WORDS).map(|n| format!("w{n:06}{} ", "x".repeat(243))).collect();
    assert!(text.len() as u64 > TEXT_BYTES);
    let id = upload(client, text.as_bytes(), 1);
    let job = client.wait_until_final(&id, DOCUMENT_TIME_MAX);
    assert_eq!(job["totals"]["unique_words"], WORDS, "{job}");
    let path = format!("/word-count/{id}");
    let query = format!("/word-count?job_id={id}");

    for (encoding, header) in [("identity", None), ("gzip", Some("gzip")), ("zstd", Some("zstd"))] {
        reset_peak(gateway);
        let (done, may_read) = mpsc::channel();
        let (answers, late, slowest) = thread::scope(|scope| {
            let [path, query] = [&path, &query];
            let late = scope.spawn(move || read_late(client, path, encoding, &may_read));
            let readers = [path, query].map(|path| {
                scope.spawn(|| client.send("GET", path, &[("accept-encoding", encoding)], &[]))
            });
            let mut slowest = Duration::ZERO;
            while readers.iter().any(|reader| !reader.is_finished()) {
                let started = Instant::now();
                assert_eq!(client.get("/livez").status, 200);
                slowest = slowest.max(started.elapsed());
            }
            done.send(()).expect("the late reader waits");
            let answers = readers.map(|reader| reader.join().expect("an answer"));
            (answers, late.join().expect("an answer"), slowest)
        });
        println!("result, {encoding}: /livez took at most {slowest:.0?}");
        for answer in &answers {
            assert_eq!(answer.status, 200);
            assert_eq!(answer.header("content-encoding"), header);
        }
        assert!(late > answers[0].bytes.len() as u64, "the late reader gets the complete answer");
        if header.is_none() {
            assert!(answers[0].bytes.len() as u64 > TEXT_BYTES);
            let data = &answers[1].json()["data"];
            assert_fields(&data, json!({"job_id": id, "status": "COMPLETE"}));
            let words = data["word_count"].as_object().expect("words");
            assert_eq!(words.len(), WORDS);
        }
        assert!(slowest < LIVEZ_TIME_MAX, "/livez took {slowest:?}");
        let name = format!("result, {encoding}");
        assert_below(GATEWAY_BYTES_MAX, gateway.peak_memory_bytes(), &name);
    }
}
