//! Accessibility of the UI: axe-core checks every view with light and dark colors, and one test
//! uses only the keyboard.

use serde_json::{Value, json};
use wordmill_tests::browser::{Browser, Scheme};
use wordmill_tests::keyring::Keyring;
use wordmill_tests::setting;
use wordmill_tests::site::Page;

use super::Visit;

/// Runs axe-core and returns the serious violations with their elements.
const SCRIPT: &str = "
  const done = arguments[arguments.length - 1];
  axe.run(document, {resultTypes: ['violations']}).then(
    ({violations, passes}) => done({
      passes: passes.length,
      serious: violations.filter(({impact}) => ['serious', 'critical'].includes(impact))
        .flatMap(({id, nodes}) => nodes.map(({target, failureSummary}) => `${id} ${target}: ${failureSummary}`)),
    }),
    error => done({passes: 0, serious: [String(error)]}));
";
/// Width of a small phone and of a desktop window, in pixels.
const WIDTHS: [u32; 2] = [320, 1100];

/// Asserts that the displayed view fits into the window and has no serious violation.
fn assert_accessible(browser: &Browser, view: &str) {
    let path =
        setting("AXE_CORE").expect("AXE_CORE must be the path that tests/external/axe-core prints");
    let axe = std::fs::read_to_string(path).expect("axe-core");
    browser.run_script(&axe, &[]);
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.set_color_scheme(scheme);
        for width in WIDTHS {
            browser.resize(width, 800);
            let script = "return document.documentElement.scrollWidth \
                          - document.documentElement.clientWidth";
            let overflow = browser.run_script(script, &[]);
            assert_eq!(overflow, 0, "{view} is wider than {width} pixels by {overflow}");
            let report = browser.run_async_script(SCRIPT, &[]);
            let serious = report["serious"].as_array().expect("violations");
            assert!(serious.is_empty(), "{view}, {scheme:?}, {width}: {serious:#?}");
            assert!(report["passes"].as_u64() > Some(10), "{view}: {report}");
        }
    }
    println!("{view}: no serious violations");
}

#[test]
fn every_view_passes_the_accessibility_check() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let site = &visit.site;
    browser.wait_for_text("main", "No jobs yet");
    assert_accessible(browser, "empty");

    let stalls = site.put("/stalls", Page::new("text/plain", "one two").stalls_after(3));
    visit.count(&stalls);
    browser.wait_for_text(".stage", "Running");
    assert_accessible(browser, "running");
    visit.open("#/queue");
    browser.wait_for_text(".total", "1 unfinished job");
    assert_accessible(browser, "queue");

    let long = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft";
    let page = format!(
        "<main><p>{long} {long} שלום العالم 東京は日本 and/or — <p>{}</main><nav>there</nav>\
         <p hidden>not shown",
        "x".repeat(200)
    );
    visit.count(&site.put("/mixed", Page::new("text/html; charset=utf-8", page)));
    browser.wait_for_text("#found-words", "unique words");
    browser.wait_for_text(".tokens", "and/or");
    browser.wait_for_text(".warnings", "hidden_text_present");
    assert_accessible(browser, "succeeded");

    visit.count(&site.put("/unavailable", Page::status("503 Service Unavailable")));
    browser.wait_for_text(".verdict", "Failed");
    assert_accessible(browser, "failed");
    visit.open("#/dead-letters");
    browser.wait_for_text(".letters", "fetch_http_5xx");
    assert_accessible(browser, "dead letters");
    visit.open("#/jobs");
    browser.wait_for_text(".list", "fetch_http_5xx");
    assert_accessible(browser, "jobs");
    visit.open("#/jobs/01900000-0000-7000-8000-000000000000");
    browser.wait_for_text(".problem", "job_not_found");
    assert_accessible(browser, "an unknown job");
    visit.assert_clean(&["404"]);
}

#[test]
fn the_sign_in_form_passes_the_accessibility_check() {
    let mut keyring = Keyring::new();
    keyring.add("ada", &json!({}));
    let (name, path) = keyring.setting();
    let visit = Visit::with(&[(name, &path)]);
    visit.browser.wait_for_text("h1", "Sign in");
    assert_accessible(&visit.browser, "signed out");
    visit.assert_clean(&["401"]);
}

#[test]
fn the_ui_works_with_the_keyboard_only() {
    let visit = Visit::start();
    let browser = &visit.browser;
    let tab = "\u{e004}";
    let focus = || {
        browser.run_script(
            "const {id, textContent} = document.activeElement; return id || textContent",
            &[],
        )
    };
    browser.run_script("document.activeElement.blur()", &[]);
    browser.press(tab);
    assert_eq!(focus(), "skip");
    browser.press("\u{e007}");
    assert_eq!(focus(), "main");
    browser.press(tab);
    assert_eq!(focus(), "input");
    browser.fill("#input", "typed by keyboard");
    let mut reached: Vec<Value> = Vec::new();
    for _ in 0..12 {
        reached.push(focus());
        browser.press(tab);
    }
    for id in ["input", "count", "files", "rule", "case", "scope", "language", "explain"] {
        assert!(reached.contains(&json!(id)), "{id} is not in {reached:?}");
    }
    browser.run_script("document.querySelector('#count').focus()", &[]);
    browser.press(" ");
    browser.wait_for_text(".figure", "3");
    assert_eq!(browser.run_script("return document.activeElement.tagName", &[]), "H1");
    visit.assert_clean(&[]);
}
