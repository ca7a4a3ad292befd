//! Measures what is compared in turn, so that a busy moment hits all of it alike.

use std::{hint::black_box, time::Duration, time::Instant};

/// How often each is run; the fastest counts.
const RUNS: usize = 5;

/// Returns how fast each way gets through a text, in megabytes per second.
pub fn speeds(bytes: usize, ways: &[&dyn Fn() -> u64]) -> Vec<f64> {
    let mut fastest = vec![Duration::MAX; ways.len()];
    for _ in 0..RUNS {
        for (way, fastest) in ways.iter().zip(&mut fastest) {
            let start = Instant::now();
            black_box(way());
            *fastest = start.elapsed().min(*fastest);
        }
    }
    fastest.iter().map(|time| bytes as f64 / 1e6 / time.as_secs_f64()).collect()
}
