//! How fast words are counted, next to the ways in which one would do it otherwise.
//!
//! `make bench-count` prints the table that docs/performance.md holds. Everything runs on one
//! thread, in turn, and what counts is the time on the processor, so that the ratios of one run can
//! be believed; the megabytes per second are those of the machine. The texts are found on the
//! machine or made here.

#![expect(clippy::print_stdout, reason = "a table is what this program is for")]
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "a benchmark may stop at once, and rounds"
)]
#![expect(unreachable_pub, reason = "modules of a program")]

#[path = "count/corpus.rs"]
mod corpus;
#[path = "count/rival.rs"]
mod rival;
#[path = "count/timing.rs"]
mod timing;

use wordmill_worker::count::{self, Hints, Options};

use self::corpus::Corpus;

fn main() {
    println!(
        "| text | MB | ours, MB/s | with hash and charset | `wc -w` | ratio | `unicode_words` + std HashMap | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let mut misses = Vec::new();
    for corpus in Corpus::all() {
        compare(&corpus, &mut misses);
    }
    for miss in &misses {
        println!("below its aim: {miss}");
    }
}

/// Measures one text and prints its row.
fn compare(corpus: &Corpus, misses: &mut Vec<String>) {
    let options = Options::default();
    let hints = Hints { content_type: Some("text/plain; charset=utf-8"), host_tld: None };
    let text = corpus.text.as_str();
    let ours = || count::count_text(text, &options).expect("a count").totals.words;
    let whole = || {
        let counted = count::count(text.as_bytes(), &hints, &options, &|_| true);
        counted.expect("a count").totals.words
    };
    let naive = || rival::unicode_words(text);
    let speeds = timing::speeds(text.len(), &[&ours, &whole, &naive]);
    let wc = rival::wc(text);
    let (to_wc, to_naive) = (speeds[0] / wc, speeds[0] / speeds[2]);
    println!(
        "| {} | {:.1} | {:.0} | {:.0} | {wc:.0} | {to_wc:.1} | {:.0} | {to_naive:.1} |",
        corpus.name,
        corpus.text.len() as f64 / 1e6,
        speeds[0],
        speeds[1],
        speeds[2],
    );
    let aims = [("wc -w", to_wc, corpus.aim_wc), ("unicode_words", to_naive, corpus.aim_naive)];
    for (rival, ratio, aim) in aims {
        if aim.is_some_and(|aim| ratio < aim) {
            misses.push(format!("{}: {ratio:.2} times {rival}, not {aim:?}", corpus.name));
        }
    }
}
