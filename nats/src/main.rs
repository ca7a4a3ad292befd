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
  provision            create missing streams, consumers and buckets, and report settings that
                       differ; deletes nothing
  provision --correct  the same, and also update settings that differ
  help                 print this help

Environment variables          Default                Meaning
  WORDMILL_NATS_URL            nats://127.0.0.1:4222  servers, separated by commas
  WORDMILL_NATS_USER           admin                  user
  WORDMILL_NATS_PASSWORD                              password of the user
  WORDMILL_NATS_PASSWORD_FILE                         alternative: file with the password
  WORDMILL_NATS_CA                                    trusted authorities (PEM); requires TLS
  WORDMILL_NATS_CERT                                  client certificate (PEM); requires TLS
  WORDMILL_NATS_KEY                                   private key of the certificate (PEM)
  WORDMILL_NATS_WAIT           30s                    maximum time to wait for a connection
  WORDMILL_REPLICAS            1                      copies of each stream: 1, 3 or 5
  WORDMILL_RESULT_TTL          7d                     retention of final jobs and their results
  WORDMILL_DOCUMENTS_SPACE     4GiB                   space for documents that wait to be counted";

/// Printed if the account contains no streams and the server's store cannot be checked.
const NOT_CHECKED: &str = "\
wordmill-nats: cannot check for streams of a version without accounts; creating new streams.
Old ones would still be in the server's store: see docs/upgrading.md";

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
    let config = match env::read_settings("wordmill-nats", read_config) {
        Ok(config) => config,
        Err(exit_code) => return exit_code,
    };
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
    let min = Duration::ZERO;
    let max = Duration::from_secs(3600);
    let wait = env.duration("WORDMILL_NATS_WAIT", Duration::from_secs(30), min, max);
    let topology = topology::Settings::read(env);
    Config { broker, wait, topology }
}

#[expect(clippy::print_stderr, reason = "a command prints to the terminal")]
async fn provision(config: &Config, drift: Drift) -> anyhow::Result<String> {
    let broker = Broker::start(&config.broker, "wordmill-nats").await?;
    let connected = tokio::time::timeout(config.wait, broker.wait_for_connection()).await;
    connected.map_err(|_| {
        let reason = broker.last_error().unwrap_or_else(|| "no answer".to_owned());
        anyhow::anyhow!(
            "cannot connect to {} within {:?}: {reason}",
            config.broker.url,
            config.wait
        )
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

    const SETTINGS_PAGE: &str = include_str!("../../docs/settings.md");

    #[test]
    fn the_settings_page_lists_exactly_our_settings_and_defaults() {
        let mut env = Env::default();
        read_config(&mut env);
        env.check_table(SETTINGS_PAGE, "nats").unwrap();
    }

    #[test]
    fn the_usage_lists_every_setting() {
        let names = SETTINGS_PAGE.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let names = cells.next()?.trim().trim_end_matches('`');
            let is_ours = cells.next()?.split(',').any(|program| program.trim() == "nats");
            is_ours.then(|| names.split("`, `"))
        });
        let names: Vec<&str> = names.flatten().collect();
        assert!(names.contains(&"WORDMILL_NATS_PASSWORD_FILE"), "{names:?}");
        for name in names {
            assert!(USAGE.contains(&format!("\n  {name} ")), "{name} is missing");
        }
    }
}
