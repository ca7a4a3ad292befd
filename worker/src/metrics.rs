//! Metrics of the worker, served at `/metrics`. `docs/metrics.md` explains each of them.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;
use wordmill_common::clock;
use wordmill_common::failure::FailureCode;
use wordmill_common::id::Lane;
use wordmill_common::job::Status;
use wordmill_common::message::{self, JobMessage};
use wordmill_common::open_name::OpenName;
use wordmill_common::webhook::{self, WebhookOutcome};
use wordmill_fetch::Progress;
use wordmill_nats::acks::{CheckOutcome, QueueKind};
use wordmill_nats::delivery::Delivery;
use wordmill_nats::store::Outcome;
use wordmill_service::metrics::{
    Catalogue, CommonMetrics, Counters, DOCUMENT_BYTES, Distributions, Exposition, Gauges,
    JOB_SECONDS, LaneLabel, MetricsText, RESPONSE_SECONDS, TraceLink,
};

use crate::outcome::JobAttemptOutcome;

/// Metrics of the worker. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<MetricsState>);

#[derive(Debug)]
struct MetricsState {
    common: CommonMetrics,
    running_jobs: Gauges<LaneLabel>,
    deliveries: Counters<LaneLabel>,
    redeliveries: Counters<LaneLabel>,
    ack_checks: Counters<AckCheckLabels>,
    queue_wait: Distributions<LaneLabel>,
    attempts: Counters<AttemptLabels>,
    attempt_duration: Distributions<StageLabels>,
    retries: Counters<RetryLabels>,
    fetch_duration: Distributions<FetchLabels>,
    fetch_size: Distributions<MeasureLabels>,
    newer_messages: Counters<NewerMessageLabels>,
    webhooks: Counters<WebhookAttemptLabels>,
    webhook_duration: Distributions<WebhookAttemptLabels>,
    exposition: Exposition,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AckCheckLabels {
    queue: &'static str,
    outcome: &'static str,
}

impl AckCheckLabels {
    fn new(queue: QueueKind, outcome: CheckOutcome) -> Self {
        Self { queue: queue.as_str(), outcome: outcome.as_str() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    lane: &'static str,
    outcome: &'static str,
    code: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    source: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    lane: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NewerMessageLabels {
    queue: &'static str,
    part: &'static str,
}

impl NewerMessageLabels {
    fn new(queue: QueueKind, part: NewerPart) -> Self {
        Self { queue: queue.as_str(), part: part.as_str() }
    }
}

/// Part of a message or of its record that this version does not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewerPart {
    /// The format of the message.
    Format,
    /// The source or the options of a job.
    Job(message::UnknownPart),
    /// The record of the job, of a batch member, or of the webhook.
    Record,
}

impl NewerPart {
    /// Returns the value of the label and log field `part`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Job(part) => part.as_str(),
            Self::Record => "record",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookAttemptLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MeasureLabels {
    measure: &'static str,
}

impl Metrics {
    pub(crate) fn new(slots: u32) -> Self {
        let mut catalogue = Catalogue::new("worker", env!("CARGO_PKG_VERSION"));
        let common = CommonMetrics::new(&mut catalogue);
        let slots_gauge = catalogue.gauge("wordmill_worker_slots", "Slots of the worker");
        slots_gauge.set(slots.into());
        let running_jobs = catalogue.gauges(
            "wordmill_worker_slots_busy",
            "Running jobs, including small ones without a slot",
        );
        let deliveries = catalogue.counters("wordmill_deliveries", "Jobs received from the queue");
        let redeliveries = catalogue.counters(
            "wordmill_redeliveries",
            "Jobs received from the queue that had been delivered before",
        );
        for lane in Lane::ALL {
            // Start each series at 0. Otherwise `rate` would miss its first event.
            running_jobs.get_or_create(&LaneLabel::of(lane)).set(0);
            drop(deliveries.get_or_create(&LaneLabel::of(lane)));
            drop(redeliveries.get_or_create(&LaneLabel::of(lane)));
        }
        let ack_checks = ack_checks(&mut catalogue);
        let queue_wait = catalogue.distributions(
            "wordmill_job_queue_wait_seconds",
            "Time from a job's submission to its first delivery",
            JOB_SECONDS,
        );
        let attempts = catalogue.counters("wordmill_attempts", "Finished attempts, by outcome");
        let attempt_duration = catalogue.distributions(
            "wordmill_attempt_duration_seconds",
            "Time from the start of an attempt to its outcome",
            JOB_SECONDS,
        );
        let retries = catalogue
            .counters("wordmill_retries", "Failed attempts that were followed by another attempt");
        let fetch_duration = catalogue.distributions(
            "wordmill_fetch_duration_seconds",
            "Time from the start of a fetch until the page was complete or the fetch failed",
            JOB_SECONDS,
        );
        let fetch_size = catalogue.distributions(
            "wordmill_fetch_size_bytes",
            "Size of fetched pages, as transferred and decompressed",
            DOCUMENT_BYTES,
        );
        let newer_messages = newer_messages(&mut catalogue);
        let webhooks = catalogue.counters("wordmill_webhooks", "Finished webhooks, by outcome");
        for outcome in ["delivered", "failed", "disabled"] {
            drop(webhooks.get_or_create(&WebhookAttemptLabels { outcome }));
        }
        let webhook_duration = catalogue.distributions(
            "wordmill_webhook_duration_seconds",
            "Time from the start of a webhook attempt until its response or failure",
            RESPONSE_SECONDS,
        );
        let exposition = catalogue.finish();
        Self(Arc::new(MetricsState {
            common,
            running_jobs,
            deliveries,
            redeliveries,
            ack_checks,
            queue_wait,
            attempts,
            attempt_duration,
            retries,
            fetch_duration,
            fetch_size,
            newer_messages,
            webhooks,
            webhook_duration,
            exposition,
        }))
    }

    /// Returns all metrics in the format that the `Accept` header selects.
    pub(crate) fn render(&self, accept: Option<&str>, is_connected: bool) -> MetricsText {
        self.0.common.set_broker_connected(is_connected);
        self.0.exposition.render(accept)
    }

    /// Returns the number of running jobs of a lane, including small jobs without a slot.
    pub(crate) fn running_count(&self, lane: Lane) -> u32 {
        let gauge = self.0.running_jobs.get_or_create_owned(&LaneLabel::of(lane));
        u32::try_from(gauge.get()).unwrap_or(0)
    }

    /// Counts a job as running until the returned guard is dropped.
    pub(crate) fn begin_job(&self, lane: Lane) -> RunningJob {
        let gauge = self.0.running_jobs.get_or_create_owned(&LaneLabel::of(lane));
        gauge.inc();
        RunningJob(gauge)
    }

    /// Records the delivery of a job.
    pub(crate) fn record_delivery(&self, delivery: &Delivery, message: &JobMessage) {
        let lane = LaneLabel::of(message.lane);
        self.0.deliveries.get_or_create(&lane).inc();
        if delivery.delivery_count() > 1 {
            self.0.redeliveries.get_or_create(&lane).inc();
            return;
        }
        let age = clock::now().duration_since(message.created_at);
        // Negative if the clocks of the two hosts differ.
        let wait = Duration::try_from(age).unwrap_or_default();
        self.0.queue_wait.observe_duration(&lane, wait, trace_link(delivery));
    }

    /// Records the outcome of an acknowledgement check.
    pub(crate) fn record_ack_check(&self, queue: QueueKind, outcome: CheckOutcome) {
        self.0.ack_checks.get_or_create(&AckCheckLabels::new(queue, outcome)).inc();
    }

    /// Records the outcome and the duration of an attempt that began at `start`.
    pub(crate) fn record_attempt(
        &self,
        delivery: &Delivery,
        message: &JobMessage,
        start: Instant,
        attempt_outcome: &JobAttemptOutcome,
    ) {
        let (outcome, code) = match attempt_outcome {
            JobAttemptOutcome::Counted(..) => ("succeeded", None),
            JobAttemptOutcome::Failed(_, attempt_failure) => {
                ("failed", Some(attempt_failure.failure.code.label()))
            }
            JobAttemptOutcome::Interrupted(_) | JobAttemptOutcome::NeedsNewerVersion(_) => {
                ("interrupted", None)
            }
            JobAttemptOutcome::Overtaken(_) => ("overtaken", None),
        };
        self.count_attempt(message.lane, outcome, code);
        let labels = StageLabels { source: message.source.kind().as_str(), outcome };
        self.0.attempt_duration.observe_duration(&labels, start.elapsed(), trace_link(delivery));
    }

    /// Records that an attempt was lost with its worker.
    pub(crate) fn record_crash(&self, lane: Lane) {
        self.count_attempt(lane, "crashed", Some(FailureCode::WorkerCrashed.as_str()));
    }

    fn count_attempt(&self, lane: Lane, outcome: &'static str, code: Option<&'static str>) {
        let labels = AttemptLabels { lane: lane.as_str(), outcome, code };
        self.0.attempts.get_or_create(&labels).inc();
    }

    /// Records a write that made a job final or scheduled another attempt.
    pub(crate) fn record_outcome(&self, delivery: &Delivery, outcome: &Outcome) {
        let Outcome::Applied(stored) = outcome else { return };
        let job = &stored.job;
        if job.status.is_final() {
            self.0.common.record_finished_job(job, trace_link(delivery));
        } else if job.status == Status::Queued
            && job.next_attempt_at.is_some()
            && let Some(last) = job.attempts.last()
        {
            let code = last.failure.as_ref().map_or("", |failure| failure.code.label());
            self.0.retries.get_or_create(&RetryLabels { lane: job.lane.as_str(), code }).inc();
        }
    }

    /// Counts a message that only a newer version can handle.
    pub(crate) fn count_newer_message(&self, delivery: &Delivery, part: NewerPart) {
        self.0.newer_messages.get_or_create(&NewerMessageLabels::new(delivery.queue(), part)).inc();
    }

    /// Records the outcome of an attempt to deliver a webhook, and the time until the response or
    /// failure.
    pub(crate) fn record_webhook_attempt(&self, webhook_outcome: &WebhookOutcome, time: Duration) {
        let outcome = match webhook_outcome {
            WebhookOutcome::Status { code: 200..=299, .. } => "delivered",
            WebhookOutcome::Status { .. } => "refused",
            WebhookOutcome::Failure(failure) => failure.code.label(),
        };
        self.0.webhook_duration.observe_duration(&WebhookAttemptLabels { outcome }, time, None);
    }

    /// Counts a webhook if its status is final.
    pub(crate) fn record_webhook(&self, status: &OpenName<webhook::Status>) {
        let outcome = match status.known() {
            None | Some(webhook::Status::Waiting) => return,
            Some(webhook::Status::Delivered) => "delivered",
            Some(webhook::Status::Failed) => "failed",
            Some(webhook::Status::Disabled) => "disabled",
        };
        self.0.webhooks.get_or_create(&WebhookAttemptLabels { outcome }).inc();
    }

    /// Starts the timer of a fetch.
    pub(crate) fn begin_fetch(&self) -> FetchTimer {
        FetchTimer {
            metrics: self.clone(),
            start: Instant::now(),
            outcome: "incomplete",
            size: None,
        }
    }
}

/// Registers the counters of acknowledgement checks, each series at 0.
fn ack_checks(catalogue: &mut Catalogue) -> Counters<AckCheckLabels> {
    let counters = catalogue.counters(
        "wordmill_acknowledgement_checks",
        "Acknowledgements that requested an answer from the broker, by outcome",
    );
    for queue in QueueKind::ALL {
        for outcome in CheckOutcome::ALL {
            drop(counters.get_or_create(&AckCheckLabels::new(queue, outcome)));
        }
    }
    counters
}

/// Registers the counters of messages that need a newer version, each series at 0.
fn newer_messages(catalogue: &mut Catalogue) -> Counters<NewerMessageLabels> {
    let counters = catalogue.counters(
        "wordmill_newer_messages",
        "Messages returned to the queue because only a newer version can handle them",
    );
    for (queue, part) in [
        (QueueKind::Jobs, NewerPart::Format),
        (QueueKind::Jobs, NewerPart::Job(message::UnknownPart::Source)),
        (QueueKind::Jobs, NewerPart::Job(message::UnknownPart::Options)),
        (QueueKind::Jobs, NewerPart::Record),
        (QueueKind::Webhooks, NewerPart::Format),
        (QueueKind::Webhooks, NewerPart::Record),
    ] {
        drop(counters.get_or_create(&NewerMessageLabels::new(queue, part)));
    }
    counters
}

/// Returns the trace of a delivery, as the exemplar of a measurement.
fn trace_link(delivery: &Delivery) -> Option<TraceLink> {
    TraceLink::to(&delivery.trace_context()?.parent)
}

/// Guard of a running job. The job is counted as running until the guard is dropped.
#[derive(Debug)]
pub(crate) struct RunningJob(Gauge);

impl Drop for RunningJob {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Timer of a fetch. Records the duration when dropped, with the outcome `incomplete` unless
/// another one was set.
#[derive(Debug)]
pub(crate) struct FetchTimer {
    metrics: Metrics,
    start: Instant,
    outcome: &'static str,
    size: Option<Progress>,
}

impl FetchTimer {
    /// Marks the page as complete.
    pub(crate) fn complete(&mut self, size: Progress) {
        self.outcome = "complete";
        self.size = Some(size);
    }

    /// Marks the fetch as failed.
    pub(crate) fn fail(&mut self, code: &OpenName<FailureCode>) {
        self.outcome = code.label();
    }
}

impl Drop for FetchTimer {
    fn drop(&mut self) {
        let state = &self.metrics.0;
        let labels = FetchLabels { outcome: self.outcome };
        state.fetch_duration.observe_duration(&labels, self.start.elapsed(), None);
        let Some(size) = self.size else { return };
        for (measure, bytes) in [("wire", size.received_bytes), ("decoded", size.decoded_bytes)] {
            #[expect(clippy::cast_precision_loss, reason = "pages are smaller than 2^52 bytes")]
            state.fetch_size.observe(&MeasureLabels { measure }, bytes as f64, None);
        }
    }
}
