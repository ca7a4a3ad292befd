//! Definitions of all streams, consumers and buckets, as data.
//!
//! `provision` creates them. After each (re)connect the services verify those that they need.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use wordmill_common::id::Lane;
use wordmill_service::env::{ByteSize, Env};

/// Work-queue stream of jobs.
pub const JOBS: &str = "JOBS";
/// First token of the subjects of [`JOBS`].
pub(crate) const JOBS_PREFIX: &str = "jobs";
/// Stream of dead letters.
pub const DEAD_JOBS: &str = "DEAD_JOBS";
/// First token of the subjects of [`DEAD_JOBS`].
pub(crate) const DEAD_JOBS_PREFIX: &str = "dead";
/// Bucket of job records.
pub const JOB_STATE: &str = "job_state";
/// Stream of the bucket [`JOB_STATE`].
pub const JOB_STATE_STREAM: &str = "KV_job_state";
/// First token of the subjects on which changes of records are republished.
pub(crate) const EVENTS_PREFIX: &str = "events";
/// Bucket of leases, with one key per duty, and of the presence of workers.
pub const LEASES: &str = "leases";
/// Stream of the bucket [`LEASES`].
pub const LEASES_STREAM: &str = "KV_leases";
/// Object store of documents that are too large for a message.
pub const DOCUMENTS: &str = "documents";
/// Stream of the object store [`DOCUMENTS`].
pub const DOCUMENTS_STREAM: &str = "OBJ_documents";
/// Object store of histograms that are too large for a record.
pub const RESULTS: &str = "results";
/// Stream of the object store [`RESULTS`].
pub const RESULTS_STREAM: &str = "OBJ_results";

/// Work-queue stream of webhooks.
pub const WEBHOOKS: &str = "WEBHOOKS";
/// First token of the subjects of [`WEBHOOKS`].
pub(crate) const WEBHOOKS_PREFIX: &str = "webhooks";
/// The consumer of [`WEBHOOKS`].
pub(crate) const WEBHOOKS_CONSUMER: &str = "webhooks";
/// Bucket with the delivery state of each webhook.
pub(crate) const WEBHOOK_STATE: &str = "webhook_state";
/// Stream of the bucket `webhook_state`.
pub const WEBHOOK_STATE_STREAM: &str = "KV_webhook_state";

/// Time after which the broker redelivers a message if its worker sends neither a reply nor a
/// keep-alive.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// Maximum number of jobs in [`JOBS`], waiting or in flight.
pub const JOBS_MAX: i64 = 2_000_000;
/// Maximum size of all jobs in [`JOBS`], in bytes.
pub const JOBS_BYTES_MAX: i64 = 8 << 30;
/// Maximum age of a job in [`JOBS`]. The broker removes older ones.
pub const JOBS_AGE_MAX: Duration = days(7);
/// Lifetime of the tombstone of an expired or deleted record. Workers treat a job with a tombstone
/// as final, so the tombstone must outlive every message of its job: longer than [`JOBS_AGE_MAX`].
pub const TOMBSTONE_TTL: Duration = days(30);
/// Lifetime of a dead letter.
pub const DEAD_AGE_MAX: Duration = days(30);
/// Maximum number of webhooks in [`WEBHOOKS`].
pub const WEBHOOKS_MAX: i64 = 1_000_000;
/// Maximum size of all webhooks in [`WEBHOOKS`], in bytes.
pub const WEBHOOKS_BYTES_MAX: i64 = 1 << 30;
/// Maximum age of a webhook in [`WEBHOOKS`]. Longer than the longest round of attempts.
pub const WEBHOOKS_AGE_MAX: Duration = days(7);
/// Window in which the broker deduplicates message ids.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Time after which a key of [`LEASES`] expires unless it is written again.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// Time for which objects and webhook states are kept after their records have expired.
const OBJECT_MARGIN: Duration = days(1);

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// Settings that the topology depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `WORDMILL_REPLICAS`: number of copies of each stream, 1, 3 or 5. Provisioning fails if the
    /// cluster has fewer servers.
    pub replicas: u32,
    /// `WORDMILL_RESULT_TTL`: how long a final record and its result are kept.
    pub result_ttl: Duration,
    /// `WORDMILL_DOCUMENTS_SPACE`: maximum size of all stored documents, in bytes: those of
    /// unfinished jobs and of dead letters. Uploads are refused when it is used up. The broker
    /// reserves all of it, so provisioning fails if it exceeds the broker's storage.
    pub documents_space: u64,
}

impl Settings {
    /// Reads the settings.
    pub fn read(env: &mut Env) -> Self {
        let replicas = env.read("WORDMILL_REPLICAS", 1, |text| match text {
            "1" => Ok(1),
            "3" => Ok(3),
            "5" => Ok(5),
            _ => Err("must be 1, 3 or 5".to_owned()),
        });
        let min = Duration::from_secs(1);
        let max = days(365);
        let result_ttl = env.duration("WORDMILL_RESULT_TTL", days(7), min, max);
        let mib = ByteSize(1 << 20);
        let tib = ByteSize(1 << 40);
        let documents_space = env.size("WORDMILL_DOCUMENTS_SPACE", ByteSize(4 << 30), mib, tib);
        Self { replicas, result_ttl, documents_space }
    }
}

/// A durable consumer and its stream.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Name of the stream.
    pub stream: &'static str,
    /// Configuration of the consumer.
    pub config: pull::Config,
}

/// The streams and consumers that must exist.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Streams, including those of buckets and object stores.
    pub streams: Vec<Config>,
    /// Consumers of these streams.
    pub consumers: Vec<Consumer>,
}

impl Topology {
    /// Returns the whole topology.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let mut streams = vec![
            jobs(),
            dead_jobs(),
            job_state(),
            leases(),
            documents(settings.documents_space),
            object_store(RESULTS, settings.result_ttl + OBJECT_MARGIN),
            webhooks(),
            webhook_state(settings.result_ttl.max(WEBHOOKS_AGE_MAX) + OBJECT_MARGIN),
        ];
        for stream in &mut streams {
            stream.num_replicas = settings.replicas.try_into().unwrap_or(1);
        }
        let mut consumers: Vec<Consumer> = Lane::ALL.map(consumer).into();
        consumers.push(webhooks_consumer());
        Self { streams, consumers }
    }

    /// Keeps only the named streams and their consumers, for a service that needs no others.
    #[must_use]
    pub fn part(mut self, streams: &[&str]) -> Self {
        self.streams.retain(|stream| streams.contains(&stream.name.as_str()));
        self.consumers.retain(|consumer| streams.contains(&consumer.stream));
        self
    }
}

fn stream_config(name: &str, subjects: &[&str]) -> Config {
    Config {
        name: name.to_owned(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        storage: StorageType::File,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        ..Config::default()
    }
}

fn jobs() -> Config {
    Config {
        description: Some("Queued and running jobs".to_owned()),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: JOBS_MAX,
        max_bytes: JOBS_BYTES_MAX,
        max_age: JOBS_AGE_MAX,
        ..stream_config(JOBS, &["jobs.*.*.*"])
    }
}

fn dead_jobs() -> Config {
    Config {
        description: Some("Messages of jobs that used up their attempts".to_owned()),
        retention: RetentionPolicy::Limits,
        max_messages_per_subject: 1,
        max_age: DEAD_AGE_MAX,
        ..stream_config(DEAD_JOBS, &["dead.*.*.*"])
    }
}

/// Returns the configuration of a key-value bucket, which is a stream. NATS clients create buckets
/// with the same settings, except that they allow TTLs of messages only on request.
fn bucket(name: &str) -> Config {
    Config {
        discard: DiscardPolicy::New,
        max_messages_per_subject: 1,
        allow_rollup: true,
        deny_delete: true,
        allow_message_ttl: true,
        ..stream_config(&format!("KV_{name}"), &[&format!("$KV.{name}.>")])
    }
}

fn job_state() -> Config {
    Config {
        description: Some("One record per job".to_owned()),
        subject_delete_marker_ttl: Some(TOMBSTONE_TTL),
        republish: Some(Republish {
            source: ">".to_owned(),
            destination: format!("{EVENTS_PREFIX}.>"),
            headers_only: false,
        }),
        ..bucket(JOB_STATE)
    }
}

fn leases() -> Config {
    Config {
        description: Some("Leases and worker presence".to_owned()),
        max_age: LEASE_TTL,
        // The server refuses a window that is longer than the maximum age.
        duplicate_window: LEASE_TTL,
        ..bucket(LEASES)
    }
}

fn object_store(name: &str, max_age: Duration) -> Config {
    Config {
        discard: DiscardPolicy::New,
        allow_rollup: true,
        max_age,
        ..stream_config(
            &format!("OBJ_{name}"),
            &[&format!("$O.{name}.C.>"), &format!("$O.{name}.M.>")],
        )
    }
}

/// Returns the configuration of the object store for documents. A document must outlive its job,
/// which may wait in the queue for [`JOBS_AGE_MAX`], and then its dead letter.
fn documents(space: u64) -> Config {
    Config {
        description: Some("Uploaded documents of unfinished jobs and dead letters".to_owned()),
        max_bytes: space.try_into().unwrap_or(i64::MAX),
        ..object_store(DOCUMENTS, JOBS_AGE_MAX + DEAD_AGE_MAX + OBJECT_MARGIN)
    }
}

fn consumer(lane: Lane) -> Consumer {
    let config = pull::Config {
        durable_name: Some(lane.as_str().to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Unlimited: attempts are counted in the record, and not every delivery is an attempt.
        max_deliver: -1,
        // Unlimited: jobs that wait for their next attempt are not acknowledged, so a limit would
        // let one unreachable host stop a lane. The requests of each worker bound its jobs in
        // flight.
        max_ack_pending: -1,
        filter_subject: format!("{JOBS_PREFIX}.{lane}.>"),
        ..pull::Config::default()
    };
    Consumer { stream: JOBS, config }
}

fn webhooks() -> Config {
    Config {
        description: Some("Webhooks to deliver".to_owned()),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: WEBHOOKS_MAX,
        max_bytes: WEBHOOKS_BYTES_MAX,
        max_age: WEBHOOKS_AGE_MAX,
        ..stream_config(WEBHOOKS, &["webhooks.*.*"])
    }
}

/// Returns the configuration of the bucket for delivery states. The broker measures the age of a
/// state from its last change, which is later than the last change of the job's record. So a state
/// outlives the record.
fn webhook_state(max_age: Duration) -> Config {
    Config {
        description: Some("Delivery state of each webhook".to_owned()),
        max_age,
        ..bucket(WEBHOOK_STATE)
    }
}

fn webhooks_consumer() -> Consumer {
    let config = pull::Config {
        durable_name: Some(WEBHOOKS_CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        // An attempt may take longer. A worker that receives the redelivery finds the attempt in
        // the delivery state, and does not start another one.
        ack_wait: ACK_WAIT,
        // Unlimited: attempts are counted in the delivery state.
        max_deliver: -1,
        // Unlimited: webhooks that wait for their next attempt are not acknowledged.
        max_ack_pending: -1,
        filter_subject: format!("{WEBHOOKS_PREFIX}.>"),
        ..pull::Config::default()
    };
    Consumer { stream: WEBHOOKS, config }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn settings(replicas: u32, result_ttl: Duration) -> Settings {
        Settings { replicas, result_ttl, documents_space: 4 << 30 }
    }

    fn golden(consumer: &Consumer) -> Value {
        let config = &consumer.config;
        json!({
            "stream": consumer.stream,
            "durable": config.durable_name,
            "ack_wait_s": config.ack_wait.as_secs(),
            "max_deliver": config.max_deliver,
            "max_ack_pending": config.max_ack_pending,
            "backoff": config.backoff.len(),
            "filter": config.filter_subject,
        })
    }

    #[test]
    fn the_topology_matches_the_golden_file() {
        let topology = Topology::new(&settings(1, days(7)));
        let consumers: Vec<_> = topology.consumers.iter().map(golden).collect();
        let json = json!({"streams": topology.streams, "consumers": consumers});
        let json = serde_json::to_string_pretty(&json).unwrap();
        assert_eq!(json, include_str!("golden/topology.json").trim_end());
    }

    #[test]
    fn a_tombstone_outlives_every_message_of_its_job() {
        // This holds for any lifetime of results. A job that was cancelled while it waited is not
        // run after its record has expired, because the tombstone still exists and workers treat it
        // as final.
        assert!(TOMBSTONE_TTL > JOBS_AGE_MAX);
    }

    #[test]
    fn a_webhook_is_kept_until_its_last_attempt() {
        use wordmill_common::retry::RETRY_AFTER_MAX;
        use wordmill_common::webhook::{ATTEMPT_TIME_MAX, SCHEDULE};
        let longest =
            SCHEDULE.map(|wait| wait.mul_f64(1.1).max(RETRY_AFTER_MAX) + ATTEMPT_TIME_MAX);
        assert!(WEBHOOKS_AGE_MAX > longest.iter().sum::<Duration>());
    }

    #[test]
    fn objects_outlive_the_records_that_refer_to_them() {
        let topology = Topology::new(&settings(3, days(90)));
        let age = |name: &str| {
            let stream = topology.streams.iter().find(|stream| stream.name == name);
            stream.map(|stream| stream.max_age).unwrap()
        };
        assert!(age("OBJ_results") > days(90));
        assert!(age(DOCUMENTS_STREAM) > JOBS_AGE_MAX + DEAD_AGE_MAX);
        assert!(topology.streams.iter().all(|stream| stream.num_replicas == 3));
        assert!(age(WEBHOOK_STATE_STREAM) > days(90));
    }
}
