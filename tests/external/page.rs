//! Uses the UI in a real browser, on a running stack.
//!
//! Every test asserts at its end that the browser sent no request to another host, and that its
//! console contains no message that the test did not provoke.

mod barriers;
mod words;
mod work;

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

    /// Submits an input in the form, and returns the id of the job.
    fn count(&self, text: &str) -> String {
        self.open("#/");
        self.browser.wait_for_text("h1", "Count words");
        self.browser.fill("#input", text);
        self.browser.click("#count");
        self.job()
    }

    /// Returns the id of the displayed job.
    fn job(&self) -> String {
        let job_id =
            self.browser.wait_for_script("return location.hash.match(/^#\\/jobs\\/(.+)$/)?.[1]");
        job_id.as_str().expect("a job id").to_owned()
    }

    /// Asserts that the browser sent no request to another host, and that its console contains only
    /// the provoked messages. `provoked` lists a part of each.
    fn assert_clean(&self, provoked: &[&str]) {
        let activity = self.browser.take_activity();
        let home = self.client().url("/");
        // URLs of the browser itself, for example its start page, belong to no host.
        let local = ["data:", "blob:", "chrome:", "about:"];
        let is_local = |url: &String| local.iter().any(|scheme| url.starts_with(scheme));
        let foreign_requests: Vec<_> =
            activity.requests.iter().filter(|url| !is_local(url)).collect();
        let foreign: Vec<_> =
            foreign_requests.iter().filter(|url| !url.starts_with(&home)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
        assert!(foreign_requests.len() > 10, "{foreign_requests:?}");
        let is_provoked = |message: &String| provoked.iter().any(|part| message.contains(part));
        let (expected, bad): (Vec<_>, Vec<_>) =
            activity.console_messages.into_iter().partition(is_provoked);
        assert!(bad.is_empty(), "{bad:?}");
        for part in provoked {
            assert!(
                expected.iter().any(|message| message.contains(part)),
                "the console does not contain {part}"
            );
        }
    }
}

#[test]
fn a_key_opens_the_page_and_is_forgotten() {
    let mut keyring = Keyring::new();
    let key = keyring.add("ada", &json!({}));
    let (name, path) = keyring.setting();
    let visit = Visit::with(&[(name, &path)]);
    let browser = &visit.browser;
    browser.wait_for_text("h1", "Sign in");
    browser.fill("#key", "wm_this_is_no_key");
    browser.click("form button");
    browser.wait_for_text(".problem", "unauthenticated");
    browser.run_script("document.querySelector('#key').value = ''", &[]);
    browser.fill("#key", &key);
    browser.press("\u{e007}");
    browser.wait_for_text("h1", "Count words");

    visit.count("a text that belongs to ada");
    browser.wait_for_text(".figure", "6");
    // A plain link would not send the key.
    browser.click("a[download$='.csv']");
    let job_id = visit.job();
    let saved_csv =
        std::fs::read_to_string(browser.wait_for_download(&format!("words-{job_id}.csv")));
    assert!(saved_csv.expect("a file").starts_with("word,count\r\n"));
    let stored = browser.run_script("return [localStorage.length, document.cookie]", &[]);
    assert_eq!(stored, json!([0, ""]));

    // After signing out, the key is removed. Another key cannot read the job.
    browser.click("#sign-out");
    browser.wait_for_text("h1", "Sign in");
    assert_eq!(browser.run_script("return sessionStorage.length", &[]), 0);
    let other = keyring.add("bob", &json!({}));
    wordmill_tests::wait_for("the key is known", std::time::Duration::from_secs(30), || {
        (visit.client().with_key(&other).get("/v1/queue").status == 200).then_some(())
    });
    browser.fill("#key", &other);
    browser.click("form button");
    visit.open(&format!("#/jobs/{job_id}"));
    browser.wait_for_text(".problem", "job_not_found");
    visit.assert_clean(&["401", "404"]);
}

#[test]
fn files_go_in_as_they_are_and_their_names_are_text() {
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
    let job = visit.client().get(&format!("/v1/jobs/{}", visit.job())).json();
    assert_eq!(job["source"]["file_name"], name, "{job}");
    assert_eq!(job["options"]["explain"], true, "{job}");

    visit.open("#/");
    browser.wait_for_text("h1", "Count words");
    let page = b"<!doctype html><p>caf\xe9 <b>cr\xe8me</b></p>";
    let picture = file("picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let several = [file("seite.html", page), picture, file("notes.md", b"# Notes\n")];
    browser.fill("#files", &several.join("\n"));
    browser.wait_for_text(".outcomes li:nth-child(2)", "unsupported_media_type");
    browser.wait_for_text(".outcomes li:nth-child(3)", "View job");
    browser.click(".outcomes li:nth-child(1) a");
    browser.wait_for_text(".figure", "2");
    browser.wait_for_text(".details", "windows-1252");
    visit.assert_clean(&["415"]);
}

#[test]
fn an_address_of_the_page_can_be_kept_and_left_again() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let job_id = visit.client().submit(&json!({"text": "one two", "labels": {"book": "2600"}}));
    visit.client().wait_until_final(&job_id, std::time::Duration::from_secs(30));
    visit.open(&format!("#/jobs/{job_id}"));
    browser.wait_for_text(".figure", "2");
    let title =
        browser.wait_for_script("return document.title.includes('2 words') && document.title");
    assert_eq!(title, "A text of 7 bytes: 2 words – Wordmill");
    browser.click("a[href='#/jobs']");
    browser.wait_for_text("h1", "Jobs");
    assert_eq!(browser.run_script("return document.activeElement.tagName", &[]), "H1");
    browser.click("a[href='#/jobs?status=failed']");
    browser.wait_for_text("main", "No jobs.");
    browser.back();
    browser.back();
    browser.wait_for_text(".figure", "2");
    browser.wait_for_text(".details", "book: 2600");

    // After the deletion, the address of the job and an unknown address show an error.
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

/// The files of the UI, as a browser receives them.
#[test]
fn the_page_is_small_strict_and_kept_by_browsers() {
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
        let answer = visit.client().send("GET", path, &headers, &[]);
        assert_eq!(answer.status, 200, "{path}");
        size += answer.bytes.len();
        let policy = answer.header("content-security-policy").expect("a policy");
        for part in ["default-src 'none'", "script-src 'self'", "trusted-types 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        let tag = answer.header("etag").expect("a tag").to_owned();
        let again = visit.client().send("GET", path, &[("if-none-match", &tag)], &[]);
        assert_eq!(again.status, 304, "{path}");
        assert_eq!(again.bytes.len(), 0, "{path}");
    }
    println!("{} files, {size} bytes compressed", paths.len());
    assert!(paths.len() > 10, "{paths:?}");
    assert!(size < 150_000, "{size} bytes");
    visit.client().get("/page/none.js").expect_problem(404, "route_not_found");
    visit.client().post("/", &json!({})).expect_problem(405, "method_not_allowed");
    visit.assert_clean(&[]);
}
