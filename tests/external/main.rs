//! Tests that need a tool from outside. `make test-external` installs what they need and runs them.

mod cross_site;
mod differences;
mod jaeger;
mod nats_cli;
mod openapi;
mod operations;
mod page;
mod pages;
mod prometheus;
mod readme;
mod texts;
mod upgrading;
