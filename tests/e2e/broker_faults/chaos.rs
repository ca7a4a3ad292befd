//! Short runs of `make chaos`, with fixed seeds.

use std::time::Duration;

use wordmill_tests::chaos::Run;

const TIME: Duration = Duration::from_secs(18);

#[test]
fn repeated_crashes_of_one_server_lose_nothing() {
    println!("{}", Run { nodes: 1, time: TIME, seed: 1 }.run());
}

#[test]
fn crashes_of_single_cluster_servers_lose_nothing() {
    println!("{}", Run { nodes: 3, time: TIME, seed: 2 }.run());
}
