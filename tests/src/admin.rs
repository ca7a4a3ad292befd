//! Administrator access to the broker.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime};

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::ObjectMetadata;
use async_nats::jetstream::{self, consumer, stream};
use futures_util::{StreamExt, TryStreamExt};

use serde_json::{Value, json};

use crate::stack::{Nats, password};
use crate::{runtime, wait_for};

/// Maximum wait for a stream, or for the next message of a stream.
const READ_MAX: Duration = Duration::from_secs(30);

/// A message stored in a stream.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Subject of the message.
    pub subject: String,
    /// Sequence in the stream. In a key-value bucket, it is the revision of the key.
    pub revision: u64,
    /// Time at which the broker stored the message.
    pub stored: SystemTime,
    /// Payload without the header fields.
    pub payload: Vec<u8>,
}

/// A connection as the role `admin`, which has all rights.
pub struct Admin {
    jetstream: jetstream::Context,
}

impl Admin {
    /// Connects to a server.
    pub fn connect(nats: &Nats) -> Self {
        Self::connect_to_any(&[nats.address()])
    }

    /// Connects to one of several servers.
    pub fn connect_to_any(addresses: &[String]) -> Self {
        let options =
            async_nats::ConnectOptions::with_user_and_password("admin".into(), password("admin"));
        runtime().block_on(async {
            let client = options.connect(addresses).await.expect("a connection");
            Self { jetstream: jetstream::new(client) }
        })
    }

    /// Looks up a stream. Retries for up to [`READ_MAX`], because the server of this connection may
    /// just have been killed.
    async fn stream(&self, name: &str) -> stream::Stream {
        let end = Instant::now() + READ_MAX;
        loop {
            match self.jetstream.get_stream(name).await {
                Ok(stream) => return stream,
                Err(error) => assert!(Instant::now() < end, "cannot find stream {name}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns all messages of a stream, oldest first. The stream must not lose messages meanwhile:
    /// the reader would wait for them and panic after 30 s.
    pub fn all_messages(&self, name: &str) -> Vec<StoredMessage> {
        runtime().block_on(async {
            let stream = self.stream(name).await;
            let config = consumer::pull::OrderedConfig::default();
            let reader = stream.create_consumer(config).await.expect("a consumer");
            let mut waiting = reader.cached_info().num_pending;
            let mut messages = reader.messages().await.expect("messages");
            let mut stored_messages = Vec::new();
            while waiting > 0 {
                let next = tokio::time::timeout(READ_MAX, messages.next()).await;
                let message =
                    next.expect("no timeout").expect("a further message").expect("a valid message");
                let info = message.info().expect("a delivery");
                waiting = info.pending;
                stored_messages.push(StoredMessage {
                    subject: message.subject.to_string(),
                    revision: info.stream_sequence,
                    stored: info.published.into(),
                    payload: message.payload.to_vec(),
                });
            }
            stored_messages
        })
    }

    /// Returns the number of messages of a stream.
    pub fn message_count(&self, name: &str) -> u64 {
        runtime().block_on(async {
            let stream = self.stream(name).await;
            stream.cached_info().state.messages
        })
    }

    /// Returns the last sequence that a stream has assigned.
    pub fn last_sequence(&self, name: &str) -> u64 {
        runtime().block_on(async {
            let stream = self.stream(name).await;
            stream.cached_info().state.last_sequence
        })
    }

    /// Returns the total number of consumers of all streams.
    pub fn consumer_count(&self) -> u64 {
        let list = self.call_api("STREAM.LIST", &json!({}));
        let streams = list["streams"].as_array().unwrap_or_else(|| panic!("{list}"));
        let counts = streams.iter().map(|one| one["state"]["consumer_count"].as_u64());
        counts.map(|count| count.expect("a number")).sum()
    }

    /// Waits until the work queue is empty.
    pub fn wait_until_idle(&self) {
        wait_for("JOBS is empty", Duration::from_secs(30), || {
            (self.message_count("JOBS") == 0).then_some(())
        });
    }

    /// Changes the configuration of a stream.
    pub fn reconfigure(&self, name: &str, change: impl FnOnce(&mut stream::Config)) {
        runtime().block_on(async {
            let stream = self.stream(name).await;
            let mut config = stream.cached_info().config.clone();
            change(&mut config);
            self.jetstream.update_stream(config).await.expect("the stream is updated");
        });
    }

    /// Deletes a stream.
    pub fn delete_stream(&self, name: &str) {
        runtime().block_on(self.jetstream.delete_stream(name)).expect("the stream is deleted");
    }

    /// Sets the ack wait of both consumers of `JOBS`.
    pub fn set_ack_wait(&self, wait: Duration) {
        self.set_ack_wait_of("JOBS", &["interactive", "bulk"], wait);
    }

    /// Sets the ack wait of consumers of a stream.
    pub fn set_ack_wait_of(&self, stream: &str, consumers: &[&str], wait: Duration) {
        runtime().block_on(async {
            let stream = self.stream(stream).await;
            for name in consumers {
                let mut stored: consumer::Consumer<consumer::pull::Config> =
                    stream.get_consumer(name).await.expect("the consumer");
                let info = stored.info().await.expect("the consumer info");
                let mut config = consumer::pull::Config {
                    durable_name: info.config.durable_name.clone(),
                    ack_wait: wait,
                    max_deliver: info.config.max_deliver,
                    max_ack_pending: info.config.max_ack_pending,
                    filter_subject: info.config.filter_subject.clone(),
                    ..Default::default()
                };
                config.ack_policy = info.config.ack_policy;
                stream.update_consumer(config).await.expect("the consumer is updated");
            }
        });
    }

    /// Removes the only message of a subject.
    pub fn remove_message(&self, name: &str, subject: &str) {
        runtime().block_on(async {
            let stream = self.stream(name).await;
            let purged = stream.purge().filter(subject).await.expect("the messages are removed");
            assert_eq!(purged.purged, 1, "{subject}");
        });
    }

    /// Publishes a message and waits until a stream has stored it.
    pub fn publish(&self, subject: &str, payload: &str) {
        let subject = subject.to_owned();
        let payload = payload.to_owned();
        runtime().block_on(async {
            let sent =
                self.jetstream.publish(subject, payload.into()).await.expect("the message is sent");
            sent.await.expect("the message is stored");
        });
    }

    /// Publishes text jobs without records directly to the queue, and returns their ids.
    pub fn publish_jobs(&self, lane: &str, count: usize, text: &str) -> Vec<String> {
        let ids: Vec<String> =
            (0..count).map(|n| format!("0198f0c2-0000-7000-8000-{n:012x}")).collect();
        runtime().block_on(async {
            // The NATS client limits the number of unacknowledged publishes.
            for ids in ids.chunks(2000) {
                let mut sent = Vec::with_capacity(ids.len());
                for id in ids {
                    let message = job_message(lane, id, text);
                    let subject = format!("jobs.{lane}.public.{id}");
                    sent.push(
                        self.jetstream
                            .publish(subject, message.into())
                            .await
                            .expect("the message is sent"),
                    );
                }
                for sent in sent {
                    sent.await.expect("the message is stored");
                }
            }
        });
        ids
    }

    /// Returns the number of jobs of a lane that are not delivered yet.
    pub fn pending_count(&self, lane: &str) -> u64 {
        let info = self.call_api(&format!("CONSUMER.INFO.JOBS.{lane}"), &json!({}));
        info["num_pending"].as_u64().unwrap_or_else(|| panic!("{info}"))
    }

    /// Pauses the consumer of a lane until a time, for example `2100-01-01T00:00:00Z`. A time in
    /// the past resumes it.
    pub fn pause_consumer(&self, lane: &str, until: &str) {
        let paused =
            self.call_api(&format!("CONSUMER.PAUSE.JOBS.{lane}"), &json!({"pause_until": until}));
        assert!(paused["error"].is_null(), "{paused}");
    }

    /// Returns the name of the server that leads a stream, or an empty string if none does.
    pub fn leader(&self, stream: &str) -> String {
        let info = self.call_api(&format!("STREAM.INFO.{stream}"), &json!({}));
        info["cluster"]["leader"].as_str().unwrap_or_default().to_owned()
    }

    /// Makes the leader of a stream or consumer step down. `target` is, for example, `STREAM JOBS`
    /// or `CONSUMER JOBS.bulk`. Ignores error answers: the broker refuses while it has no leader.
    pub fn step_down(&self, target: &str) {
        let (kind, name) = target.split_once(' ').expect("STREAM or CONSUMER, and its name");
        let _ = self.call_api(&format!("{kind}.LEADER.STEPDOWN.{name}"), &json!({}));
    }

    /// Reads the last message of a subject 20 times by direct get, which any replica may answer.
    /// Returns the distinct sequences; 0 means *not found*.
    pub fn replica_sequences(&self, stream: &str, subject: &str) -> BTreeSet<u64> {
        runtime().block_on(async {
            let stream = self.stream(stream).await;
            let mut sequences = BTreeSet::new();
            for _ in 0..20 {
                let stored = stream.direct_get_last_for_subject(subject).await;
                sequences.insert(stored.map_or(0, |message| message.sequence));
            }
            sequences
        })
    }

    /// Deletes the consumer of a lane.
    pub fn delete_consumer(&self, lane: &str) {
        let deleted = self.call_api(&format!("CONSUMER.DELETE.JOBS.{lane}"), &json!({}));
        assert_eq!(deleted["success"], true, "{deleted}");
    }

    fn call_api(&self, subject: &str, request: &Value) -> Value {
        let answer = self.jetstream.request(subject.to_owned(), request);
        runtime().block_on(answer).expect("an answer")
    }

    /// Publishes a message with header fields and waits until a stream has stored it.
    pub fn publish_with(&self, subject: &str, payload: &str, headers: &[(&str, &str)]) {
        let subject = subject.to_owned();
        let payload = payload.to_owned();
        let mut fields = HeaderMap::new();
        for (name, value) in headers {
            fields.insert(*name, *value);
        }
        runtime().block_on(async {
            let sent = self.jetstream.publish_with_headers(subject, fields, payload.into()).await;
            sent.expect("the message is sent").await.expect("the message is stored");
        });
    }

    /// Publishes messages, given as subject and payload, and waits until a stream has stored them.
    pub fn publish_all(&self, messages: impl IntoIterator<Item = (String, String)>) {
        let bare = |(subject, payload)| (subject, HeaderMap::new(), payload);
        self.publish_all_with(messages.into_iter().map(bare));
    }

    /// Publishes messages, given as subject, header fields and payload, and waits until a stream
    /// has stored them.
    pub fn publish_all_with(
        &self,
        messages: impl IntoIterator<Item = (String, HeaderMap, String)>,
    ) {
        runtime().block_on(async {
            // The NATS client blocks while too many publishes are unacknowledged, so wait after
            // each chunk.
            let mut messages = messages.into_iter().peekable();
            while messages.peek().is_some() {
                let mut stored = Vec::new();
                for (subject, headers, payload) in messages.by_ref().take(1000) {
                    let sent =
                        self.jetstream.publish_with_headers(subject, headers, payload.into()).await;
                    stored.push(sent.expect("the message is sent"));
                }
                for one in stored {
                    one.await.expect("the message is stored");
                }
            }
        });
    }

    /// Returns two numbers of jobs of a lane: those that are not delivered yet, and those that are
    /// delivered but not acknowledged. The latter run, or wait for their next attempt.
    pub fn pending_and_unacknowledged(&self, lane: &str) -> (u64, u64) {
        runtime().block_on(async {
            let stream = self.stream("JOBS").await;
            let consumer: consumer::Consumer<consumer::pull::Config> =
                stream.get_consumer(lane).await.expect("the consumer");
            let info = consumer.cached_info();
            (info.num_pending, info.num_ack_pending as u64)
        })
    }

    /// Returns the payload and the header fields of the last message of a subject.
    pub fn last_message(
        &self,
        stream: &str,
        subject: &str,
    ) -> Option<(String, Vec<(String, String)>)> {
        runtime().block_on(async {
            let stream = self.stream(stream).await;
            let message = stream.get_last_raw_message_by_subject(subject).await.ok()?;
            let headers = message.headers.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| (name.to_string(), value.to_string()))
            });
            Some((String::from_utf8_lossy(&message.payload).into_owned(), headers.collect()))
        })
    }

    /// Changes the record of a job by compare-and-set, as another writer would.
    pub fn rewrite_record(&self, job_id: &str, change: impl FnOnce(&mut Value)) {
        runtime().block_on(async {
            let stream = self.stream("KV_job_state").await;
            let subject = format!("$KV.job_state.public.{job_id}");
            let stored = stream.get_last_raw_message_by_subject(&subject).await.expect("a record");
            let mut record: Value = serde_json::from_slice(&stored.payload).expect("JSON");
            change(&mut record);
            let mut headers = HeaderMap::new();
            headers.insert("Wordmill-Status", record["status"].as_str().expect("a status"));
            let message = PublishMessage::build()
                .headers(headers)
                .payload(record.to_string().into())
                .expected_last_subject_sequence(stored.sequence);
            let sent =
                self.jetstream.send_publish(subject, message).await.expect("the message is sent");
            sent.await.expect("the message is stored");
        });
    }

    /// Returns the names of all streams.
    pub fn stream_names(&self) -> Vec<String> {
        let names = self.jetstream.stream_names().try_collect();
        runtime().block_on(names).expect("the names")
    }

    /// Removes all messages whose subject matches `subjects`.
    pub fn purge(&self, name: &str, subjects: &str) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(name).await.expect("the stream");
            stream.purge().filter(subjects).await.expect("the messages are removed");
        });
    }

    /// Removes the message with this sequence.
    pub fn delete_message(&self, name: &str, sequence: u64) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(name).await.expect("the stream");
            assert!(stream.delete_message(sequence).await.expect("the message is deleted"));
        });
    }

    /// Stores an object in the bucket `results`, as a worker does with a large result.
    pub fn put_result(&self, name: &str, content: &str) {
        self.put_object("results", name, content);
    }

    /// Stores an object that belongs to the owner `public`.
    pub fn put_object(&self, bucket: &str, name: &str, content: &str) {
        runtime().block_on(async {
            let bucket = self.jetstream.get_object_store(bucket).await.expect("the bucket");
            let meta = ObjectMetadata {
                name: name.to_owned(),
                metadata: HashMap::from([("owner".to_owned(), "public".to_owned())]),
                ..ObjectMetadata::default()
            };
            bucket.put(meta, &mut content.as_bytes()).await.expect("the object is stored");
        });
    }

    /// Returns whether the bucket `results` contains an object with this name.
    pub fn has_result(&self, name: &str) -> bool {
        runtime().block_on(async {
            let bucket = self.jetstream.get_object_store("results").await.expect("the bucket");
            bucket.info(name).await.is_ok()
        })
    }
}

/// Returns the message of a text job, as the gateway publishes it.
pub fn job_message(lane: &str, id: &str, text: &str) -> String {
    let message = json!({
        "format": 1,
        "job_id": id,
        "owner": "public",
        "lane": lane,
        "source": {"kind": "text", "text": text},
        "options": {"rule": "unicode", "case": "lower", "scope": "page"},
        "labels": {},
        "created_at": "2026-01-01T00:00:00Z",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    });
    message.to_string()
}
