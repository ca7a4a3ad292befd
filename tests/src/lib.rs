//! Starts the real binaries and a real nats-server, and talks to them as users do.
//!
//! Depends on no wordmill crate: URLs, JSON and subjects that are spelled out here are the
//! contract.

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

/// Longest wait for a condition that normally holds within seconds. Long enough for a busy machine;
/// a test that claims a time has a constant of its own.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` returns something, and panics with `what` after `limit`.
///
/// # Panics
/// When the limit is over.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        pause(Duration::from_millis(20));
    }
}

/// Waits before the next check of a condition.
#[expect(clippy::disallowed_methods, reason = "tests run on threads of their own")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Returns the runtime behind the harness; tests themselves are plain threads.
///
/// # Panics
/// If there can be none.
pub fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// Returns the top of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// Returns a setting of the test run.
#[expect(clippy::disallowed_methods, reason = "the harness has no configuration of its own")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
