//! Reading one message of a stream, from any replica or from the leader.

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

/// Most messages that are asked for at once: a subscription has room for them.
pub(crate) const BATCH_MAX: usize = 128;
/// Most bytes that are asked for at once; a single message may be larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How a batch ends: that was all; there is nothing at all.
const BATCH_END_STATUSES: [u16; 2] = [204, 404];
const OPERATION: &str = "read from a stream";

/// Whom to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Any replica: fast, and with replicas perhaps behind.
    AnyReplica,
    /// The leader: for whatever is negative or decisive.
    Leader,
}

/// Returns a handle to a stream. It sends no request: a missing stream is found out later.
#[expect(clippy::expect_used, reason = "async-nats only checks the name, which is a constant")]
pub(crate) fn open(broker: &Broker, name: &'static str) -> Stream<()> {
    let opening = broker.jetstream.get_stream_no_info(name).now_or_never();
    opening.expect("opening sends no request").expect("the name of a stream is valid")
}

/// Returns the last message of a subject.
pub(crate) async fn last(
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

/// Returns the first message of some subjects from a sequence number on, as the leader knows it.
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

/// Asks a replica for the next `count` messages of some subjects from a sequence number on: one
/// request, many answers. They may be fewer if they are large.
pub(crate) async fn batch(
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
        let answer = answer.ok_or_else(|| Error::unavailable(OPERATION, "the connection ended"))?;
        match answer.status {
            None => {}
            Some(status) if BATCH_END_STATUSES.contains(&status.as_u16()) => return Ok(messages),
            Some(status) => return Err(Error::unavailable(OPERATION, format!("status {status}"))),
        }
        let message = StreamMessage::try_from(answer);
        messages.push(message.map_err(|error| Error::unavailable(OPERATION, error))?);
    }
}

/// Tells "there is none" from "no answer".
pub(crate) fn not_found_as_none<T>(answer: Result<T, DirectGetError>) -> Result<Option<T>, Error> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// What we want to know of a stream itself, as its leader tells it.
#[derive(Debug, Deserialize)]
pub(crate) struct Info {
    /// The leader's time of the answer.
    pub(crate) ts: Timestamp,
    pub(crate) config: Config,
}

/// Asks a stream's leader about the stream.
pub(crate) async fn info(broker: &Broker, name: &str) -> Result<Info, Error> {
    const OPERATION: &str = "look at a stream";
    let answer: Result<Response<Info>, _> =
        broker.jetstream.request(format!("STREAM.INFO.{name}"), &()).await;
    match answer {
        Ok(Response::Ok(info)) => Ok(info),
        Ok(Response::Err { error }) => Err(Error::unavailable(OPERATION, error)),
        Err(error) => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Asks a consumer's leader about the consumer.
pub(crate) async fn consumer(
    broker: &Broker,
    stream: &str,
    name: &str,
) -> Result<consumer::Info, Error> {
    const OPERATION: &str = "look at a consumer";
    let subject = format!("CONSUMER.INFO.{stream}.{name}");
    let answer: Result<Response<consumer::Info>, _> =
        broker.jetstream.request(subject, &serde_json::json!({})).await;
    match answer.map_err(|error| Error::unavailable(OPERATION, error))? {
        Response::Ok(info) => Ok(info),
        Response::Err { error } => Err(Error::unavailable(OPERATION, error)),
    }
}

/// Returns when a message was stored.
pub(crate) fn stored_at(message: &StreamMessage) -> Timestamp {
    // What the calendar does not know is as young as can be: nothing is done about it.
    Timestamp::from_nanosecond(message.time.unix_timestamp_nanos()).unwrap_or(Timestamp::MAX)
}
