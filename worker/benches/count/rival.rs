//! The other ways.

use std::{collections::HashMap, io::Write, process::Command};

use unicode_segmentation::UnicodeSegmentation;

use super::timing;

/// How often `wc` reads the text in one run: its time is known to hundredths of a second only.
const WC_FILES: usize = 8;
/// How often `wc` is run; the fastest counts.
const WC_RUNS: usize = 3;

/// Counts as one would write it down: words of a crate, lower case, the standard library's map.
pub fn unicode_words(text: &str) -> u64 {
    let mut counts: HashMap<String, u64> = HashMap::new();
    for word in text.unicode_words() {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    counts.values().sum()
}

/// Returns the speed of `wc -w`, which only counts, in megabytes per second.
pub fn wc(text: &str) -> f64 {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room for a text");
    let run = || {
        let start = timing::children_time();
        let files = [file.path(); WC_FILES];
        let output = Command::new("wc").arg("-w").args(files).env("LC_ALL", "C.UTF-8").output();
        assert!(output.expect("wc").status.success(), "wc failed");
        timing::children_time() - start
    };
    let fastest = (0..WC_RUNS).map(|_| run()).min().expect("a run");
    (text.len() * WC_FILES) as f64 / 1e6 / fastest.as_secs_f64()
}
