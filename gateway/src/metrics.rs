//! Prometheus metrics of the gateway, served at `/metrics`. `docs/metrics.md` explains each name.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use wordmill_common::id::Lane;
use wordmill_common::job::Job;
use wordmill_common::trace_context::TraceContext;
use wordmill_service::metrics::{
    Catalogue, CommonMetrics, Counters, Distributions, Exposition, RESPONSE_SECONDS, TraceLink,
};

use crate::App;
use crate::http::problem::Problem;
use crate::queue_status::QueueStatus;

/// Metrics of this gateway. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<MetricsState>);

#[derive(Debug)]
struct MetricsState {
    shared: CommonMetrics,
    requests: Distributions<RequestLabels>,
    problems: Counters<ProblemLabels>,
    submissions: Counters<SubmissionLabels>,
    broker_requests: Distributions<BrokerRequestLabels>,
    sweeps: Counters<SweepLabels>,
    clients_waiting: Gauge,
    clients_waiting_max: Gauge,
    in_flight_bytes: Gauge,
    in_flight_budget: Gauge,
    exposition: Exposition,
}

/// Labels of a request, named as in OpenTelemetry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProblemLabels {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubmissionLabels {
    lane: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BrokerRequestLabels {
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SweepLabels {
    action: &'static str,
}

/// A broker request that a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Publishes a job to the queue.
    Publish,
    /// Creates the record of a new job.
    CreateRecord,
}

/// An action of the sweeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SweepAction {
    /// Failed a job without a message.
    Lost,
    /// Removed the message of a cancelled job.
    CancelledMessage,
    /// Removed a result that no record references.
    UnreferencedResult,
    /// Removed a document that no job references.
    UnreferencedDocument,
    /// Removed the chunks of an unfinished document or result.
    UnfinishedObject,
}

impl SweepAction {
    /// All actions.
    const ALL: [Self; 5] = [
        Self::Lost,
        Self::CancelledMessage,
        Self::UnreferencedResult,
        Self::UnreferencedDocument,
        Self::UnfinishedObject,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::CancelledMessage => "cancelled_message",
            Self::UnreferencedResult => "unreferenced_result",
            Self::UnreferencedDocument => "unreferenced_document",
            Self::UnfinishedObject => "unfinished_object",
        }
    }
}

impl Metrics {
    pub(crate) fn new(queue_status: &QueueStatus) -> Self {
        let mut catalogue = Catalogue::new("gateway", env!("CARGO_PKG_VERSION"));
        let shared = CommonMetrics::new(&mut catalogue);
        let requests = catalogue.distributions(
            "http_server_request_duration_seconds",
            "HTTP request duration until the response headers, including long polls",
            RESPONSE_SECONDS,
        );
        let problems =
            catalogue.counters("wordmill_problems", "Requests answered with a problem, by code");
        let submissions =
            catalogue.counters("wordmill_jobs_submitted", "Submitted jobs, by lane and outcome");
        let broker_requests = catalogue.distributions(
            "wordmill_broker_request_duration_seconds",
            "Duration of broker requests that block a client, by operation",
            RESPONSE_SECONDS,
        );
        let sweeps =
            catalogue.counters("wordmill_sweeper_actions", "Actions of the sweeper, by kind");
        for action in SweepAction::ALL {
            // Start at 0: if the series appeared with its first event, `increase` would miss that
            // event.
            drop(sweeps.get_or_create(&SweepLabels { action: action.as_str() }));
        }
        let clients_waiting = catalogue.gauge(
            "wordmill_clients_waiting",
            "Clients that wait for a job, with a long poll, Prefer: wait or an event stream",
        );
        let clients_waiting_max = catalogue.gauge(
            "wordmill_clients_waiting_max",
            "Maximum number of clients that may wait for a job at a time",
        );
        let in_flight_bytes = catalogue.gauge(
            "wordmill_submission_room_taken_bytes",
            "Used part of the in-flight budget: submissions that arrive or wait for the broker",
        );
        let in_flight_budget = catalogue.gauge(
            "wordmill_submission_room_bytes",
            "Size of the in-flight budget; submissions beyond it are refused (overloaded)",
        );
        catalogue.collect(queue_status.clone());
        let exposition = catalogue.finish();
        Self(Arc::new(MetricsState {
            shared,
            requests,
            problems,
            submissions,
            broker_requests,
            sweeps,
            clients_waiting,
            clients_waiting_max,
            in_flight_bytes,
            in_flight_budget,
            exposition,
        }))
    }

    /// Counts a submission by its outcome. A named job that already existed is counted as
    /// `repeated`.
    pub(crate) fn record_submission(
        &self,
        lane: Lane,
        created_at: Timestamp,
        accepted: &Result<Job, Problem>,
    ) {
        let outcome = match accepted {
            Ok(job) if job.created_at == created_at => "accepted",
            Ok(_) => "repeated",
            Err(problem) => problem.code_name(),
        };
        let labels = SubmissionLabels { lane: lane.as_str(), outcome };
        self.0.submissions.get_or_create(&labels).inc();
    }

    /// Runs a broker request and records its duration. A request that is dropped is not recorded.
    pub(crate) async fn time_broker_request<T>(
        &self,
        operation: Operation,
        trace: &TraceContext,
        request: impl Future<Output = T>,
    ) -> T {
        let start = Instant::now();
        let answer = request.await;
        let labels = BrokerRequestLabels {
            operation: match operation {
                Operation::Publish => "publish",
                Operation::CreateRecord => "create_record",
            },
        };
        self.0.broker_requests.observe_duration(
            &labels,
            start.elapsed(),
            TraceLink::to(&trace.parent),
        );
        answer
    }

    /// Counts a job that this gateway cancelled.
    pub(crate) fn record_cancelled_job(&self, job: &Job) {
        self.0.shared.record_finished_job(job, None);
    }

    /// Counts an action of the sweeper.
    pub(crate) fn record_sweep_action(&self, action: SweepAction) {
        self.0.sweeps.get_or_create(&SweepLabels { action: action.as_str() }).inc();
    }

    /// Counts a job that the sweeper failed because it had no message.
    pub(crate) fn record_lost_job(&self, job: &Job) {
        self.0.shared.record_finished_job(job, None);
        self.record_sweep_action(SweepAction::Lost);
    }
}

/// `GET /metrics`.
pub(crate) async fn get_metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let MetricsState {
        shared,
        clients_waiting,
        clients_waiting_max,
        in_flight_bytes,
        in_flight_budget,
        exposition,
        ..
    } = &*app.metrics.0;
    shared.set_broker_connected(app.broker.is_connected());
    for (gauge, count) in [
        (clients_waiting, app.waiters.waiting()),
        (clients_waiting_max, app.waiters.waiting_max()),
        (in_flight_bytes, app.in_flight_budget.used_bytes()),
        (in_flight_budget, app.in_flight_budget.bytes()),
    ] {
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let text = exposition.render(accept);
    ([(CONTENT_TYPE, text.content_type)], text.body).into_response()
}

/// Records the duration and status of a request, and the code of its problem if it has one.
pub(crate) async fn observe<F: Future<Output = Response>>(
    metrics: &Metrics,
    request: Request,
    next: impl FnOnce(Request) -> F,
) -> Response {
    let http_request_method = known_method(request.method());
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let http_route = route.unwrap_or("none").to_owned();
    let trace = request.extensions().get::<TraceContext>();
    let trace = trace.and_then(|trace| TraceLink::to(&trace.parent));
    let start = Instant::now();
    let response = next(request).await;
    let http_response_status_code = response.status().as_u16();
    let labels = RequestLabels { http_request_method, http_route, http_response_status_code };
    metrics.0.requests.observe_duration(&labels, start.elapsed(), trace);
    if let Some(problem) = response.extensions().get::<Problem>() {
        metrics.0.problems.get_or_create(&ProblemLabels { code: problem.code_name() }).inc();
    }
    response
}

/// Returns the label value of a method. Unknown methods share `_OTHER`, because a client could
/// otherwise create any number of time series.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|name| *name == method.as_str()).unwrap_or("_OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enqueue::backpressure::Backpressure;

    #[test]
    fn every_sweeper_action_starts_at_0() {
        let (_sender, backpressure) = Backpressure::new();
        let metrics = Metrics::new(&QueueStatus::new(backpressure));
        let text = metrics.0.exposition.render(None).body;
        for action in SweepAction::ALL {
            let action = action.as_str();
            let line = format!("wordmill_sweeper_actions_total{{action=\"{action}\"}} 0");
            assert!(text.lines().any(|shown| shown == line), "no line {line} in {text}");
        }
    }
}
