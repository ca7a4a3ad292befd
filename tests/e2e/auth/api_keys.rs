//! API keys, rate limits and quotas.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wordmill_tests::assertions::assert_answer;
use wordmill_tests::client::{Answer, Client};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::stack::{Gateway, Stack, service_command};
use wordmill_tests::stream::{Event, EventStream};
use wordmill_tests::{LIMIT, wait_for};

/// Maximum time until the gateway reloads a changed key file.
const RELOAD_TIME_MAX: Duration = Duration::from_secs(30);
/// Maximum time until the event streams of a revoked key end.
const REVOCATION_TIME_MAX: Duration = Duration::from_secs(60);
const UNKNOWN_JOB_PATH: &str = "/v1/jobs/0198f0c2-0000-7000-8000-000000000000";
const UNKNOWN_KEY: &str = "wm_0000000000000000000000000000000000000000000000000000000000000000";

/// Starts a stack whose gateways require API keys.
fn start_stack_with_keys(gateways: usize, workers: usize, keys: &Keyring) -> Stack {
    let (name, path) = keys.setting();
    Stack::with(gateways, workers, &[(name, &path)])
}

/// Waits until the gateway accepts a key, or refuses it if `expected` is false.
fn wait_until_key_is_valid(client: &Client, key: &str, expected: bool) {
    let status = if expected { 404 } else { 401 };
    wait_for("the keys are reloaded", RELOAD_TIME_MAX, || {
        (client.with_key(key).get(UNKNOWN_JOB_PATH).status == status).then_some(())
    });
}

#[test]
fn missing_and_wrong_keys_get_the_same_refusal() {
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    let stack = start_stack_with_keys(1, 1, &keys);
    let client = stack.client();
    let ours = client.with_key(&key);
    let job_id = ours.submit(&json!({"text": "a key opens the door"}));
    assert_eq!(ours.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
    assert_eq!(ours.result(&job_id)["totals"]["words"], 5);
    for path in ["/", "/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/docs"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }

    let job = format!("/v1/jobs/{job_id}");
    let longer = format!("Bearer {key}0");
    let basic = format!("Basic {key}");
    let unknown = format!("Bearer {UNKNOWN_KEY}");
    let wrong = ["", "Bearer", "Bearer wm_", "nonsense", &basic, &unknown, &longer, &key];
    let mut answers: Vec<Value> = Vec::new();
    for path in [job.as_str(), "/v1/jobs", "/nothing", "/livez/", "/v1/dead-letters"] {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            let without = client.send(method, path, &[], b"");
            let with =
                wrong.map(|value| client.send(method, path, &[("authorization", value)], b""));
            for answer in [without].into_iter().chain(with) {
                let mut problem = answer.expect_problem(401, "unauthenticated");
                assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"wordmill\""));
                problem["trace_id"] = Value::Null;
                answers.push(problem);
            }
        }
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");

    // The older contract has its own envelope.
    for answer in [client.get("/word-count"), client.post("/word-count", &json!({"url": "x"}))] {
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
        assert_eq!(answer.json()["success"], false, "{answer:?}");
        assert_eq!(answer.json()["data"], json!({}), "{answer:?}");
    }
    let older = ours.get(&format!("/word-count/{job_id}")).json();
    assert_eq!(older["data"]["status"], "COMPLETE", "{older}");
    let output = stack.gateways[0].process.output();
    assert!(!output.contains(&key) && !output.contains(UNKNOWN_KEY), "a key is in the log");
}

#[test]
fn keys_are_rotated_while_the_gateway_runs() {
    let mut keys = Keyring::new();
    let old = keys.add("team", &json!({}));
    let mut stack = start_stack_with_keys(1, 0, &keys);
    let client = stack.client().clone();
    let job_id = client.with_key(&old).submit(&json!({"text": "a"}));
    let new = keys.rotate("team");
    wait_until_key_is_valid(&client, &new, true);
    wait_until_key_is_valid(&client, &old, true);
    keys.revoke_oldest("team");
    wait_until_key_is_valid(&client, &old, false);
    // The new key has the same owner.
    assert_eq!(client.with_key(&new).get(&format!("/v1/jobs/{job_id}")).status, 200);

    let gateway = &mut stack.gateways[0].process;
    for broken in ["", "{\"name\": \"team\"", "# nothing"] {
        let error_count = |output: &str| output.matches("cannot use the changed files").count();
        let before = error_count(&gateway.output());
        fs::write(keys.path(), broken).expect("the file is written");
        gateway.signal(Signal::HUP);
        wait_for("the gateway logs an error", RELOAD_TIME_MAX, || {
            (error_count(&gateway.output()) > before).then_some(())
        });
        wait_until_key_is_valid(&client, &new, true);
    }
    fs::remove_file(keys.path()).expect("the file is removed");
    gateway.signal(Signal::HUP);
    wait_for("the gateway reports the missing key file", RELOAD_TIME_MAX, || {
        gateway.output().contains("No such file").then_some(())
    });
    wait_until_key_is_valid(&client, &new, true);
    keys.write();
    let other = keys.add("other", &json!({}));
    wait_until_key_is_valid(&client, &other, true);
    assert!(gateway.exit_status().is_none());
}

/// Opens the event stream of a queued job and reads the first event.
fn open_events_of_queued_job(client: &Client, job_id: &str) -> EventStream {
    let mut stream = EventStream::open(client, job_id, &[]);
    let first = stream.next_job(LIMIT).expect("an event");
    assert_eq!(first.id_and_status().1, "queued");
    stream
}

fn wait_until_stream_ends(mut stream: EventStream) {
    wait_for("the stream of the revoked key ends", REVOCATION_TIME_MAX, || {
        match stream.next(LIMIT) {
            None => Some(()),
            Some(Event::Comment) => None,
            Some(event) => panic!("{event:?}"),
        }
    });
}

#[test]
fn revoking_a_key_ends_only_its_own_event_streams() {
    let mut keys = Keyring::new();
    let owner = json!({"owner": "team"});
    let [first, old, other] = ["first", "second", "other"].map(|name| keys.add(name, &owner));
    let stack = start_stack_with_keys(1, 0, &keys);
    let [first, old, other] = [first, old, other].map(|key| stack.client().with_key(&key));
    let job_id = first.submit(&json!({"text": "a"}));
    let [stream, of_old, mut of_other] =
        [&first, &old, &other].map(|key| open_events_of_queued_job(key, &job_id));

    keys.revoke_oldest("first");
    wait_until_stream_ends(stream);
    // A client that reconnects after the end of its stream is refused.
    assert_eq!(EventStream::open(&first, &job_id, &[]).status, 401);
    // Revoking the old key of a rotated name ends its streams, but not those of the new key.
    let new = keys.rotate("second");
    wait_until_key_is_valid(stack.client(), &new, true);
    let mut of_new = open_events_of_queued_job(&stack.client().with_key(&new), &job_id);
    keys.revoke_oldest("second");
    wait_until_stream_ends(of_old);

    other.send("POST", &format!("/v1/jobs/{job_id}/cancel"), &[], &[]);
    for stream in [&mut of_other, &mut of_new] {
        assert_eq!(stream.next_job(LIMIT).expect("the end").id_and_status().1, "cancelled");
        assert_eq!(stream.next_job(LIMIT), None);
    }
}

#[test]
fn revoking_a_key_interrupts_the_transfer_of_a_result() {
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    keys.add("other", &json!({}));
    let stack = start_stack_with_keys(1, 1, &keys);
    let client = stack.client().with_key(&key);
    // Larger than the socket buffers of both sides.
    let text: String = (0..600_000).map(|n| format!("word{n:026} ")).collect();
    let plain = [("content-type", "text/plain; charset=utf-8")];
    let answer = client.send("POST", "/v1/jobs", &plain, text.as_bytes());
    let job_id = answer.json()["job_id"].as_str().expect("an id").to_owned();
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["status"], "succeeded");

    let open = |path: String| {
        let mut stream = TcpStream::connect(client.address()).expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        let host = client.address();
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the bytes are sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    };
    let paths = [format!("/v1/jobs/{job_id}/result?format=csv"), format!("/word-count/{job_id}")];
    let streams = paths.map(open);
    keys.revoke_oldest("team");
    wait_until_key_is_valid(stack.client(), &key, false);
    for mut stream in streams {
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        assert!(read.is_err() || !rest.ends_with(b"0\r\n\r\n"), "the complete result was sent");
        assert!(rest.len() < text.len(), "{} bytes", rest.len());
    }
}

#[test]
fn requests_over_the_rate_limit_get_retry_after() {
    let mut keys = Keyring::new();
    let slow = json!({"rate_limit": {"per_second": 1, "burst": 3}});
    let slow = keys.add("slow", &slow);
    let free = keys.add("free", &json!({}));
    let stack = start_stack_with_keys(1, 0, &keys);
    let slow = stack.client().with_key(&slow);
    let free = stack.client().with_key(&free);
    let limited: Answer = wait_for("the rate limit is reached", LIMIT, || {
        let answer = slow.get(UNKNOWN_JOB_PATH);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"requests\";q=3;w=3"));
        let left = answer.header("ratelimit").expect("a ratelimit field");
        assert!(left.starts_with("\"requests\";r=") && left.contains(";t="), "{left}");
        (answer.status != 404).then_some(answer)
    });
    assert_eq!(limited.expect_problem(429, "rate_limited")["retryable"], true);
    assert_eq!(limited.header("retry-after"), Some("1"));
    assert!(limited.header("ratelimit").is_some_and(|left| left.starts_with("\"requests\";r=0;")));
    let answer = free.get(UNKNOWN_JOB_PATH);
    assert_eq!(answer.status, 404);
    assert_eq!(answer.header("ratelimit"), None);
    wait_for("the key may send again", LIMIT, || {
        (slow.get(UNKNOWN_JOB_PATH).status == 404).then_some(())
    });
    // The older contract answers in its own envelope.
    let limited = wait_for("the rate limit is reached", LIMIT, || {
        let answer = slow.get("/word-count/x");
        (answer.status == 429).then_some(answer)
    });
    assert_eq!(limited.json()["success"], false, "{limited:?}");
    assert!(limited.header("retry-after").is_some(), "{limited:?}");
}

#[test]
fn an_owner_cannot_have_more_unfinished_jobs_than_its_quota() {
    let mut keys = Keyring::new();
    let a = json!({"queue_quota": 3});
    let b = json!({});
    let a = keys.add("a", &a);
    let b = keys.add("b", &b);
    let mut stack = start_stack_with_keys(1, 0, &keys);
    let a = stack.client().with_key(&a);
    let b = stack.client().with_key(&b);
    let text = |n: usize| json!({"text": format!("job {n}")});
    let key = ("idempotency-key", "one");
    let named = [key, ("content-type", "application/json")];
    let first = a.send("POST", "/v1/jobs", &named, text(0).to_string().as_bytes());
    assert_eq!(first.status, 202, "{first:?}");
    for n in 1..3 {
        a.submit(&text(n));
    }
    let refused = a.post("/v1/jobs", &text(3));
    assert_eq!(refused.expect_problem(429, "quota_exceeded")["retryable"], true);
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let put = a.send("PUT", UNKNOWN_JOB_PATH, &named[1..], text(3).to_string().as_bytes());
    put.expect_problem(429, "quota_exceeded");
    let older = a.post("/word-count", &json!({"url": "http://example.org/"}));
    assert_answer(&older, 429, json!({"success": false}));
    // A repeated request still finds its job, and other owners are not limited.
    let repeat = a.send("POST", "/v1/jobs", &named, text(0).to_string().as_bytes());
    assert_eq!(repeat.json()["job_id"], first.json()["job_id"]);
    for n in 0..5 {
        b.submit(&text(n));
    }
    // Once a worker has finished the jobs, the owner can submit again.
    let address = stack.nats.address();
    stack.workers.push(wordmill_tests::stack::Worker::start(&address, &[]));
    let job_id = wait_for("the quota admits another job", LIMIT, || {
        let answer = a.post("/v1/jobs", &text(3));
        (answer.status == 202).then(|| answer.json()["job_id"].as_str().expect("id").to_owned())
    });
    assert_eq!(a.wait_until_final(&job_id, LIMIT)["status"], "succeeded");
}

#[test]
fn a_gateway_on_a_non_loopback_address_requires_keys() {
    let mut command = service_command(
        "wordmill-gateway",
        "gateway",
        "127.0.0.1:1",
        &[("WORDMILL_LISTEN", "0.0.0.0:0")],
    );
    let output = command.output().expect("the gateway runs");
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("there are no API keys: set WORDMILL_KEYS_FILE"), "{text}");
    // A missing or invalid key file is reported with the reason.
    let keys = Keyring::new();
    let (name, path) = keys.setting();
    for (content, reason) in [(None, "No such file"), (Some("{}"), "line 1: missing field")] {
        if let Some(content) = content {
            fs::write(keys.path(), content).expect("the file is written");
        }
        let settings = [(name, path.as_str()), ("WORDMILL_LISTEN", "127.0.0.1:0")];
        let mut command = service_command("wordmill-gateway", "gateway", "127.0.0.1:1", &settings);
        let output = command.output().expect("the gateway runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("cannot use the API keys") && text.contains(reason), "{text}");
    }
}

#[test]
fn all_gateways_accept_the_same_keys() {
    let mut keys = Keyring::new();
    let key = keys.add("team", &json!({}));
    let stack = start_stack_with_keys(2, 1, &keys);
    let both: Vec<Client> =
        stack.gateways.iter().map(|Gateway { client, .. }| client.with_key(&key)).collect();
    let job_id = both[0].submit(&json!({"text": "here and there"}));
    assert_eq!(both[1].wait_until_final(&job_id, LIMIT)["status"], "succeeded");
}
