//! Dead letters: looking at them and removing them; `replay` does them again.

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
use wordmill_nats::dead_letters::{Filter, Letter, LetterId, LetterPage};

use crate::App;
use crate::auth::caller::Caller;
use crate::http::cursor;
use crate::http::deadline::BROKER_DEADLINE;
use crate::http::problem::{Code, Problem};
use crate::http::schema::Moment;

/// Most letters on one page.
const LIMIT_MAX: usize = 100;
/// Letters on one page, unless asked for otherwise.
const LIMIT_DEFAULT: usize = 20;

/// The query of `GET /v1/dead-letters`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeadLetterQuery {
    /// Most letters on the page; 20 unless it is said.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
    /// Where to go on: the `next_cursor` of another page.
    #[schemars(extend("pattern" = cursor::PATTERN))]
    cursor: Option<String>,
    /// Only letters with this failure code.
    code: Option<String>,
    /// Only letters of this lane.
    lane: Option<Lane>,
}

/// One dead letter as clients see it: the message without the text itself.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "DeadLetter")]
pub(crate) struct LetterView {
    id: String,
    job_id: Option<JobId>,
    lane: Lane,
    failure: LetterFailure,
    attempts: Option<u32>,
    #[schemars(with = "Moment")]
    dead_at: Timestamp,
    size_bytes: usize,
    #[serde(flatten)]
    job: Option<JobPart>,
    trace_id: Option<TraceId>,
    links: BTreeMap<&'static str, String>,
}

/// Why it was given up.
#[derive(Debug, Serialize, JsonSchema)]
struct LetterFailure {
    code: String,
    detail: String,
}

/// What only the letters of jobs have.
#[derive(Debug, Serialize, JsonSchema)]
struct JobPart {
    source: SourceInfo,
    options: RawJson<Options>,
    labels: BTreeMap<String, String>,
    #[schemars(with = "Moment")]
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<JobId>,
}

/// `GET /v1/dead-letters`: the newest first.
pub(crate) async fn list_dead_letters(
    State(app): State<App>,
    caller: Caller,
    selection: Result<Query<DeadLetterQuery>, QueryRejection>,
) -> Result<Json<cursor::ListPage<LetterView>>, Problem> {
    let invalid = |detail: String| Problem::new(Code::InvalidQuery, detail);
    let Query(selection) =
        selection.map_err(|rejection| invalid(format!("{}.", rejection.body_text())))?;
    let limit = selection.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(invalid(format!("limit is 1 to {LIMIT_MAX}.")));
    }
    let before = cursor::of_query(selection.cursor.as_deref())?;
    let filter = Filter { code: selection.code, lane: selection.lane };
    let page = list_letters(&app, &caller.owner, &filter, before, limit).await?;
    let data = page.letters.iter().map(|letter| LetterView::of(&app, letter)).collect();
    Ok(Json(cursor::ListPage { data, next_cursor: page.next.map(cursor::write) }))
}

/// `GET /v1/dead-letters/{id}`.
pub(crate) async fn get_dead_letter(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<LetterView>, Problem> {
    let letter = require_letter(&app, &caller, id).await?;
    Ok(Json(LetterView::of(&app, &letter)))
}

/// `DELETE /v1/dead-letters/{id}`. The second time there is none.
pub(crate) async fn delete_dead_letter(
    State(app): State<App>,
    caller: Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let letter = require_letter(&app, &caller, id).await?;
    // The document first: a repeat finds what is left over.
    if let Some(name) = letter.message.as_ref().and_then(ParsedMessage::object) {
        with_deadline(app.uploads.documents.remove(name)).await?;
    }
    with_deadline(app.dead_letters.remove(&letter)).await?;
    info!(letter.id = %letter.id, "dead letter deleted");
    Ok(StatusCode::NO_CONTENT)
}

async fn require_letter(
    app: &App,
    caller: &Caller,
    id: Result<Path<String>, PathRejection>,
) -> Result<Letter, Problem> {
    let id = id.ok().and_then(|Path(id)| id.parse::<LetterId>().ok());
    let letter = match id {
        Some(id) => with_deadline(app.dead_letters.find(&caller.owner, id)).await?,
        None => None,
    };
    letter.ok_or_else(|| {
        let detail = "No dead letter has this id: it was deleted, has expired, or never was.";
        Problem::new(Code::DeadLetterNotFound, detail)
    })
}

async fn list_letters(
    app: &App,
    owner: &Owner,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<LetterPage, Problem> {
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

impl LetterView {
    fn of(app: &App, letter: &Letter) -> Self {
        let job_id = match letter.id {
            LetterId::Job(job_id) => Some(job_id),
            LetterId::Unreadable(_) => None,
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
            failure: LetterFailure { code: letter.code.clone(), detail: letter.detail.clone() },
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
