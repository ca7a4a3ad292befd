//! Operations of the older contract.

use serde_json::{Value, json};

use super::Operation;
use crate::http::problem::Code;
use crate::intake::new_job;

const TAG: &str = "older contract";

/// Returns the schema of an error response.
pub(super) fn error_schema() -> Value {
    envelope_schema(false, &json!({"type": "object"}))
}

fn envelope_schema(success: bool, data: &Value) -> Value {
    json!({
        "type": "object",
        "required": ["success", "message", "data"],
        "properties": {
            "success": {"const": success},
            "message": {"type": "string"},
            "data": data,
        },
    })
}

pub(super) fn operations() -> Vec<Operation> {
    let id = json!({"type": "string", "format": "uuid"});
    let submission = json!({
        "type": "object",
        "required": ["url"],
        "properties": {"url": new_job::url_schema()},
    });
    let accepted = envelope_schema(
        true,
        &json!({
            "type": "object",
            "required": ["job_id", "url", "status"],
            "properties": {
                "job_id": id, "url": {"type": "string"}, "status": {"const": "IN_PROGRESS"},
            },
        }),
    );
    let job = envelope_schema(
        true,
        &json!({
            "type": "object",
            "required": ["job_id", "status"],
            "properties": {
                "job_id": id,
                "status": {"enum": ["IN_PROGRESS", "COMPLETE", "FAIL"]},
                "word_count": {"type": "object", "additionalProperties": {"type": "integer"}},
                "error": {"type": "string"},
            },
        }),
    );
    let health = |success, word| {
        envelope_schema(
            success,
            &json!({
                "type": "object",
                "required": ["status", "info"],
                "properties": {"status": {"const": word}, "info": {"type": "string"}},
            }),
        )
    };
    let by_query = json!({
        "name": "job_id", "in": "query", "required": true, "description": "The job's id.", "schema": id,
    });
    // Every invalid request is answered with 400 and every internal error with 500, so one code of
    // each status is enough here.
    vec![
        Operation::new(TAG, ("POST", "/word-count"), "olderSubmit", "Submit a page")
            .with_older_errors()
            .body("The page.", &[("application/json", json!({"schema": submission}))])
            .json(202, "The job is queued.", accepted)
            .codes(&[Code::InvalidJson]),
        Operation::new(TAG, ("GET", "/word-count"), "olderGet", "Get a job by its id in the query")
            .description(
                "The id may be in a JSON body instead, `{\"job_id\": ...}`, as older clients \
                 send it.",
            )
            .with_older_errors()
            .query_parameters(vec![by_query])
            .json(200, "The job.", job.clone())
            .codes(&[Code::InvalidJobId]),
        Operation::new(TAG, ("GET", "/word-count/{id}"), "olderGetByPath", "Get a job by its id")
            .with_older_errors()
            .job_id()
            .json(200, "The job.", job),
        Operation::new(TAG, ("GET", "/health"), "olderHealth", "Check whether the service works")
            .with_older_errors()
            .without_key()
            .json(200, "The service works.", health(true, "PASS"))
            .json(500, "The service does not work.", health(false, "FAIL")),
    ]
}
