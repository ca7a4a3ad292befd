//! Black-box tests of the running system.

mod guard;
mod older_contract;
mod problems;
mod samples;
