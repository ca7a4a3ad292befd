//! Liveness and readiness, for whoever runs the worker.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use wordmill_nats::connect::{Broker, Health};

/// Serves `/livez` and `/readyz`.
///
/// # Errors
/// Those of the listener.
pub(crate) async fn serve(
    listener: TcpListener,
    broker: Broker,
    health: watch::Receiver<Health>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(ready))
        .with_state((broker, health));
    axum::serve(listener, router).await
}

/// Says whether jobs are pulled, and if not, why.
async fn ready(
    State((broker, health)): State<(Broker, watch::Receiver<Health>)>,
) -> (StatusCode, Json<Value>) {
    let reason = match &*health.borrow() {
        Health::Ready if broker.is_connected() => {
            return (StatusCode::OK, Json(json!({"status": "ready"})));
        }
        Health::Ready => "no connection to the broker".to_owned(),
        Health::Waiting(reason) => reason.clone(),
    };
    let body = json!({"status": "waiting", "reason": reason});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}
