//! Reads server-sent events.

use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::client::Client;
use crate::runtime;

/// Maximum wait for the head of the response.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// An event, or a comment that keeps the stream alive.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An event with the job after a change.
    Job {
        /// Id of the event.
        id: String,
        /// The job.
        data: Value,
    },
    /// A comment.
    Comment,
}

impl Event {
    /// Returns the id of the event and the status of its job.
    pub fn id_and_status(&self) -> (&str, &str) {
        match self {
            Self::Job { id, data } => (id, data["status"].as_str().expect("a status")),
            Self::Comment => panic!("a comment has no job"),
        }
    }
}

/// An open event stream.
pub struct EventStream {
    /// Status code.
    pub status: u16,
    /// Header fields, with names in lower case.
    pub headers: Vec<(String, String)>,
    body: Incoming,
    text: String,
    connection: JoinHandle<()>,
}

impl EventStream {
    /// Opens the event stream of a job.
    pub fn open(client: &Client, job_id: &str, headers: &[(&str, &str)]) -> Self {
        let opening = Self::try_open(client, job_id, headers);
        runtime().block_on(async {
            tokio::time::timeout(ANSWER_MAX, opening).await.expect("no timeout").expect("an answer")
        })
    }

    /// Opens the event stream of a job from asynchronous code.
    ///
    /// # Errors
    /// A description of the connection error.
    pub async fn try_open(
        client: &Client,
        job_id: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, String> {
        let stream = tokio::net::TcpStream::connect(client.address()).await;
        let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::get(format!("/v1/jobs/{job_id}/events"));
        request = request.header(HOST, client.address()).header("accept", "text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = client.key() {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (parts, body) = answer.into_parts();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let fields = parts.headers.iter();
        Ok(Self {
            status: parts.status.as_u16(),
            headers: fields
                .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
                .collect(),
            body,
            text: String::new(),
            connection,
        })
    }

    /// Returns the next event or comment, or `None` at the end of the stream.
    ///
    /// # Panics
    /// If nothing arrives within `limit`, or the connection breaks.
    pub fn next(&mut self, limit: Duration) -> Option<Event> {
        let next = self.receive();
        runtime().block_on(async {
            let next = tokio::time::timeout(limit, next).await;
            next.unwrap_or_else(|_| panic!("no event within {limit:?}"))
                .expect("an unbroken connection")
        })
    }

    /// Returns the next event, or `None` at the end of the stream. Skips comments.
    pub fn next_job(&mut self, limit: Duration) -> Option<Event> {
        loop {
            match self.next(limit) {
                Some(Event::Comment) => {}
                other => return other,
            }
        }
    }

    /// Receives the next event or comment, or `None` at the end of the stream.
    ///
    /// # Errors
    /// A description of the connection error.
    pub async fn receive(&mut self) -> Result<Option<Event>, String> {
        loop {
            // Only a response with status 200 contains events.
            if self.status != 200 {
                return Ok(None);
            }
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let event = parse(block);
                self.text = rest.to_owned();
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    let bytes = frame.into_data().expect("no trailers");
                    self.text.push_str(std::str::from_utf8(&bytes).expect("complete characters"));
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => return Ok(None),
            }
        }
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn parse(block: &str) -> Event {
    let field = |name: &str| {
        let lines = block.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect::<Vec<_>>().join("\n")
    };
    if block.lines().all(|line| line.starts_with(':')) {
        return Event::Comment;
    }
    assert_eq!(field("event"), "", "an event without a name: {block}");
    let data = serde_json::from_str(&field("data")).expect("JSON");
    Event::Job { id: field("id"), data }
}
