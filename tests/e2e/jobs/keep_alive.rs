//! A worker keeps a job only while the job makes progress.

use std::time::Duration;

use rustix::process::Signal;
use wordmill_tests::admin::Admin;
use wordmill_tests::assertions::array_length;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::{Stack, Worker, wait_until_ready};
use wordmill_tests::{LIMIT, wait_for};

#[test]
fn a_page_that_stalls_is_cut_off() {
    let settings = [("WORDMILL_FETCH_STALL_TIMEOUT", "300ms"), ("WORDMILL_ATTEMPTS", "2")];
    let stack = Stack::with(1, 1, &settings);
    let site = Site::start();
    let stuck = Page::new("text/plain", "stuck in the middle").stalls_after(5);
    let job_id = stack.client().submit_url(&site.put("/stuck", stuck));
    let job = stack.client().wait_until_final(&job_id, Duration::from_secs(10));
    assert_eq!(job["status"], "failed", "{job}");
    assert_eq!(job["failure"]["code"], "fetch_timeout", "{job}");
    assert_eq!(array_length(&job["attempts"]), 2, "{job}");
    assert_eq!(site.hits("/stuck"), 2);
    Admin::connect(&stack.nats).wait_until_idle();
}

#[test]
fn a_paused_worker_holds_no_job() {
    let stack = Stack::with(1, 0, &[]);
    let admin = Admin::connect(&stack.nats);
    let site = Site::start();
    admin.set_ack_wait(Duration::from_secs(2));
    let slow = Page::new("text/plain", "one two three").after(Duration::from_secs(1));
    let job_id = stack.client().submit_url(&site.put("/page", slow));
    let path = format!("/v1/jobs/{job_id}");
    let mut paused = Worker::start(&stack.nats.address(), &[]);
    wait_for("the job runs", LIMIT, || {
        (stack.client().get(&path).json()["status"] == "running").then_some(())
    });
    paused.process.signal(Signal::STOP);
    site.put("/page", Page::new("text/plain", "two words"));

    let other = Worker::start(&stack.nats.address(), &[]);
    wait_until_ready(&other.health);
    let job = stack.client().wait_until_final(&job_id, Duration::from_secs(10));
    assert_eq!(job["totals"]["words"], 2, "{job}");
    assert_eq!(array_length(&job["attempts"]), 2, "{job}");
    assert_eq!(job["attempts"][0]["failure"]["code"], "worker_crashed", "{job}");
    let etag = stack.client().get(&path).header("etag").map(str::to_owned);
    admin.wait_until_idle();

    // The resumed worker has fetched a page of three words and still assumes that it owns the job.
    paused.process.signal(Signal::CONT);
    paused.process.wait_for_log("job finished", LIMIT);
    let late = stack.client().get(&path);
    assert_eq!(late.json(), job);
    assert_eq!(late.header("etag"), etag.as_deref());
    assert_eq!(site.hits("/page"), 2);
}
