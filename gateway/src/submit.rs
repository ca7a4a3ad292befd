//! A job comes in: checked, put onto the queue and recorded, both at once.

mod asked;

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, info, warn};
use wordmill_common::clock;
use wordmill_common::id::{JobId, JobKey, Lane};
use wordmill_common::job::{self, Job, Status};
use wordmill_common::message::JobMessage;
use wordmill_common::telemetry;
use wordmill_common::trace::TraceParent;
use wordmill_nats::queue::{Envelope, Kept, Refused};
use wordmill_nats::read::Freshness;
use wordmill_nats::record::Found;
use wordmill_nats::spans;
use wordmill_nats::store::NotWritten;

pub(crate) use self::asked::{
    LABEL_NAME_PATTERN, LABEL_VALUE_PATTERN, NewJob, URL_BYTES_MAX, labels, options, source,
    source_url, webhook_to,
};
use crate::caller::Caller;
use crate::metrics::Operation;
use crate::problem::{Code, Problem};
use crate::room::RoomShare;
use crate::view::JobView;
use crate::waiting::Preference;
use crate::{App, BROKER_DEADLINE, body, keyed, limits, lookup, trace, upload};

/// Wait before a publish that was not confirmed is repeated.
pub(crate) const PUBLISH_PAUSE: Duration = Duration::from_millis(50);
/// When a client may look after its new job, in seconds.
const POLL_AFTER_S: u64 = 1;
/// Header that says which preference was met.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// `POST /v1/jobs`, with `Idempotency-Key` or without.
pub(crate) async fn post(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceParent>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let given = keyed::key(&headers)?;
    let derived = |key: &String| JobId::derived("key", &caller.owner, key);
    let key = caller.job(given.as_ref().map_or_else(JobId::new, derived));
    let (message, share) = read(&app, &key, &trace, &uri, &headers, body).await?;
    let object = message.source.object().map(str::to_owned);
    let preference = Preference::of(&app, &key, &headers).await;
    // Frees the room of the body; `accept` takes room for the job.
    drop(share);
    let accepted = match given {
        // Boxed like whatever else is rare here: the future of a request is copied several times, and is
        // as large as the largest thing that it may have to wait for.
        Some(_) => Box::pin(keyed::accept(&app, message, &trace)).await,
        None => accept(&app, &message, &trace).await,
    };
    upload::settle(&app, object, &accepted);
    Ok(answer(&app, preference, accepted?).await)
}

/// Returns the answer about a job that was accepted, now or by an earlier request; if the client
/// prefers to wait for it, as it is then.
pub(crate) async fn answer(app: &App, preference: Option<Preference>, job: Job) -> Response {
    if job.status == Status::Unknown
        && let Ok(record) = Box::pin(lookup::raw(app, &job.key())).await
        && let Ok(view) = app.show(&record, &job.key())
    {
        // Only the record has the name of the state.
        return describe(&job, record.status, view);
    }
    let Some(preference) = preference else {
        return describe(&job, job.status, app.view(&job));
    };
    // The job is accepted, whatever becomes of the wait.
    let (key, wait) = (job.key(), preference.wait);
    let waited = Box::pin(preference.met(app, &job)).await;
    let read = waited.as_ref().map_err(Problem::clone);
    let read = read.and_then(|record| Ok((record.status, app.show(record, &key)?)));
    let (status, view) = read.unwrap_or_else(|problem| {
        debug!(job.id = %job.job_id, reason = problem.name(), "nobody waits for a job");
        (job.status, app.view(&job))
    });
    let mut response = describe(&job, status, view);
    if status.is_final() {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
        response.headers_mut().extend(applied.ok().map(|applied| (PREFERENCE_APPLIED, applied)));
    }
    response
}

fn describe(job: &Job, status: Status, view: JobView<'_>) -> Response {
    let location = [(LOCATION, format!("/v1/jobs/{}", job.job_id))];
    if status.is_final() {
        return (StatusCode::OK, location, view).into_response();
    }
    let later = [(RETRY_AFTER, POLL_AFTER_S.to_string())];
    (StatusCode::ACCEPTED, location, later, view).into_response()
}

/// Reads the job that a body describes, or takes in the document that it is, under the name that the
/// job is to have. Returns the message and the room that it takes.
///
/// # Errors
/// Those of [`upload::read`] and [`body::json`], and `invalid_...` for whatever the job must not say.
pub(crate) async fn read(
    app: &App,
    key: &JobKey,
    trace: &TraceParent,
    uri: &Uri,
    headers: &HeaderMap,
    body: Body,
) -> Result<(JobMessage, RoomShare), Problem> {
    if upload::kind(headers)? != upload::Kind::Json {
        let reading = upload::read(app, key, trace, headers, uri.query(), body);
        // The document is in the store by then.
        return Ok((Box::pin(reading).await?, app.room.share()));
    }
    let asked = upload::asked(uri.query().unwrap_or_default())?;
    let (body, share): (NewJob, _) =
        body::json(&app.room, headers, body, app.json_size_max).await?;
    let source = source(body.url, body.text)?;
    let options = match body.options {
        None | Some(Value::Null) => asked.options,
        given => options(given)?,
    };
    let labels = body.labels.map_or(Ok(asked.labels), labels)?;
    let to = |url: String| webhook_to(app, &url);
    let webhook = body.webhook.map(|webhook| to(webhook.url)).transpose()?;
    // What the query says has to be right, although it is not what counts then.
    let webhook = webhook.or(asked.webhook.map(to).transpose()?);
    let message = JobMessage {
        format: job::FORMAT,
        job_id: key.job_id,
        owner: key.owner.clone(),
        lane: body.lane.or(asked.lane).unwrap_or_default(),
        source,
        options,
        labels,
        created_at: clock::now(),
        trace_id: trace.trace_id,
        fingerprint: None,
        retry_of: None,
        webhook,
        batch: None,
    };
    Ok((message, share))
}

/// What is known after the job was offered to the queue.
pub(crate) enum Offered {
    /// The queue has it.
    Acknowledged(Kept),
    /// The queue certainly does not have it.
    Declined(Refused),
    /// Nobody knows.
    Unconfirmed,
}

/// Puts a job onto the queue and writes its record, both at once: one round trip.
///
/// # Errors
/// `queue_full`, `quota_exceeded`, `input_too_large` and `broker_unavailable`; the last one names the
/// job if it may have been queued all the same.
pub(crate) async fn accept(
    app: &App,
    message: &JobMessage,
    trace: &TraceParent,
) -> Result<Job, Problem> {
    let (lane, created_at) = (message.lane, message.created_at);
    let accepted = put_in(app, message, trace).await;
    app.metrics.note_submission(lane, created_at, &accepted);
    accepted
}

async fn put_in(app: &App, message: &JobMessage, trace: &TraceParent) -> Result<Job, Problem> {
    app.gauge.admit(message.lane)?;
    let _room = app.room.take(&message.source)?;
    limits::admit(app, &message.owner).await?;
    let deadline = Instant::now() + BROKER_DEADLINE;
    connected(app, deadline).await?;
    trace::name_job(message.job_id);
    let publishing = spans::publish(message, trace);
    let envelope = Envelope::seal(message, &publishing.context)?;
    let job = Job { traceparent: Some(*trace), ..message.queued_job() };
    let creating = app.metrics.timed(Operation::CreateRecord, trace, app.store.create(&job));
    let offering = offer(app, &envelope, &publishing.context, deadline);
    let (offered, created) = tokio::join!(offering.instrument(publishing.span), creating);
    match offered {
        // The record may be missing, or a worker may have been faster: the job is safe.
        Offered::Acknowledged(_) => {
            if let Err(NotWritten::Unclear(reason)) = &created {
                warn!(job.id = %job.job_id, reason, "record not confirmed; the worker will write it");
            }
            note_accepted(&job, true);
            Ok(job)
        }
        Offered::Declined(refused) => {
            Box::pin(take_back(app, &job, created)).await;
            Err(declined(app, job.lane, &refused))
        }
        Offered::Unconfirmed => {
            warn!(job.id = %job.job_id, "the queue did not confirm a job in time");
            Err(Problem::unconfirmed(job.job_id))
        }
    }
}

/// Says in the log that a job was accepted, which we created, or an earlier request for the same job.
pub(crate) fn note_accepted(job: &Job, is_ours: bool) {
    let (id, lane) = (job.job_id, job.lane);
    match job.batch {
        // Its batch has a line, and ten thousand more would hide what else is there.
        Some(batch) => debug!(job.id = %id, %lane, is_ours, batch.id = %batch, "job accepted"),
        None => info!(job.id = %id, %lane, is_ours, "job accepted"),
    }
}

/// Waits for a connection.
///
/// # Errors
/// `broker_unavailable`, and certainly nothing was queued.
pub(crate) async fn connected(app: &App, deadline: Instant) -> Result<(), Problem> {
    // What is sent while there is no connection is kept by the client and sent later: nobody could
    // say what became of it.
    match tokio::time::timeout_at(deadline, app.broker.connected()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => {
            let detail = "The queue cannot be reached. Nothing was queued: try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}

/// Offers a job until the queue decides or the deadline passes. Repeats are harmless: the message
/// id is the job's.
pub(crate) async fn offer(
    app: &App,
    envelope: &Envelope,
    trace: &TraceParent,
    deadline: Instant,
) -> Offered {
    let mut is_clear = true;
    loop {
        let publishing = app.metrics.timed(Operation::Publish, trace, app.queue.publish(envelope));
        match tokio::time::timeout_at(deadline, publishing).await {
            Ok(Ok(kept)) => return Offered::Acknowledged(kept),
            Ok(Err(refused @ (Refused::Full | Refused::TooLarge | Refused::NoQueue)))
                if is_clear =>
            {
                telemetry::fail(&Span::current(), refused.name());
                return Offered::Declined(refused);
            }
            Ok(Err(_)) | Err(_) => is_clear = false,
        }
        let again = Instant::now() + PUBLISH_PAUSE;
        if again >= deadline {
            telemetry::fail(&Span::current(), "unconfirmed");
            return Offered::Unconfirmed;
        }
        tokio::time::sleep_until(again).await;
    }
}

/// Removes the record of a job that the queue certainly refused.
pub(crate) async fn take_back(app: &App, job: &Job, created: Result<u64, NotWritten>) {
    let key = job.key();
    let revision = match created {
        Ok(revision) => Ok(Some(revision)),
        Err(NotWritten::Conflict | NotWritten::TooLarge) => Ok(None),
        Err(NotWritten::Unclear(_)) => match app.store.read(&key, Freshness::Leader).await {
            Ok(Found::Job(stored)) => Ok(Some(stored.revision)),
            Ok(Found::Gone | Found::Absent) => Ok(None),
            Err(error) => Err(error),
        },
    };
    let taken_back = match revision {
        Ok(Some(revision)) => app.store.take_back(&key, revision).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = taken_back {
        warn!(job.id = %job.job_id, %error, "the record of a refused job stays behind");
    }
}

/// Returns the answer to a job that the queue certainly does not have.
pub(crate) fn declined(app: &App, lane: Lane, refused: &Refused) -> Problem {
    warn!(%refused, "job declined");
    match refused {
        Refused::Full => app.gauge.full(lane, "Too many jobs wait already. Come back later."),
        Refused::TooLarge => {
            Problem::new(Code::InputTooLarge, "The job is too large for one message.")
        }
        Refused::NoQueue | Refused::Unclear(_) => Problem::new(
            Code::BrokerUnavailable,
            "The queue does not answer. Nothing was queued: try again.",
        ),
    }
}
