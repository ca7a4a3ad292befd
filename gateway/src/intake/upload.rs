//! Receives documents, as the body of a request or as the file of a form.
//!
//! A document is never held in memory as a whole. Its pieces are written to the object store as
//! they arrive, and only a limited number may be unconfirmed, so a slow store slows the client down
//! (backpressure). The job is published after the whole document is stored. If an upload ends early
//! for any reason, the stored pieces are removed. If the gateway crashes, the sweeper removes them.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tracing::warn;
use wordmill_common::id::JobKey;
use wordmill_common::job::Job;
use wordmill_common::message::JobMessage;
use wordmill_common::source::{Document, Source};
use wordmill_common::trace_context::TraceContext;
use wordmill_common::webhook::Webhook;
use wordmill_nats::Error;
use wordmill_nats::documents::{Documents, ReceivedDocument, Upload};
use wordmill_service::env::{ByteSize, Env};

use crate::App;
use crate::enqueue::publish;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::intake::media_type::{
    CONTENT_TYPE_BYTES_MAX, SubmissionFormat, UNKNOWN_TYPE, check_countable, guess_content_type,
    parse_content_encoding, sanitize_file_name, submission_format,
};
use crate::intake::multipart::{self, Form};
use crate::intake::pieces::{Pieces, PlainBody, incomplete_body};
use crate::intake::query::{self, SubmitQuery};
use crate::intake::{json_body, new_job};

/// Maximum number of tries to remove a document before it is left to the sweeper.
const REMOVE_TRIES: u32 = 5;
/// Delay between two tries.
const REMOVE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// Limits of an upload.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum size of a document, in bytes (`WORDMILL_DOCUMENT_SIZE_MAX`).
    pub size_max: u64,
    /// Maximum time without data from the client (`WORDMILL_UPLOAD_STALL_TIMEOUT`).
    pub stall_timeout: Duration,
    /// Maximum time for the whole upload (`WORDMILL_UPLOAD_TIMEOUT`).
    pub total_timeout: Duration,
}

impl Limits {
    /// Reads the settings.
    pub(crate) fn read(env: &mut Env) -> Self {
        let kib = ByteSize(1 << 10);
        let tib = ByteSize(1 << 40);
        let tenth = Duration::from_millis(100);
        let second = Duration::from_secs(1);
        let half_hour = 1800 * second;
        let day = 86_400 * second;
        Self {
            size_max: env.size("WORDMILL_DOCUMENT_SIZE_MAX", ByteSize(256 << 20), kib, tib),
            stall_timeout: env.duration(
                "WORDMILL_UPLOAD_STALL_TIMEOUT",
                30 * second,
                tenth,
                half_hour,
            ),
            total_timeout: env.duration("WORDMILL_UPLOAD_TIMEOUT", half_hour, second, day),
        }
    }
}

/// Store of documents, and the background tasks that remove unused ones.
#[derive(Debug, Clone)]
pub(crate) struct Uploads {
    pub(crate) documents: Documents,
    limits: Limits,
    tasks: TaskTracker,
}

impl Uploads {
    pub(crate) fn new(documents: Documents, limits: Limits) -> Self {
        Self { documents, limits, tasks: TaskTracker::new() }
    }

    /// Waits at shutdown until all pending removals have finished.
    pub(crate) async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Removes a document that no job uses, in a background task.
    fn remove(&self, name: String) {
        let documents = self.documents.clone();
        self.tasks.spawn(async move {
            let mut removal = Removal::new();
            while removal.should_retry(documents.remove(&name).await) {
                tokio::time::sleep(REMOVE_RETRY_DELAY).await;
            }
        });
    }
}

/// Retry state of the removal of a document.
struct Removal {
    tries: u32,
}

impl Removal {
    fn new() -> Self {
        Self { tries: 0 }
    }

    /// Returns whether to try again after the outcome `last`.
    fn should_retry(&mut self, last: Result<(), Error>) -> bool {
        let Err(error) = last else { return false };
        self.tries += 1;
        if self.tries >= REMOVE_TRIES {
            warn!(%error, "cannot remove an unused document; the sweeper will remove it");
            return false;
        }
        true
    }
}

/// Receives the document of a job, and returns the message of the job.
///
/// # Errors
/// `input_too_large`, `unsupported_media_type`, `invalid_multipart`, the `invalid_...` codes for
/// the query, `webhooks_disabled`, `incomplete_body`, `request_timeout`, `overloaded`,
/// `storage_full`, `queue_full` and `broker_unavailable`. The stored part of the document is then
/// removed.
pub(crate) async fn receive_document(
    app: &App,
    key: &JobKey,
    trace: &TraceContext,
    headers: &HeaderMap,
    query: Option<&str>,
    body: Body,
) -> Result<JobMessage, Problem> {
    let mut body = body;
    let received = Box::pin(receive_with_options(app, key, headers, query, &mut body)).await;
    let (query, webhook, document) = match received {
        Ok(received) => received,
        Err(problem) => {
            json_body::drain(body).await;
            return Err(problem);
        }
    };
    Ok(JobMessage {
        lane: query.lane.unwrap_or_default(),
        options: query.options,
        labels: query.labels,
        webhook,
        ..JobMessage::new(key.clone(), Source::Document(document), trace.trace_id())
    })
}

async fn receive_with_options(
    app: &App,
    key: &JobKey,
    headers: &HeaderMap,
    query: Option<&str>,
    body: &mut Body,
) -> Result<(SubmitQuery, Option<Webhook>, Document), Problem> {
    let query = query::parse_submit_query(query.unwrap_or_default())?;
    let webhook =
        query.webhook.as_deref().map(|url| new_job::parse_webhook(app, url)).transpose()?;
    let limits = app.uploads.limits;
    // A form is larger than its file. The exact size is checked while the document arrives.
    let content_length =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if content_length.is_some_and(|length: u64| {
        length > limits.size_max.saturating_add(multipart::FORM_OVERHEAD_BYTES_MAX)
    }) {
        return Err(too_large(limits.size_max));
    }
    let content_encoding = parse_content_encoding(headers)?;
    // Refuse the job before the client sends the whole document.
    app.backpressure.admit(query.lane.unwrap_or_default())?;
    let _reservation = app.in_flight_budget.reserve_upload()?;
    publish::wait_for_connection(app, Instant::now() + BROKER_DEADLINE).await?;

    let deadline = Instant::now() + limits.total_timeout;
    let receiving = async {
        if submission_format(headers)? == SubmissionFormat::Form {
            if content_encoding.is_some() {
                let detail = "Compressed forms are not supported. Send the compressed document as \
                              the request body.";
                return Err(Problem::new(Code::UnsupportedMediaType, detail));
            }
            let mut form = Form::open(headers, body, limits.stall_timeout).await?;
            let content_type = guess_content_type(form.content_type(), form.file_name());
            check_countable(content_type.as_deref().unwrap_or(UNKNOWN_TYPE))?;
            let file_name = form.file_name().map(sanitize_file_name);
            let received = receive(app, key, &mut form).await?;
            Ok((content_type, file_name, received))
        } else {
            let named = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let mut body = PlainBody { body, stall_timeout: limits.stall_timeout };
            let received = receive(app, key, &mut body).await?;
            Ok((named.map(str::to_owned), None, received))
        }
    };
    let (content_type, file_name, received) =
        match tokio::time::timeout_at(deadline, receiving).await {
            Ok(document) => document?,
            Err(_) => {
                let seconds = limits.total_timeout.as_secs();
                let detail = format!(
                    "The document did not arrive within {seconds} s (WORDMILL_UPLOAD_TIMEOUT)."
                );
                return Err(Problem::new(Code::RequestTimeout, detail));
            }
        };
    let ReceivedDocument { content, size_bytes, sha256 } = received;
    let content_type = content_type.filter(|text| text.len() <= CONTENT_TYPE_BYTES_MAX);
    let document =
        Document { content, content_type, content_encoding, file_name, size_bytes, sha256 };
    Ok((query, webhook, document))
}

/// Stores the pieces of a document until its end.
async fn receive(
    app: &App,
    key: &JobKey,
    pieces: &mut impl Pieces,
) -> Result<ReceivedDocument, Problem> {
    let size_max = app.uploads.limits.size_max;
    let mut pending = PendingUpload::new(&app.uploads, key);
    let Some(upload) = &mut pending.upload else {
        return Err(incomplete_body());
    };
    while let Some(piece) = pieces.next().await? {
        let size =
            upload.size_bytes().saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        if size > size_max {
            return Err(too_large(size_max));
        }
        upload.push(piece).await.map_err(storage_problem)?;
    }
    let received = upload.finish().await.map_err(storage_problem)?;
    // Finished: the upload must not be abandoned when `pending` is dropped.
    pending.upload = None;
    Ok(received)
}

/// An upload that is abandoned unless it is finished, even if the client disconnects and the
/// request is dropped.
struct PendingUpload<'a> {
    upload: Option<Upload>,
    uploads: &'a Uploads,
}

impl<'a> PendingUpload<'a> {
    fn new(uploads: &'a Uploads, key: &JobKey) -> Self {
        Self { upload: Some(uploads.documents.receive(key)), uploads }
    }
}

impl Drop for PendingUpload<'_> {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        self.uploads.tasks.spawn(async move {
            let mut removal = Removal::new();
            while removal.should_retry(upload.abandon().await) {
                tokio::time::sleep(REMOVE_RETRY_DELAY).await;
            }
        });
    }
}

/// Removes the document of a request if no job uses it: the job was not accepted, or an earlier
/// request created the job with its own document. The document stays if the outcome is unknown.
pub(crate) fn remove_unless_owned(
    app: &App,
    object: Option<String>,
    accepted: &Result<Job, Problem>,
) {
    let Some(object) = object else { return };
    match accepted {
        Ok(job) if job.document.as_ref() == Some(&object) => {}
        Err(problem) if problem.has_job_id() => {}
        Ok(_) | Err(_) => app.uploads.remove(object),
    }
}

fn too_large(size_max: u64) -> Problem {
    let detail =
        format!("The document is larger than {size_max} bytes (WORDMILL_DOCUMENT_SIZE_MAX).");
    Problem::new(Code::InputTooLarge, detail)
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
pub(crate) fn storage_problem(error: Error) -> Problem {
    warn!(%error, "cannot store a document; nothing was queued");
    match error {
        Error::Full { .. } => {
            let detail = "The document store is full. Nothing was queued. Try again later.";
            Problem::new(Code::StorageFull, detail)
        }
        Error::Unavailable { .. }
        | Error::Contended { .. }
        | Error::Corrupt { .. }
        | Error::Newer { .. }
        | Error::TooLarge { .. }
        | Error::Gone { .. } => {
            let detail = "The document could not be stored. Nothing was queued. Try again later.";
            Problem::new(Code::BrokerUnavailable, detail)
        }
    }
}
