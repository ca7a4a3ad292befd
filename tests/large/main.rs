//! Tests with 100,000 jobs and 1,000,000 records. They take minutes. Run by `make test-large`.

mod batches;
mod listing;
