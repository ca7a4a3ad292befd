//! Tests that need a tool from outside. `make test-all` installs what they need and runs them.

mod nats_cli;
mod pages;
mod prometheus;
mod readme;
