//! Black-box tests of the running system.

mod cancel;
mod chaos;
mod dead_letters;
mod endings;
mod events;
mod faults;
mod guard;
mod keyed;
mod lanes;
mod leases;
mod lifetimes;
mod listing;
mod metrics;
mod older_contract;
mod pressure;
mod problems;
mod retries;
mod roles;
mod samples;
mod sharing;
mod shutdown;
mod sweeper;
mod waiting;
