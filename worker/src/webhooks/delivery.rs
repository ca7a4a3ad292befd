//! Processes one webhook message, from receipt to acknowledgement.
//!
//! Every attempt is persisted by compare-and-set before it begins, and again after it has ended.
//! This bounds the number of attempts even if a worker crashes in between. If two messages refer to
//! one job, or two workers receive the same message, only one of them makes the attempt.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info, warn};
use url::Url;
use wordmill_common::clock;
use wordmill_common::failure::Failure;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::job::Job;
use wordmill_common::webhook::{self, Deliveries, Status, WebhookOutcome};
use wordmill_fetch::{FetchEvent, HostPermit};
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::job_record::{Lookup, check_status};
use wordmill_nats::store::WriteError;
use wordmill_nats::stream_read::ReadFrom;
use wordmill_nats::webhooks::{VersionedDeliveries, WebhookMessage};
use wordmill_service::telemetry;

use super::Deliverer;
use crate::attempt::settle::{NEWER_DELAY, report_newer_message};
use crate::metrics::NewerPart;
use crate::{broker_retry, execute, spans};

const WEBHOOK_ID_HEADER: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP_HEADER: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE_HEADER: HeaderName = HeaderName::from_static("webhook-signature");

/// Delay of a message whose job is not final yet: the sweeper enqueues the webhook just before it
/// makes the job final.
const NOT_FINAL_DELAY: Duration = Duration::from_secs(5);
/// Minimum delay of a message if all slots of the receiver's host are in use. Jitter adds up to the
/// same time again.
const HOST_BUSY_DELAY: Duration = Duration::from_secs(5);
/// Delay of a message after another worker has changed the state concurrently.
const CONFLICT_DELAY: Duration = Duration::from_secs(1);
/// Tolerance for early messages: the next attempt starts immediately if it is due within this time.
const EARLY_TOLERANCE: Duration = Duration::from_millis(500);
/// Maximum number of tries to persist the end of an attempt after conflicts or unclear answers.
const WRITE_TRIES: u32 = 8;

/// Way to settle a message.
enum Settlement {
    /// Acknowledge the message.
    Acknowledge,
    /// Return the message to the queue, with a delay.
    ReturnToQueue(Option<Duration>),
    /// Leave the message to another delivery of it. If there is none, the broker redelivers the
    /// message after the ack wait.
    Leave,
}

/// Processes one message to completion. After an error the broker redelivers it.
pub(super) async fn run(deliverer: &Deliverer, delivery: &Delivery) {
    let message = match WebhookMessage::parse(delivery) {
        Ok(message) => message,
        Err(error @ Error::Newer { .. }) => {
            report_newer_message(&deliverer.worker, delivery, NewerPart::Format, &error);
            return settle(delivery, Settlement::ReturnToQueue(Some(NEWER_DELAY))).await;
        }
        Err(reason) => {
            let stream_sequence = delivery.stream_sequence();
            error!(stream_sequence, %reason, "invalid webhook message; removing it from the queue");
            settle(delivery, Settlement::Acknowledge).await;
            return;
        }
    };
    let span = wordmill_nats::spans::begin_webhook_delivery_span(
        message.key.job_id,
        message.trace_id,
        &delivery.info(),
    );
    let result = Box::pin(handle(deliverer, &message)).instrument(span.clone()).await;
    match result {
        Ok(settlement) => settle(delivery, settlement).instrument(span).await,
        Err(error @ Error::Newer { .. }) => {
            span.in_scope(|| {
                report_newer_message(&deliverer.worker, delivery, NewerPart::Record, &error);
            });
            settle(delivery, Settlement::ReturnToQueue(Some(NEWER_DELAY))).instrument(span).await;
        }
        Err(error) => {
            telemetry::fail(&span, "broker_unavailable", &error.span_description());
            span.in_scope(|| warn!(%error, "cannot process a webhook; the broker redelivers it"));
        }
    }
}

async fn settle(delivery: &Delivery, settlement: Settlement) {
    let result = match settlement {
        Settlement::Acknowledge => delivery.acknowledge().await,
        Settlement::ReturnToQueue(delay) => delivery.return_to_queue(delay).await,
        Settlement::Leave => return,
    };
    if let Err(error) = result {
        warn!(%error, "cannot settle a webhook; the broker redelivers it after the ack wait");
    }
}

async fn handle(deliverer: &Deliverer, message: &WebhookMessage) -> Result<Settlement, Error> {
    let worker = &deliverer.worker;
    let Some(job) = read_final_job(deliverer, &message.key).await? else {
        return Ok(Settlement::ReturnToQueue(Some(NOT_FINAL_DELAY)));
    };
    // `None` if the job is deleted or expired, or has no webhook.
    let target = job.and_then(|job| Some((job.webhook.as_ref()?.url.clone(), job)));
    let Some((url, job)) = target else {
        debug!("the job is deleted or has no webhook; nothing to deliver");
        return Ok(Settlement::Acknowledge);
    };
    let Some(stored) = read_round(deliverer, message).await? else {
        debug!("a later round of the webhook has begun; nothing to deliver");
        return Ok(Settlement::Acknowledge);
    };
    let mut state = stored.deliveries.unwrap_or_else(|| Deliveries::new(message.round));
    match state.status.known() {
        Some(Status::Waiting) => {}
        Some(Status::Delivered | Status::Failed | Status::Disabled) => {
            return Ok(Settlement::Acknowledge);
        }
        None => {
            let what = format!("the state of the webhook of {}", message.key);
            let reason = "it has a status that this version does not support".to_owned();
            return Err(Error::Newer { what, reason });
        }
    }
    if let Some(wait) = time_until(state.next_attempt_at).filter(|wait| *wait > EARLY_TOLERANCE) {
        return Ok(Settlement::ReturnToQueue(Some(wait)));
    }
    let run = RunNonce::random();
    let Ok(url) = Url::parse(&url) else {
        error!(
            "cannot parse the URL of a webhook; dropping the webhook (the gateway should have \
             refused it)"
        );
        return Ok(Settlement::Acknowledge);
    };
    // Reserve the host's slot before the attempt is persisted, so that a busy host uses up no
    // attempt.
    let Some(slot) = deliverer.fetcher.reserve(&url) else {
        return Ok(Settlement::ReturnToQueue(Some(HOST_BUSY_DELAY.mul_f64(1.0 + run.jitter()))));
    };
    state.begin_attempt(run, clock::now(), deliverer.timeout);
    let revision = match worker.webhooks.write(&message.key, &state, stored.revision).await {
        Ok(revision) => revision,
        Err(WriteError::Unclear(reason)) => {
            return Err(Error::Unavailable { operation: "write a webhook's state", reason });
        }
        Err(WriteError::Conflict | WriteError::TooLarge) => {
            return Ok(Settlement::ReturnToQueue(Some(CONFLICT_DELAY)));
        }
    };
    // No attempt was left, so `begin_attempt` has set the status to failed.
    if state.status != Status::Waiting {
        report_status(deliverer, &state);
        return Ok(Settlement::Acknowledge);
    }
    let attempt = WebhookAttempt { deliverer, job: &job, url: &url, run };
    let current = VersionedDeliveries { deliveries: Some(state), revision };
    Box::pin(attempt.deliver(slot, current)).await
}

/// Reads the job. Returns `None` if it is not final yet, and `Some(None)` if it does not exist.
async fn read_final_job(deliverer: &Deliverer, key: &JobKey) -> Result<Option<Option<Job>>, Error> {
    for read_from in [ReadFrom::AnyReplica, ReadFrom::Leader] {
        match deliverer.worker.store.get_job(key, read_from).await? {
            Lookup::Job(stored) if stored.job.status.is_final() => {
                return Ok(Some(Some(stored.job)));
            }
            Lookup::Deleted if read_from == ReadFrom::Leader => return Ok(Some(None)),
            Lookup::NotFound if read_from == ReadFrom::Leader => return Ok(Some(None)),
            Lookup::Job(stored) => check_status(&stored.job)?,
            Lookup::Deleted | Lookup::NotFound => {}
        }
    }
    Ok(None)
}

/// Reads the state of the message's round. Returns `None` if a later round has begun. Ignores the
/// deliveries of an earlier round.
async fn read_round(
    deliverer: &Deliverer,
    message: &WebhookMessage,
) -> Result<Option<VersionedDeliveries>, Error> {
    let mut stored =
        deliverer.worker.webhooks.get_deliveries(&message.key, ReadFrom::AnyReplica).await?;
    if stored.deliveries.as_ref().is_none_or(|state| state.round != message.round) {
        stored = deliverer.worker.webhooks.get_deliveries(&message.key, ReadFrom::Leader).await?;
    }
    if stored.deliveries.as_ref().is_some_and(|state| state.round > message.round) {
        return Ok(None);
    }
    stored.deliveries = stored.deliveries.filter(|state| state.round == message.round);
    Ok(Some(stored))
}

fn time_until(due: Option<Timestamp>) -> Option<Duration> {
    Duration::try_from(due?.duration_since(Timestamp::now())).ok()
}

/// One attempt to deliver a webhook.
struct WebhookAttempt<'a> {
    deliverer: &'a Deliverer,
    job: &'a Job,
    url: &'a Url,
    run: RunNonce,
}

impl WebhookAttempt<'_> {
    async fn deliver(
        &self,
        slot: HostPermit,
        current: VersionedDeliveries,
    ) -> Result<Settlement, Error> {
        let worker = &self.deliverer.worker;
        let start = Instant::now();
        let outcome = tokio::select! {
            biased;
            outcome = self.send(slot) => outcome,
            () = worker.interrupt.cancelled() => {
                self.write(current, |state| state.roll_back_attempt(self.run)).await?;
                return Ok(Settlement::ReturnToQueue(None));
            }
        };
        worker.metrics.record_webhook_attempt(&outcome, start.elapsed());
        let end_attempt = |state: &mut Deliveries| {
            state.end_attempt(self.run, &outcome, self.deliverer.schedule, clock::now())
        };
        let Some(state) = self.write(current, end_attempt).await? else {
            // This worker was paused, and another one has begun an attempt. Leave the message to
            // that worker's delivery, which needs it for further attempts. If instead a new round
            // has begun or the job was deleted, the redelivery shows it.
            return Ok(Settlement::Leave);
        };
        report_status(self.deliverer, &state);
        Ok(match state.status.known() {
            Some(Status::Waiting) => Settlement::ReturnToQueue(time_until(state.next_attempt_at)),
            Some(Status::Delivered | Status::Failed | Status::Disabled) | None => {
                Settlement::Acknowledge
            }
        })
    }

    async fn send(&self, slot: HostPermit) -> WebhookOutcome {
        let body =
            webhook::notification::serialize_body(self.job).ok().flatten().unwrap_or_default();
        let headers = self.headers(&body);
        let span = spans::begin_post_span(self.url);
        let fetcher = &self.deliverer.fetcher;
        let observer = |event: FetchEvent<'_>| spans::record_fetch_event(&span, event);
        let sending = fetcher.post(self.url, slot, headers, Bytes::from(body), &observer);
        match sending.instrument(span.clone()).await {
            Ok(response) => {
                telemetry::set_attribute(
                    &span,
                    "http.response.status_code",
                    i64::from(response.status),
                );
                if response.status >= 400 {
                    let status = response.status.to_string();
                    let description = Failure::http_status(response.status).detail;
                    telemetry::fail(&span, status, &description);
                }
                WebhookOutcome::Status { code: response.status, retry_after: response.retry_after }
            }
            Err(error) => {
                let failure = execute::classify_fetch_error(&error).failure;
                telemetry::fail(&span, failure.code.to_string(), &failure.detail);
                WebhookOutcome::Failure(failure)
            }
        }
    }

    /// Builds the headers. The signature covers the body and the current time, so that a receiver
    /// can recognize a replayed delivery by its age.
    fn headers(&self, body: &[u8]) -> HeaderMap {
        let id = self.job.job_id.to_string();
        let timestamp = clock::now().as_second();
        let signature = self.deliverer.secrets.sign(&self.job.owner, &id, timestamp, body);
        let fields = [
            (WEBHOOK_ID_HEADER, id),
            (WEBHOOK_TIMESTAMP_HEADER, timestamp.to_string()),
            (WEBHOOK_SIGNATURE_HEADER, signature),
        ];
        let field = |(name, value)| Some((name, HeaderValue::try_from(value).ok()?));
        fields.into_iter().filter_map(field).collect()
    }

    /// Changes and persists the state, and returns it. Returns `None` if the attempt is no longer
    /// open.
    ///
    /// # Errors
    /// [`Error::Contended`] after [`WRITE_TRIES`] conflicts, and [`Error::Unavailable`].
    async fn write(
        &self,
        mut current: VersionedDeliveries,
        change: impl Fn(&mut Deliveries) -> bool,
    ) -> Result<Option<Deliveries>, Error> {
        let worker = &self.deliverer.worker;
        let key = self.job.key();
        for _ in 0..WRITE_TRIES {
            let Some(mut state) =
                current.deliveries.filter(|state| state.under_way == Some(self.run))
            else {
                return Ok(None);
            };
            if !change(&mut state) {
                return Ok(None);
            }
            match worker.webhooks.write(&key, &state, current.revision).await {
                Ok(_) => return Ok(Some(state)),
                Err(reason) => debug!(?reason, "cannot write the state of a webhook"),
            }
            let read = || worker.webhooks.get_deliveries(&key, ReadFrom::Leader);
            current = broker_retry::retry_while_unavailable(worker, read).await?;
            // The earlier write succeeded, but its answer was lost.
            if current.deliveries.as_ref().is_some_and(|stored| {
                stored.attempts == state.attempts
                    && stored.round == state.round
                    && stored.under_way == state.under_way
            }) {
                return Ok(current.deliveries);
            }
        }
        let tries = WRITE_TRIES;
        Err(Error::Contended { key: key.to_string(), tries })
    }
}

/// Counts and logs the status of a webhook after an attempt.
fn report_status(deliverer: &Deliverer, state: &Deliveries) {
    let last_attempt = state.attempts.last();
    let status_code = last_attempt.and_then(|attempt| attempt.status_code);
    let failure = last_attempt.and_then(|attempt| attempt.failure.as_ref());
    let code = failure.map(|failure| failure.code.as_str());
    let attempts = state.attempts.len();
    deliverer.worker.metrics.record_webhook(&state.status);
    let Some(status) = state.status.known() else { return };
    match status {
        Status::Delivered => info!(attempts, "webhook delivered"),
        Status::Waiting => info!(attempts, status_code, code, "webhook attempt failed; retrying"),
        Status::Failed => warn!(attempts, status_code, code, "webhook failed; no further attempts"),
        Status::Disabled => warn!(attempts, "webhook disabled by its receiver"),
    }
}
