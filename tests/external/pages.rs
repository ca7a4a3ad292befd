//! Real pages in many languages, counted by Wordmill and by a browser.
//!
//! The browser segments the text that it shows (`innerText`) into words with `Intl.Segmenter`,
//! which is ICU. No code of Wordmill takes part.

mod samples;

use serde_json::{Value, json};
use wordmill_tests::LIMIT;
use wordmill_tests::browser::Browser;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

use crate::differences::{Counts, Reason, Reasons, distance, explain, histogram};

use self::samples::{Sample, installed_pages, saved_pages};

/// Script that counts the words of a page in the browser.
const SCRIPT: &str = include_str!("pages/count_words.js");
/// Reasons for the differences between the steps of [`SCRIPT`], in their order.
const STEPS: [Reason; 4] =
    [Reason::ClosedElement, Reason::BoxWithoutText, Reason::NoLetter, Reason::NarrowSpace];
/// Other reasons why the browser may count a word differently.
const REASONS: [Reason; 4] =
    [Reason::Colon, Reason::FullStop, Reason::Hangul, Reason::AdjacentScript];
/// Header that keeps the browser from loading style sheets, scripts and everything else. Styles in
/// attributes apply. `noscript` stays hidden, because the browser does not turn scripts off, but
/// finds no source that is allowed.
const POLICY: &str = "default-src 'none'; style-src-attr 'unsafe-inline'";
/// Of this number of words, one may differ without a reason (0.01 %).
const WORDS_PER_DIFFERENCE_MIN: u64 = 10_000;

/// Words of a page as the browser shows it.
struct BrowserCounts {
    /// Charset that the browser used.
    charset: String,
    /// Charset that an element of the page declares, even if it comes too late to be used.
    declared_charset: Option<String>,
    /// Words after each step of [`SCRIPT`]. The first counts are those of the page as it is.
    steps: Vec<Counts>,
}

impl BrowserCounts {
    fn of(browser: &Browser, url: &str, language: &str, scope: &str) -> Self {
        browser.open(url);
        let result = browser.run_script(SCRIPT, &[json!(language), json!(scope)]);
        let steps = result["steps"].as_array().unwrap_or_else(|| panic!("{url}: {result}"));
        let steps: Vec<Counts> = steps.iter().map(counts_of).collect();
        assert_eq!(steps.len(), STEPS.len() + 1, "{url}");
        let charset = result["charset"].as_str().expect("a charset").to_owned();
        let declared_charset = result["declaredCharset"].as_str().map(str::to_owned);
        Self { charset, declared_charset, steps }
    }

    /// Returns the words of the page as it is.
    fn shown(&self) -> &Counts {
        self.steps.first().expect("a step")
    }

    /// Returns the words after the last step. Adds the differences between steps to `reasons`.
    fn after_all_steps(self, reasons: &mut Reasons) -> Counts {
        for (pair, reason) in self.steps.windows(2).zip(STEPS) {
            reasons.count(reason, distance(&pair[0], &pair[1]).0);
        }
        self.steps.into_iter().next_back().expect("a step")
    }
}

/// Converts the entries of a histogram from the script.
fn counts_of(entries: &Value) -> Counts {
    let entries = entries.as_array().expect("entries").iter();
    let entries = entries.map(|entry| {
        (entry[0].as_str().expect("a word").to_owned(), entry[1].as_u64().expect("a count"))
    });
    entries.collect()
}

/// Programs that take part in the comparison.
struct Comparison {
    stack: Stack,
    site: Site,
    browser: Browser,
    outcome: Outcome,
}

impl Comparison {
    fn start() -> Self {
        let outcome = Outcome::default();
        Self { stack: Stack::start(), site: Site::start(), browser: Browser::start(), outcome }
    }

    /// Serves the bytes of a page, and returns its URL.
    fn serve(&self, body: &[u8], content_type: &str) -> String {
        let page = Page::new(content_type, body).header("Content-Security-Policy", POLICY);
        self.site.put(&format!("/{}", self.outcome.pages), page)
    }

    /// Compares all scopes of a page.
    fn compare(&mut self, sample: &Sample) {
        let Sample { name, file, content_type, language, scopes } = sample;
        let body = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let url = self.serve(&body, content_type);
        for &scope in *scopes {
            let client = self.stack.client();
            let job_id = client.submit(&json!({"url": url, "options": {"scope": scope}}));
            let job = client.wait_until_final(&job_id, LIMIT);
            assert_eq!(job["status"], "succeeded", "{name}: {job}");
            assert_eq!(job["totals"]["words"], job["totals_by_scope"][scope], "{name}: {job}");
            let ours = histogram(&client.result(&job_id));

            let mut reasons = Reasons::default();
            let mut theirs = BrowserCounts::of(&self.browser, &url, language, scope);
            let charset = job["source"]["charset"].as_str().expect("a charset");
            // The charset that Wordmill uses must not contradict a declaration in the page.
            let is_valid = match &theirs.declared_charset {
                Some(declared) => declared.eq_ignore_ascii_case(charset),
                None => job["source"]["charset_from"] == "detected",
            };
            if is_valid && !theirs.charset.eq_ignore_ascii_case(charset) {
                // The words must agree once the response declares the charset.
                let url = self.serve(&body, &format!("text/html; charset={charset}"));
                let declared = BrowserCounts::of(&self.browser, &url, language, scope);
                let words = distance(theirs.shown(), declared.shown()).0;
                reasons.count(Reason::Charset, words);
                theirs = declared;
            }
            self.outcome.articles += usize::from(scope == "main");
            self.outcome.add(&format!("{name} ({scope})"), ours, theirs, reasons);
        }
        self.outcome.pages += 1;
    }
}

/// Totals of all comparisons.
#[derive(Default)]
struct Outcome {
    reasons: Reasons,
    pages: usize,
    articles: usize,
    words: u64,
    /// Number of words that differ without a reason.
    differ: u64,
    /// Pages with such words.
    bad: Vec<String>,
}

impl Outcome {
    /// Adds a page. `reasons` has the differences that are already explained.
    fn add(&mut self, name: &str, mut ours: Counts, theirs: BrowserCounts, mut reasons: Reasons) {
        let words: u64 = theirs.shown().values().sum();
        assert!(words > 0, "{name} has no words");
        let mut theirs = theirs.after_all_steps(&mut reasons);
        reasons.add(&explain(&mut ours, &mut theirs, &REASONS));
        let (differ, examples) = distance(&ours, &theirs);
        println!("{name:48} {words:>6} {differ:>6}  {reasons}");
        if differ > 0 {
            self.bad.push(format!("{name}: {differ} of {words}: {}", examples.join(", ")));
        }
        self.reasons.add(&reasons);
        self.words += words;
        self.differ += differ;
    }
}

#[test]
fn real_pages_count_as_a_browser_shows_them() {
    let mut comparison = Comparison::start();
    println!("{:48} {:>6} {:>6}  differences with a reason", "page", "words", "differ");
    for sample in installed_pages() {
        comparison.compare(&sample);
    }
    assert!(comparison.outcome.pages >= 60, "only {} installed pages", comparison.outcome.pages);
    let saved = saved_pages();
    assert!(saved.len() >= 95, "only {} saved pages", saved.len());
    for sample in &saved {
        comparison.compare(sample);
    }
    let Outcome { reasons, pages, articles, words, differ, bad } = comparison.outcome;
    println!("{pages} pages, {articles} articles, {words} words");
    println!("differences with a reason: {reasons}; without: {differ}");
    assert!(
        differ * WORDS_PER_DIFFERENCE_MIN <= words,
        "words with the counts of Wordmill and the browser:\n{}",
        bad.join("\n")
    );
    // A reason that no page needs must be removed from the list.
    let mut used = REASONS.iter().chain(&STEPS).chain(&[Reason::Charset]);
    let is_used = |reason: &Reason| reasons.count_of(*reason) > 0;
    assert!(used.all(is_used) && reasons.segmented_differently() > 0, "{reasons}");
}

/// Returns the words of a page that is not compared with Wordmill.
fn counts_in_browser(body: &str) -> BrowserCounts {
    let site = Site::start();
    let browser = Browser::start();
    let page = Page::new("text/html; charset=utf-8", body);
    let url = site.put("/", page.header("Content-Security-Policy", POLICY));
    BrowserCounts::of(&browser, &url, "en", "page")
}

/// Returns the number of words that each step of the script changes.
fn words_by_step(counts: &BrowserCounts) -> Vec<u64> {
    counts.steps.windows(2).map(|pair| distance(&pair[0], &pair[1]).0).collect()
}

#[test]
fn each_step_of_the_script_applies_its_own_rule() {
    // 3 folded words, `a1b` becomes `a1` and `b`, `__` is not counted, and one space is at an edge.
    let page = "<details><summary>s</summary>c d</details><p popover>f</p>a1<img>b __ e\u{202f}!";
    assert_eq!(words_by_step(&counts_in_browser(page)), [3, 3, 1, 2]);
}

#[test]
fn the_steps_of_the_script_change_no_other_words() {
    let page = "a<b>b</b> <img> c<img hidden>d 10\u{202f}000 <p hidden>e<details open>f</details>";
    assert_eq!(words_by_step(&counts_in_browser(page)), [0; STEPS.len()]);
}

#[test]
fn only_styles_in_attributes_change_the_displayed_words() {
    let page = "<style>p { display: none }</style><p>a<script>document.body.append('b')</script>
        <noscript>c</noscript><p style='display: none'>d<p>e";
    let counts = counts_in_browser(page);
    assert_eq!(counts.shown().keys().collect::<Vec<_>>(), ["a", "e"]);
}
