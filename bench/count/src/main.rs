//! Measures how fast words are counted, compared with other counters.
//!
//! `make bench-count` prints the tables that docs/performance.md summarizes. All counters run on
//! one thread, in turns, and the shortest CPU time of each is used, so that the ratios of one run
//! are reliable. The megabytes per second depend on the machine. The texts are installed on the
//! machine or generated here.

mod corpus;
mod other_counters;
mod timing;

use wordmill_count::{Hints, Options};

use self::corpus::{Pages, Text};

/// Number of times that a small document is counted for one measurement.
const SMALL_DOCUMENTS: usize = 2000;

fn main() {
    println!(
        "| text | MB | Wordmill, MB/s | `wc -w` | ratio | target | `unicode_words` + std HashMap \
         | ratio | target | Wordmill with SHA-256 and charset |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    // The arguments are parts of the names of the texts and pages to measure.
    let names: Vec<String> = std::env::args().skip(1).collect();
    let is_selected = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let texts = Text::all();
    for text in texts.iter().filter(|text| is_selected(text.name)) {
        compare_text(text);
    }
    println!();
    println!(
        "| pages | number | MB | Wordmill, bytes to words, MB/s \
         | scraper + `unicode_words` + std HashMap | ratio | target \
         | html5gum + Wordmill's counter | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let sets = Pages::all();
    for pages in sets.iter().filter(|pages| is_selected(pages.name)) {
        compare_pages(pages);
    }
    println!();
    println!("| one document | CPU µs |");
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
    let wc = other_counters::Wc::new(text);
    let seconds = timing::seconds(&[
        &|| timing::of_thread(|| wordmill_count::count_text(text, &options).expect("a count")),
        &|| timing::of_thread(|| count_bytes(text, "text/plain")),
        &|| timing::of_thread(|| other_counters::unicode_words(text)),
        &|| wc.run(),
    ]);
    let [wordmill, like_a_job, naive, wc] = seconds[..] else { unreachable!("four counters") };
    println!(
        "| {} | {:.1} | {:.0} | {:.0} | {} | {:.0} | {} | {:.0} |",
        corpus.name,
        bytes as f64 / 1e6,
        speed(bytes, wordmill),
        speed(bytes, wc),
        ratio(wc / wordmill, corpus.target_wc),
        speed(bytes, naive),
        ratio(naive / wordmill, corpus.target_naive),
        speed(bytes, like_a_job),
    );
}

fn compare_pages(set: &Pages) {
    let options = Options::default();
    let bytes: usize = set.pages.iter().map(String::len).sum();
    let each = |count: &dyn Fn(&str) -> u64| -> u64 {
        (0..set.repetitions).flat_map(|_| &set.pages).map(|page| count(page)).sum()
    };
    let with_html5gum = |page: &str| {
        let text = other_counters::html5gum(page.as_bytes());
        wordmill_count::count_text(&text, &options).expect("a count").totals.words
    };
    let seconds = timing::seconds(&[
        &|| timing::of_thread(|| each(&|page| count_bytes(page, "text/html"))),
        &|| timing::of_thread(|| each(&|page| other_counters::scraper(page.as_bytes()))),
        &|| timing::of_thread(|| each(&with_html5gum)),
    ]);
    let [wordmill, scraper, html5gum] = seconds[..] else { unreachable!("three counters") };
    println!(
        "| {} | {} | {:.1} | {:.0} | {:.0} | {} | {:.0} | {:.1} |",
        set.name,
        set.pages.len(),
        bytes as f64 / 1e6,
        speed(bytes * set.repetitions, wordmill),
        speed(bytes * set.repetitions, scraper),
        ratio(scraper / wordmill, Some(6.0)),
        speed(bytes * set.repetitions, html5gum),
        html5gum / wordmill,
    );
}

/// Measures the CPU time of a small document, without job, broker and network.
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

/// Counts a document like a job: hash, charset, text, words.
fn count_bytes(document: &str, content_type: &str) -> u64 {
    let content_type = format!("{content_type}; charset=utf-8");
    let hints = Hints { content_type: Some(&content_type), host_tld: None };
    let result = wordmill_count::count(document.as_bytes(), &hints, &Options::default(), &|_| true);
    result.expect("a count").totals.words
}

/// Returns megabytes per second.
fn speed(bytes: usize, seconds: f64) -> f64 {
    bytes as f64 / 1e6 / seconds
}

/// Returns two cells: the ratio to the speed of the other counter, and its target.
fn ratio(ratio: f64, target: Option<f64>) -> String {
    match target {
        Some(target) if ratio < target => format!("{ratio:.2} | **missed**: {target}"),
        Some(target) => format!("{ratio:.1} | {target}"),
        None => format!("{ratio:.1} | –"),
    }
}
