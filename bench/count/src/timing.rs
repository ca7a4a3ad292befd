//! Measures counters in turns, so that other load affects all of them alike.

use std::{fs, hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Number of runs of each counter. The fastest one is used.
const ROUNDS: usize = 5;

/// Counts a text once, and returns the CPU time.
pub type Counter<'c> = &'c dyn Fn() -> Duration;

/// Returns the shortest CPU time of each counter, in seconds.
pub fn seconds(counters: &[Counter<'_>]) -> Vec<f64> {
    let mut fastest = vec![Duration::MAX; counters.len()];
    for _ in 0..ROUNDS {
        for (counter, fastest) in counters.iter().zip(&mut fastest) {
            *fastest = counter().min(*fastest);
        }
    }
    fastest.iter().map(Duration::as_secs_f64).collect()
}

/// Returns the CPU time that this thread uses for `work`.
pub fn of_thread<T>(work: impl FnOnce() -> T) -> Duration {
    let start = thread_time();
    black_box(work());
    thread_time() - start
}

/// Returns the CPU time of the child processes that `work` runs to completion.
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
    // On Linux, a clock tick of /proc is 10 ms on all common machines.
    Duration::from_millis(ticks * 10)
}
