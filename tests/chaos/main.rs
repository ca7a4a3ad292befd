//! `make chaos`: injects faults under load for `MINUTES`, half of the time into one nats-server and
//! half into a cluster of three. `SEED` repeats the random choices of an earlier run.

use std::time::{Duration, SystemTime};

use wordmill_tests::chaos::Run;
use wordmill_tests::setting;

/// Returns the duration of the faults for each broker, and the seed.
fn settings() -> (Duration, u64) {
    let minutes =
        setting("MINUTES").map_or(3.0, |text| text.parse().expect("MINUTES must be a number"));
    let random = || {
        let now =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock after 1970");
        now.as_secs() % 1_000_000
    };
    let seed =
        setting("SEED").map_or_else(random, |text| text.parse().expect("SEED must be a number"));
    (Duration::from_secs_f64(minutes * 60.0 / 2.0), seed)
}

fn run(nodes: usize) {
    let (time, seed) = settings();
    println!("SEED={seed}, {} s of faults against {nodes} nats-server(s)", time.as_secs());
    println!("{}", Run { nodes, time, seed }.run());
}

#[test]
fn nothing_is_lost_with_one_server() {
    run(1);
}

#[test]
fn nothing_is_lost_with_a_cluster() {
    run(3);
}
