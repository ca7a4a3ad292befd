//! Real pages in many languages, counted by Wordmill and by a browser.
//!
//! The browser segments the text that it shows (`innerText`) into words with `Intl.Segmenter`,
//! which is ICU. No code of Wordmill takes part. The pages are installed files, and are not in the
//! repository: three Debian manuals, each made by another generator, and the book of the Rust
//! toolchain.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use wordmill_tests::LIMIT;
use wordmill_tests::browser::Browser;
use wordmill_tests::site::{Page, Site};
use wordmill_tests::stack::Stack;

use crate::differences::{Counts, Reason, Reasons, distance, explain, histogram};

/// Directory of Debian's package `installation-guide-amd64`.
const GUIDE: &str = "/usr/share/doc/installation-guide-amd64";
/// Languages of the guide, as in its paths: 4 scripts with spaces, and 2 languages without.
const LANGUAGES: [&str; 19] = [
    "ca", "cs", "da", "de", "el", "en", "es", "fr", "id", "it", "ja", "ko", "nl", "pt", "ro", "ru",
    "sv", "vi", "zh_CN",
];
/// Pages of the guide: prose, tables, commands, lists of options.
const PAGES: [&str; 3] = ["ch02s01.html", "ch05s03.html", "apbs04.html"];
/// Directory of Debian's packages `developers-reference` and `developers-reference-<language>`,
/// whose pages mark their navigation.
const REFERENCE: &str = "/usr/share/developers-reference";
const REFERENCE_LANGUAGES: [&str; 6] = ["en", "de", "fr", "it", "ja", "ru"];
const REFERENCE_PAGES: [&str; 2] = ["resources.html", "beyond-pkging.html"];
/// Directory of Debian's packages `debian-faq-<language>`.
const FAQ: &str = "/usr/share/doc/debian/FAQ";
const FAQ_PAGES: [&str; 4] = [
    "pt/choosing.pt.html",
    "pt/basic-defs.pt.html",
    "zh-cn/choosing.zh-cn.html",
    "zh-cn/basic-defs.zh-cn.html",
];
/// Maximum number of words in a thousand that may differ on a page.
const DIFFERENCE_MAX_PER_MILLE: u64 = 5;
/// Reasons why the browser may count a word differently.
const REASONS: [Reason; 3] = [Reason::Colon, Reason::FullStop, Reason::Hangul];

/// Counts the words of the displayed text. ICU segments it, and keys are formed as described in
/// docs/counting.md.
///
/// For the scope `main`, it removes navigation first, and counts only the main content.
const SCRIPT: &str = r#"
  const [language, scope] = arguments;
  let shown = [document.body];
  if (scope === 'main') {
    const around = 'nav, search, aside:not([role=note]), [role=navigation], [role=search], [role=complementary]';
    for (const element of document.querySelectorAll(around)) element.remove();
    shown = [...document.querySelectorAll('main, [role=main]')];
  }
  const text = shown.map(element => element.innerText).join('\n');
  const ignorable = /[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]/gu;
  const counts = {};
  const segmenter = new Intl.Segmenter(language, {granularity: 'word'});
  for (const {segment, isWordLike} of segmenter.segment(text)) {
    if (!isWordLike) continue;
    const key = segment.normalize('NFC').replace(/[\u2019\u02bc\uff07]/g, "'")
      .replace(ignorable, '').toLowerCase().normalize('NFC');
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return Object.entries(counts);
"#;

/// Returns the words of a page as the browser shows it.
fn count(browser: &Browser, url: &str, language: &str, scope: &str) -> Counts {
    browser.open(url);
    let counts = browser.run_script(SCRIPT, &[json!(language), json!(scope)]);
    let entries = counts.as_array().expect("entries").iter();
    let entries = entries.map(|entry| {
        (entry[0].as_str().expect("a word").to_owned(), entry[1].as_u64().expect("a count"))
    });
    entries.collect()
}

/// An installed page.
struct Sample {
    name: String,
    file: PathBuf,
    /// Language as a BCP 47 tag.
    language: String,
    /// Scopes to compare. `main` is included only if the page marks its main content.
    scopes: &'static [&'static str],
}

impl Sample {
    fn new(folder: &str, path: &str, language: &str, scopes: &'static [&'static str]) -> Self {
        let name = Path::new(folder).file_name().expect("a name").to_string_lossy();
        let name = format!("{name}/{path}");
        let language = language.replace('_', "-");
        Self { name, file: Path::new(folder).join(path), language, scopes }
    }
}

fn pages() -> Vec<Sample> {
    let mut pages = Vec::new();
    for language in LANGUAGES {
        for page in PAGES {
            pages.push(Sample::new(GUIDE, &format!("{language}/{page}"), language, &["page"]));
        }
    }
    for language in REFERENCE_LANGUAGES {
        for page in REFERENCE_PAGES {
            let path =
                if language == "en" { page.to_owned() } else { format!("{language}/{page}") };
            pages.push(Sample::new(REFERENCE, &path, language, &["page", "main"]));
        }
    }
    for path in FAQ_PAGES {
        let language = path.split('/').next().expect("a language");
        pages.push(Sample::new(FAQ, path, language, &["page"]));
    }
    for page in &pages {
        assert!(
            page.file.is_file(),
            "{} is missing: run tests/external/install",
            page.file.display()
        );
    }
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc runs");
    let sysroot = String::from_utf8(output.stdout).expect("a path");
    let book = format!("{}/share/doc/rust/html/book", sysroot.trim());
    for page in ["ch04-01-what-is-ownership.html", "ch10-02-traits.html"] {
        // The toolchain may be installed without its documentation.
        if Path::new(&book).join(page).is_file() {
            pages.push(Sample::new(&book, page, "en", &["page", "main"]));
        } else {
            println!("skipped, because the toolchain has no documentation: book/{page}");
        }
    }
    pages
}

/// Totals of all comparisons.
#[derive(Default)]
struct Outcome {
    reasons: Reasons,
    pages: usize,
    articles: usize,
    words: u64,
    differ: u64,
    bad: Vec<String>,
}

impl Outcome {
    fn compare(&mut self, name: &str, mut ours: Counts, mut browsers: Counts) {
        let words: u64 = browsers.values().sum();
        assert!(words > 100, "{name} has only {words} words");
        let reasons = explain(&mut ours, &mut browsers, &REASONS);
        let (differ, examples) = distance(&ours, &browsers);
        println!(
            "{name:44} {words:>6} {differ:>6} | {:>5} {:>9} {:>6} {:>13}",
            reasons.count_of(Reason::Colon),
            reasons.count_of(Reason::FullStop),
            reasons.count_of(Reason::Hangul),
            reasons.segmented_differently()
        );
        if differ > 0 {
            println!("    {}", examples.join(", "));
        }
        if differ * 1000 > words * DIFFERENCE_MAX_PER_MILLE {
            self.bad.push(format!("{name}: {differ} of {words}: {}", examples.join(", ")));
        }
        self.reasons.add(&reasons);
        self.words += words;
        self.differ += differ;
    }
}

#[test]
fn real_pages_count_as_a_browser_shows_them() {
    let stack = Stack::start();
    let site = Site::start();
    let browser = Browser::start();
    let mut outcome = Outcome::default();
    println!(
        "{:44} {:>6} {:>6} | {:>5} {:>9} {:>6} {:>13}",
        "page", "words", "differ", "colon", "full stop", "hangul", "segmentation"
    );
    for Sample { name, file, language, scopes } in pages() {
        let body = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        // The site serves no style sheets and scripts, because Wordmill has no layout engine.
        let url = site.put(&format!("/{name}"), Page::new("text/html; charset=utf-8", body));
        outcome.pages += 1;
        for &scope in scopes {
            let job_id = stack.client().submit(&json!({"url": url, "options": {"scope": scope}}));
            let job = stack.client().wait_until_final(&job_id, LIMIT);
            assert_eq!(job["status"], "succeeded", "{name}: {job}");
            assert_eq!(job["totals"]["words"], job["totals_by_scope"][scope], "{name}: {job}");
            let ours = histogram(&stack.client().result(&job_id));
            let name = if scope == "page" { name.clone() } else { format!("{name} ({scope})") };
            outcome.articles += usize::from(scope == "main");
            outcome.compare(&name, ours, count(&browser, &url, &language, scope));
        }
    }
    let Outcome { reasons, pages, articles, words, differ, bad } = outcome;
    println!("{pages} pages, {articles} articles, {words} words, {differ} differ");
    println!("with a reason: {reasons:?}");
    assert!(
        bad.is_empty(),
        "words with the counts of Wordmill and the browser:\n{}",
        bad.join("\n")
    );
    // A reason that no page needs must be removed from the list.
    let is_used = |reason: &Reason| reasons.count_of(*reason) > 0;
    assert!(REASONS.iter().all(is_used) && reasons.segmented_differently() > 0, "{reasons:?}");
    assert!(pages >= 60, "only {pages} pages");
}
