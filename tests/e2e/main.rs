//! Black-box tests of the running system.

mod samples;
