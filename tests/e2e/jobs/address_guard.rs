//! The address guard: no connection is opened to an address that is not allowed.

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::assertions::array_length;
use wordmill_tests::receiver::Receiver;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, service_command};

use crate::webhooks::delivery::{SECRET, wait_until_settled};

fn submit_failing_url(stack: &Stack, url: &str) -> Value {
    let job_id = stack.client().submit_url(url);
    let job = stack.client().wait_until_final(&job_id, LIMIT);
    assert_eq!(job["status"], "failed", "{url}: {job}");
    job
}

#[test]
fn forbidden_addresses_are_never_connected_to() {
    // Only one loopback address is allowed. A trap listens on another one, which the URLs write in
    // different forms.
    let stack = Stack::with(1, 1, &[("WORDMILL_FETCH_ALLOW", "127.0.0.2/32")]);
    let trap = Site::start_on("127.0.0.1:0");
    let trap6 = Site::start_on("[::1]:0");
    let allowed = Site::start_on("127.0.0.2:0");
    let port = trap.port();
    let port6 = trap6.port();

    let mut urls = vec![
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("http://0177.0.0.1:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://127.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::ffff:7f00:1]:{port}/"),
        format!("http://[::1]:{port6}/"),
        format!("http://[::127.0.0.1]:{port}/"),
        format!("http://0.0.0.0:{port}/"),
        format!("http://[::]:{port6}/"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "http://10.0.0.1/".to_owned(),
        "http://192.168.1.1/".to_owned(),
        "http://[fe80::1]/".to_owned(),
    ];
    let redirect =
        Page::status("302 Found").header("Location", &format!("http://127.0.0.1:{port}/x"));
    urls.push(allowed.put("/to-the-trap", redirect));
    let redirect = Page::status("302 Found").header("Location", "http://169.254.169.254/");
    urls.push(allowed.put("/to-metadata", redirect));
    for url in &urls {
        let job = submit_failing_url(&stack, url);
        assert_eq!(job["failure"]["code"], "url_blocked", "{url}: {job}");
        assert_eq!(job["failure"]["retryable"], false, "{url}: {job}");
        assert_eq!(array_length(&job["attempts"]), 1, "{url}: {job}");
        assert_eq!(job["dead_lettered"], false, "{url}: {job}");
    }
    assert_eq!(trap.connections(), 0, "a connection was opened");
    assert_eq!(trap6.connections(), 0, "a connection was opened");
    assert_eq!(allowed.hits("/to-the-trap"), 1);

    // The allowed address works, so the guard has refused the others.
    let url = allowed.put("/fine", Page::new("text/plain", "fine words"));
    let job_id = stack.client().submit_url(&url);
    assert_eq!(stack.client().wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
}

#[test]
fn loopback_is_refused_without_an_allowance() {
    let stack = Stack::with(1, 1, &[("WORDMILL_FETCH_ALLOW", "")]);
    let trap = Site::start();
    let job = submit_failing_url(&stack, &trap.url("/"));
    assert_eq!(job["failure"]["code"], "url_blocked", "{job}");
    assert_eq!(trap.connections(), 0);
}

#[test]
fn an_allowed_port_opens_no_other_port_of_its_network() {
    let allowed = Site::start_on("127.0.0.2:0");
    let receiver = Receiver::start();
    let trap = Site::start_on("127.0.0.2:0");
    let elsewhere = Site::start_on("127.0.0.3:0");
    let hook = receiver.url("/hook");
    let (_, hook_port) = hook.trim_end_matches("/hook").rsplit_once(':').expect("a port");
    // The last entry allows the trap's port, in a network without the trap.
    let allow = format!(
        "127.0.0.2/32:{}, 127.0.0.1/32:{hook_port},127.0.0.3/32:{}",
        allowed.port(),
        trap.port()
    );
    let settings = [("WORDMILL_FETCH_ALLOW", allow.as_str()), ("WORDMILL_WEBHOOK_SECRETS", SECRET)];
    let stack = Stack::with(1, 1, &settings);
    let client = stack.client();

    let fine = allowed.put("/fine", Page::new("text/plain", "fine words"));
    let job_id = client.submit(&json!({"url": fine, "webhook": {"url": hook}}));
    assert_eq!(client.wait_until_final(&job_id, LIMIT)["totals"]["words"], 2);
    assert_eq!(wait_until_settled(client, &job_id)["status"], "delivered");

    let to_the_trap = Page::status("302 Found").header("Location", &trap.url("/"));
    let redirect = allowed.put("/to-the-trap", to_the_trap);
    let refused = "WORDMILL_FETCH_ALLOW does not allow port";
    for (url, reason) in [
        (trap.url("/"), refused),
        (format!("http://[::ffff:127.0.0.2]:{}/", trap.port()), refused),
        (redirect, refused),
        (elsewhere.url("/"), refused),
        (format!("http://127.0.0.4:{}/", allowed.port()), "WORDMILL_FETCH_ALLOW does not allow it"),
        ("http://127.0.0.2:25/".to_owned(), "belongs to another protocol"),
    ] {
        let job = submit_failing_url(&stack, &url);
        assert_eq!(job["failure"]["code"], "url_blocked", "{url}: {job}");
        let detail = job["failure"]["detail"].as_str().expect("a detail");
        assert!(detail.contains(reason), "{url}: {detail}");
    }

    let job_id = client.submit(&json!({"text": "a b", "webhook": {"url": trap.url("/hook")}}));
    let webhook = wait_until_settled(client, &job_id);
    assert_eq!(webhook["status"], "failed", "{webhook}");
    let failure = &webhook["attempts"][0]["failure"];
    assert_eq!(failure["code"], "url_blocked", "{webhook}");
    assert!(failure["detail"].as_str().expect("a detail").contains(refused), "{webhook}");
    assert_eq!(trap.connections(), 0, "a connection was opened");
    assert_eq!(elsewhere.connections(), 0, "a connection was opened");
}

#[test]
fn a_worker_does_not_start_with_an_invalid_allowance() {
    for (entry, reason) in [
        ("10.1.0.0", "must be a network such as 10.1.0.0/16"),
        ("10.1.0.0/16:http", "optionally with a port such as 10.1.0.0/16:8080"),
        ("fd00::/8:443", "[fd00::/8]:443"),
        ("[fd00::/8]", "[fd00::/8]:443"),
        ("10.1.0.0/16:25", "has port 25, which is reserved for another protocol"),
    ] {
        let allow = format!("127.0.0.0/8,{entry}");
        let settings = [("WORDMILL_FETCH_ALLOW", allow.as_str())];
        let mut command = service_command("wordmill-worker", "worker", "127.0.0.1:1", &settings);
        let output = command.output().expect("the worker ends");
        assert_eq!(output.status.code(), Some(64), "{entry}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(&format!("{entry} ")) && text.contains(reason), "{entry}: {text}");
    }
}
