//! Black-box tests of the running system.

mod chaos;
mod endings;
mod faults;
mod guard;
mod keyed;
mod older_contract;
mod pressure;
mod problems;
mod roles;
mod samples;
mod sharing;
mod sweeper;
