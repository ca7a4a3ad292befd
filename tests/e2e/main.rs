//! Black-box tests of the running system.

mod cancel;
mod endings;
mod faults;
mod guard;
mod lanes;
mod leases;
mod older_contract;
mod problems;
mod samples;
mod sharing;
mod shutdown;
