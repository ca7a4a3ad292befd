//! Uses the UI in a real browser, on a running stack.
//!
//! Every test asserts at its end that the browser sent no request to another host, and that its
//! console contains no message that the test did not provoke.

mod accessibility;
mod jobs;
mod results;

use serde_json::{Value, json};
use wordmill_tests::browser::Browser;
use wordmill_tests::client::Client;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::Site;
use wordmill_tests::stack::Stack;

/// A browser that shows the UI, its stack, and a site to fetch pages from.
struct Visit {
    browser: Browser,
    stack: Stack,
    site: Site,
}

impl Visit {
    /// Opens the UI of a new stack.
    fn start() -> Self {
        Self::with(&[])
    }

    /// Opens the UI of a new stack with settings.
    fn with(settings: &[(&str, &str)]) -> Self {
        let stack = Stack::with(1, 1, settings);
        let visit = Self { browser: Browser::start(), stack, site: Site::start() };
        visit.browser.resize(1100, 900);
        visit.open("");
        visit.browser.wait_for_text("h1", "");
        visit
    }

    fn client(&self) -> &Client {
        self.stack.client()
    }

    /// Opens an address within the UI, for example `#/queue`.
    fn open(&self, address: &str) {
        self.browser.open(&format!("{}{address}", self.client().url("/")));
    }

    /// Submits a text or URLs in the form, and returns the id of the job.
    fn count(&self, text: &str) -> String {
        self.open("#/");
        self.browser.wait_for_text("h1", "Count words");
        self.browser.fill("#input", text);
        self.browser.click("#count");
        self.displayed_job_id()
    }

    /// Waits until the UI shows a job, and returns its id.
    fn displayed_job_id(&self) -> String {
        let job_id =
            self.browser.wait_for_script("return location.hash.match(/^#\\/jobs\\/(.+)$/)?.[1]");
        job_id.as_str().expect("a job id").to_owned()
    }

    /// Asserts that the browser sent no request to another host, and that its console contains only
    /// messages that the test provoked. `provoked` lists a part of each.
    fn assert_clean(&self, provoked: &[&str]) {
        let activity = self.browser.take_activity();
        let gateway_url = self.client().url("/");
        // URLs of the browser itself, for example of its start page, have no host.
        let local_schemes = ["data:", "blob:", "chrome:", "about:"];
        let is_local = |url: &String| local_schemes.iter().any(|scheme| url.starts_with(scheme));
        let requests: Vec<_> = activity.requests.iter().filter(|url| !is_local(url)).collect();
        let foreign: Vec<_> =
            requests.iter().filter(|url| !url.starts_with(&gateway_url)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(requests.len() > 10, "{requests:?}");
        let is_provoked = |message: &String| provoked.iter().any(|part| message.contains(part));
        let (expected, unexpected): (Vec<_>, Vec<_>) =
            activity.console_messages.into_iter().partition(is_provoked);
        assert!(unexpected.is_empty(), "{unexpected:?}");
        for part in provoked {
            assert!(
                expected.iter().any(|message| message.contains(part)),
                "the console does not contain {part}"
            );
        }
    }
}

#[test]
fn sign_out_removes_the_key() {
    let mut keyring = Keyring::new();
    let key = keyring.add("ada", &json!({}));
    let (name, path) = keyring.setting();
    let visit = Visit::with(&[(name, &path)]);
    let browser = &visit.browser;
    browser.wait_for_text("h1", "Sign in");
    browser.fill("#key", "wm_not_a_valid_key");
    browser.click("form button");
    browser.wait_for_text(".problem", "unauthenticated");
    browser.run_script("document.querySelector('#key').value = ''", &[]);
    browser.fill("#key", &key);
    browser.press("\u{e007}");
    browser.wait_for_text("h1", "Count words");

    visit.count("a text that belongs to ada");
    browser.wait_for_text(".figure", "6");
    // The UI must download the file by script: a plain link would not send the key.
    browser.click("a[download$='.csv']");
    let job_id = visit.displayed_job_id();
    let saved_csv =
        std::fs::read_to_string(browser.wait_for_download(&format!("words-{job_id}.csv")));
    assert!(saved_csv.expect("a file").starts_with("word,count\r\n"));
    let stored = browser.run_script("return [localStorage.length, document.cookie]", &[]);
    assert_eq!(stored, json!([0, ""]));

    // After signing out, the key is removed. Another key cannot read the job.
    browser.click("#sign-out");
    browser.wait_for_text("h1", "Sign in");
    assert_eq!(browser.run_script("return sessionStorage.length", &[]), 0);
    let other_key = keyring.add("bob", &json!({}));
    wordmill_tests::wait_for("the key is accepted", std::time::Duration::from_secs(30), || {
        (visit.client().with_key(&other_key).get("/v1/queue").status == 200).then_some(())
    });
    browser.fill("#key", &other_key);
    browser.click("form button");
    visit.open(&format!("#/jobs/{job_id}"));
    browser.wait_for_text(".problem", "job_not_found");
    visit.assert_clean(&["401", "404"]);
}

#[test]
fn files_are_uploaded_unchanged_and_their_names_are_escaped() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let file = |name: &str, content: &[u8]| {
        let path = browser.folder().join(name);
        std::fs::write(&path, content).expect("the file is written");
        path.to_str().expect("a path").to_owned()
    };
    let name = "<img src=x onerror=alert(1)>.txt";
    browser.fill("#files", &file(name, "zwei mal zwei".as_bytes()));
    browser.wait_for_text(".figure", "3");
    assert_eq!(browser.text("h1"), name);
    let job = visit.client().get(&format!("/v1/jobs/{}", visit.displayed_job_id())).json();
    assert_eq!(job["source"]["file_name"], name, "{job}");
    assert_eq!(job["options"]["explain"], true, "{job}");

    visit.open("#/");
    browser.wait_for_text("h1", "Count words");
    let page = b"<!doctype html><p>caf\xe9 <b>cr\xe8me</b></p>";
    let picture = file("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let files = [file("seite.html", page), picture, file("notes.md", b"# Notes\n")];
    browser.fill("#files", &files.join("\n"));
    browser.wait_for_text(".outcomes li:nth-child(2)", "unsupported_media_type");
    browser.wait_for_text(".outcomes li:nth-child(3)", "View job");
    browser.click(".outcomes li:nth-child(1) a");
    browser.wait_for_text(".figure", "2");
    browser.wait_for_text(".details", "windows-1252");
    visit.assert_clean(&["415"]);
}

#[test]
fn ui_addresses_can_be_bookmarked() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let job_id = visit.client().submit(&json!({"text": "one two", "labels": {"book": "2600"}}));
    visit.client().wait_until_final(&job_id, std::time::Duration::from_secs(30));
    visit.open(&format!("#/jobs/{job_id}"));
    browser.wait_for_text(".figure", "2");
    let title =
        browser.wait_for_script("return document.title.includes('2 words') && document.title");
    assert_eq!(title, "Text (7 bytes): 2 words – Wordmill");
    browser.click("a[href='#/jobs']");
    browser.wait_for_text("h1", "Jobs");
    assert_eq!(browser.run_script("return document.activeElement.tagName", &[]), "H1");
    browser.click("a[href='#/jobs?status=failed']");
    browser.wait_for_text("main", "No jobs.");
    browser.back();
    browser.back();
    browser.wait_for_text(".figure", "2");
    browser.wait_for_text(".details", "book: 2600");

    // The addresses of a deleted job and of an unknown view show an error.
    browser.click(".actions button:nth-of-type(2)");
    browser.wait_for_text(".actions", "Really delete?");
    browser.click(".actions button:nth-of-type(2)");
    browser.wait_for_text("h1", "Jobs");
    visit.open(&format!("#/jobs/{job_id}"));
    browser.wait_for_text(".problem", "result_expired");
    visit.open("#/nowhere");
    browser.wait_for_text("h1", "Not found");
    visit.assert_clean(&["410"]);
}

#[test]
fn the_ui_is_small_cached_and_has_a_strict_policy() {
    let visit = Visit::start();
    let script =
        "return [location.href, ...performance.getEntriesByType('resource').map(({name}) => name)]
      .map(url => new URL(url).pathname)";
    let paths: Value = visit.browser.run_script(script, &[]);
    let paths: std::collections::BTreeSet<_> =
        paths.as_array().expect("paths").iter().filter_map(Value::as_str).collect();
    let mut size = 0;
    for path in paths.iter().filter(|path| !path.starts_with("/v1/")) {
        let headers = [("accept-encoding", "gzip")];
        let response = visit.client().send("GET", path, &headers, &[]);
        assert_eq!(response.status, 200, "{path}");
        size += response.bytes.len();
        let policy = response.header("content-security-policy").expect("a policy");
        for part in ["default-src 'none'", "script-src 'self'", "trusted-types 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        let etag = response.header("etag").expect("an ETag").to_owned();
        let revalidated = visit.client().send("GET", path, &[("if-none-match", &etag)], &[]);
        assert_eq!(revalidated.status, 304, "{path}");
        assert_eq!(revalidated.bytes.len(), 0, "{path}");
    }
    println!("{} files, {size} bytes compressed", paths.len());
    assert!(paths.len() > 10, "{paths:?}");
    assert!(size < 150_000, "{size} bytes");
    visit.client().get("/page/missing.js").expect_problem(404, "route_not_found");
    visit.client().post("/", &json!({})).expect_problem(405, "method_not_allowed");
    visit.assert_clean(&[]);
}
