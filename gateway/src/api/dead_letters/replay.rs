//! Replays dead letters: submits the job of each again, as a new job with `retry_of`.
//!
//! The id of the new job is derived from the old job, so a repeated request finds the first new
//! job, even if it is final, and creates no other. The dead letter stays until it is deleted or
//! expires.

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
use wordmill_common::trace_context::{TraceContext, TraceId};
use wordmill_nats::dead_letters::{DeadLetter, DeadLetterId, Filter};

use super::{read_page, with_deadline};
use crate::App;
use crate::api::document_copy;
use crate::auth::caller::Caller;
use crate::enqueue::idempotent;
use crate::http::cursor::{self, INVALID_CURSOR};
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::http::schema::require_one_of;
use crate::intake::json_body::JsonObject;
use crate::intake::{json_body, upload};
use crate::read::job_view;

/// Maximum number of dead letters that one request replays.
const REPLAY_MAX: usize = 100;
/// Time after which no further dead letter is replayed. The remaining ones are reported as
/// `not_tried`.
const REPLAY_TIME_MAX: Duration = Duration::from_secs(10);

/// Selects the dead letters to replay: by `ids`, or by `filter` with or without `cursor`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Replay", transform = require_one_selection)]
pub(crate) struct Request {
    /// Ids of the dead letters.
    #[schemars(length(min = 1, max = REPLAY_MAX))]
    ids: Option<Vec<String>>,
    /// Conditions for the dead letters. One request replays up to 100 of them, newest first.
    #[schemars(with = "Option<ReplayFilter>")]
    filter: Option<JsonObject<ReplayFilter>>,
    /// Cursor of the filter: the `next_cursor` of an earlier response.
    #[schemars(extend("pattern" = cursor::PATTERN))]
    cursor: Option<String>,
    /// If true, nothing is replayed, and the response contains the expected outcomes.
    #[serde(default)]
    dry_run: bool,
}

/// Requires either `ids`, or `filter` with or without `cursor`.
fn require_one_selection(schema: &mut Schema) {
    require_one_of(schema, &[("ids", &["filter", "cursor"]), ("filter", &["ids"])]);
}

/// Conditions that select dead letters. Without any, all are selected.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplayFilter {
    /// Only dead letters with this failure code.
    code: Option<String>,
    /// Only dead letters of this lane.
    lane: Option<Lane>,
}

/// Outcome of a replay.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Replayed")]
pub(crate) struct ReplayResponse {
    /// Whether this was a dry run, which changes nothing.
    dry_run: bool,
    /// One entry for each selected dead letter.
    data: Vec<ReplayedDeadLetter>,
    /// Cursor for the next request with the same filter; null if no dead letter is left.
    next_cursor: Option<String>,
}

/// Outcome for one dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The new job exists: it is queued, running or final. An earlier replay may have created it.
    Replayed,
    /// The dead letter would be replayed, but this is a dry run.
    WouldReplay,
    /// No dead letter has this id.
    NotFound,
    /// The message cannot be read, or only a newer version can run the job. In the second case
    /// `detail` names the unknown source or option.
    Unreadable,
    /// The dead letter was replayed before, and the new job was deleted or has expired.
    Gone,
    /// The document of the job is no longer stored.
    SourceGone,
    /// The new job was refused; `detail` has the reason.
    Refused,
    /// Not tried, because an earlier dead letter was refused or the time limit was reached.
    NotTried,
}

/// A selected dead letter and the outcome of its replay.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplayedLetter")]
struct ReplayedDeadLetter {
    /// Id of the dead letter.
    id: String,
    /// Outcome of the replay.
    outcome: Outcome,
    /// Id of the new job.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<JobId>,
    /// Status of the new job.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<OpenName<Status>>,
    /// Code of the problem with which the new job was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    /// Explanation of the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// A selected dead letter: an id from the request, or a dead letter that the filter has found.
enum ReplayTarget {
    Id(String),
    DeadLetter(Box<DeadLetter>),
}

/// `POST /v1/dead-letters/replay`.
pub(crate) async fn replay_dead_letters(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ReplayResponse>, Problem> {
    let reading = json_body::read_object(&app.in_flight_budget, &headers, body, app.json_size_max);
    let (request, _reservation): (Request, _) = reading.await?;
    let dry_run = request.dry_run;
    let owner = caller.owner;
    let (targets, next) = select(&app, &owner, request).await?;
    let end = Instant::now() + REPLAY_TIME_MAX;
    let mut entries: Vec<ReplayedDeadLetter> = Vec::with_capacity(targets.len());
    let mut can_continue = true;
    for target in targets {
        if !can_continue || Instant::now() >= end {
            entries.push(ReplayedDeadLetter::of(target.id(), Outcome::NotTried));
            continue;
        }
        let entry = match target.read(&app, &owner).await? {
            Ok(letter) => replay(&app, &letter, &trace, dry_run).await,
            Err(missing) => ReplayedDeadLetter::of(missing, Outcome::NotFound),
        };
        // Stop at a refusal. Most refusals mean that the queue is full or the broker does not
        // answer, so the remaining dead letters would be refused, too.
        can_continue = entry.outcome != Outcome::Refused;
        entries.push(entry);
    }
    Ok(Json(ReplayResponse { dry_run, data: entries, next_cursor: next.map(cursor::encode) }))
}

/// Returns the selected dead letters, and the position for the next request.
async fn select(
    app: &App,
    owner: &Owner,
    request: Request,
) -> Result<(Vec<ReplayTarget>, Option<u64>), Problem> {
    let invalid = |detail: &str| Problem::new(Code::InvalidRequest, detail);
    match (request.ids, request.filter) {
        (Some(ids), None) if request.cursor.is_none() => {
            if ids.is_empty() || ids.len() > REPLAY_MAX {
                return Err(invalid(&format!("\"ids\" must have 1 to {REPLAY_MAX} entries.")));
            }
            Ok((ids.into_iter().map(ReplayTarget::Id).collect(), None))
        }
        (None, Some(JsonObject(conditions))) => {
            let before = match &request.cursor {
                Some(text) => Some(cursor::decode(text).ok_or_else(|| invalid(INVALID_CURSOR))?),
                None => None,
            };
            let filter = Filter { code: conditions.code, lane: conditions.lane };
            let page = read_page(app, owner, &filter, before, REPLAY_MAX).await?;
            let letters =
                page.letters.into_iter().map(|one| ReplayTarget::DeadLetter(Box::new(one)));
            Ok((letters.collect(), page.next))
        }
        _ => Err(invalid(
            "Select dead letters by \"ids\" or by \"filter\". A filter can have \"code\" and \
             \"lane\", and only a filter can have a \"cursor\".",
        )),
    }
}

impl ReplayTarget {
    fn id(&self) -> String {
        match self {
            Self::Id(id) => id.clone(),
            Self::DeadLetter(letter) => letter.id.to_string(),
        }
    }

    /// Returns the dead letter, or its id if it does not exist.
    async fn read(self, app: &App, owner: &Owner) -> Result<Result<DeadLetter, String>, Problem> {
        let text = match self {
            Self::DeadLetter(letter) => return Ok(Ok(*letter)),
            Self::Id(id) => id,
        };
        let Ok(id) = text.parse::<DeadLetterId>() else {
            return Ok(Err(text));
        };
        Ok(with_deadline(app.dead_letters.find(owner, id)).await?.ok_or(text))
    }
}

async fn replay(
    app: &App,
    letter: &DeadLetter,
    request: &TraceContext,
    dry_run: bool,
) -> ReplayedDeadLetter {
    let id = letter.id.to_string();
    let old = match &letter.message {
        Some(ParsedMessage::Known(message)) => message,
        Some(ParsedMessage::Unknown(unknown)) => {
            let detail = format!(
                "The job has {} that only a newer version of the service supports.",
                unknown.part
            );
            return ReplayedDeadLetter {
                detail: Some(detail),
                ..ReplayedDeadLetter::of(id, Outcome::Unreadable)
            };
        }
        None => return ReplayedDeadLetter::of(id, Outcome::Unreadable),
    };
    let mut message = build_message(old);
    let job_id = Some(message.job_id);
    if dry_run {
        return ReplayedDeadLetter { job_id, ..ReplayedDeadLetter::of(id, Outcome::WouldReplay) };
    }
    // Each job has its own trace.
    let (span, trace) = request_trace::begin_replay_trace(letter.trace_context.as_ref(), request);
    message.trace_id = trace.trace_id();
    let replaying = async {
        let copy = document_copy::copy_document(app, &mut message).await?;
        let accepted = idempotent::accept(app, message, &trace).await;
        upload::remove_unless_owned(app, copy, &accepted);
        accepted
    };
    match replaying.instrument(span).await {
        Ok(job) => ReplayedDeadLetter {
            job_id,
            status: Some(job_view::status_name(job.status)),
            ..ReplayedDeadLetter::of(id, Outcome::Replayed)
        },
        Err(problem) if problem.has_code(Code::ResultExpired) => {
            ReplayedDeadLetter { job_id, ..ReplayedDeadLetter::of(id, Outcome::Gone) }
        }
        Err(problem) if problem.has_code(Code::SourceGone) => ReplayedDeadLetter {
            code: Some(problem.code_name()),
            detail: Some(problem.detail().to_owned()),
            ..ReplayedDeadLetter::of(id, Outcome::SourceGone)
        },
        Err(problem) => ReplayedDeadLetter {
            job_id,
            code: Some(problem.code_name()),
            detail: Some(problem.detail().to_owned()),
            ..ReplayedDeadLetter::of(id, Outcome::Refused)
        },
    }
}

/// Returns the message of the new job.
///
/// Its id is derived from the id and the submission time of the old job, because another job may
/// have had the same id before. It does not depend on the position of the dead letter in the
/// stream: a dead letter that is stored twice, because its worker crashed before the
/// acknowledgement, has a new position.
fn build_message(old: &JobMessage) -> JobMessage {
    let name = format!("{}.{}", old.job_id, old.created_at);
    JobMessage {
        format: FORMAT,
        job_id: JobId::derive("replay", &old.owner, &name),
        created_at: clock::now(),
        trace_id: TraceId::random(),
        fingerprint: None,
        retry_of: Some(old.job_id),
        batch: None,
        ..old.clone()
    }
}

impl ReplayedDeadLetter {
    fn of(id: String, outcome: Outcome) -> Self {
        Self { id, outcome, job_id: None, status: None, code: None, detail: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_is_the_same_job_with_a_derived_id() {
        let golden = include_str!("../../../../common/src/golden/message.json");
        let old: JobMessage = serde_json::from_str(golden).unwrap();
        let first = build_message(&old);
        let second = build_message(&old);
        assert_eq!(first.job_id, second.job_id);
        assert_ne!(first.trace_id, second.trace_id);
        assert_eq!((&first.source, &first.labels), (&old.source, &old.labels));
        assert_eq!(first.retry_of, Some(old.job_id));
        let later = JobMessage { created_at: clock::now(), ..old };
        assert_ne!(build_message(&later).job_id, first.job_id);
        assert_ne!(build_message(&first).job_id, first.job_id);
    }
}
