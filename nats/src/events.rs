//! Live changes of one job's record, as the bucket republishes them.

use async_nats::{Subscriber, header};
use futures_util::StreamExt;
use tracing::warn;
use wordmill_common::id::JobKey;

use crate::Error;
use crate::connect::Broker;
use crate::job_record::{self, Lookup, RawRecord};
use crate::subject;

/// The changes of one record, from the subscription on.
///
/// They come as plain messages, which may be lost, around a reconnection for example. So whoever
/// listens reads the record *after* subscribing, and again from time to time.
#[derive(Debug)]
pub struct RecordSubscription {
    key: JobKey,
    subscriber: Subscriber,
}

impl RecordSubscription {
    /// Subscribes to a record's changes. What is written on the same connection afterwards is
    /// among them.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn subscribe(broker: &Broker, key: &JobKey) -> Result<Self, Error> {
        let subscriber = broker.client.subscribe(subject::events(key)).await;
        let subscriber =
            subscriber.map_err(|error| Error::unavailable("subscribe to a record", error))?;
        Ok(Self { key: key.clone(), subscriber })
    }

    /// Waits for the next change, and returns the record as it was written. Cancel-safe; it waits
    /// for ever once the connection has ended.
    pub async fn next(&mut self) -> Lookup<RawRecord> {
        while let Some(message) = self.subscriber.next().await {
            let headers = message.headers.unwrap_or_default();
            let revision = headers.get(header::NATS_SEQUENCE).map(|value| value.as_str().parse());
            let Some(Ok(revision)) = revision else {
                continue;
            };
            match job_record::raw(&self.key, &headers, message.payload, revision) {
                Ok(record) => return record,
                Err(error) => warn!(%error, "an event cannot be read"),
            }
        }
        std::future::pending().await
    }

    /// Waits for the next change, for ever if nobody listens. Cancel-safe.
    pub async fn next_of(events: &mut Option<Self>) -> Lookup<RawRecord> {
        match events {
            Some(events) => events.next().await,
            None => std::future::pending().await,
        }
    }
}
