//! Operations on batches.

use serde_json::{Value, json};

use super::{Operation, Schemas};
use crate::api::batches::LINE_OPTIONS;
use crate::api::jobs::JobQuery;
use crate::api::results;
use crate::http::problem::Code;
use crate::intake::new_job::NewJob;
use crate::read::job_view::JobView;

const TAG: &str = "batches";
const FIND_JOB_CODES: [Code; 3] = [Code::BrokerUnavailable, Code::JobNotFound, Code::ResultExpired];
const DESCRIPTION: &str = "Up to 10,000 jobs, one per line or in an array, each accepted or \
    refused on its own. Options in the query apply to all jobs; labels in the query are added to \
    those of each job.\n\nThe batch itself is also a job, which merges the results of its \
    members. Its id can be used wherever a job id is expected.";

pub(super) fn operations(schemas: &mut Schemas) -> [Operation; 3] {
    let batch = schemas.response::<JobView<'_>>();
    let text = json!({"type": "string"});
    [
        submit(schemas),
        Operation::new(TAG, ("GET", "/v1/batches/{id}"), "getBatch", "Get a batch")
            .description(
                "The batch as a job, with `counts` of its members by status. Waits like `GET \
                 /v1/jobs/{id}`.",
            )
            .job_id()
            .query_parameters(schemas.query_parameters::<JobQuery>())
            .header_parameter("If-None-Match", "The revision that the client has.", &text)
            .json(200, "The batch.", batch)
            .with_headers(200, &["Cache-Control", "ETag", "Retry-After"])
            .response(304, "The batch has not changed.")
            .with_headers(304, &["Cache-Control", "ETag", "Retry-After"])
            .codes(&FIND_JOB_CODES)
            .codes(&[Code::InvalidQuery, Code::TooManyWaiting]),
        Operation::new(
            TAG,
            ("GET", "/v1/batches/{id}/result"),
            "getBatchResult",
            "Get the result of a batch",
        )
        .description(
            "Like `GET /v1/jobs/{id}/result`, for the words of all members that succeeded.",
        )
        .job_id()
        .query_parameters(schemas.query_parameters::<results::ResultQuery>())
        .content(
            200,
            "The totals and the histogram, or only the words.",
            "application/json",
            json!({"$ref": "#/components/schemas/Result"}),
        )
        .content(200, "", "text/csv", text.clone())
        .content(200, "", "application/x-ndjson", text)
        .with_headers(200, &["Cache-Control", "Vary"])
        .codes(&FIND_JOB_CODES)
        .codes(&[Code::InvalidQuery, Code::NotAcceptable])
        .codes(&[Code::JobCancelled, Code::JobFailed, Code::JobNotFinished]),
    ]
}

fn submit(schemas: &mut Schemas) -> Operation {
    let line = line(schemas);
    // One valid line is enough. Invalid lines are refused individually. If there are too many
    // lines, one refused entry stands for the unread rest of the body.
    let lines = json!({"schema": {
        "type": "array", "items": {"anyOf": [line, {}]}, "contains": line,
    }});
    let mut query = super::submission::query(schemas);
    query.retain(|parameter| parameter["name"] != "lane");
    query.push(json!({
        "name": "lane",
        "in": "query",
        "required": false,
        "description": "The lane of a batch is always `bulk`.",
        "schema": {"const": "bulk"},
    }));
    let operation = Operation::new(TAG, ("POST", "/v1/batches"), "submitBatch", "Submit many jobs");
    super::submission::with_key_header(operation)
        .description(DESCRIPTION)
        .query_parameters(query)
        .body(
            "The jobs. `application/ndjson` and `application/jsonl` mean the same as \
             `application/x-ndjson`.",
            &[("application/json", lines.clone()), ("application/x-ndjson", lines)],
        )
        .json(202, "The accepted and the refused lines.", accepted(schemas))
        .with_headers(202, &["Location", "Retry-After"])
        .link(202, "getBatch", "$response.body#/batch_id")
        .link(202, "getBatchResult", "$response.body#/batch_id")
        .codes(&[Code::BrokerUnavailable, Code::EmptyBatch, Code::IdempotencyKeyReused])
        .codes(&[Code::IncompleteBody, Code::InputTooLarge, Code::InvalidLabel])
        .codes(&[Code::InvalidOption, Code::InvalidQuery, Code::Overloaded, Code::QueueFull])
        .codes(&[Code::QuotaExceeded, Code::RequestTimeout, Code::ResultExpired])
        .codes(&[Code::InvalidWebhook, Code::UnsupportedMediaType, Code::WebhooksDisabled])
}

/// Returns the schema of a line: a new job without a lane, and with few options.
fn line(schemas: &mut Schemas) -> Value {
    let mut line = schemas.request_inline::<NewJob>();
    let forms = line.get_mut("oneOf").and_then(Value::as_array_mut);
    for form in forms.into_iter().flatten() {
        let Some(members) = form.get_mut("properties").and_then(Value::as_object_mut) else {
            continue;
        };
        members.remove("lane");
        // The alternatives are an object and null.
        let options = members.get_mut("options").and_then(|options| options.get_mut("anyOf"));
        let options = options.and_then(Value::as_array_mut).into_iter().flatten();
        for options in options.filter_map(Value::as_object_mut) {
            options.remove("if");
            options.remove("then");
            if let Some(all) = options.get_mut("properties").and_then(Value::as_object_mut) {
                all.retain(|name, _| LINE_OPTIONS.contains(&name.as_str()));
            }
        }
    }
    if let Some(line) = line.as_object_mut() {
        line.insert("description".to_owned(), "A job of a batch.".into());
    }
    schemas.add_named("NewBatchJob", line)
}

fn accepted(schemas: &mut Schemas) -> Value {
    let id = json!({"type": "string", "format": "uuid"});
    let number = json!({"type": "integer", "minimum": 0});
    let text = json!({"type": "string"});
    let problem = json!({
        "type": "object",
        "required": ["code", "detail", "retryable"],
        "properties": {"code": text, "detail": text, "retryable": {"type": "boolean"}},
    });
    let line = json!({
        "type": "object",
        "description": "Outcome of one line: the id of its job, or a problem.",
        "required": ["line"],
        "properties": {"line": number, "job_id": id, "problem": problem},
        "oneOf": [{"required": ["job_id"]}, {"required": ["problem"]}],
    });
    schemas.add_named(
        "AcceptedBatch",
        json!({
            "type": "object",
            "required": ["batch_id", "accepted", "refused", "lines", "links", "trace_id"],
            "properties": {
                "batch_id": id,
                "accepted": number,
                "refused": number,
                "lines": {"type": "array", "items": line},
                "trace_id": text,
                "links": {"type": "object", "additionalProperties": text},
            },
        }),
    )
}
