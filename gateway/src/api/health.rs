//! Liveness and readiness probes.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use wordmill_nats::supervise::Health;

use crate::App;
use crate::http::problem::{Code, Problem};

/// `GET /livez`: reports that the process serves HTTP.
pub(crate) async fn get_liveness() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// `GET /readyz`: reports whether jobs can be accepted, and the reason if not.
pub(crate) async fn get_readiness(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let health = app.health.borrow().clone();
    match health {
        Health::Ready if app.broker.is_connected() => Ok(Json(json!({"status": "ready"}))),
        Health::Ready => {
            Err(Problem::new(Code::NotReady, "The gateway is not connected to the broker."))
        }
        Health::Waiting(reason) => Err(Problem::new(Code::NotReady, reason)),
    }
}
