//! How fast words are counted, next to the ways in which one would do it otherwise.
//!
//! `make bench-count` prints the tables that docs/performance.md holds. Everything runs on one
//! thread, in turn, and what counts is the shortest time on the processor, so that the ratios of one
//! run can be believed; the megabytes per second are those of the machine. The texts are found on
//! the machine or made here.

mod corpus;
mod rival;
mod timing;

use wordmill_count::{Hints, Options};

use self::corpus::{Pages, Text};

/// How many small documents are counted to measure one.
const SMALL_DOCUMENTS: usize = 2000;

fn main() {
    println!(
        "| text | MB | ours, MB/s | `wc -w` | ratio | target | `unicode_words` + std HashMap | ratio \
         | target | ours with SHA-256 and charset |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // Words of the command line choose what is measured, by its name.
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|part| name.contains(part));
    let texts = Text::all();
    for text in texts.iter().filter(|text| is_asked(text.name)) {
        compare_text(text);
    }
    println!();
    println!(
        "| pages | number | MB | ours, bytes to words, MB/s | scraper + `unicode_words` + std HashMap \
         | ratio | target | html5gum + our words | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let sets = Pages::all();
    for pages in sets.iter().filter(|pages| is_asked(pages.name)) {
        compare_pages(pages);
    }
    println!();
    println!("| one document | µs on a processor |");
    println!("|---|---|");
    if let Some(text) = texts.iter().find(|text| text.name.starts_with("English")) {
        measure_small("text/plain", &text.text, 1000);
    }
    if let Some(page) = sets.iter().flat_map(|set| &set.pages).find(|page| page.len() > 40_000) {
        measure_small("text/html", page, page.len());
    }
}

fn compare_text(corpus: &Text) {
    let options = Options::default();
    let text = corpus.text.as_str();
    let bytes = text.len();
    let wc = rival::Wc::new(text);
    let seconds = timing::seconds(&[
        &|| timing::of_thread(|| wordmill_count::count_text(text, &options).expect("a count")),
        &|| timing::of_thread(|| count_bytes(text, "text/plain")),
        &|| timing::of_thread(|| rival::unicode_words(text)),
        &|| wc.run(),
    ]);
    let [ours, whole, naive, wc] = seconds[..] else { unreachable!("four ways") };
    println!(
        "| {} | {:.1} | {:.0} | {:.0} | {} | {:.0} | {} | {:.0} |",
        corpus.name,
        bytes as f64 / 1e6,
        speed(bytes, ours),
        speed(bytes, wc),
        ratio(wc / ours, corpus.target_wc),
        speed(bytes, naive),
        ratio(naive / ours, corpus.target_naive),
        speed(bytes, whole),
    );
}

fn compare_pages(set: &Pages) {
    let options = Options::default();
    let bytes: usize = set.pages.iter().map(String::len).sum();
    let each = |count: &dyn Fn(&str) -> u64| -> u64 {
        (0..set.times).flat_map(|_| &set.pages).map(|page| count(page)).sum()
    };
    let with_html5gum = |page: &str| {
        let text = rival::html5gum(page.as_bytes());
        wordmill_count::count_text(&text, &options).expect("a count").totals.words
    };
    let seconds = timing::seconds(&[
        &|| timing::of_thread(|| each(&|page| count_bytes(page, "text/html"))),
        &|| timing::of_thread(|| each(&|page| rival::scraper(page.as_bytes()))),
        &|| timing::of_thread(|| each(&with_html5gum)),
    ]);
    let [ours, scraper, html5gum] = seconds[..] else { unreachable!("three ways") };
    println!(
        "| {} | {} | {:.1} | {:.0} | {:.0} | {} | {:.0} | {:.1} |",
        set.name,
        set.pages.len(),
        bytes as f64 / 1e6,
        speed(bytes * set.times, ours),
        speed(bytes * set.times, scraper),
        ratio(scraper / ours, Some(6.0)),
        speed(bytes * set.times, html5gum),
        html5gum / ours,
    );
}

/// Measures what a small document costs, without job, broker and network.
fn measure_small(content_type: &str, text: &str, bytes: usize) {
    let document = &text[..text.floor_char_boundary(bytes)];
    let all = || (0..SMALL_DOCUMENTS).map(|_| count_bytes(document, content_type)).sum::<u64>();
    let seconds = timing::seconds(&[&|| timing::of_thread(all)]);
    println!(
        "| {content_type} of {} bytes | {:.1} |",
        document.len(),
        seconds[0] * 1e6 / SMALL_DOCUMENTS as f64
    );
}

/// Counts a document as a job does: hash, charset, text, words.
fn count_bytes(document: &str, content_type: &str) -> u64 {
    let content_type = format!("{content_type}; charset=utf-8");
    let hints = Hints { content_type: Some(&content_type), host_tld: None };
    let counted =
        wordmill_count::count(document.as_bytes(), &hints, &Options::default(), &|_| true);
    counted.expect("a count").totals.words
}

/// Returns megabytes per second.
fn speed(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}

/// Returns two cells: how many times as fast ours is, and how many it is to be.
fn ratio(ratio: f64, target: Option<f64>) -> String {
    match target {
        Some(target) if ratio < target => format!("{ratio:.2} | **missed**: {target}"),
        Some(target) => format!("{ratio:.1} | {target}"),
        None => format!("{ratio:.1} | –"),
    }
}
