//! HTTP endpoints for the liveness, readiness and metrics of the worker.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper_util::service::TowerToHyperService;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wordmill_common::id::Lane;
use wordmill_nats::connect::Broker;
use wordmill_nats::supervise::Health;
use wordmill_service::server::{self, Limits, Settings};

use crate::lane_liveness::{LaneLiveness, SILENCE_MAX};
use crate::metrics::Metrics;

/// Maximum number of open connections. Each further one closes the oldest, so that idle clients
/// cannot block a liveness probe.
const CONNECTIONS_OPEN_MAX: usize = 64;
/// Maximum number of connections, including those that are being closed.
const CONNECTIONS_MAX: u32 = 128;

/// State of the worker that the endpoints report.
#[derive(Clone)]
pub(crate) struct Vitals {
    pub(crate) broker: Broker,
    pub(crate) health: watch::Receiver<Health>,
    pub(crate) liveness: Arc<LaneLiveness>,
    pub(crate) metrics: Metrics,
}

/// Serves `/livez`, `/readyz` and `/metrics` for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, client_timeout: Duration, vitals: Vitals) {
    let router = Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(get_readiness))
        .route("/metrics", get(get_metrics))
        .with_state(vitals);
    let limits = Limits {
        connections_max: CONNECTIONS_MAX,
        unauthenticated_max: CONNECTIONS_OPEN_MAX,
        client_timeout,
    };
    let settings = Settings { limits, certificate: None, complete_response: |_| None };
    let make_service = |_| TowerToHyperService::new(router.clone());
    server::serve(listener, make_service, settings, CancellationToken::new()).await;
}

/// Handles `GET /readyz`: reports whether the worker pulls jobs, and the reason if it does not.
/// `silence_ms` is the silence of each lane, or `null` while all slots are in use and the lane
/// requests nothing.
async fn get_readiness(State(vitals): State<Vitals>) -> (StatusCode, Json<Value>) {
    let lanes: Map<_, _> =
        Lane::ALL.map(|lane| (lane.to_string(), silence_ms(&vitals, lane))).into_iter().collect();
    match unready_reason(&vitals) {
        None => (StatusCode::OK, Json(json!({"status": "ready", "silence_ms": lanes}))),
        Some(reason) => {
            let body = json!({"status": "waiting", "reason": reason, "silence_ms": lanes});
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}

/// Handles `GET /metrics`.
async fn get_metrics(State(vitals): State<Vitals>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let text = vitals.metrics.render(accept, vitals.broker.is_connected());
    ([(CONTENT_TYPE, text.content_type)], text.body).into_response()
}

fn silence_ms(vitals: &Vitals, lane: Lane) -> Value {
    let silence = vitals.liveness.silence(lane);
    json!(silence.map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)))
}

/// Returns the reason why the worker cannot pull jobs now, if there is one.
fn unready_reason(vitals: &Vitals) -> Option<String> {
    match &*vitals.health.borrow() {
        Health::Ready if vitals.broker.is_connected() => {}
        Health::Ready => return Some("no connection to the broker".to_owned()),
        Health::Waiting(reason) => return Some(reason.clone()),
    }
    if let Some(unconfirmed) = vitals.broker.unconfirmed_acknowledgements() {
        return Some(unconfirmed.to_string());
    }
    Lane::ALL.into_iter().find_map(|lane| {
        let silence = vitals.liveness.silence(lane).filter(|silence| *silence > SILENCE_MAX)?;
        Some(format!(
            "lane {lane} has received nothing from the broker for {} s",
            silence.as_secs()
        ))
    })
}
