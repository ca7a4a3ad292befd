//! Which path leads where.

use axum::Router;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{NotForContentType, Predicate, SizeAbove};
use tracing::error;

use crate::cors::Origins;
use crate::dead_letters::{self, replay};
use crate::problem::{Code, Problem};
use crate::{
    App, batches, caller, cancel, events, explain, health, jobs, keyed, listing, metrics, openapi,
    page, queue_view, result, retry, submit, trace, webhook, word_count,
};

/// Smallest answer that is worth compressing, in bytes.
const COMPRESSED_BYTES_MIN: u64 = 1024;

/// Returns the whole service.
pub(crate) fn router(app: App, origins: &Origins) -> Router {
    let router = Router::new()
        .route("/v1/jobs", get(listing::get).post(submit::post))
        .route("/v1/jobs/{id}", get(jobs::get).put(keyed::put).delete(jobs::delete))
        .route("/v1/jobs/{id}/result", get(result::get))
        .route("/v1/jobs/{id}/explain", get(explain::get))
        .route("/v1/jobs/{id}/events", get(events::get))
        .route("/v1/jobs/{id}/cancel", post(cancel::post))
        .route("/v1/jobs/{id}/retry", post(retry::post))
        .route("/v1/jobs/{id}/webhook", post(webhook::post))
        .route("/v1/batches", post(batches::post))
        .route("/v1/batches/{id}", get(batches::get))
        .route("/v1/batches/{id}/result", get(batches::result))
        .route("/v1/queue", get(queue_view::get))
        .route("/v1/dead-letters", get(dead_letters::list))
        .route("/v1/dead-letters/replay", post(replay::post))
        .route("/v1/dead-letters/{id}", get(dead_letters::get).delete(dead_letters::delete))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::get))
        .route("/openapi.json", get(openapi::get))
        .route("/docs", get(openapi::reference))
        .route("/word-count", get(word_count::get).post(word_count::post))
        .route("/word-count/{id}", get(word_count::get_by_path))
        .route("/health", get(word_count::health))
        .merge(page::router())
        .fallback(|| async { Problem::new(Code::RouteNotFound, "There is no such route.") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "The route exists, but not with this method.")
        })
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(app.keys.clone(), caller::admit))
        // Inside the trace, so that numbers link to it; outside of panics, so that they count.
        .layer(middleware::from_fn_with_state(app.metrics.clone(), metrics::observe))
        .layer(middleware::from_fn_with_state(app.clone(), trace::answer))
        .layer(compression())
        .with_state(app);
    // Outermost: browsers keep even errors from a page that is not allowed to read them.
    match origins.layer() {
        Some(cors) => router.layer(cors),
        None => router,
    }
}

/// Answers are compressed as far as clients say that they can read it; events never are, because each
/// is passed on at once.
fn compression() -> CompressionLayer<impl Predicate> {
    let worth_it = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE);
    CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(worth_it)
}

#[expect(clippy::needless_pass_by_value, reason = "the layer's signature")]
fn panicked(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = text.unwrap_or("of unknown kind"), "a request handler panicked");
    Problem::new(Code::Internal, "The service failed while it handled the request.").into_response()
}
