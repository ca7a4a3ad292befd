//! Every stream, consumer and bucket, as data. `provision` creates them, the services verify them.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Republish, RetentionPolicy, StorageType,
};
use wordmill_common::id::Lane;
use wordmill_service::env::{Env, SizeText};

/// The work queue.
pub const JOBS: &str = "JOBS";
/// First token of the subjects of [`JOBS`].
pub(crate) const JOBS_PREFIX: &str = "jobs";
/// Jobs that nobody could finish.
pub const DEAD_JOBS: &str = "DEAD_JOBS";
/// First token of the subjects of [`DEAD_JOBS`].
pub(crate) const DEAD_JOBS_PREFIX: &str = "dead";
/// The bucket of job records.
pub const JOB_STATE: &str = "job_state";
/// The stream behind [`JOB_STATE`].
pub const JOB_STATE_STREAM: &str = "KV_job_state";
/// First token of the subjects on which changes of records are republished.
pub(crate) const EVENTS_PREFIX: &str = "events";
/// The bucket of leases, one key per duty.
pub const LEASES: &str = "leases";
/// The stream behind [`LEASES`].
pub const LEASES_STREAM: &str = "KV_leases";
/// The object store of inputs too large to travel in a message.
pub const DOCUMENTS: &str = "documents";
/// The stream behind [`DOCUMENTS`].
pub const DOCUMENTS_STREAM: &str = "OBJ_documents";
/// The object store of histograms too large for a record.
pub const RESULTS: &str = "results";
/// The stream behind [`RESULTS`].
pub const RESULTS_STREAM: &str = "OBJ_results";

/// The webhooks that are to be delivered.
pub const WEBHOOKS: &str = "WEBHOOKS";
/// First token of the subjects of [`WEBHOOKS`].
pub(crate) const WEBHOOKS_PREFIX: &str = "webhooks";
/// The consumer of [`WEBHOOKS`].
pub(crate) const WEBHOOKS_CONSUMER: &str = "webhooks";
/// The bucket that says how each webhook is doing.
pub(crate) const WEBHOOK_STATE: &str = "webhook_state";
/// The stream behind the bucket `webhook_state`.
pub const WEBHOOK_STATE_STREAM: &str = "KV_webhook_state";

/// How long a worker may hold a message without a sign of life.
pub const ACK_WAIT: Duration = Duration::from_secs(30);
/// How many jobs may wait, at most.
pub const JOBS_MAX: i64 = 2_000_000;
/// How many bytes of jobs may wait, at most.
pub const JOBS_BYTES_MAX: i64 = 8 << 30;
/// How long a job may wait, at most.
pub const JOBS_AGE_MAX: Duration = days(7);
/// How long the marker of an expired or deleted record says that there was one. To workers that is
/// final, so it has to outlive every message of its job: longer than [`JOBS_AGE_MAX`].
pub const TOMBSTONE_TTL: Duration = days(30);
/// How long a dead letter is kept.
pub const DEAD_AGE_MAX: Duration = days(30);
/// How many webhooks may wait, at most.
pub const WEBHOOKS_MAX: i64 = 1_000_000;
/// How many bytes of webhooks may wait, at most.
pub const WEBHOOKS_BYTES_MAX: i64 = 1 << 30;
/// How long a webhook may wait, at most: longer than all its attempts may take.
pub const WEBHOOKS_AGE_MAX: Duration = days(7);
/// Within which time the same message id is stored once.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// Longest life of a lease that is not renewed.
const LEASE_TTL: Duration = Duration::from_secs(60);
/// How much longer than a record the objects that it points to are kept.
const OBJECT_MARGIN: Duration = days(1);

const fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

/// What the topology depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `WORDMILL_REPLICAS`: copies of everything, 1, 3 or 5. More than the cluster has servers
    /// cannot be provisioned.
    pub replicas: u32,
    /// `WORDMILL_RESULT_TTL`: how long a final record and its result are kept.
    pub result_ttl: Duration,
    /// `WORDMILL_DOCUMENTS_SPACE`: how many bytes of documents may wait to be counted. Too little
    /// refuses uploads; the broker reserves all of it, so too much cannot be provisioned.
    pub documents_space: u64,
}

impl Settings {
    /// Reads the settings.
    pub fn read(env: &mut Env) -> Self {
        let replicas = env.read("WORDMILL_REPLICAS", 1, |text| match text {
            "1" => Ok(1),
            "3" => Ok(3),
            "5" => Ok(5),
            _ => Err("not 1, 3 or 5".to_owned()),
        });
        let least = Duration::from_secs(1);
        let most = days(365);
        let result_ttl = env.duration("WORDMILL_RESULT_TTL", days(7), least, most);
        let mib = SizeText(1 << 20);
        let tib = SizeText(1 << 40);
        let documents_space = env.size("WORDMILL_DOCUMENTS_SPACE", SizeText(4 << 30), mib, tib);
        Self { replicas, result_ttl, documents_space }
    }
}

/// A durable consumer and the stream it belongs to.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// The stream.
    pub stream: &'static str,
    /// The consumer.
    pub config: pull::Config,
}

/// Everything that has to exist.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The streams, those behind buckets included.
    pub streams: Vec<Config>,
    /// The consumers.
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

    /// Returns the part that a service needs: the streams named, and the consumers on them.
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
        description: Some("Jobs that wait or are being worked on".to_owned()),
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
        description: Some("Jobs that nobody could finish, with their whole message".to_owned()),
        retention: RetentionPolicy::Limits,
        max_messages_per_subject: 1,
        max_age: DEAD_AGE_MAX,
        ..stream_config(DEAD_JOBS, &["dead.*.*.*"])
    }
}

/// A key-value bucket is a stream of these settings, whatever client made it.
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
        description: Some("One key per duty that one process at a time has".to_owned()),
        max_age: LEASE_TTL,
        // The server wants it no longer than the age.
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

/// A document is kept as long as its job may wait, and then as long as its dead letter.
fn documents(space: u64) -> Config {
    Config {
        description: Some("Documents that clients sent, until they are counted".to_owned()),
        max_bytes: space.try_into().unwrap_or(i64::MAX),
        ..object_store(DOCUMENTS, JOBS_AGE_MAX + DEAD_AGE_MAX + OBJECT_MARGIN)
    }
}

fn consumer(lane: Lane) -> Consumer {
    let config = pull::Config {
        durable_name: Some(lane.as_str().to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Attempts are counted in the record: deliveries are not attempts.
        max_deliver: -1,
        // Jobs that wait for a retry count against it, so a bound would let one dead host stop a
        // lane. Work in hand is bounded by what each worker pulls.
        max_ack_pending: -1,
        filter_subject: format!("{JOBS_PREFIX}.{lane}.>"),
        ..pull::Config::default()
    };
    Consumer { stream: JOBS, config }
}

fn webhooks() -> Config {
    Config {
        description: Some("Webhooks that are to be delivered".to_owned()),
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: WEBHOOKS_MAX,
        max_bytes: WEBHOOKS_BYTES_MAX,
        max_age: WEBHOOKS_AGE_MAX,
        ..stream_config(WEBHOOKS, &["webhooks.*.*"])
    }
}

/// A state is kept as long as the record of its job, counted from its last change, which is later.
fn webhook_state(max_age: Duration) -> Config {
    Config {
        description: Some("How each webhook is doing".to_owned()),
        max_age,
        ..bucket(WEBHOOK_STATE)
    }
}

fn webhooks_consumer() -> Consumer {
    let config = pull::Config {
        durable_name: Some(WEBHOOKS_CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        // An attempt may take longer: whoever is given the message meanwhile leaves it alone.
        ack_wait: ACK_WAIT,
        // Attempts are counted in the state.
        max_deliver: -1,
        // Webhooks that wait for their next attempt count against it.
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
    fn the_topology_is_the_documented_one() {
        let topology = Topology::new(&settings(1, days(7)));
        let consumers: Vec<_> = topology.consumers.iter().map(golden).collect();
        let json = json!({"streams": topology.streams, "consumers": consumers});
        let json = serde_json::to_string_pretty(&json).unwrap();
        assert_eq!(json, include_str!("golden/topology.json").trim_end());
    }

    #[test]
    fn a_marker_outlives_every_message_of_its_job() {
        // However short the time to live is: a job that was cancelled while it waited is not run
        // once its record has expired, because the marker, which counts as final, is still there.
        assert!(TOMBSTONE_TTL > JOBS_AGE_MAX);
    }

    #[test]
    fn a_webhook_is_kept_until_it_was_tried_for_the_last_time() {
        use wordmill_common::retry::RETRY_AFTER_MAX;
        use wordmill_common::webhook::{ATTEMPT_TIME_MAX, SCHEDULE};
        let longest =
            SCHEDULE.map(|wait| wait.mul_f64(1.1).max(RETRY_AFTER_MAX) + ATTEMPT_TIME_MAX);
        assert!(WEBHOOKS_AGE_MAX > longest.iter().sum::<Duration>());
    }

    #[test]
    fn objects_outlive_the_records_that_point_to_them() {
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
