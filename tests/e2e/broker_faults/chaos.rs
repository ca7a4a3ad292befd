//! Short runs of `make chaos`, with fixed seeds.

use std::time::Duration;

use wordmill_tests::chaos::Run;

const TIME: Duration = Duration::from_secs(18);

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing() {
    println!("{}", Run { nodes: 1, time: TIME, seed: 1 }.run());
}

#[test]
fn a_cluster_whose_servers_are_killed_one_by_one_loses_nothing() {
    println!("{}", Run { nodes: 3, time: TIME, seed: 2 }.run());
}
