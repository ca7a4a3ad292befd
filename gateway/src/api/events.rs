//! `GET /v1/jobs/{id}/events`: streams the changes of a job as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::Instant;
use tracing::error;
use wordmill_nats::job_record::RawRecord;

use crate::App;
use crate::auth::caller::Caller;
use crate::http::problem::Problem;
use crate::read::find_job::JobPath;
use crate::read::follow::{FollowEvent, Follower};

/// Request header with the id of the last event that the client received.
const LAST_EVENT_ID: &str = "last-event-id";
/// Response header that makes nginx forward each event immediately, regardless of its
/// configuration.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Interval between two keep-alive comments in an idle stream.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);
/// Delay before a client reconnects after the end of its stream.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// Maximum duration of a stream. A client that is still waiting reconnects.
const STREAM_TIME_MAX: Duration = Duration::from_secs(3600);

/// The event stream of one client.
#[derive(Debug)]
struct EventStream {
    app: App,
    follower: Follower,
    /// Revision of the last event that the client received.
    last_event_id: Option<u64>,
    /// Whether the final record was sent.
    is_finished: bool,
    end: Instant,
}

/// `GET /v1/jobs/{id}/events`.
pub(crate) async fn stream_events(
    State(app): State<App>,
    caller: Caller,
    JobPath(key): JobPath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let revoked = caller.key_validity(&app.keys).wait_until_revoked();
    let last_event_id =
        headers.get(LAST_EVENT_ID).and_then(|value| value.to_str().ok()?.parse().ok());
    let follower = Follower::start(&app, &key).await?;
    let end = Instant::now() + STREAM_TIME_MAX;
    let streaming = EventStream { app, follower, last_event_id, is_finished: false, end };
    // Browsers reconnect even after the final record. `204` stops them.
    let current = streaming.follower.current();
    if current.status.is_final() && !is_newer(current, last_event_id) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    // Check the record now, because no error status can be sent once the stream has begun.
    streaming.app.view_record(current, &key)?;
    // If the key is revoked, the stream ends. The client reconnects and gets a 401.
    let events = events(streaming).take_until(revoked);
    let alive = KeepAlive::new().interval(HEARTBEAT_INTERVAL);
    let mut response = Sse::new(events).keep_alive(alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Returns the events of a stream. An event is created only when the client reads it, so several
/// changes may be combined into one event.
fn events(streaming: EventStream) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(streaming, |mut streaming| async {
        let event = streaming.next().await?;
        Some((Ok(event), streaming))
    })
}

impl EventStream {
    async fn next(&mut self) -> Option<Event> {
        if self.is_finished {
            return None;
        }
        while !is_newer(self.follower.current(), self.last_event_id) {
            match tokio::time::timeout_at(self.end, self.follower.next()).await {
                Ok(FollowEvent::Change) => {}
                Ok(FollowEvent::Gone | FollowEvent::Stopping) | Err(_) => return None,
            }
        }
        let current = self.follower.current();
        let event = Event::default().id(current.revision.to_string()).retry(RECONNECT_AFTER);
        let view = self.app.view_record(current, self.follower.key());
        self.last_event_id = Some(current.revision);
        self.is_finished = current.status.is_final();
        let view = view
            .inspect_err(|error| error!(%error, "event stream ended: cannot read the record"))
            .ok()?;
        let event = event.json_data(view);
        event
            .inspect_err(|error| error!(%error, "event stream ended: cannot serialize the job"))
            .ok()
    }
}

/// Returns whether the record is newer than the last event of the client. A final record is sent
/// even if the client names a later event, because no later one can exist.
fn is_newer(current: &RawRecord, last_event_id: Option<u64>) -> bool {
    last_event_id.is_none_or(|last_event_id| {
        current.revision > last_event_id
            || (current.status.is_final() && current.revision != last_event_id)
    })
}
