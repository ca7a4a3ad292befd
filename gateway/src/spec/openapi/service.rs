//! Operations on the service: queue, health, metrics and descriptions.

use serde_json::json;

use super::{Operation, Schemas};
use crate::api::queue::QueueView;
use crate::http::problem::Code;

const TAG: &str = "service";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let text = json!({"type": "string"});
    let status = |word: &str| json!({"type": "object", "required": ["status"], "properties": {"status": {"const": word}}});
    let etag = "The entity tag of the client's copy.";
    vec![
        Operation::new(
            TAG,
            ("GET", "/v1/queue"),
            "getQueue",
            "Get the state of the queue and the workers",
        )
        .json(200, "The queue.", schemas.response::<QueueView>())
        .codes(&[Code::BrokerUnavailable]),
        Operation::new(
            TAG,
            ("GET", "/livez"),
            "getLiveness",
            "Check whether the process serves HTTP",
        )
        .without_key()
        .json(200, "The process serves HTTP.", status("alive")),
        Operation::new(
            TAG,
            ("GET", "/readyz"),
            "getReadiness",
            "Check whether jobs can be accepted",
        )
        .without_key()
        .json(200, "Jobs can be accepted.", status("ready"))
        .codes(&[Code::NotReady]),
        Operation::new(TAG, ("GET", "/metrics"), "getMetrics", "Get metrics for Prometheus")
            .without_key()
            .content(200, "The metrics.", "text/plain", text.clone())
            .content(200, "", "application/openmetrics-text", text.clone()),
        Operation::new(
            TAG,
            ("GET", "/openapi.json"),
            "getDescription",
            "Get this description as OpenAPI",
        )
        .without_key()
        .header_parameter("If-None-Match", etag, &text)
        .json(200, "The description.", json!({"type": "object"}))
        .with_headers(200, &["Cache-Control", "ETag"])
        .response(304, "The copy is up to date.")
        .with_headers(304, &["Cache-Control", "ETag"])
        .codes(&[Code::UnknownHost]),
        Operation::new(TAG, ("GET", "/docs"), "getReference", "Get this description as a web page")
            .without_key()
            .header_parameter("If-None-Match", etag, &text)
            .content(200, "The web page.", "text/html", text)
            .with_headers(200, &["Cache-Control", "ETag"])
            .response(304, "The copy is up to date.")
            .with_headers(304, &["Cache-Control", "ETag"])
            .codes(&[Code::UnknownHost]),
    ]
}
