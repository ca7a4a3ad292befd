//! Maps paths and methods to handlers, and adds the middleware.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{HeaderValue, STRICT_TRANSPORT_SECURITY};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use hyper_util::service::TowerToHyperService;
use tower_http::CompressionLevel;
use tower_http::add_extension::AddExtension;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
use tower_http::set_header::SetResponseHeader;
use tracing::error;
use wordmill_service::panic;
use wordmill_service::server::Connection;

use crate::api::dead_letters::{self, replay};
use crate::api::{
    batches, cancel, events, explain, health, jobs, listing, older_contract, queue, results, retry,
    submit, webhooks,
};
use crate::auth::caller;
use crate::config::Config;
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::http::security_headers::{NOSNIFF_HEADER, SAME_ORIGIN_HEADER};
use crate::spec::openapi;
use crate::{App, metrics, ui};

/// Minimum size of a response that is compressed, in bytes.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// The complete HTTP service: the router, compression and security headers.
pub(crate) type Service = WithHeader<WithHeader<WithHeader<Compressed>>>;
type WithHeader<S> = SetResponseHeader<S, Option<HeaderValue>>;
type Compressed = Compression<Router, And<SizeAbove, NotForContentType>>;

/// Builds the complete HTTP service.
pub(crate) fn service(app: App, config: &Config) -> Service {
    let router = Router::new()
        .route("/v1/jobs", get(listing::list_jobs).post(submit::submit_job))
        .route(
            "/v1/jobs/{id}",
            get(jobs::get_job).put(submit::submit_named_job).delete(jobs::delete_job),
        )
        .route("/v1/jobs/{id}/result", get(results::get_result))
        .route("/v1/jobs/{id}/explain", get(explain::explain_job))
        .route("/v1/jobs/{id}/events", get(events::stream_events))
        .route("/v1/jobs/{id}/cancel", post(cancel::cancel_job))
        .route("/v1/jobs/{id}/retry", post(retry::retry_job))
        .route("/v1/jobs/{id}/webhook", post(webhooks::redeliver_webhook))
        .route("/v1/batches", post(batches::submit_batch))
        .route("/v1/batches/{id}", get(batches::get_batch))
        .route("/v1/batches/{id}/result", get(batches::get_batch_result))
        .route("/v1/queue", get(queue::get_queue))
        .route("/v1/dead-letters", get(dead_letters::list_dead_letters))
        .route("/v1/dead-letters/replay", post(replay::replay_dead_letters))
        .route(
            "/v1/dead-letters/{id}",
            get(dead_letters::get_dead_letter).delete(dead_letters::delete_dead_letter),
        )
        .route("/livez", get(health::get_liveness))
        .route("/readyz", get(health::get_readiness))
        .route("/metrics", get(metrics::get_metrics))
        .route("/openapi.json", get(openapi::get_openapi))
        .route("/docs", get(openapi::get_reference_page))
        .route(
            "/word-count",
            get(older_contract::get_word_count).post(older_contract::submit_word_count),
        )
        .route("/word-count/{id}", get(older_contract::get_word_count_by_path))
        .route("/health", get(older_contract::get_health))
        .merge(ui::router())
        .fallback(|| async { Problem::new(Code::RouteNotFound, "No route has this path.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "The route does not support this method.")
        })
        .layer(middleware::from_fn_with_state(app.clone(), handle_request))
        .with_state(app.clone());
    // CORS is outside of the middleware above, so that error responses carry its headers, too.
    // Without them, a browser hides the error from the page.
    let router = match config.cors_origins.layer() {
        // The CORS layer answers every OPTIONS request itself.
        Some(cors) => {
            router.layer(cors).layer(middleware::from_fn_with_state(app, check_preflight))
        }
        None => router,
    };
    add_security_headers(compress(router), config)
}

/// Returns the service of one connection, which adds the connection to the extensions of each
/// request.
pub(crate) fn connection_service(
    service: Service,
    connection: Connection,
) -> TowerToHyperService<AddExtension<Service, Connection>> {
    TowerToHyperService::new(AddExtension::new(service, connection))
}

/// Applies tracing, metrics, authentication and panic handling to every route. It is one layer
/// instead of four, because the router clones and boxes each layer of a route for every request,
/// and each layer clones the layers inside it once more.
async fn handle_request(State(app): State<App>, request: Request, next: Next) -> Response {
    let handle = |request| catch_panic(next.run(request));
    let admit = |request| caller::authenticate(&app, request, handle);
    // Metrics are inside the trace, so that their exemplars link to it, and outside of
    // `catch_panic`, so that panics are counted.
    let observe = |request| metrics::observe(&app.metrics, request, admit);
    let render_older = older_contract_renderer(&request);
    request_trace::trace_request(&app, request, observe, render_older).await
}

/// Returns the renderer for problems of the older contract, if the request belongs to it.
fn older_contract_renderer(request: &Request) -> Option<request_trace::RenderProblem> {
    older_contract::contains_path(request.uri().path()).then_some(older_contract::render_error)
}

/// Checks the host of an `OPTIONS` request, because the CORS layer answers it before other checks.
async fn check_preflight(State(app): State<App>, request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS
        && app.keys.table().is_none()
        && let Err(problem) = app.browser_policy.check(&request)
    {
        let refuse = |_| async { problem.into_response() };
        let render_older = older_contract_renderer(&request);
        return request_trace::trace_request(&app, request, refuse, render_older).await;
    }
    next.run(request).await
}

/// Compresses responses if the client accepts it. Event streams are never compressed, because each
/// event must be sent immediately.
fn compress(router: Router) -> Compressed {
    let predicate = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE);
    Compression::new(router).quality(CompressionLevel::Fastest).compress_when(predicate)
}

/// Adds the security headers to every response of the router, including CORS preflights.
fn add_security_headers(service: Compressed, config: &Config) -> Service {
    let (name, value) = NOSNIFF_HEADER;
    let service = SetResponseHeader::overriding(service, name, Some(value));
    let (name, value) = SAME_ORIGIN_HEADER;
    let service = SetResponseHeader::overriding(service, name, Some(value));
    let seconds = config.hsts_max_age.as_secs();
    let hsts = (seconds > 0).then(|| HeaderValue::try_from(format!("max-age={seconds}")).ok());
    SetResponseHeader::overriding(service, STRICT_TRANSPORT_SECURITY, hsts.flatten())
}

/// Runs a handler, and returns the problem `internal` if it panics.
async fn catch_panic(handling: impl Future<Output = Response>) -> Response {
    // Unwind safe: a panic can only break state that belongs to the request, and that is dropped.
    AssertUnwindSafe(handling)
        .catch_unwind()
        .await
        .unwrap_or_else(|payload| panic_response(&*payload))
}

fn panic_response(payload: &(dyn Any + Send)) -> Response {
    error!(panic = panic::message(payload), "a request handler panicked");
    Problem::new(Code::Internal, "Internal error while handling the request.").into_response()
}
