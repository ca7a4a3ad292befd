//! Measures what is compared in turn, so that a busy moment hits all of it alike.

use std::{fs, hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// How often each way is taken; the fastest time counts.
const ROUNDS: usize = 7;

/// One of the ways to do the same; returns how long it was on a processor.
pub type Way<'w> = &'w dyn Fn() -> Duration;

/// Returns how long each way takes at its fastest, in seconds.
pub fn seconds(ways: &[Way<'_>]) -> Vec<f64> {
    let mut fastest = vec![Duration::MAX; ways.len()];
    for _ in 0..ROUNDS {
        for (way, fastest) in ways.iter().zip(&mut fastest) {
            *fastest = way().min(*fastest);
        }
    }
    fastest.iter().map(Duration::as_secs_f64).collect()
}

/// Returns how long this thread was on a processor for `work`.
pub fn of_thread<T>(work: impl FnOnce() -> T) -> Duration {
    let start = thread_time();
    black_box(work());
    thread_time() - start
}

/// Returns how long processes that `work` starts and awaits were on a processor.
pub fn of_children(work: impl FnOnce()) -> Duration {
    let start = children_time();
    work();
    children_time() - start
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn children_time() -> Duration {
    let status = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = status.rsplit_once(')').expect("a name in parentheses");
    let ticks = fields.split_whitespace().skip(13).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    // Linux shows hundredths of a second everywhere.
    Duration::from_millis(ticks * 10)
}
