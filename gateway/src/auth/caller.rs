//! Authentication middleware: the only place that determines the owner of a request.

use axum::extract::{FromRequestParts, Request};
use axum::http::header::{HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::{Span, error};
use wordmill_common::id::{JobId, JobKey, Owner};
use wordmill_service::server::Connection;

use crate::App;
use crate::auth::api_keys::{Holder, KeyHash, KeyValidity, Keys};
use crate::http::problem::{Code, Problem};
use crate::ui;

/// Paths that need no key. Monitoring has no key, and these paths reveal neither jobs nor owners.
const PUBLIC_PATHS: [&str; 6] =
    ["/livez", "/readyz", "/metrics", "/health", "/openapi.json", "/docs"];

/// Authenticated client of one request. It may only access the jobs of `owner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) owner: Owner,
    /// SHA-256 of the API key; `None` if the gateway has no keys.
    pub(crate) key_hash: Option<KeyHash>,
}

impl Caller {
    /// Returns the store key of one of the caller's jobs.
    pub(crate) fn job_key(&self, job_id: JobId) -> JobKey {
        JobKey { owner: self.owner.clone(), job_id }
    }

    /// Returns the validity of the API key. A long response ends when the key is revoked.
    pub(crate) fn key_validity(&self, keys: &Keys) -> KeyValidity {
        keys.key_validity(&self.owner, self.key_hash)
    }
}

/// Authenticates a request before any other code reads it. With keys, a request without a valid key
/// gets `401` on every path except the public ones, so it cannot probe which paths exist. Without
/// keys, requests from pages of other origins are refused.
pub(crate) async fn authenticate<F: Future<Output = Response>>(
    app: &App,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let Some(table) = app.keys.table() else {
        if let Err(problem) = app.browser_policy.check(&request) {
            return problem.into_response();
        }
        mark_authenticated(&request);
        request.extensions_mut().insert(Caller { owner: Owner::public(), key_hash: None });
        return next(request).await;
    };
    if is_public_path(request.uri().path()) {
        return next(request).await;
    }
    match table.find_holder(request.headers()) {
        Some(holder) => {
            mark_authenticated(&request);
            serve(&holder, request, next).await
        }
        None => unauthenticated(),
    }
}

/// Marks the connection as authenticated, so that it is not closed in favor of new connections.
fn mark_authenticated(request: &Request) {
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.mark_authenticated();
    }
}

fn is_public_path(path: &str) -> bool {
    PUBLIC_PATHS.contains(&path) || ui::is_ui_path(path)
}

async fn serve<F: Future<Output = Response>>(
    holder: &Holder,
    mut request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    Span::current().record("key.name", holder.name.as_str());
    // Every request takes a token, even one that fails later.
    let decision = holder.bucket.as_ref().map(|bucket| bucket.take(Instant::now()));
    let mut response = match decision.and_then(|decision| decision.refusal()) {
        Some(problem) => problem.into_response(),
        None => {
            request
                .extensions_mut()
                .insert(Caller { owner: holder.owner.clone(), key_hash: Some(holder.hash) });
            next(request).await
        }
    };
    // Every response to a limited key shows its limit, not only a refusal.
    if let Some(decision) = decision {
        decision.add_headers(response.headers_mut());
    }
    response
}

/// Returns the response to a missing or invalid key. It does not reveal the reason.
fn unauthenticated() -> Response {
    let detail = "The API key is missing or invalid. Send Authorization: Bearer wm_...";
    let mut response = Problem::new(Code::Unauthenticated, detail).into_response();
    let challenge = HeaderValue::from_static("Bearer realm=\"wordmill\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| {
            error!(path = parts.uri.path(), "a request reached a handler without authentication");
            Problem::new(
                Code::Internal,
                "The request was not authenticated. This is a bug in the service.",
            )
        })
    }
}
