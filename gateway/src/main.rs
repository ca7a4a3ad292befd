//! The `wordmill-gateway` binary: parses the command line, reads the settings and runs the gateway.

use std::process::ExitCode;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::error;
use wordmill_common::id::Owner;
use wordmill_gateway::auth::api_keys;
use wordmill_gateway::config::Config;
use wordmill_gateway::http::tls;
use wordmill_service::env;
use wordmill_service::shutdown::Signals;
use wordmill_service::{readiness_probe, telemetry};

/// Memory allocator. Most allocations of a job are freed within a millisecond, on several threads.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(any(feature = "jemalloc", debug_assertions)))]
compile_error!(
    "a release build needs the allocator jemalloc: add `--features jemalloc`, or run `make release`"
);

const USAGE: &str = "\
Usage: wordmill-gateway [command]

Commands:
  (none)                              serve HTTP
  healthcheck                         check whether the gateway on this machine is ready: exit
                                      code 0 if it is, 1 if not
  key new --name <name> [--owner <owner>]
                                      create an API key: prints the key once on standard error, and
                                      its line for WORDMILL_KEYS_FILE on standard output; the owner
                                      is the name by default
  webhook secret --owner <owner>      print the secrets that verify webhooks of an owner: one
                                      line for each secret in WORDMILL_WEBHOOK_SECRETS
  help                                show this help

Settings are environment variables: see docs/settings.md.";

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to the terminal")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => with_config(serve),
        ["healthcheck"] => with_config(check_health),
        ["key", "new", "--name", name] => print_new_key(name, name),
        ["key", "new", "--name", name, "--owner", owner]
        | ["key", "new", "--owner", owner, "--name", name] => print_new_key(name, owner),
        ["webhook", "secret", "--owner", owner] => {
            with_config(|config| print_webhook_secrets(&config, owner))
        }
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            env::EXIT_USAGE.into()
        }
    }
}

fn with_config(command: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match env::read_settings("wordmill-gateway", Config::read) {
        Ok(config) => command(config),
        Err(exit_code) => exit_code,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a command takes its settings")]
fn check_health(config: Config) -> ExitCode {
    let ready = readiness_probe::connect(config.listen).and_then(|stream| match &config.tls {
        Some(files) => readiness_probe::is_ready(tls::probe(stream, &files.certificate)?),
        None => readiness_probe::is_ready(stream),
    });
    if ready.unwrap_or(false) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to the terminal")]
fn print_new_key(name: &str, owner: &str) -> ExitCode {
    match api_keys::create(name, owner) {
        Ok((key, line)) => {
            eprintln!("{}", key.expose());
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("wordmill-gateway: {reason}");
            env::EXIT_USAGE.into()
        }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to the terminal")]
fn print_webhook_secrets(config: &Config, owner: &str) -> ExitCode {
    let secrets =
        config.webhooks.as_ref().ok_or_else(|| "WORDMILL_WEBHOOK_SECRETS is not set".to_owned());
    let owner = Owner::try_from(owner.to_owned()).map_err(|error| error.to_string());
    match secrets.and_then(|secrets| Ok(secrets.for_owner(&owner?))) {
        Ok(secrets) => {
            secrets.iter().for_each(|secret| println!("{}", secret.expose()));
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("wordmill-gateway: {reason}");
            env::EXIT_USAGE.into()
        }
    }
}

fn serve(config: Config) -> ExitCode {
    let pipeline = telemetry::start(&config.telemetry, &telemetry::random_instance());
    let code = match listen(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "gateway failed");
            ExitCode::FAILURE
        }
    };
    // The runtime has dropped all tasks, so all spans have ended.
    pipeline.finish();
    code
}

#[tokio::main]
async fn listen(config: Config) -> anyhow::Result<()> {
    let signals = Signals::listen();
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {} (WORDMILL_LISTEN)", config.listen))?;
    let stop = CancellationToken::new();
    tokio::select! {
        ended = wordmill_gateway::run(config, listener, stop.clone()) => Ok(ended?),
        () = signals.stop(stop) => Ok(()),
    }
}
