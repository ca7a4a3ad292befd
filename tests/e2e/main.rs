//! Black-box tests of the running system.

mod chaos;
mod endings;
mod faults;
mod guard;
mod older_contract;
mod problems;
mod samples;
mod sharing;
