//! Reads messages and metadata of streams, from any replica or from the leader.

use async_nats::jetstream::consumer;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    Config, DirectGetError, DirectGetErrorKind, LastRawMessageErrorKind, Stream,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::Error;
use crate::connect::{Broker, REQUEST_TIMEOUT};
use crate::subject;

/// Maximum number of messages per batch. The buffer of a subscription has room for them.
pub(crate) const BATCH_MAX: usize = 128;
/// Maximum size of the messages of a batch, in bytes. A single message may be larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Status codes at the end of a batch: 204 after its last message, 404 if no message matches.
const BATCH_END_STATUSES: [u16; 2] = [204, 404];
const OPERATION: &str = "read from a stream";

/// The server that handles a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Any replica: fast, but it may lag behind the leader.
    AnyReplica,
    /// The stream leader. Use it before acting on *not found* or on an unfinished status:
    /// replicas may lag.
    Leader,
}

/// Returns a handle to a stream. Sends no request, so a missing stream is only noticed later.
#[expect(clippy::expect_used, reason = "async-nats only checks the name, which is a constant")]
pub(crate) fn open_stream(broker: &Broker, name: &'static str) -> Stream<()> {
    let opening = broker.jetstream.get_stream_no_info(name).now_or_never();
    opening.expect("opening sends no request").expect("the name of a stream is valid")
}

/// Returns the last message on a subject.
pub(crate) async fn last_message(
    stream: &Stream<()>,
    subject: &str,
    read_from: ReadFrom,
) -> Result<Option<StreamMessage>, Error> {
    match read_from {
        ReadFrom::AnyReplica => {
            not_found_as_none(stream.direct_get_last_for_subject(subject).await)
        }
        ReadFrom::Leader => match stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Error::unavailable(OPERATION, error)),
        },
    }
}

/// Returns the first message on `subjects` at or after the sequence number `from`, from the leader.
pub(crate) async fn next_on_leader(
    stream: &Stream<()>,
    subjects: &str,
    from: u64,
) -> Result<Option<StreamMessage>, Error> {
    let request = stream.raw_message_builder().sequence(from.max(1)).next_by_subject(subjects);
    match request.send().await {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Reads the next `count` messages on `subjects` at or after the sequence number `from`, from any
/// replica, with one request. Returns fewer if they reach [`BATCH_BYTES_MAX`].
pub(crate) async fn read_batch(
    broker: &Broker,
    stream: &str,
    subjects: &str,
    from: u64,
    count: usize,
) -> Result<Vec<StreamMessage>, Error> {
    let request = json!({
        "seq": from,
        "next_by_subj": subjects,
        "batch": count.min(BATCH_MAX),
        "max_bytes": BATCH_BYTES_MAX,
    });
    let inbox = broker.client.new_inbox();
    let subscribed = broker.client.subscribe(inbox.clone()).await;
    let mut answers = subscribed.map_err(|error| Error::unavailable(OPERATION, error))?;
    let subject = subject::direct_get(stream);
    let request = Bytes::from(request.to_string());
    let sent = broker.client.publish_with_reply(subject, inbox, request).await;
    sent.map_err(|error| Error::unavailable(OPERATION, error))?;
    let mut messages = Vec::with_capacity(count);
    loop {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.next()).await;
        let answer = answer.map_err(|_| Error::unavailable(OPERATION, "no answer in time"))?;
        let answer =
            answer.ok_or_else(|| Error::unavailable(OPERATION, "the connection was closed"))?;
        match answer.status {
            None => {}
            Some(status) if BATCH_END_STATUSES.contains(&status.as_u16()) => return Ok(messages),
            Some(status) => return Err(Error::unavailable(OPERATION, format!("status {status}"))),
        }
        let message = StreamMessage::try_from(answer);
        messages.push(message.map_err(|error| Error::unavailable(OPERATION, error))?);
    }
}

/// Converts *not found* to `None`.
pub(crate) fn not_found_as_none<T>(answer: Result<T, DirectGetError>) -> Result<Option<T>, Error> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Configuration of a stream, and the clock of its leader.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    /// The leader's clock when it answered.
    pub(crate) ts: Timestamp,
    pub(crate) config: Config,
}

/// Reads the configuration of a stream, and the clock of its leader.
pub(crate) async fn stream_info(broker: &Broker, name: &str) -> Result<Info, Error> {
    const OPERATION: &str = "read the configuration of a stream";
    let answer: Result<Response<Info>, _> =
        broker.jetstream.request(format!("STREAM.INFO.{name}"), &()).await;
    match answer {
        Ok(Response::Ok(info)) => Ok(info),
        Ok(Response::Err { error }) => Err(Error::unavailable(OPERATION, error)),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Reads the state and configuration of a consumer, from its leader.
pub(crate) async fn consumer_info(
    broker: &Broker,
    stream: &str,
    name: &str,
) -> Result<consumer::Info, Error> {
    const OPERATION: &str = "read the state of a consumer";
    let subject = format!("CONSUMER.INFO.{stream}.{name}");
    let answer: Result<Response<consumer::Info>, _> =
        broker.jetstream.request(subject, &serde_json::json!({})).await;
    match answer.map_err(|error| Error::unavailable(OPERATION, error))? {
        Response::Ok(info) => Ok(info),
        Response::Err { error } => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Returns the time at which the server stored a message.
pub(crate) fn stored_at(message: &StreamMessage) -> Timestamp {
    // An out-of-range timestamp is treated as just stored, so that the sweeper ignores the message.
    Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}
