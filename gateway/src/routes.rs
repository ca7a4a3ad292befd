//! Which path leads where.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::FutureExt;
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::{And, NotForContentType, Predicate, SizeAbove};
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

/// The whole service.
pub(crate) type Service = Compression<Router, And<SizeAbove, NotForContentType>>;

/// Returns the whole service.
pub(crate) fn service(app: App, origins: &Origins) -> Service {
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
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app);
    // Outside of all that: browsers keep even errors from a page that is not allowed to read them.
    let router = match origins.layer() {
        Some(cors) => router.layer(cors),
        None => router,
    };
    compressed(router)
}

/// What is around every handler. It is one layer and not four, because the router clones and boxes
/// all layers of a route for each request, and within each layer all further in once more.
async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let handle = |request| unwinding(next.run(request));
    let admit = |request| caller::admit(&app.keys, request, handle);
    // Inside the trace, so that numbers link to it; outside of panics, so that they count.
    let observe = |request| metrics::observe(&app.metrics, request, admit);
    trace::answer(&app, request, observe).await
}

/// Compresses answers as far as clients say that they can read it; events never, because each is passed
/// on at once.
fn compressed(router: Router) -> Service {
    let worth_it = SizeAbove::new(COMPRESSED_BYTES_MIN).and(NotForContentType::SSE);
    Compression::new(router).quality(CompressionLevel::Fastest).compress_when(worth_it)
}

/// Answers even if the handler panics.
async fn unwinding(handling: impl Future<Output = Response>) -> Response {
    // What it may leave behind is the request's own: nobody looks at it.
    AssertUnwindSafe(handling).catch_unwind().await.unwrap_or_else(|panic| panicked(&*panic))
}

fn panicked(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = text.unwrap_or("of unknown kind"), "a request handler panicked");
    Problem::new(Code::Internal, "The service failed while it handled the request.").into_response()
}
