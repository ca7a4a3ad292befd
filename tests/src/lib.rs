//! Harness of the black-box tests: starts the real binaries and a real nats-server, and uses their
//! public interfaces.
//!
//! The crate does not depend on any Wordmill crate. URLs, JSON and subjects are spelled out,
//! because they are the contract under test.

pub mod admin;
pub mod assertions;
pub mod browser;
pub mod certificates;
pub mod chaos;
pub mod client;
pub mod cluster;
pub mod collector;
pub mod command;
pub mod connection;
pub mod dead_letters;
pub mod document;
pub mod jaeger;
pub mod keyring;
pub mod metrics;
pub mod mixed;
pub mod port;
pub mod process;
pub mod proxied_stack;
pub mod proxy;
pub mod receiver;
pub mod session;
pub mod site;
pub mod stack;
pub mod stream;
pub mod traces;
pub mod upload;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Maximum wait for a condition that normally holds within seconds. Generous, for busy machines. A
/// test that checks a duration uses its own, shorter constant.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Polls `condition` every 20 ms until it returns a value. `description` names the condition.
///
/// # Panics
/// If no value is returned within `limit`. The message contains `description`.
pub fn wait_for<T>(
    description: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "timed out after {limit:?}: {description}");
        pause(Duration::from_millis(20));
    }
}

/// Sleeps before the next check of a condition.
#[expect(clippy::disallowed_methods, reason = "tests run on plain threads")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Returns the Tokio runtime of the harness. The tests themselves are plain threads.
///
/// # Panics
/// If the runtime cannot be built.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("the runtime is built")
    })
}

/// Returns the root directory of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Returns an environment variable of the test run, or `None` if it is unset or empty.
#[expect(clippy::disallowed_methods, reason = "the harness has no other configuration")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
