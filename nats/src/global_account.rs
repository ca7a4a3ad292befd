//! Finds streams that a version without accounts left behind in the account `$G` of the same
//! server.
//!
//! Without accounts in its configuration, as in early versions of `nats/server.conf`, a server
//! keeps every stream in `$G`. A server whose configuration has accounts does not load these
//! streams and lists none of them, so [`provision`](crate::provision) sees an empty account, as in
//! a new installation. In a cluster the servers report the streams as unhealthy, because the Raft
//! log contains them. On a single server the folders on disk are the only trace, so this module
//! requests the path of the server's store and searches it. That works where the store is visible:
//! on the server's machine, or in a container that mounts its volume at the same path.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::connect::Broker;
use crate::topology::JOBS;

/// Account of every user if the configuration has no accounts.
const GLOBAL_ACCOUNT: &str = "$G";

/// Instructions for a cluster, whose members keep the account's name in their Raft log.
const CLUSTER_STEPS: &str =
    "  1. Stop the gateways and the workers. Start the servers with the earlier server.conf.
  2. As admin: nats backup account wordmill-backup --force
               for stream in wordmill-backup/*; do nats backup validate $stream; done
  3. Only if all backups are valid:
               for stream in wordmill-backup/*; do nats stream rm --force $(basename $stream); done
  4. Stop the servers and start them with the new server.conf.
  5. As admin: for stream in wordmill-backup/*; do nats backup restore stream $stream; done
     A stream that fails can be restored again.
  6. Run wordmill-nats provision again.";

/// Result of a search for streams in `$G`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchResult {
    /// `$G` contains no streams of Wordmill.
    NotFound,
    /// `$G` contains streams of Wordmill.
    Found(StrandedStreams),
    /// A member of a cluster has not loaded its streams yet, with the reason.
    NotReady(String),
    /// The server does not disclose its store, or the store is not readable here, with the reason.
    NotChecked(String),
}

/// Wordmill's streams in `$G`, which no client can reach. `Display` prints instructions for the
/// operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrandedStreams {
    /// Account of the connected user.
    account: String,
    location: StreamLocation,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum StreamLocation {
    /// Folder of a single server that contains a folder for each account.
    Store(PathBuf),
    /// A cluster, where moving folders is not sufficient.
    Cluster,
}

#[derive(Deserialize)]
struct Answer<T> {
    data: T,
}

#[derive(Deserialize)]
struct UserInfo {
    account: String,
}

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    errors: Vec<HealthError>,
}

#[derive(Deserialize)]
struct HealthError {
    #[serde(default)]
    account: String,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    error: String,
}

impl HealthError {
    fn is_about_stranded_jobs(&self) -> bool {
        self.account == GLOBAL_ACCOUNT && self.stream == JOBS
    }
}

#[derive(Deserialize)]
struct JetStreamInfo {
    config: StoreConfig,
}

#[derive(Deserialize)]
struct StoreConfig {
    store_dir: PathBuf,
}

/// Searches for streams in `$G` of the connected server. Call it only if the user's own account
/// contains no streams.
pub async fn find_streams(broker: &Broker) -> SearchResult {
    search(broker).await.unwrap_or_else(SearchResult::NotChecked)
}

async fn search(broker: &Broker) -> Result<SearchResult, String> {
    let account = request::<UserInfo>(broker, "$SYS.REQ.USER.INFO", "").await?.account;
    if account == GLOBAL_ACCOUNT {
        return Ok(SearchResult::NotFound);
    }
    let server = broker.client.server_info();
    let subject = |report: &str| format!("$SYS.REQ.SERVER.{}.{report}", server.server_id);
    let stranded = |location| SearchResult::Found(StrandedStreams { account, location });
    if server.cluster.is_some() {
        let health: Health = request(broker, &subject("HEALTHZ"), r#"{"details":true}"#).await?;
        if health.errors.iter().any(HealthError::is_about_stranded_jobs) {
            return Ok(stranded(StreamLocation::Cluster));
        }
        // An error without an account concerns JetStream itself, which may not have loaded its
        // streams yet.
        let not_ready = health.errors.into_iter().find(|error| error.account.is_empty());
        return Ok(match not_ready {
            Some(HealthError { error, .. }) => SearchResult::NotReady(error),
            None => SearchResult::NotFound,
        });
    }
    let store = request::<JetStreamInfo>(broker, &subject("JSZ"), "").await?.config.store_dir;
    let folder = store.join(GLOBAL_ACCOUNT).join("streams").join(JOBS);
    match is_directory(&store, &folder) {
        Ok(false) => Ok(SearchResult::NotFound),
        Ok(true) => Ok(stranded(StreamLocation::Store(store))),
        Err(error) => Err(format!("{}: {error}", folder.display())),
    }
}

/// Returns whether `folder` exists. A missing `store` is an error, because the server then runs on
/// another machine.
fn is_directory(store: &Path, folder: &Path) -> io::Result<bool> {
    std::fs::metadata(store)?;
    match std::fs::metadata(folder) {
        Ok(found) => Ok(found.is_dir()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

async fn request<T: DeserializeOwned>(
    broker: &Broker,
    subject: &str,
    payload: &'static str,
) -> Result<T, String> {
    let answer = broker.client.request(subject.to_owned(), payload.into()).await;
    let answer = answer.map_err(|error| format!("{subject}: {error}"))?;
    let read = serde_json::from_slice::<Answer<T>>(&answer.payload);
    read.map(|answer| answer.data).map_err(|error| format!("{subject}: {error}"))
}

impl fmt::Display for StrandedStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { account, location } = self;
        write!(
            f,
            "the account {account} contains no streams, but nats-server stores those of a \
             version without accounts, in the account {GLOBAL_ACCOUNT}. Nothing was created. Move \
             the streams first (docs/upgrading.md):\n\n"
        )?;
        let StreamLocation::Store(store) = location else {
            return f.write_str(CLUSTER_STEPS);
        };
        let store = store.display();
        write!(
            f,
            "  1. Stop the gateways, the workers and nats-server.\n  \
             2. test ! -e '{store}/{account}' && \
             mv '{store}/{GLOBAL_ACCOUNT}' '{store}/{account}'\n  \
             3. Start nats-server and run wordmill-nats provision again."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_migrated_by_backup_and_single_servers_by_rename() {
        let steps =
            |location| StrandedStreams { account: "WORDMILL".to_owned(), location }.to_string();
        let server = steps(StreamLocation::Store("/data/jetstream".into()));
        let rename = "mv '/data/jetstream/$G' '/data/jetstream/WORDMILL'";
        assert!(server.contains(rename), "{server}");
        let cluster = steps(StreamLocation::Cluster);
        assert!(!cluster.contains("mv "), "{cluster}");
        for step in ["backup account", "backup validate", "stream rm", "backup restore stream"] {
            assert!(cluster.contains(&format!("nats {step} ")), "{step}: {cluster}");
        }
    }

    #[test]
    fn a_store_on_another_machine_is_not_mistaken_for_an_empty_one() {
        let here = std::env::temp_dir();
        let elsewhere = here.join("no such store");
        assert!(is_directory(&elsewhere, &elsewhere.join("$G")).is_err());
        assert!(!is_directory(&here, &here.join("no such folder")).unwrap());
        assert!(is_directory(&here, &here).unwrap());
    }
}
