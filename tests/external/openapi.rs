//! Fuzzes the API with schemathesis, which derives valid and invalid requests from the description.

use std::process::Command;
use std::time::Instant;

use serde_json::json;
use wordmill_tests::keyring::Keyring;
use wordmill_tests::site::closed_port;
use wordmill_tests::stack::Stack;
use wordmill_tests::{LIMIT, repository, setting};

/// Number of examples per operation.
const EXAMPLES: &str = "200";
/// Seed of the random requests, unless `API_SEEDS` lists others. A run takes about two minutes.
const SEED: &str = "1";
/// Number of dead letters at the start of the test.
const DEAD: usize = 40;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn schemathesis_finds_no_violation() {
    let program = setting("SCHEMATHESIS").expect("SCHEMATHESIS must be the path of schemathesis");
    let mut keys = Keyring::new();
    let key = keys.add("fuzz", &json!({}));
    let (name, path) = keys.setting();
    // Webhooks are enabled; otherwise every job with a webhook would be refused.
    let stack = Stack::with(1, 1, &[(name, &path), ("WORDMILL_WEBHOOK_SECRETS", SECRET)]);
    let client = stack.client();
    let ours = client.with_key(&key);
    let dead: Vec<String> = (0..DEAD).map(|_| ours.submit_url(&closed_port())).collect();
    for job_id in dead {
        assert_eq!(ours.wait_until_final(&job_id, LIMIT)["dead_lettered"], true);
    }
    let seeds = setting("API_SEEDS").unwrap_or_else(|| SEED.to_owned());
    assert!(!seeds.trim().is_empty(), "API_SEEDS contains no seed");
    for seed in seeds.split_whitespace() {
        let start = Instant::now();
        let output = Command::new(&program)
            .current_dir(repository().join("tests/external/schemathesis"))
            .args(["run", &client.url("/openapi.json"), "--checks", "all"])
            .args(["--max-examples", EXAMPLES, "--seed", seed, "--workers", "1"])
            .env("WORDMILL_KEY", &key)
            .args(["--generation-database", "none", "--no-color"])
            .output()
            .expect("schemathesis runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {seed}:\n{text}{errors}");
        println!("seed {seed}, {} s:\n{text}", start.elapsed().as_secs());
    }
}
