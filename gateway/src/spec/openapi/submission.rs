//! Operations that submit jobs.

use serde_json::{Value, json};
use wordmill_common::options::Options;

use super::{Operation, Schemas};
use crate::http::problem::Code;
use crate::intake::new_job::{self, LABEL_NAME_PATTERN, LABEL_VALUE_PATTERN, NewJob};
use crate::read::job_view::JobView;

const TAG: &str = "submission";
/// Errors of a submission: invalid input, or a lack of resources.
const SUBMISSION_CODES: [Code; 20] = [
    Code::BrokerUnavailable,
    Code::IncompleteBody,
    Code::InputTooLarge,
    Code::InvalidJson,
    Code::InvalidLabel,
    Code::InvalidMultipart,
    Code::InvalidOption,
    Code::InvalidQuery,
    Code::InvalidRequest,
    Code::InvalidUrl,
    Code::InvalidWebhook,
    Code::Overloaded,
    Code::QueueFull,
    Code::QuotaExceeded,
    Code::RequestTimeout,
    Code::ResultExpired,
    Code::IdempotencyKeyReused,
    Code::StorageFull,
    Code::UnsupportedMediaType,
    Code::WebhooksDisabled,
];
/// Operations on a job that was just submitted. The response links to them.
pub(super) const FOLLOW_UP_OPERATIONS: [&str; 6] =
    ["getJob", "getResult", "explainJob", "cancelJob", "retryJob", "deleteJob"];
const KEY_DESCRIPTION: &str = "A name for the submission that makes it safe to repeat: a request \
    with the same key and the same body gets the same job. Plain, or in double quotes.";
/// Visible ASCII, plain or as a quoted string of structured fields (RFC 9651).
const KEY_PATTERN: &str = r#"^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$"#;
/// Names that a header field of a form part can carry.
const PART_NAME_PATTERN: &str = "^[^\\u0000-\\u0008\\u000a-\\u001f\\u007f]*$";
const PREFER_DESCRIPTION: &str =
    "`wait=N`: respond when the job is final, or after N seconds (at most 60).";
const DESCRIPTION: &str = "The body is a job as JSON, with a URL or a text; or a document with its \
    `Content-Type` and optionally a `Content-Encoding` (gzip, br, zstd, deflate); or a form with \
    one file.\n\nOptions, labels, lane and webhook can be in the query with any of them. The \
    members of a JSON body take precedence.\n\nThe response `202` is sent only after the queue has \
    stored the job.";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let submit = Operation::new(TAG, ("POST", "/v1/jobs"), "submitJob", "Submit a job")
        .description(DESCRIPTION);
    let name = Operation::new(
        TAG,
        ("PUT", "/v1/jobs/{id}"),
        "submitNamedJob",
        "Submit a job under a chosen id",
    )
    .description(
        "Like `POST /v1/jobs`, with an id that the client chooses. A repeated request with the \
         same body gets the same job.",
    )
    .job_id();
    vec![
        with_common_responses(with_idempotency_key(submit), schemas),
        with_common_responses(with_prefer_wait(name), schemas),
    ]
}

/// Adds the headers `Idempotency-Key` and `Prefer`.
pub(super) fn with_idempotency_key(operation: Operation) -> Operation {
    with_prefer_wait(with_key_header(operation))
}

/// Adds the header `Idempotency-Key`.
pub(super) fn with_key_header(operation: Operation) -> Operation {
    let key = json!({"type": "string", "pattern": KEY_PATTERN});
    operation
        .header_parameter("Idempotency-Key", KEY_DESCRIPTION, &key)
        .codes(&[Code::InvalidIdempotencyKey])
}

fn with_prefer_wait(operation: Operation) -> Operation {
    operation.header_parameter("Prefer", PREFER_DESCRIPTION, &json!({"type": "string"}))
}

/// Adds the parameters, body and responses that both submissions share.
fn with_common_responses(operation: Operation, schemas: &mut Schemas) -> Operation {
    let new_job = schemas.request::<NewJob>("NewJob");
    let job = schemas.response::<JobView<'_>>();
    let any_body = json!({"schema": {}});
    let form = json!({"schema": {
        "type": "object",
        "description": "One part with any name: the file. If the part has a content type, it \
                        applies to the file.",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"pattern": PART_NAME_PATTERN},
        "additionalProperties": {"type": "string", "contentMediaType": "application/octet-stream"},
    }});
    operation
        .query_parameters(query(schemas))
        .body(
            "A job as JSON, a document, or a form with one file. Any other `text/*`, \
             `application/xhtml+xml` and `application/xml` are documents, too.",
            &[
                ("application/json", json!({"schema": new_job})),
                ("application/octet-stream", any_body.clone()),
                ("multipart/form-data", form),
                ("text/html", any_body.clone()),
                ("text/plain", any_body),
            ],
        )
        .json(202, "The job is queued.", job.clone())
        .with_headers(202, &["Location", "Retry-After"])
        .with_links(202, &FOLLOW_UP_OPERATIONS)
        .json(
            200,
            "The job is final: it finished within `Prefer: wait`, or before this repeated request.",
            job,
        )
        .with_headers(200, &["Location", "Preference-Applied"])
        .with_links(200, &FOLLOW_UP_OPERATIONS)
        .codes(&SUBMISSION_CODES)
}

/// Returns the query parameters of a submission, which apply to every kind of body.
pub(super) fn query(schemas: &mut Schemas) -> Vec<Value> {
    let options = schemas.request::<Options>("NewOptions");
    let label = format!("{LABEL_NAME_PATTERN}:{LABEL_VALUE_PATTERN}");
    vec![
        json!({
            "name": "options",
            "in": "query",
            "required": false,
            "description": "One parameter for each option, for example `rule=office&case=keep`.",
            "style": "form",
            "explode": true,
            "schema": options,
        }),
        json!({
            "name": "label",
            "in": "query",
            "required": false,
            "description": "A label as `name:value`. Repeat the parameter for further labels with \
                            other names.",
            "schema": {"type": "string", "pattern": format!("^{label}$")},
        }),
        json!({
            "name": "lane",
            "in": "query",
            "required": false,
            "description": "The lane, unless a JSON body has one.",
            "schema": schemas.response::<wordmill_common::id::Lane>(),
        }),
        json!({
            "name": "webhook",
            "in": "query",
            "required": false,
            "description": "URL to notify when the job is final, unless a JSON body has a webhook.",
            "schema": new_job::url_schema(),
        }),
    ]
}
