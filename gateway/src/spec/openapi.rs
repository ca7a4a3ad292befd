//! Generates the OpenAPI 3.1 document, served as `GET /openapi.json`.
//!
//! Schemas are derived from the types that handlers deserialize and serialize, and the errors of an
//! operation are `Code`s, so the document cannot contradict the code. Tests compare the operations
//! with `routes`, the codes with those that black-box tests provoke, and the document with a golden
//! file.

mod batches;
mod dead_letters;
mod jobs;
mod older_contract;
mod operation;
mod schemas;
mod service;
mod submission;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

pub(crate) use self::operation::Operation;
use self::schemas::Schemas;
use crate::App;
use crate::http::conditional::IfNoneMatch;
use crate::spec::reference_page;

/// Name of the security scheme.
const KEY_SCHEME: &str = "api_key";
/// Time for which clients may use a copy without revalidation, in seconds. The document changes
/// only with a release.
const CACHE_MAX_AGE_S: u32 = 300;

/// Whether the gateway has API keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Requests need a key.
    Keyed,
    /// The gateway has no keys.
    Open,
}

/// The OpenAPI document and the reference page, rendered at startup.
#[derive(Debug, Clone)]
pub(crate) struct Description {
    document: StaticDocument,
    reference: StaticDocument,
}

/// A document that does not change while the service runs.
#[derive(Debug, Clone)]
struct StaticDocument {
    content_type: &'static str,
    body: Bytes,
    etag: Arc<str>,
}

impl Description {
    /// Renders both documents.
    pub(crate) fn new(access: Access) -> Self {
        let document = document(access);
        let reference = reference_page::render(&document);
        Self {
            document: StaticDocument::new("application/json", format!("{document:#}")),
            reference: StaticDocument::new("text/html; charset=utf-8", reference),
        }
    }
}

impl StaticDocument {
    fn new(content_type: &'static str, body: String) -> Self {
        let digest = Sha256::digest(&body);
        let mut tag = HEXLOWER.encode(&digest);
        tag.truncate(16);
        Self { content_type, body: body.into(), etag: format!("\"{tag}\"").into() }
    }

    fn respond(&self, headers: &HeaderMap) -> Response {
        let cache = HeaderValue::try_from(format!("public, max-age={CACHE_MAX_AGE_S}"));
        let etag = HeaderValue::try_from(&*self.etag);
        let is_known = IfNoneMatch::of(headers).is_some_and(|tags| tags.includes_tag(&self.etag));
        let mut response = if is_known {
            StatusCode::NOT_MODIFIED.into_response()
        } else {
            ([(CONTENT_TYPE, self.content_type)], self.body.clone()).into_response()
        };
        let fields = response.headers_mut();
        fields.extend(etag.ok().map(|etag| (ETAG, etag)));
        fields.extend(cache.ok().map(|cache| (CACHE_CONTROL, cache)));
        response
    }
}

/// `GET /openapi.json`.
pub(crate) async fn get_openapi(State(app): State<App>, headers: HeaderMap) -> Response {
    app.description.document.respond(&headers)
}

/// `GET /docs`: the reference page.
pub(crate) async fn get_reference_page(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut response = app.description.reference.respond(&headers);
    reference_page::add_security_headers(response.headers_mut());
    response
}

/// Returns all operations.
fn operations(schemas: &mut Schemas) -> Vec<Operation> {
    let mut all = submission::operations(schemas);
    all.extend(jobs::operations(schemas));
    all.extend(batches::operations(schemas));
    all.extend(dead_letters::operations(schemas));
    all.extend(service::operations(schemas));
    all.extend(older_contract::operations());
    all
}

/// Generates the OpenAPI document.
fn document(access: Access) -> Value {
    let mut schemas = Schemas::new();
    let operations = operations(&mut schemas);
    let mut paths: Map<String, Value> = Map::new();
    for operation in &operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.to_lowercase(), operation.describe());
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Wordmill",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Counts the words of pages, texts and documents, asynchronously.",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "This gateway."}],
        "tags": TAGS.map(|(name, description)| json!({"name": name, "description": description})),
        "security": match access {
            Access::Keyed => json!([{KEY_SCHEME: []}]),
            Access::Open => json!([{KEY_SCHEME: []}, {}]),
        },
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "headers": operation::headers(),
            "securitySchemes": {KEY_SCHEME: {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key: `Authorization: Bearer wm_...`. A gateway without keys \
                    accepts requests without one. A key gives access to the jobs of its owner \
                    only.",
            }},
        },
    })
}

/// Groups of operations, in the order in which they are shown.
const TAGS: [(&str, &str); 6] = [
    ("submission", "Submit a URL, a text or a document."),
    ("jobs", "Follow jobs and get their results."),
    ("batches", "Submit many jobs in one request and get their merged result."),
    ("dead letters", "Inspect, replay and delete the messages of jobs that used up all attempts."),
    ("service", "Get the state of the service."),
    (
        "older contract",
        "The routes of the service that Wordmill replaces. Every response has the \
         envelope `{success, message, data}`.",
    ),
];

const INTRODUCTION: &str = "\
Submit a URL, a text or a document to create a job. Wait for the job, follow it or poll it. Then \
get the totals and the histogram of all its words.

Errors are `application/problem+json` (RFC 9457) with a stable `code`, `retryable`, and the \
`trace_id` of the request. Times are RFC 3339 in UTC, durations are in milliseconds.

Every response has its trace context in `traceresponse` and `Server-Timing`. A request with \
`traceparent`, and optionally `tracestate`, continues that trace, or begins a new one that is \
linked to it (`WORDMILL_TRACE_INBOUND`). A request whose head is malformed or too large is \
answered with `400` or `431` before it reaches a route.";

/// Returns the document of a gateway with keys.
#[cfg(test)]
pub(crate) fn document_with_keys() -> Value {
    document(Access::Keyed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::problem::Code;

    /// Codes of requests that match no operation.
    const CODES_WITHOUT_OPERATION: [Code; 4] =
        [Code::HeadTooLarge, Code::MalformedRequest, Code::MethodNotAllowed, Code::RouteNotFound];

    /// Returns the methods and paths in the source text of `routes.rs`.
    fn routed() -> BTreeSet<(String, String)> {
        let source = include_str!("../routes.rs");
        let mut routes = BTreeSet::new();
        for part in source.split(".route(").skip(1) {
            let (_, part) = part.split_once('"').unwrap();
            let (path, rest) = part.split_once('"').unwrap();
            let call = rest.split("\n        .").next().unwrap();
            for method in ["get", "post", "put", "delete", "patch"] {
                if call.contains(&format!(" {method}(")) || call.contains(&format!(".{method}(")) {
                    routes.insert((method.to_uppercase(), path.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let described: Vec<(String, String)> = operations(&mut Schemas::new())
            .iter()
            .map(|operation| (operation.method.to_owned(), operation.path.to_owned()))
            .collect();
        let set: BTreeSet<_> = described.iter().cloned().collect();
        assert_eq!(set.len(), described.len(), "an operation is described twice");
        assert_eq!(set, routed());
    }

    #[test]
    fn every_reference_resolves() {
        let document = document_with_keys();
        let text = document.to_string();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} does not resolve");
        }
    }

    #[test]
    fn every_code_is_in_a_response_of_some_operation() {
        let named: BTreeSet<&str> = operations(&mut Schemas::new())
            .iter()
            .flat_map(|operation| operation.all_codes().into_iter().map(|code| code.name()))
            .collect();
        for code in Code::ALL {
            assert_eq!(
                named.contains(code.name()),
                !CODES_WITHOUT_OPERATION.contains(code),
                "{}",
                code.name()
            );
        }
    }

    /// The golden file is the contract of the API: each change needs a line in the changelog.
    #[test]
    fn the_description_is_the_golden_one() {
        let golden = include_str!("../../../docs/openapi.json");
        let text = format!("{:#}\n", document_with_keys());
        if text != golden {
            let new = std::env::temp_dir().join("openapi.json");
            std::fs::write(&new, &text).unwrap();
            panic!("docs/openapi.json differs from {}", new.display());
        }
    }
}
