//! Operations on the service: queue, health, metrics and descriptions.

use serde_json::json;

use super::{Operation, Schemas};
use crate::api::queue::QueueView;
use crate::http::problem::Code;

const TAG: &str = "service";

pub(super) fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let text = json!({"type": "string"});
    let status = |word: &str| json!({"type": "object", "required": ["status"], "properties": {"status": {"const": word}}});
    let etag = "The copy that you have.";
    vec![
        Operation::new(TAG, ("GET", "/v1/queue"), "getQueue", "See what waits, and who works")
            .json(200, "The queue.", schemas.written::<QueueView>())
            .codes(&[Code::BrokerUnavailable]),
        Operation::new(TAG, ("GET", "/livez"), "getLiveness", "Tell whether the process serves")
            .open()
            .json(200, "It does.", status("alive")),
        Operation::new(TAG, ("GET", "/readyz"), "getReadiness", "Tell whether jobs can be taken")
            .open()
            .json(200, "They can.", status("ready"))
            .codes(&[Code::NotReady]),
        Operation::new(TAG, ("GET", "/metrics"), "getMetrics", "Numbers for Prometheus")
            .open()
            .content(200, "The numbers.", "text/plain", text.clone())
            .content(200, "", "application/openmetrics-text", text.clone()),
        Operation::new(TAG, ("GET", "/openapi.json"), "getDescription", "This description")
            .open()
            .header("If-None-Match", etag, &text)
            .json(200, "The description.", json!({"type": "object"}))
            .with(200, &["Cache-Control", "ETag"])
            .answer(304, "Your copy is good.")
            .with(304, &["Cache-Control", "ETag"])
            .codes(&[Code::UnknownHost]),
        Operation::new(TAG, ("GET", "/docs"), "getReference", "This description, for people")
            .open()
            .header("If-None-Match", etag, &text)
            .content(200, "A page.", "text/html", text)
            .with(200, &["Cache-Control", "ETag"])
            .answer(304, "Your copy is good.")
            .with(304, &["Cache-Control", "ETag"])
            .codes(&[Code::UnknownHost]),
    ]
}
