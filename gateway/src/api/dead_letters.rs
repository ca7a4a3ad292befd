//! Lists, returns and deletes dead letters; `replay` replays them.

pub(crate) mod replay;

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing::info;
use wordmill_common::id::{JobId, Lane, Owner};
use wordmill_common::job::Job;
use wordmill_common::message::ParsedMessage;
use wordmill_common::options::Options;
use wordmill_common::raw_json::RawJson;
use wordmill_common::source::SourceInfo;
use wordmill_common::trace_context::TraceId;
use wordmill_nats::Error;
use wordmill_nats::dead_letters::{DeadLetter, DeadLetterId, DeadLetterPage, Filter};

use crate::App;
use crate::auth::caller::Caller;
use crate::http::cursor;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::http::schema::Moment;

/// Maximum number of dead letters on one page.
const LIMIT_MAX: usize = 100;
/// Default number of dead letters on one page.
const LIMIT_DEFAULT: usize = 20;

/// The query of `GET /v1/dead-letters`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterQuery {
    /// Maximum number of dead letters on the page; 20 by default.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
    /// Cursor of the page: the `next_cursor` of the previous page.
    #[schemars(extend("pattern" = cursor::PATTERN))]
    cursor: Option<String>,
    /// Only dead letters with this failure code.
    code: Option<String>,
    /// Only dead letters of this lane.
    lane: Option<Lane>,
}

/// A dead letter: the message of a job that used up all attempts, or a message that could not be
/// read. A text or document is not included.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
pub(crate) struct DeadLetterView {
    /// Id of the dead letter: the id of its job or, if the message could not be read,
    /// `unreadable-<n>`.
    id: String,
    /// Id of the job; null if the message could not be read.
    job_id: Option<JobId>,
    /// Lane of the job.
    lane: Lane,
    /// Reason why the job failed, or why its message could not be read.
    failure: DeadLetterFailure,
    /// Number of attempts; null if it is unknown.
    attempts: Option<u32>,
    /// Time at which the message was stored as a dead letter.
    #[schemars(with = "Moment")]
    dead_at: Timestamp,
    /// Size of the message, in bytes.
    size_bytes: usize,
    #[serde(flatten)]
    job: Option<JobPart>,
    /// Id of the job's trace; null if it is unknown.
    trace_id: Option<TraceId>,
    /// URLs of related requests: `self`, and `job` and `trace` if they exist.
    links: BTreeMap<&'static str, String>,
}

/// Reason why a message became a dead letter.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LetterFailure")]
struct DeadLetterFailure {
    /// Code of the failure.
    code: String,
    /// Explanation of this occurrence.
    detail: String,
}

/// Fields of dead letters with a readable message.
#[derive(Debug, Serialize, JsonSchema)]
struct JobPart {
    /// Source of the words. A text or document is described, but not included.
    source: SourceInfo,
    /// Options that the client set.
    options: RawJson<Options>,
    /// Labels that the client attached to the job.
    labels: BTreeMap<String, String>,
    /// Time of the submission.
    #[schemars(with = "Moment")]
    created_at: Timestamp,
    /// Id of the job that this job repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
}

/// `GET /v1/dead-letters`: newest first.
pub(crate) async fn list_dead_letters(
    State(app): State<App>,
    caller: Caller,
    selection: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Json<cursor::ListPage<DeadLetterView>>, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidQuery, detail);
    let Query(selection) =
        selection.map_err(|rejection| invalid(format!("{}.", rejection.body_text())))?;
    let limit = selection.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("\"limit\" must be 1 to {LIMIT_MAX}.")));
    }
    let before = cursor::from_query(selection.cursor.as_deref())?;
    let filter = Filter { code: selection.code, lane: selection.lane };
    let page = read_page(&app, &caller.owner, &filter, before, limit).await?;
    let data = page.letters.iter().map(|letter| DeadLetterView::of(&app, letter)).collect();
    Ok(Json(cursor::ListPage { data, next_cursor: page.next.map(cursor::encode) }))
}

/// `GET /v1/dead-letters/{id}`.
pub(crate) async fn get_dead_letter(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<DeadLetterView>, Problem> {
    let letter = require_dead_letter(&app, &caller, id).await?;
    Ok(Json(DeadLetterView::of(&app, &letter)))
}

/// `DELETE /v1/dead-letters/{id}`. A second request gets `dead_letter_not_found`.
pub(crate) async fn delete_dead_letter(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let letter = require_dead_letter(&app, &caller, id).await?;
    // Remove the document first: if this fails, a repeated request still finds the dead letter.
    if let Some(name) = letter.message.as_ref().and_then(ParsedMessage::object) {
        with_deadline(app.uploads.documents.remove(name)).await?;
    }
    with_deadline(app.dead_letters.remove(&letter)).await?;
    info!(letter.id = %letter.id, "dead letter deleted");
    Ok(StatusCode::NO_CONTENT)
}

async fn require_dead_letter(
    app: &App,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<DeadLetter, Problem> {
    let id = id.ok().and_then(|Path(id)| id.parse::<DeadLetterId>().ok());
    let letter = match id {
        Some(id) => with_deadline(app.dead_letters.find(&caller.owner, id)).await?,
        None => None,
    };
    letter.ok_or_else(|| {
        let detail = "No dead letter has this id: it was deleted, has expired, or never existed.";
        Problem::new(Code::DeadLetterNotFound, detail)
    })
}

async fn read_page(
    app: &App,
    owner: &Owner,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<DeadLetterPage, Problem> {
    with_deadline(app.dead_letters.list(owner, filter, before, limit)).await
}

async fn with_deadline<T>(request: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
    match tokio::time::timeout(BROKER_DEADLINE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let detail = "The dead letters could not be read in time. Try again.";
            Err(Problem::new(Code::BrokerUnavailable, detail))
        }
    }
}

impl DeadLetterView {
    fn of(app: &App, letter: &DeadLetter) -> Self {
        let job_id = match letter.id {
            DeadLetterId::Job(job_id) => Some(job_id),
            DeadLetterId::Unreadable(_) => None,
        };
        let mut links = BTreeMap::from([("self", format!("/v1/dead-letters/{}", letter.id))]);
        if let Some(job_id) = job_id {
            links.insert("job", format!("/v1/jobs/{job_id}"));
        }
        let trace = letter.trace_id.and_then(|trace_id| app.trace.url_of(trace_id));
        links.extend(trace.map(|url| ("trace", url)));
        Self {
            id: letter.id.to_string(),
            job_id,
            lane: letter.lane,
            failure: DeadLetterFailure { code: letter.code.clone(), detail: letter.detail.clone() },
            attempts: letter.attempts,
            dead_at: letter.dead_at,
            size_bytes: letter.size_bytes,
            job: letter.message.as_ref().map(|message| JobPart::of(message.queued_job())),
            trace_id: letter.trace_id,
            links,
        }
    }
}

impl JobPart {
    fn of(job: Job) -> Self {
        Self {
            source: job.source,
            options: job.options,
            labels: job.labels,
            created_at: job.created_at,
            retry_of: job.retry_of,
        }
    }
}
