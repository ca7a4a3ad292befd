//! Operations on jobs.

use serde_json::{Value, json};

use super::submission::FOLLOW_UP_OPERATIONS;
use super::{Operation, Schemas};
use crate::api::explain::{self, ExplanationView};
use crate::api::jobs::JobQuery;
use crate::api::listing;
use crate::api::results::{self, Head};
use crate::http::cursor::ListPage;
use crate::http::problem::Code;
use crate::read::job_view::JobView;

const TAG: &str = "jobs";
/// Errors of all operations that look up a job.
const FIND_JOB_CODES: [Code; 3] = [Code::BrokerUnavailable, Code::JobNotFound, Code::ResultExpired];

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = vec![list(schemas)];
    all.extend(read_operations(schemas));
    all.extend(results(schemas));
    all.extend(write_operations(schemas));
    all
}

fn list(schemas: &mut Schemas) -> Operation {
    Operation::new(TAG, ("GET", "/v1/jobs"), "listJobs", "List jobs, newest change first")
        .description(
            "A page may be short or even empty although further pages follow, because the work for \
             one page is bounded. Follow `next_cursor` or `Link` until the last page. A job that \
             changes meanwhile moves to the front and may be missing on the later pages.",
        )
        .query_parameters(schemas.query_parameters::<listing::ListQuery>())
        .json(200, "One page of jobs.", schemas.response::<ListPage<JobView<'_>>>())
        .with_headers(200, &["Link"])
        .codes(&[Code::BrokerUnavailable, Code::InvalidQuery])
}

fn read_operations(schemas: &mut Schemas) -> [Operation; 2] {
    let job = schemas.response::<JobView<'_>>();
    let text = json!({"type": "string"});
    let revision = "The revision that the client has. With `wait`, the response is sent as soon as \
                    the job has another revision. If the revision is the same, the response is \
                    `304`.";
    let event = json!({
        "type": "object",
        "required": ["id", "data"],
        "properties": {
            "id": {"type": "string", "description": "The revision."},
            "data": {
                "type": "string",
                "description": "The job.",
                "contentMediaType": "application/json",
                "contentSchema": job,
            },
            "retry": {
                "type": "integer",
                "description": "Delay before the client reconnects, in milliseconds.",
            },
        },
    });
    let last_event_id = "The id of the last event that the client received. Changes since then are \
                         merged into one event.";
    [
        Operation::new(TAG, ("GET", "/v1/jobs/{id}"), "getJob", "Get a job")
            .description(
                "With `wait`, the response is sent when the job is final or, with `If-None-Match`, \
                 at any change.",
            )
            .job_id()
            .query_parameters(schemas.query_parameters::<JobQuery>())
            .header_parameter("If-None-Match", revision, &text)
            .json(200, "The job.", job)
            .with_headers(200, &["Cache-Control", "ETag", "Retry-After"])
            .response(304, "The job has not changed.")
            .with_headers(304, &["Cache-Control", "ETag", "Retry-After"])
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::InvalidQuery, Code::TooManyWaiting]),
        Operation::new(TAG, ("GET", "/v1/jobs/{id}/events"), "followJob", "Follow a job")
            .description(
                "Server-sent events: the current job, then the job after each change, until it is \
                 final. The data of an event is a job, its id the revision.",
            )
            .job_id()
            .header_parameter("Last-Event-ID", last_event_id, &text)
            .content(200, "Events until the job is final.", "text/event-stream", event)
            .with_headers(200, &["Cache-Control"])
            .response(204, "The job is final and the client has its last event.")
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::TooManyWaiting]),
    ]
}

fn results(schemas: &mut Schemas) -> [Operation; 2] {
    let text = json!({"type": "string"});
    let mut result = schemas.response_inline::<Head<'_>>();
    let word_count = json!({
        "type": "object",
        "description": "Each word with its number of occurrences, the most frequent first.",
        "additionalProperties": {"type": "integer", "minimum": 1},
    });
    if let Some(properties) = result.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("word_count".to_owned(), word_count);
    }
    if let Some(required) = result.get_mut("required").and_then(Value::as_array_mut) {
        required.push("word_count".into());
    }
    let result = schemas.add_named("Result", result);
    [
        Operation::new(
            TAG,
            ("GET", "/v1/jobs/{id}/result"),
            "getResult",
            "Get the result of a job",
        )
        .description(
            "`format` or else `Accept` selects the format. The most frequent words come first; \
             words of equal frequency are sorted by code point.",
        )
        .job_id()
        .query_parameters(schemas.query_parameters::<results::ResultQuery>())
        .content(
            200,
            "The totals and the histogram, or only the words.",
            "application/json",
            result,
        )
        .content(200, "", "text/csv", text.clone())
        .content(200, "", "application/x-ndjson", text)
        .with_headers(200, &["Cache-Control", "Vary"])
        .codes(&FIND_JOB_CODES)
        .codes(&[Code::InvalidQuery, Code::NotAcceptable])
        .codes(&[Code::JobCancelled, Code::JobFailed, Code::JobNotFinished]),
        Operation::new(TAG, ("GET", "/v1/jobs/{id}/explain"), "explainJob", "Explain a count")
            .description(
                "Tokens that two rules count differently, for jobs with the option \
                 `explain`.",
            )
            .job_id()
            .query_parameters(schemas.query_parameters::<explain::ExplainQuery>())
            .json(
                200,
                "Tokens that the two rules count differently.",
                schemas.response::<ExplanationView<'_>>(),
            )
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::ExplainNotRecorded, Code::InvalidQuery])
            .codes(&[Code::JobCancelled, Code::JobFailed, Code::JobNotFinished]),
    ]
}

fn write_operations(schemas: &mut Schemas) -> [Operation; 4] {
    let job = schemas.response::<JobView<'_>>();
    [
        Operation::new(TAG, ("POST", "/v1/jobs/{id}/cancel"), "cancelJob", "Cancel a job")
            .description(
                "Once the response is sent, the job can no longer succeed. The request may be \
                 repeated.",
            )
            .job_id()
            .json(200, "The job, cancelled now or earlier.", job.clone())
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::AlreadyFinished]),
        super::submission::with_idempotency_key(
            Operation::new(TAG, ("POST", "/v1/jobs/{id}/retry"), "retryJob", "Retry a job")
                .description("Repeats a final job as a new job with `retry_of`.")
                .job_id(),
        )
        .json(202, "The new job is queued.", job.clone())
        .with_headers(202, &["Location", "Retry-After"])
        .with_links(202, &FOLLOW_UP_OPERATIONS)
        .json(
            200,
            "The new job is final: it finished within `Prefer: wait`, or before this \
             repeated request.",
            job,
        )
        .with_headers(200, &["Location", "Preference-Applied"])
        .codes(&FIND_JOB_CODES)
        .codes(&[Code::IdempotencyKeyReused, Code::InputTooLarge, Code::JobNotFinished])
        .codes(&[Code::Overloaded, Code::QueueFull, Code::QuotaExceeded])
        .codes(&[Code::SourceGone, Code::StorageFull]),
        Operation::new(TAG, ("POST", "/v1/jobs/{id}/webhook"), "tellAgain", "Send a webhook again")
            .description(
                "Sends the webhook of a final job again, immediately and with a new schedule. \
                 Earlier attempts are discarded.",
            )
            .job_id()
            .json(202, "The webhook is queued.", schemas.response::<JobView<'_>>())
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::JobNotFinished, Code::WebhookNotRequested])
            .codes(&[Code::WebhooksDisabled, Code::WebhooksFull]),
        Operation::new(
            TAG,
            ("DELETE", "/v1/jobs/{id}"),
            "deleteJob",
            "Delete a job and its result",
        )
        .description("The job must be final. Later requests for it are answered with `410`.")
        .job_id()
        .response(204, "The job is deleted.")
        .codes(&FIND_JOB_CODES)
        .codes(&[Code::JobNotFinished]),
    ]
}
