//! The address guard, from outside: what must not be fetched is not even dialled.

use std::time::Duration;

use serde_json::Value;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

const LIMIT: Duration = Duration::from_secs(20);

fn failed(stack: &Stack, url: &str) -> Value {
    let job_id = stack.client().submit_url(url);
    let job = stack.client().finished(&job_id, LIMIT);
    assert_eq!(job["status"], "failed", "{url}: {job}");
    job
}

#[test]
fn addresses_that_must_not_be_fetched_are_never_dialled() {
    // Only one loopback address is allowed; a trap listens on another, under several names.
    let stack = Stack::with(1, 1, &[("WORDMILL_FETCH_ALLOW", "127.0.0.2/32")]);
    let trap = Site::start_on("127.0.0.1:0");
    let trap6 = Site::start_on("[::1]:0");
    let allowed = Site::start_on("127.0.0.2:0");
    let (port, port6) = (trap.port(), trap6.port());

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
        let job = failed(&stack, url);
        assert_eq!(job["failure"]["code"], "url_blocked", "{url}: {job}");
        assert_eq!(job["failure"]["retryable"], false, "{url}: {job}");
        assert_eq!(job["attempts"].as_array().expect("attempts").len(), 1, "{url}: {job}");
        assert_eq!(job["dead_lettered"], false, "{url}: {job}");
    }
    assert_eq!((trap.connections(), trap6.connections()), (0, 0), "something was dialled");
    assert_eq!(allowed.hits("/to-the-trap"), 1);

    // The allowed address works, so the guard is what refused the others.
    let url = allowed.put("/fine", Page::new("text/plain", "fine words"));
    let job_id = stack.client().submit_url(&url);
    assert_eq!(stack.client().finished(&job_id, LIMIT)["totals"]["words"], 2);
}

#[test]
fn without_an_allowance_loopback_is_refused_altogether() {
    let stack = Stack::with(1, 1, &[("WORDMILL_FETCH_ALLOW", "")]);
    let trap = Site::start();
    let job = failed(&stack, &trap.url("/"));
    assert_eq!(job["failure"]["code"], "url_blocked", "{job}");
    assert_eq!(trap.connections(), 0);
}
