//! Tests with external tools. `make test-external` installs the tools and runs the tests.

mod charsets;
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
