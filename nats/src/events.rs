//! Live changes of one job's record, as the bucket republishes them.

use async_nats::{Subscriber, header};
use futures_util::StreamExt;
use tracing::warn;
use wordmill_common::id::JobKey;

use crate::Error;
use crate::connect::Broker;
use crate::job_record::{self, Lookup, RawRecord};
use crate::subject;

/// Subscription to the changes of one record.
///
/// Changes arrive as plain messages, which may be lost, for example around a reconnect. So a
/// listener must read the record *after* subscribing, and again from time to time.
#[derive(Debug)]
pub struct RecordSubscription {
    key: JobKey,
    subscriber: Subscriber,
}

impl RecordSubscription {
    /// Subscribes to the changes of a record. Changes that are written later on the same connection
    /// are received.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn subscribe(broker: &Broker, key: &JobKey) -> Result<Self, Error> {
        let subscriber = broker.client.subscribe(subject::events(key)).await;
        let subscriber =
            subscriber.map_err(|error| Error::unavailable("subscribe to a record", error))?;
        Ok(Self { key: key.clone(), subscriber })
    }

    /// Waits for the next change, and returns the record as it was written. Skips changes that
    /// cannot be parsed. Cancel-safe. Never returns after the connection has been closed.
    pub async fn next(&mut self) -> Lookup<RawRecord> {
        while let Some(message) = self.subscriber.next().await {
            let headers = message.headers.unwrap_or_default();
            let revision = headers.get(header::NATS_SEQUENCE).map(|value| value.as_str().parse());
            let Some(Ok(revision)) = revision else {
                continue;
            };
            match job_record::parse_raw(&self.key, &headers, message.payload, revision) {
                Ok(record) => return record,
                Err(error) => warn!(%error, "skipping a change of a record that cannot be parsed"),
            }
        }
        std::future::pending().await
    }

    /// Waits for the next change of `events`, forever if it is `None`. Cancel-safe.
    pub async fn next_of(events: &mut Option<Self>) -> Lookup<RawRecord> {
        match events {
            Some(events) => events.next().await,
            None => std::future::pending().await,
        }
    }
}
