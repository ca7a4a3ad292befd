//! Does dead letters again: each as a new job that names the old one.
//!
//! The new job's id is derived from the letter, so that a repeat finds the job of the first time,
//! whatever became of it, and starts no other. The letter stays until it is deleted or expires.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::{Extension, Json};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::Instrument;
use wordmill_common::clock;
use wordmill_common::id::{JobId, Lane, Owner};
use wordmill_common::job::{FORMAT, Status};
use wordmill_common::message::{JobMessage, ParsedMessage};
use wordmill_common::open_name::OpenName;
use wordmill_common::trace_context::{TraceId, TraceParent};
use wordmill_nats::dead_letters::{Filter, Letter, LetterId};

use super::{list_letters, with_deadline};
use crate::App;
use crate::api::document_copy;
use crate::auth::caller::Caller;
use crate::enqueue::idempotent;
use crate::http::cursor::{self, NO_CURSOR};
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::http::schema::alternatives;
use crate::intake::json_body::Members;
use crate::intake::{json_body, upload};
use crate::read::job_view;

/// Most letters that one request replays.
const REPLAY_MAX: usize = 100;
/// After which time no further letter is begun: the rest is reported as not tried.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(10);

/// The body of `POST /v1/dead-letters/replay`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Replay", transform = require_one_selection)]
pub(crate) struct Request {
    /// The letters, by their ids.
    #[schemars(length(min = 1, max = REPLAY_MAX))]
    ids: Option<Vec<String>>,
    /// The letters that a filter finds, 100 at a time.
    #[schemars(with = "Option<ReplayFilter>")]
    filter: Option<Members<ReplayFilter>>,
    /// Where the filter goes on.
    #[schemars(extend("pattern" = cursor::PATTERN))]
    cursor: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    dry_run: bool,
}

/// Has ids, or a filter with or without a cursor.
fn require_one_selection(schema: &mut Schema) {
    alternatives(schema, &[("ids", &["filter", "cursor"]), ("filter", &["ids"])]);
}

/// Which letters a filter wants.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplayFilter {
    code: Option<String>,
    lane: Option<Lane>,
}

/// The answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Replayed")]
pub(crate) struct ReplayAnswer {
    dry_run: bool,
    data: Vec<Line>,
    /// The cursor with which the filter goes on; null if it found no more.
    next_cursor: Option<String>,
}

/// What became of one letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The new job is queued or beyond, now or since an earlier replay.
    Replayed,
    /// It would be: this is a dry run.
    WouldReplay,
    /// There is no such letter.
    NotFound,
    /// The letter is not a job, or only a newer version can run it. `detail` names an unknown
    /// source or option; it is absent otherwise.
    Unreadable,
    /// It was replayed before, and the new job is no longer kept.
    Gone,
    /// The document that it counted is no longer kept.
    SourceGone,
    /// The new job was not taken; `detail` says why.
    Refused,
    /// An earlier letter was not taken for a reason that holds for all, or time was up.
    NotTried,
}

/// The line of one letter in the answer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayedLetter")]
struct Line {
    id: String,
    outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<OpenName<Status>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A letter that was asked for, by its name or by the filter.
enum ReplayTarget {
    Name(String),
    Letter(Box<Letter>),
}

/// `POST /v1/dead-letters/replay`.
pub(crate) async fn replay_dead_letters(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceParent>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReplayAnswer>, Problem> {
    let reading = json_body::json(&app.in_flight_budget, &headers, body, app.json_size_max);
    let (request, _share): (Request, _) = reading.await?;
    let dry_run = request.dry_run;
    let owner = caller.owner;
    let (targets, next) = select(&app, &owner, request).await?;
    let end = Instant::now() + REPLAY_TIME_MAX;
    let mut lines: Vec<Line> = Vec::with_capacity(targets.len());
    let mut may_go_on = true;
    for target in targets {
        if !may_go_on || Instant::now() >= end {
            lines.push(Line::of(target.name(), Outcome::NotTried));
            continue;
        }
        let line = match target.read(&app, &owner).await? {
            Ok(letter) => replay(&app, &letter, &trace, dry_run).await,
            Err(missing) => Line::of(missing, Outcome::NotFound),
        };
        // What was refused for lack of room or of a broker is refused to all.
        may_go_on = line.outcome != Outcome::Refused;
        lines.push(line);
    }
    Ok(Json(ReplayAnswer { dry_run, data: lines, next_cursor: next.map(cursor::write) }))
}

/// Returns what a request is about, and where the next one has to go on.
async fn select(
    app: &App,
    owner: &Owner,
    request: Request,
) -> Result<(Vec<ReplayTarget>, Option<u64>), Problem> {
    let invalid = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    match (request.ids, request.filter) {
        (Some(ids), None) if request.cursor.is_none() => {
            if ids.is_empty() || ids.len() > REPLAY_MAX {
                return Err(invalid(&format!("Name 1 to {REPLAY_MAX} ids.")));
            }
            Ok((ids.into_iter().map(ReplayTarget::Name).collect(), None))
        }
        (None, Some(Members(wanted))) => {
            let before = match &request.cursor {
                Some(text) => Some(cursor::read(text).ok_or_else(|| invalid(NO_CURSOR))?),
                None => None,
            };
            let filter = Filter { code: wanted.code, lane: wanted.lane };
            let page = list_letters(app, owner, &filter, before, REPLAY_MAX).await?;
            let letters = page.letters.into_iter().map(|one| ReplayTarget::Letter(Box::new(one)));
            Ok((letters.collect(), page.next))
        }
        _ => Err(invalid(
            "Say which letters: either \"ids\", or \"filter\" with \"code\", \"lane\" or neither. \
             A \"cursor\" goes with a filter.",
        )),
    }
}

impl ReplayTarget {
    fn name(&self) -> String {
        match self {
            Self::Name(name) => name.clone(),
            Self::Letter(letter) => letter.id.to_string(),
        }
    }

    /// Returns the letter, or its name if there is none.
    async fn read(self, app: &App, owner: &Owner) -> Result<Result<Letter, String>, Problem> {
        let name = match self {
            Self::Letter(letter) => return Ok(Ok(*letter)),
            Self::Name(name) => name,
        };
        let Ok(id) = name.parse::<LetterId>() else {
            return Ok(Err(name));
        };
        Ok(with_deadline(app.dead_letters.find(owner, id)).await?.ok_or(name))
    }
}

async fn replay(app: &App, letter: &Letter, request: &TraceParent, dry_run: bool) -> Line {
    let name = letter.id.to_string();
    let old = match &letter.message {
        Some(ParsedMessage::Known(message)) => message,
        Some(ParsedMessage::Unknown(unknown)) => {
            let detail = format!(
                "The job has {} that only a newer version of the service knows.",
                unknown.part
            );
            return Line { detail: Some(detail), ..Line::of(name, Outcome::Unreadable) };
        }
        None => return Line::of(name, Outcome::Unreadable),
    };
    let mut message = new_message(old);
    let job_id = Some(message.job_id);
    if dry_run {
        return Line { job_id, ..Line::of(name, Outcome::WouldReplay) };
    }
    // Every job has a trace of its own.
    let (span, trace) = request_trace::begin_replay_trace(letter.traceparent.as_ref(), request);
    message.trace_id = trace.trace_id;
    let replaying = async {
        let copy = document_copy::copy_document(app, &mut message).await?;
        let accepted = idempotent::accept(app, message, &trace).await;
        upload::remove_unless_owned(app, copy, &accepted);
        accepted
    };
    match replaying.instrument(span).await {
        Ok(job) => Line {
            job_id,
            status: Some(job_view::status_name(job.status)),
            ..Line::of(name, Outcome::Replayed)
        },
        Err(problem) if problem.has_code(Code::ResultExpired) => {
            Line { job_id, ..Line::of(name, Outcome::Gone) }
        }
        Err(problem) if problem.has_code(Code::SourceGone) => Line {
            code: Some(problem.code_name()),
            detail: Some(problem.detail().to_owned()),
            ..Line::of(name, Outcome::SourceGone)
        },
        Err(problem) => Line {
            job_id,
            code: Some(problem.code_name()),
            detail: Some(problem.detail().to_owned()),
            ..Line::of(name, Outcome::Refused)
        },
    }
}

/// Returns the new job for an old one.
///
/// Its id depends on the old job's id and time of submission, which tell it from any other job that
/// ever had that id. Not on the letter's place in the stream: a letter that was kept twice, because
/// its worker died before it acknowledged, has moved.
fn new_message(old: &JobMessage) -> JobMessage {
    let name = format!("{}.{}", old.job_id, old.created_at);
    JobMessage {
        format: FORMAT,
        job_id: JobId::derived("replay", &old.owner, &name),
        created_at: clock::now(),
        trace_id: TraceId::random(),
        fingerprint: None,
        retry_of: Some(old.job_id),
        batch: None,
        ..old.clone()
    }
}

impl Line {
    fn of(id: String, outcome: Outcome) -> Self {
        Self { id, outcome, job_id: None, status: None, code: None, detail: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_the_same_job_under_a_name_that_follows_from_the_old_one() {
        let golden = include_str!("../../../../common/src/golden/message.json");
        let old: JobMessage = serde_json::from_str(golden).unwrap();
        let first = new_message(&old);
        let second = new_message(&old);
        assert_eq!(first.job_id, second.job_id);
        assert_ne!(first.trace_id, second.trace_id);
        assert_eq!((&first.source, &first.labels), (&old.source, &old.labels));
        assert_eq!(first.retry_of, Some(old.job_id));
        let later = JobMessage { created_at: clock::now(), ..old };
        assert_ne!(new_message(&later).job_id, first.job_id);
        assert_ne!(new_message(&first).job_id, first.job_id);
    }
}
