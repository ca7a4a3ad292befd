//! A hundred thousand jobs and a million records: minutes, run by `make test-slow`.

mod batches;
mod listing;
