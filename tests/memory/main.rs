//! Measures the memory of the shipped services, as the kernel reports it.
//!
//! `make test-memory` builds the services for these tests. Development builds are not optimized and
//! use another allocator, so their memory use is not representative.

mod bodies;
mod connections;
mod dead_letters;
mod decoders;
mod documents;
mod results;
mod waiting;

use wordmill_tests::process::binary;
use wordmill_tests::stack::Stack;

/// Prefix of jemalloc's messages, which is part of every binary with jemalloc.
const ALLOCATOR: &[u8] = b"<jemalloc>";

/// Starts a stack as [`Stack::with`] does. Checks first that the binaries contain the shipped
/// allocator.
///
/// # Panics
/// If a service is built without jemalloc.
fn start_stack(gateways: usize, workers: usize, settings: &[(&str, &str)]) -> Stack {
    for service in ["wordmill-gateway", "wordmill-worker"] {
        let path = binary(service);
        let bytes = std::fs::read(&path).expect("a binary");
        let is_found = bytes.windows(ALLOCATOR.len()).any(|part| part == ALLOCATOR);
        assert!(is_found, "{} is built without jemalloc: run `make test-memory`", path.display());
    }
    Stack::with(gateways, workers, settings)
}

/// Prints a measured value, and asserts that it is below its limit.
#[track_caller]
fn assert_below(bytes_max: u64, bytes: u64, name: &str) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    println!("{name}: {:.1} MiB, limit {:.1} MiB", mib(bytes), mib(bytes_max));
    assert!(bytes < bytes_max, "{name}: {bytes} bytes, limit {bytes_max} bytes");
}
