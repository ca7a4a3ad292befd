//! Black-box tests of the running system.

mod endings;
mod faults;
mod guard;
mod older_contract;
mod problems;
mod roles;
mod samples;
mod sharing;
