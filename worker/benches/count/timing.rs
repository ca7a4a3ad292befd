//! Measures what is compared in turn, so that a busy moment hits all of it alike.

use std::{fs, hint::black_box, time::Duration};

/// How often each is run; the fastest counts.
const RUNS: usize = 5;

/// Returns how fast each way gets through a text, in megabytes per second.
pub fn speeds(bytes: usize, ways: &[&dyn Fn() -> u64]) -> Vec<f64> {
    let mut fastest = vec![Duration::MAX; ways.len()];
    for _ in 0..RUNS {
        for (way, fastest) in ways.iter().zip(&mut fastest) {
            let start = own_time();
            black_box(way());
            *fastest = (own_time() - start).min(*fastest);
        }
    }
    fastest.iter().map(|time| bytes as f64 / 1e6 / time.as_secs_f64()).collect()
}

/// Returns how long this thread has been on a processor.
fn own_time() -> Duration {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = statistics.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

/// Returns how long the children that have ended were on a processor.
pub fn children_time() -> Duration {
    let status = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = status.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux shows hundredths of a second everywhere.
    Duration::from_millis(ticks * 10)
}
