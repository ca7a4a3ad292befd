//! Display of running, failed and dead-lettered jobs, of batches and of the queue in the UI.

use serde_json::json;
use wordmill_tests::site::Page;
use wordmill_tests::stack::Gateway;

use super::Visit;

#[test]
fn a_job_is_followed_while_it_runs() {
    let visit = Visit::with(&[("WORDMILL_FETCH_STALL_TIMEOUT", "4s")]);
    let browser = &visit.browser;
    let page = Page::new("text/plain", "word ".repeat(200_000));
    let url = visit.site.put("/slow", page.clone().stalls_after(500_000));
    visit.count(&url);
    let stage = browser.wait_for_text(".stage", "Fetched and counted so far");
    assert!(stage.contains("of 1.00 MB"), "{stage}");
    let value = browser.run_script("return document.querySelector('progress').position", &[]);
    let value = value.as_f64().expect("a position");
    assert!(value > 0.0 && value < 1.0, "{value}");
    assert_eq!(browser.text(".figure"), "");
    // The host recovers: the second attempt succeeds, and the UI updates without a user action.
    visit.site.put("/slow", page);
    browser.wait_for_text(".figure", "200,000");
    browser.wait_for_text("#live", "Job succeeded. 200,000 words.");
    visit.assert_clean(&[]);
}

#[test]
fn a_job_is_cancelled_and_retried() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let page = Page::new("text/plain", "one two three");
    let url = visit.site.put("/stalls", page.clone().stalls_after(3));
    let job_id = visit.count(&url);
    browser.wait_for_text(".stage", "Running");
    browser.click(".actions button");
    browser.wait_for_text(".verdict", "Cancelled");
    let job = visit.client().get(&format!("/v1/jobs/{job_id}")).json();
    assert_eq!(job["status"], "cancelled", "{job}");
    visit.site.put("/stalls", page);
    browser.click(".actions button");
    browser.wait_for_text(".figure", "3");
    browser.wait_for_text(".details", &job_id);
    assert_ne!(visit.displayed_job_id(), job_id);
    visit.assert_clean(&[]);
}

#[test]
fn a_failed_job_shows_its_reason() {
    let visit = Visit::start();
    let browser = &visit.browser;
    visit.count(&visit.site.url("/nowhere"));
    browser.wait_for_text(".verdict", "Failed");
    let message = browser.wait_for_text("main", "fetch_http_4xx");
    assert!(message.contains("The host responded with status 404."), "{message}");
    // A refused input stays in the form.
    visit.open("#/");
    browser.wait_for_text("h1", "Count words");
    browser.fill("#input", "http://user:secret@example.org/");
    browser.click("#count");
    browser.wait_for_text(".problem", "invalid_url");
    browser.fill("#language", "not a language");
    browser.run_script("document.querySelector('#input').value = 'text'", &[]);
    browser.click("#count");
    browser.wait_for_text(".problem", "invalid_option");
    browser.run_script("document.querySelector('#input').value = ''", &[]);
    browser.click("#count");
    browser.wait_for_text(".problem", "Nothing to count");
    visit.assert_clean(&["422"]);
}

#[test]
fn a_dead_letter_is_replayed() {
    let visit = Visit::with(&[("WORDMILL_TRACE_URL", "http://127.0.0.1:9")]);
    let browser = &visit.browser;
    let url = visit.site.put("/unavailable", Page::status("503 Service Unavailable"));
    visit.count(&url);
    browser.wait_for_text(".verdict", "Failed");
    browser.wait_for_text("main", "Attempt 3");
    browser.click("a[href='#/dead-letters']:not(nav a)");
    browser.wait_for_text("h1", "Dead letters");
    let letter = browser.wait_for_text(".letters li", "fetch_http_5xx");
    assert!(letter.contains("after 3 attempts"), "{letter}");
    let trace = browser.run_script("return document.querySelector('.letters .note a').href", &[]);
    let trace = trace.as_str().expect("a link");
    assert!(trace.starts_with("http://127.0.0.1:9/trace/") && trace.len() == 57, "{trace}");
    visit.site.put("/unavailable", Page::new("text/plain", "available again"));
    browser.click(".letters button");
    browser.wait_for_text(".letters li", "Replayed");
    browser.click(".letters [aria-live] a");
    browser.wait_for_text(".figure", "2");
    visit.open("#/dead-letters");
    browser.click(".letters button:nth-of-type(2)");
    browser.click(".letters button:nth-of-type(2)");
    browser.wait_for_script("return document.querySelectorAll('.letters li').length === 0");
    visit.assert_clean(&[]);
}

#[test]
fn the_queue_view_is_updated() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let url = visit.site.put("/stalls", Page::new("text/plain", "one two").stalls_after(3));
    visit.open("#/queue");
    browser.wait_for_text(".total", "0 unfinished jobs");
    browser.wait_for_text("main", "0 of 64 slots");
    visit.client().submit(&json!({"url": url, "lane": "bulk"}));
    // The UI updates without a user action.
    browser.wait_for_text(".total", "1 unfinished job");
    browser.wait_for_text("main", "1 of 64 slots");
    visit.assert_clean(&[]);
}

#[test]
fn the_ui_shows_an_outage_and_recovers() {
    let mut visit = Visit::with(&[("WORDMILL_FETCH_STALL_TIMEOUT", "15s")]);
    let page = Page::new("text/plain", "one two three");
    let url = visit.site.put("/stalls", page.clone().stalls_after(3));
    visit.count(&url);
    visit.browser.wait_for_text(".stage", "Running");
    visit.stack.gateways[0].process.kill();
    let message = visit.browser.wait_for_text(".broken", "The service cannot be reached");
    assert!(message.contains("unreachable"), "{message}");
    visit.browser.wait_for_text("#live", "The job continues");
    let address = visit.client().address().to_owned();
    let settings = [("WORDMILL_LISTEN", address.as_str())];
    visit.stack.gateways[0] = Gateway::start(&visit.stack.nats.address(), &settings);
    visit.site.put("/stalls", page);
    visit.browser.wait_for_text(".figure", "3");
    visit.assert_clean(&["net::ERR_"]);
}

#[test]
fn several_urls_become_a_batch() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let put = |path, text: &str| visit.site.put(path, Page::new("text/plain", text));
    let urls =
        [put("/a", "one two"), "http://ada:secret@example.org/".to_owned(), put("/b", "two three")];
    visit.open("#/");
    browser.wait_for_text("h1", "Count words");
    browser.fill("#input", &urls.join("\n"));
    browser.wait_for_text("#input-kind", "3 pages will be fetched and counted as one batch.");
    browser.click("#count");
    browser.wait_for_text(".figure", "4");
    browser.wait_for_text("h1", "Batch of 3 lines");
    let members = browser.wait_for_text(".plain", "succeeded");
    assert!(members.contains('2') && members.contains("refused"), "{members}");
    browser.wait_for_text(".outcomes li:nth-child(1)", "invalid_url");
    browser.wait_for_text(".all", "two");
    let job_id = visit.displayed_job_id();
    browser.click("a[download$='.csv']");
    let csv = std::fs::read_to_string(browser.wait_for_download(&format!("words-{job_id}.csv")));
    assert_eq!(csv.expect("a file"), "word,count\r\ntwo,2\r\none,1\r\nthree,1\r\n");
    // Each member is a job of its own, with a link to the batch.
    browser.click(".outcomes li:nth-child(2) a");
    browser.wait_for_text(".figure", "2");
    browser.click(".details a[href^='#/jobs/']");
    browser.wait_for_text(".figure", "4");
    visit.assert_clean(&[]);
}
