//! Black-box tests of the running system.

mod cancel;
mod chaos;
mod endings;
mod faults;
mod guard;
mod keyed;
mod lanes;
mod leases;
mod older_contract;
mod pressure;
mod problems;
mod roles;
mod samples;
mod sharing;
mod shutdown;
mod sweeper;
