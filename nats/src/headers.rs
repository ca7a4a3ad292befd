//! Headers of messages that more than one module reads or writes.

/// Marks a tombstone in a key-value bucket: `DEL`, or `PURGE` if earlier revisions are removed too.
/// All clients of NATS share this convention.
pub(crate) const OPERATION_HEADER: &str = "KV-Operation";
