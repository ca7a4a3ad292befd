//! The broker as its administrator sees it.

use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};

use crate::stack::{Nats, password};
use crate::{runtime, wait_for};

/// A connection with all rights.
pub struct Admin {
    jetstream: jetstream::Context,
}

impl Admin {
    /// Connects to a server.
    pub fn of(nats: &Nats) -> Self {
        let options =
            async_nats::ConnectOptions::with_user_and_password("admin".into(), password("admin"));
        runtime().block_on(async {
            let client = options.connect(nats.address()).await.expect("a connection");
            Self { jetstream: jetstream::new(client) }
        })
    }

    /// Returns how many messages a stream has.
    pub fn messages(&self, name: &str) -> u64 {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(name).await.expect("the stream");
            stream.cached_info().state.messages
        })
    }

    /// Waits until the work queue is empty.
    pub fn wait_until_idle(&self) {
        wait_for("JOBS is empty", Duration::from_secs(30), || {
            (self.messages("JOBS") == 0).then_some(())
        });
    }

    /// Changes a stream's settings.
    pub fn reconfigure(&self, name: &str, change: impl FnOnce(&mut stream::Config)) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(name).await.expect("the stream");
            let mut config = stream.cached_info().config.clone();
            change(&mut config);
            self.jetstream.update_stream(config).await.expect("updated");
        });
    }

    /// Deletes a stream.
    pub fn delete_stream(&self, name: &str) {
        runtime().block_on(self.jetstream.delete_stream(name)).expect("deleted");
    }

    /// Lets the consumers of `JOBS` wait only this long for an acknowledgement.
    pub fn set_ack_wait(&self, wait: Duration) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream("JOBS").await.expect("the stream");
            for lane in ["interactive", "bulk"] {
                let mut found: consumer::Consumer<consumer::pull::Config> =
                    stream.get_consumer(lane).await.expect("the consumer");
                let info = found.info().await.expect("its settings");
                let mut config = consumer::pull::Config {
                    durable_name: info.config.durable_name.clone(),
                    ack_wait: wait,
                    max_deliver: info.config.max_deliver,
                    max_ack_pending: info.config.max_ack_pending,
                    filter_subject: info.config.filter_subject.clone(),
                    ..Default::default()
                };
                config.ack_policy = info.config.ack_policy;
                stream.update_consumer(config).await.expect("updated");
            }
        });
    }

    /// Removes the messages of one subject.
    pub fn remove(&self, name: &str, subject: &str) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(name).await.expect("the stream");
            let purged = stream.purge().filter(subject).await.expect("purged");
            assert_eq!(purged.purged, 1, "{subject}");
        });
    }

    /// Publishes a message and waits until a stream has it.
    pub fn publish(&self, subject: &str, payload: &str) {
        let (subject, payload) = (subject.to_owned(), payload.to_owned());
        runtime().block_on(async {
            let sent = self.jetstream.publish(subject, payload.into()).await.expect("sent");
            sent.await.expect("stored");
        });
    }

    /// Publishes a message with header fields and waits until a stream has it.
    pub fn publish_with(&self, subject: &str, payload: &str, headers: &[(&str, &str)]) {
        let (subject, payload) = (subject.to_owned(), payload.to_owned());
        let mut fields = async_nats::HeaderMap::new();
        for (name, value) in headers {
            fields.insert(*name, *value);
        }
        runtime().block_on(async {
            let sent = self.jetstream.publish_with_headers(subject, fields, payload.into()).await;
            sent.expect("sent").await.expect("stored");
        });
    }

    /// Publishes many messages, subject and payload of each, and waits until a stream has them.
    pub fn publish_all(&self, messages: impl IntoIterator<Item = (String, String)>) {
        runtime().block_on(async {
            // The client holds back what is published while too much is unacknowledged.
            let mut messages = messages.into_iter().peekable();
            while messages.peek().is_some() {
                let mut stored = Vec::new();
                for (subject, payload) in messages.by_ref().take(1000) {
                    let sent = self.jetstream.publish(subject, payload.into()).await;
                    stored.push(sent.expect("sent"));
                }
                for one in stored {
                    one.await.expect("stored");
                }
            }
        });
    }

    /// Returns how many jobs of a lane were never handed out, and how many are with workers or wait
    /// for a retry.
    pub fn handed_out(&self, lane: &str) -> (u64, u64) {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream("JOBS").await.expect("the stream");
            let consumer: consumer::Consumer<consumer::pull::Config> =
                stream.get_consumer(lane).await.expect("the consumer");
            let info = consumer.cached_info();
            (info.num_pending, info.num_ack_pending as u64)
        })
    }

    /// Returns the payload and the header fields of the last message of a subject.
    pub fn last(&self, stream: &str, subject: &str) -> Option<(String, Vec<(String, String)>)> {
        runtime().block_on(async {
            let stream = self.jetstream.get_stream(stream).await.expect("the stream");
            let message = stream.get_last_raw_message_by_subject(subject).await.ok()?;
            let headers = message.headers.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| (name.to_string(), value.to_string()))
            });
            Some((String::from_utf8_lossy(&message.payload).into_owned(), headers.collect()))
        })
    }
}
