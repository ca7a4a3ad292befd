//! `wordmill-nats`: creates and checks the streams, consumers and buckets that Wordmill needs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use wordmill_nats::connect::{Broker, Role, Settings};
use wordmill_nats::global_account::{self, SearchResult};
use wordmill_nats::provision::{self, Drift};
use wordmill_nats::topology::{self, Topology};
use wordmill_service::env::{self, Env};

const USAGE: &str = "\
Usage: wordmill-nats <command>

Commands:
  provision            create the streams, consumers and buckets that are missing;
                       report settings that differ, field by field; never delete
  provision --correct  the same, and change settings that differ
  help                 print this help

Settings (environment):
  WORDMILL_NATS_URL       nats://127.0.0.1:4222
  WORDMILL_NATS_USER      admin
  WORDMILL_NATS_PASSWORD
  WORDMILL_NATS_CA        PEM file with the trusted authorities, for tls://
  WORDMILL_NATS_CERT      PEM file with the client certificate
  WORDMILL_NATS_KEY       PEM file with its key
  WORDMILL_NATS_WAIT      30s, the longest wait for the server
  WORDMILL_REPLICAS       1 (1, 3 or 5)
  WORDMILL_RESULT_TTL     7d";

/// Printed if the account has no streams and the server's store cannot be checked.
const NOT_CHECKED: &str = "\
wordmill-nats: cannot check whether a version without accounts left streams on this server;
creating new ones. Earlier streams would still be in its store, see docs/upgrading.md";

struct Config {
    broker: Settings,
    wait: Duration,
    topology: topology::Settings,
}

#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command prints to the terminal")]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let drift = match words.as_slice() {
        ["provision"] => Drift::Report,
        ["provision", "--correct"] => Drift::Correct,
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return env::EXIT_USAGE.into();
        }
    };
    let mut env = Env::from_process();
    let config = read_config(&mut env);
    if let Err(invalid) = env.finish() {
        return env::report("wordmill-nats", &invalid);
    }
    match provision(&config, drift).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wordmill-nats: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn read_config(env: &mut Env) -> Config {
    let broker = Settings::read(env, Role::Admin);
    let least = Duration::ZERO;
    let most = Duration::from_secs(3600);
    let wait = env.duration("WORDMILL_NATS_WAIT", Duration::from_secs(30), least, most);
    let topology = topology::Settings::read(env);
    Config { broker, wait, topology }
}

#[expect(clippy::print_stderr, reason = "a command prints to the terminal")]
async fn provision(config: &Config, drift: Drift) -> anyhow::Result<String> {
    let broker = Broker::start(&config.broker, "wordmill-nats").await?;
    let connected = tokio::time::timeout(config.wait, broker.wait_for_connection()).await;
    connected.map_err(|_| {
        let reason = broker.last_error().unwrap_or_else(|| "no answer".to_owned());
        anyhow::anyhow!("no connection to {} within {:?}: {reason}", config.broker.url, config.wait)
    })??;
    broker.check_server().await?;
    let topology = Topology::new(&config.topology);
    if provision::has_no_streams(&broker, &topology).await? {
        match global_account::find_streams(&broker).await {
            SearchResult::NotFound => {}
            SearchResult::Found(streams) => anyhow::bail!("{streams}"),
            SearchResult::NotReady(reason) => anyhow::bail!("nats-server is not ready: {reason}"),
            SearchResult::NotChecked(reason) => eprintln!("{NOT_CHECKED} ({reason})"),
        }
    }
    let findings = provision::provision(&broker, &topology, drift)
        .await
        .context("provisioning is incomplete; it is safe to run it again")?;
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_page_lists_exactly_our_settings_and_defaults() {
        let mut env = Env::default();
        read_config(&mut env);
        env.check_table(include_str!("../../docs/settings.md"), "nats").unwrap();
    }
}
