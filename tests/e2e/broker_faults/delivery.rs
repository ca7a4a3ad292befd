//! Branches of a delivery that need dropped, delayed or unconfirmed requests between worker and
//! broker. docs/reliability.md lists the tests of the other branches.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use wordmill_tests::assertions::{array_length, assert_fields};
use wordmill_tests::proxied_stack::{Proxied, ProxiedStack};
use wordmill_tests::proxy::{Forward, Rule};
use wordmill_tests::site::{Page, Site};
use wordmill_tests::{LIMIT, wait_for};

const RECORDS: &str = "$KV.job_state.";
const REPLICA_READ: &str = "$JS.API.DIRECT.GET.KV_job_state.";
const LEADER_READ: &str = "$JS.API.STREAM.MSG.GET.KV_job_state";
/// Prefix of acknowledgement subjects, which are also the reply subjects of deliveries.
const ACK: &str = "$JS.ACK.JOBS.";
/// The server's answer while another write of the same subject is in flight to the replicas.
const WRITE_IN_FLIGHT: &str =
    r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#;

/// Settings with which a worker runs at most one job per lane.
const ONE_JOB_PER_LANE: &[(&str, &str)] = &[("WORDMILL_SLOTS", "2")];

/// Starts a gateway, and a proxy for workers. The broker redelivers a message after 3 s without an
/// acknowledgement, because a worker on a busy machine may need more than 1 s to send one.
fn start() -> ProxiedStack {
    ProxiedStack::start(Proxied::Workers, &[]).with_ack_wait(Duration::from_secs(3))
}

/// Submits a page of two words.
fn submit_page(stack: &ProxiedStack, path: &str) -> String {
    stack.client().submit_url(&stack.site.put(path, Page::new("text/plain", "two words")))
}

/// Waits until a job is final and its message is settled, and asserts that the job did not change
/// in between.
fn wait_until_settled(stack: &ProxiedStack, job_id: &str) -> Value {
    let job = stack.client().wait_until_final(job_id, LIMIT);
    let etag = stack.etag(job_id);
    stack.admin.wait_until_idle();
    assert_eq!(stack.job(job_id), job);
    assert_eq!(stack.etag(job_id), etag);
    job
}

/// Asserts that a job succeeded in its first attempt with a single fetch.
fn assert_done_in_one_attempt(stack: &ProxiedStack, path: &str, job_id: &str) {
    let job = wait_until_settled(stack, job_id);
    assert_eq!(job["totals"]["words"], 2, "{job}");
    assert_eq!(array_length(&job["attempts"]), 1, "{job}");
    assert_eq!(stack.site.hits(path), 1, "{job}");
}

#[test]
fn a_lost_acknowledgement_causes_one_redelivery() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[]);
    let handle = stack.proxy().add_rule(Rule::discard(ACK).containing("+ACK").times(1));
    let job_id = submit_page(&stack, "/page");
    assert_done_in_one_attempt(&stack, "/page", &job_id);
    assert_eq!(handle.count(), 1);
}

#[test]
fn an_unconfirmed_dead_letter_is_stored_before_the_message_is_removed() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[("WORDMILL_ATTEMPTS", "1")]);
    for (n, rule) in
        [Rule::discard("dead."), Rule::discard_answers("dead.")].into_iter().enumerate()
    {
        let path = format!("/{n}");
        let url = stack.site.put(&path, Page::status("503 Service Unavailable"));
        let handle = stack.proxy().add_rule(rule.times(1));
        let job_id = stack.client().submit_url(&url);
        let job = wait_until_settled(&stack, &job_id);
        assert_fields(&job, json!({"dead_lettered": true}));
        assert_eq!(handle.count(), 1, "{job}");
        assert_eq!(array_length(&job["attempts"]), 1, "{job}");
        assert_eq!(stack.site.hits(&path), 1, "{job}");
        assert_eq!(stack.admin.message_count("DEAD_JOBS"), n as u64 + 1);
    }
    let handle = stack.proxy().add_rule(Rule::discard("dead.").times(1));
    stack.admin.publish("jobs.bulk.public.nonsense", "not a job");
    stack.admin.wait_until_idle();
    assert_eq!(handle.count(), 1);
    assert_eq!(stack.admin.message_count("DEAD_JOBS"), 3);
}

#[test]
fn an_early_delivery_is_delayed_until_its_attempt_is_due() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[("WORDMILL_RETRY_BASE", "8s")]);
    // The negative acknowledgement is lost, so the broker redelivers the message before the job's
    // next attempt is due.
    let handle = stack.proxy().add_rule(Rule::discard(ACK).containing("-NAK").times(1));
    let url = stack.site.put("/busy", Page::status("503 Service Unavailable"));
    let job_id = stack.client().submit_url(&url);
    wait_for("the negative acknowledgement is lost", LIMIT, || (handle.count() == 1).then_some(()));
    let returned = stack.proxy().add_rule(Rule::pass(ACK).containing("-NAK"));
    wait_for("the job is returned", LIMIT, || (returned.count() > 0).then_some(()));
    assert_eq!(array_length(&stack.job(&job_id)["attempts"]), 1);
    assert_eq!(stack.site.hits("/busy"), 1);
    stack.site.put("/busy", Page::new("text/plain", "two words"));
    let job = wait_until_settled(&stack, &job_id);
    assert_fields(&job, json!({"totals.words": 2}));
    assert_eq!(array_length(&job["attempts"]), 2, "{job}");
    assert_eq!(stack.site.hits("/busy"), 2);
}

#[test]
fn a_lost_read_of_a_record_is_repeated() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[]);
    let handle = stack.proxy().add_rule(Rule::discard(REPLICA_READ).times(1));
    let job_id = submit_page(&stack, "/page");
    assert_done_in_one_attempt(&stack, "/page", &job_id);
    assert_eq!(handle.count(), 1);
}

#[test]
fn a_job_that_becomes_final_while_it_is_read_is_not_started() {
    let stack = start();
    for (path, is_deleted) in [("/cancelled", false), ("/deleted", true)] {
        let slow = Page::new("text/plain", "two words").after(Duration::from_secs(30));
        let job_id = stack.client().submit_url(&stack.site.put(path, slow));
        let mut first = stack.start_direct_worker(&[]);
        wait_for("the job runs", LIMIT, || {
            (stack.job(&job_id)["status"] == "running").then_some(())
        });
        first.process.kill();
        // The next delivery reads the record before the cancellation and receives the answer after
        // it.
        let held_messages = stack.proxy().add_rule(Rule::hold_answers(REPLICA_READ));
        let _second = stack.start_proxied_worker(&[]);
        wait_for("the record is read", LIMIT, || (held_messages.count() > 0).then_some(()));
        let job_path = format!("/v1/jobs/{job_id}");
        let cancelled = stack.client().send("POST", &format!("{job_path}/cancel"), &[], &[]);
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
        if is_deleted {
            assert_eq!(stack.client().send("DELETE", &job_path, &[], &[]).status, 204);
        }
        stack.proxy().release();
        stack.admin.wait_until_idle();
        assert_eq!(stack.site.hits(path), 1);
        match is_deleted {
            false => assert_eq!(stack.job(&job_id), cancelled.json()),
            true => drop(stack.client().get(&job_path).expect_problem(410, "result_expired")),
        }
    }
}

/// Two pages that respond only when the test allows it, in the order of the requests.
struct GatedPages {
    allowed: Arc<AtomicUsize>,
}

impl GatedPages {
    fn start(site: &Site, pages: [Page; 2]) -> Self {
        let allowed = Arc::new(AtomicUsize::new(0));
        let permits = Arc::clone(&allowed);
        let visitors = AtomicUsize::new(0);
        site.handle(move |_, _| {
            let visitor = visitors.fetch_add(1, Ordering::SeqCst);
            wait_for("the request may be answered", LIMIT, || {
                (permits.load(Ordering::SeqCst) > visitor).then_some(())
            });
            pages.get(visitor).cloned().unwrap_or_else(|| Page::status("410 Gone"))
        });
        Self { allowed }
    }

    fn answer_next(&self) {
        self.allowed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Runs a job on two workers. The first one loses the job to the second without noticing, and ends
/// its attempt with `page` while the second one still runs the job. `written` is part of the first
/// worker's final write.
fn run_job_on_two_workers(page: Page, written: &str) -> Value {
    let stack = start();
    let pages = GatedPages::start(&stack.site, [page, Page::new("text/plain", "now three words")]);
    let log = ("WORDMILL_LOG", "debug");
    let mut first = stack.start_proxied_worker(&[ONE_JOB_PER_LANE[0], log]);
    for rule in [
        Rule::discard(ACK).containing("+WPI"),
        Rule::discard("events."),
        Rule::discard_answers(LEADER_READ),
    ] {
        stack.proxy().add_rule(rule);
    }
    let job_id = stack.client().submit_url(&stack.site.url("/page"));
    wait_for("the first fetches the page", LIMIT, || (stack.site.hits("/page") == 1).then_some(()));
    let _second = stack.start_direct_worker(&[]);
    wait_for("the second fetches the page", LIMIT, || {
        (stack.site.hits("/page") == 2).then_some(())
    });
    let late = stack.proxy().add_rule(Rule::discard_answers(RECORDS).containing(written));
    pages.answer_next();
    wait_for("the first ends its attempt", LIMIT, || (late.count() > 0).then_some(()));
    assert_eq!(stack.job(&job_id)["status"], "running");
    stack.proxy().release();
    if written.contains("failed") {
        first.process.wait_for_log("another run owns the job; dropping this delivery", LIMIT);
        assert_eq!(stack.job(&job_id)["status"], "running");
        pages.answer_next();
    }
    let job = wait_until_settled(&stack, &job_id);
    pages.answer_next();
    assert_eq!(array_length(&job["attempts"]), 2, "{job}");
    assert_eq!(stack.site.hits("/page"), 2, "{job}");
    job
}

#[test]
fn a_late_success_ends_a_job_that_another_worker_runs() {
    let job =
        run_job_on_two_workers(Page::new("text/plain", "two words"), r#""status":"succeeded""#);
    assert_eq!(job["totals"]["words"], 2, "{job}");
    assert_eq!(job["attempts"][0]["failure"], Value::Null, "{job}");
    assert_eq!(job["attempts"][1]["failure"], Value::Null, "{job}");
}

#[test]
fn a_late_failure_does_not_end_a_job_that_another_worker_runs() {
    let job = run_job_on_two_workers(Page::status("404 Not Found"), r#""status":"failed""#);
    assert_eq!(job["totals"]["words"], 3, "{job}");
    assert_eq!(job["attempts"][0]["failure"]["code"], "worker_crashed", "{job}");
}

#[test]
fn an_unconfirmed_final_write_is_verified_at_the_leader() {
    let stack = start();
    // Long enough for a write that is lost and then repeated.
    stack.admin.set_ack_wait(Duration::from_secs(30));
    let _worker = stack.start_proxied_worker(&[]);
    let rules = [
        Rule::discard(RECORDS).times(1),
        Rule::discard_answers(RECORDS).times(1),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::No).times(1),
        Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::Yes).times(1),
    ];
    for (n, rule) in rules.into_iter().enumerate() {
        let path = format!("/{n}");
        let handle = stack.proxy().add_rule(rule.containing("succeeded"));
        let job_id = submit_page(&stack, &path);
        assert_done_in_one_attempt(&stack, &path, &job_id);
        assert_eq!(handle.count(), 1);
        stack.proxy().release();
    }
}

#[test]
fn a_worker_waits_for_a_slow_write() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[]);
    let busy = Rule::answer(RECORDS, WRITE_IN_FLIGHT, Forward::No).containing("succeeded");
    let handle = stack.proxy().add_rule(busy);
    let job_id = submit_page(&stack, "/page");
    wait_for("the write was tried several times", LIMIT, || (handle.count() >= 4).then_some(()));
    stack.proxy().release();
    assert_done_in_one_attempt(&stack, "/page", &job_id);
}

#[test]
fn a_large_result_that_was_not_stored_is_stored_again() {
    let stack = start();
    let _worker = stack.start_proxied_worker(&[]);
    let words: Vec<String> = (0..8000).map(|n| format!("word{n:05}")).collect();
    for (n, rule) in [Rule::discard("$O.results.C."), Rule::discard_answers("$O.results.M.")]
        .into_iter()
        .enumerate()
    {
        let path = format!("/{n}");
        let url = stack.site.put(&path, Page::new("text/plain", words.join(" ")));
        let handle = stack.proxy().add_rule(rule.times(1));
        let job_id = stack.client().submit_url(&url);
        let job = wait_until_settled(&stack, &job_id);
        assert_eq!(handle.count(), 1, "{job}");
        let result = stack.client().result(&job_id);
        assert_eq!(result["word_count"].as_object().map(serde_json::Map::len), Some(8000));
    }
}

#[test]
fn a_job_whose_progress_cannot_be_written_continues() {
    let stack = start();
    let _first = stack.start_proxied_worker(ONE_JOB_PER_LANE);
    let unwritten = stack.proxy().add_rule(Rule::discard_answers(RECORDS).containing("running"));
    let unread = stack.proxy().add_rule(Rule::discard_answers(LEADER_READ));
    // The page takes longer than the ack wait of 3 s, while these requests stay unanswered.
    let page = Page::new("text/plain", "two words").after(Duration::from_secs(6));
    let job_id = stack.client().submit_url(&stack.site.put("/page", page));
    wait_for("the first fetches the page", LIMIT, || (stack.site.hits("/page") == 1).then_some(()));
    let _second = stack.start_direct_worker(&[]);
    wait_for("neither write nor read is answered", LIMIT, || {
        (unwritten.count() > 0 && unread.count() > 1).then_some(())
    });
    stack.proxy().release();
    assert_done_in_one_attempt(&stack, "/page", &job_id);
}

/// Stops a worker in the middle of a job while `rules` are active, and returns the job after
/// another worker has finished it. `is_expected` checks how often each rule was applied.
fn stop_worker_during_job(rules: Vec<Rule>, is_expected: impl Fn(&[usize]) -> bool) -> Value {
    let stack = start();
    // A job that is not returned would be redelivered only after 30 s.
    stack.admin.set_ack_wait(Duration::from_secs(30));
    let mut worker = stack.start_proxied_worker(&[("WORDMILL_SHUTDOWN_GRACE", "100ms")]);
    let handles: Vec<_> = rules.into_iter().map(|rule| stack.proxy().add_rule(rule)).collect();
    let slow = Page::new("text/plain", "two words").after(Duration::from_secs(30));
    let job_id = stack.client().submit_url(&stack.site.put("/page", slow));
    wait_for("the start is written", LIMIT, || (handles[0].count() > 0).then_some(()));
    worker.process.signal(Signal::TERM);
    assert!(worker.process.wait_for_exit(LIMIT).success(), "{}", worker.process.output());
    let counts: Vec<usize> = handles.iter().map(wordmill_tests::proxy::RuleHandle::count).collect();
    assert!(is_expected(&counts), "{counts:?}");
    stack.site.put("/page", Page::new("text/plain", "two words"));
    let _second = stack.start_direct_worker(&[]);
    let job = stack.client().wait_until_final(&job_id, Duration::from_secs(15));
    assert_eq!(job["totals"]["words"], 2, "{job}");
    stack.admin.wait_until_idle();
    job
}

#[test]
fn a_job_with_an_unconfirmed_start_is_returned() {
    let rules = vec![
        Rule::discard_answers(RECORDS).containing("running").times(1),
        Rule::discard_answers(LEADER_READ).times(1),
    ];
    let job = stop_worker_during_job(rules, |counts| counts == [1, 1]);
    assert_eq!(array_length(&job["attempts"]), 1, "the returned run is not an attempt: {job}");
}

#[test]
fn an_unconfirmed_return_takes_effect() {
    let rules = vec![
        Rule::pass(RECORDS).containing("running"),
        Rule::discard_answers(RECORDS).containing(r#""status":"queued""#).times(1),
    ];
    let job = stop_worker_during_job(rules, |counts| counts == [1, 1]);
    assert_eq!(array_length(&job["attempts"]), 1, "the returned run is not an attempt: {job}");
}

#[test]
fn a_job_is_returned_even_if_no_read_is_answered() {
    let rules = vec![
        Rule::discard_answers(RECORDS).containing("running"),
        Rule::discard_answers(LEADER_READ),
    ];
    let job = stop_worker_during_job(rules, |counts| counts[0] > 0 && counts[1] > 1);
    // The return was not recorded, so the next worker records the attempt as crashed.
    assert_eq!(array_length(&job["attempts"]), 2, "{job}");
    assert_eq!(job["attempts"][0]["failure"]["code"], "worker_crashed", "{job}");
}

#[test]
fn a_job_delivered_to_a_stopping_worker_runs_immediately_on_another() {
    let stack = start();
    stack.admin.set_ack_wait(Duration::from_secs(30));
    // On a busy machine the delivery may be released too late. Then it is redelivered only after
    // the ack wait.
    let in_time = (0..3).any(|n| {
        let path = format!("/{n}");
        let mut worker = stack.start_proxied_worker(&[]);
        let held_messages = stack.proxy().add_rule(Rule::hold(ACK).containing("job_id"));
        let ended = stack.proxy().add_rule(Rule::pass("$JS.API.DIRECT.GET.KV_job_state"));
        let job_id = submit_page(&stack, &path);
        wait_for("the job is in flight", LIMIT, || (held_messages.count() == 1).then_some(()));
        worker.process.signal(Signal::TERM);
        wait_for("the worker pulls no more jobs", LIMIT, || (ended.count() > 0).then_some(()));
        stack.proxy().release();
        assert!(worker.process.wait_for_exit(LIMIT).success(), "{}", worker.process.output());
        let _second = stack.start_direct_worker(&[]);
        let started = std::time::Instant::now();
        assert_done_in_one_attempt(&stack, &path, &job_id);
        started.elapsed() < Duration::from_secs(15)
    });
    assert!(in_time, "the job in flight waited for its redelivery in each of three rounds");
}
