//! Event streams: the changes of a job as server-sent events.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use serde_json::{Value, json};
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::assert_fields;
use wordmill_tests::client::Client;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;
use wordmill_tests::stream::{Event, EventStream};
use wordmill_tests::{LIMIT, wait_for};

fn header<'a>(stream: &'a EventStream, name: &str) -> Option<&'a str> {
    stream.headers.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
}

/// Returns the id of the next event and its job.
fn next_job(stream: &mut EventStream) -> (String, Value) {
    match stream.next_job(LIMIT).expect("the stream continues") {
        Event::Job { id, data } => (id, data),
        Event::Comment => unreachable!("comments are skipped"),
    }
}

fn relabel(admin: &Admin, job_id: &str, label: &str) {
    admin.rewrite_record(job_id, |record| record["labels"] = json!({"label": label}));
}

#[test]
fn a_stream_sends_each_change_and_ends_with_the_job() {
    let stack = Stack::start();
    let site = Site::start();
    let client = stack.client();
    let page = Page::new("text/plain", "a b").after(Duration::from_secs(1));
    let job_id = client.submit_url(&site.put("/slow", page));
    let mut stream = EventStream::open(client, &job_id, &[]);
    assert_eq!(stream.status, 200);
    assert_eq!(header(&stream, "content-type"), Some("text/event-stream"));
    assert_eq!(header(&stream, "cache-control"), Some("no-store"));
    assert_eq!(header(&stream, "x-accel-buffering"), Some("no"));

    let mut events: Vec<(u64, Value)> = Vec::new();
    while let Some(event) = stream.next_job(LIMIT) {
        let Event::Job { id, data } = event else { unreachable!("no comments") };
        events.push((id.parse().expect("a revision"), data));
    }
    assert!(events.is_sorted_by(|(left, _), (right, _)| left < right), "{events:?}");
    let statuses: Vec<_> = events.iter().map(|(_, job)| job["status"].clone()).collect();
    assert!(statuses.contains(&json!("running")), "{statuses:?}");
    let (revision, job) = events.last().expect("events");
    let answer = client.get(&format!("/v1/jobs/{job_id}"));
    assert_eq!(*job, answer.json());
    assert_eq!(job["links"]["events"], format!("/v1/jobs/{job_id}/events"));
    assert_eq!(answer.header("etag"), Some(&*format!("\"{revision}\"")), "the id is the revision");
}

#[test]
fn a_stream_resumes_after_the_last_event() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b"}));
    let mut stream = EventStream::open(client, &job_id, &[]);
    let (first, job) = next_job(&mut stream);
    assert_eq!(job["status"], "queued");
    drop(stream);

    // Without a change since the last event, the next event is the next change.
    let mut stream = EventStream::open(client, &job_id, &[("last-event-id", &first)]);
    relabel(&admin, &job_id, "one");
    let (second, job) = next_job(&mut stream);
    assert_eq!(job["labels"]["label"], "one", "{job}");
    drop(stream);

    // After two changes since the last event, only the newest one is sent.
    relabel(&admin, &job_id, "two");
    relabel(&admin, &job_id, "three");
    let mut stream = EventStream::open(client, &job_id, &[("last-event-id", &second)]);
    assert_eq!(next_job(&mut stream).1["labels"]["label"], "three");
    // An invalid id is treated like a missing one.
    for id in ["", "nonsense", "-1"] {
        let mut other = EventStream::open(client, &job_id, &[("last-event-id", id)]);
        assert_eq!(next_job(&mut other).1["labels"]["label"], "three");
    }
    // An id that is higher than all revisions does not hide the final event.
    let mut lost = EventStream::open(client, &job_id, &[("last-event-id", "1000000")]);

    client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    for stream in [&mut stream, &mut lost] {
        assert_eq!(next_job(stream).1["status"], "cancelled");
        assert_eq!(stream.next_job(LIMIT), None, "the end");
    }
}

#[test]
fn each_client_receives_the_final_event_exactly_once() {
    let stack = Stack::start();
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a b"}));
    client.wait_until_final(&job_id, LIMIT);
    let mut late = EventStream::open(client, &job_id, &[]);
    let (id, job) = next_job(&mut late);
    assert_fields(&job, json!({"status": "succeeded"}));
    assert_eq!(late.next_job(LIMIT), None);
    // Browsers reconnect after the end of a stream; status 204 stops them.
    let again = EventStream::open(client, &job_id, &[("last-event-id", &id)]);
    assert_eq!(again.status, 204);

    let path = format!("/v1/jobs/{job_id}/events");
    assert_eq!(client.send("DELETE", &format!("/v1/jobs/{job_id}"), &[], &[]).status, 204);
    client.get(&path).expect_problem(410, "result_expired");
    let unknown = "0198f0c2-0000-7000-8000-000000000000";
    client.get(&format!("/v1/jobs/{unknown}/events")).expect_problem(404, "job_not_found");
    client.get("/v1/jobs/nonsense/events").expect_problem(400, "invalid_job_id");
    client.post(&path, &json!({})).expect_problem(405, "method_not_allowed");
}

#[test]
fn an_idle_stream_sends_comments() {
    let stack = Stack::with(1, 0, &[]);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    let mut stream = EventStream::open(client, &job_id, &[]);
    next_job(&mut stream);
    assert_eq!(stream.next(LIMIT), Some(Event::Comment));
}

#[test]
fn a_shutdown_ends_streams_and_long_polls_immediately() {
    let mut stack = Stack::with(1, 0, &[]);
    let client = stack.client().clone();
    let job_id = client.submit(&json!({"text": "a"}));
    let mut stream = EventStream::open(&client, &job_id, &[]);
    next_job(&mut stream);
    let waiting = {
        let client = client.clone();
        let path = format!("/v1/jobs/{job_id}?wait=60");
        std::thread::spawn(move || client.get(&path))
    };
    // Connections are accepted in order: once this probe is answered, requests sent before it are
    // being served.
    wait_for("both are served", LIMIT, || (client.get("/livez").status == 200).then_some(()));
    let started = Instant::now();
    assert!(stack.gateways[0].process.stop().success());
    assert!(started.elapsed() < Duration::from_secs(20), "stopped only after the grace period");
    assert_eq!(stream.next_job(LIMIT), None, "the stream ended regularly");
    // The wait ends with the unchanged job, unless its request was sent too late.
    if let Ok(answer) = waiting.join() {
        assert_eq!(answer.json()["status"], "queued", "{answer:?}");
    }
}

/// Opens the event stream of a job without reading from it.
fn open_and_ignore(client: &Client, job_id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(client.address()).expect("a connection");
    // Small, so that the kernel buffers little for the client.
    set_socket_recv_buffer_size(&stream, 4096).expect("a small buffer");
    let request =
        format!("GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: {}\r\n\r\n", client.address());
    stream.write_all(request.as_bytes()).expect("the bytes are sent");
    // The response has started, so the client is one of the waiting clients.
    stream.peek(&mut [0]).expect("an answer");
    stream
}

#[test]
fn a_client_that_never_reads_its_events_is_cut_off() {
    let stack = Stack::with(1, 0, &[("WORDMILL_WAITERS_MAX", "2")]);
    let admin = Admin::connect(&stack.nats);
    let client = stack.client();
    let job_id = client.submit(&json!({"text": "a"}));
    let mut reader = EventStream::open(client, &job_id, &[]);
    let reader = std::thread::spawn(move || {
        std::iter::from_fn(|| reader.next_job(LIMIT)).last().expect("an event")
    });
    let mut unread = open_and_ignore(client, &job_id);
    let path = format!("/v1/jobs/{job_id}?wait=1");
    wait_for("both places are in use", LIMIT, || (client.get(&path).status == 503).then_some(()));
    // Large events, until all buffers are full and the client is cut off.
    let filler = "x".repeat(100_000);
    let mut number = 0;
    wait_for("the place of the client that never reads is free", Duration::from_secs(120), || {
        number += 1;
        relabel(&admin, &job_id, &format!("{number} {filler}"));
        (client.get(&path).status == 200).then_some(())
    });
    client.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    assert_eq!(reader.join().expect("never broken off").id_and_status().1, "cancelled");
    let mut rest = Vec::new();
    assert!(unread.read_to_end(&mut rest).is_err() || !rest.ends_with(b"0\r\n\r\n"), "cut off");
}
