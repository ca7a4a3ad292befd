//! One message about a webhook, from taken to acknowledged.
//!
//! Every attempt is written down before it is made, by compare-and-set, and again when it is over. So
//! whatever happens in between, attempts are bounded; and of two messages about one job, or two workers
//! that have the same one, only one makes the attempt.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, info, warn};
use url::Url;
use wordmill_common::clock;
use wordmill_common::id::{JobKey, RunNonce};
use wordmill_common::job::Job;
use wordmill_common::telemetry;
use wordmill_common::webhook::{self, Answer, Deliveries, Status};
use wordmill_fetch::Slot;
use wordmill_nats::Error;
use wordmill_nats::delivery::Delivery;
use wordmill_nats::job_record::{Lookup, check_state};
use wordmill_nats::store::WriteError;
use wordmill_nats::stream_read::ReadFrom;
use wordmill_nats::webhooks::{Order, VersionedDeliveries};

use super::Deliverer;
use crate::attempt::settle::{NEWER_PAUSE, report_newer_message};
use crate::metrics::NewerPart;
use crate::{broker_retry, execute, spans};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// When a message comes again whose job is not final yet: the sweeper orders a webhook just before it
/// ends the job.
const NOT_FINAL_PAUSE: Duration = Duration::from_secs(5);
/// When a message comes again whose receiver has as many deliveries under way as it may, at least; at
/// most twice as late.
const HOST_BUSY_PAUSE: Duration = Duration::from_secs(5);
/// When a message comes again after somebody else changed the state at the same moment.
const CONFLICT_PAUSE: Duration = Duration::from_secs(1);
/// A message that is early by no more than this is not sent back.
const EARLY_TOLERANCE: Duration = Duration::from_millis(500);
/// How often the end of an attempt is written against other writers.
const WRITE_TRIES: u32 = 8;

/// What to do about a message.
enum Next {
    /// Nothing more.
    Drop,
    /// Give it back for so long.
    Later(Option<Duration>),
}

/// Does whatever one message asks for. A failure here leaves it to be delivered again.
pub(super) async fn run(deliverer: &Deliverer, delivery: &Delivery) {
    let order = match Order::parse(delivery) {
        Ok(order) => order,
        Err(error @ Error::Newer { .. }) => {
            report_newer_message(&deliverer.worker, delivery, NewerPart::Format, &error);
            return settle(delivery, Next::Later(Some(NEWER_PAUSE))).await;
        }
        Err(reason) => {
            let stream_sequence = delivery.stream_sequence();
            error!(stream_sequence, %reason, "a message is no webhook, and is dropped");
            settle(delivery, Next::Drop).await;
            return;
        }
    };
    let span =
        wordmill_nats::spans::process_webhook(order.key.job_id, order.trace_id, &delivery.info());
    let handled = Box::pin(handle(deliverer, &order)).instrument(span.clone()).await;
    match handled {
        Ok(next) => settle(delivery, next).instrument(span).await,
        Err(error @ Error::Newer { .. }) => {
            span.in_scope(|| {
                report_newer_message(&deliverer.worker, delivery, NewerPart::Record, &error);
            });
            settle(delivery, Next::Later(Some(NEWER_PAUSE))).instrument(span).await;
        }
        Err(error) => {
            telemetry::fail(&span, "broker_unavailable");
            span.in_scope(|| warn!(%error, "a webhook is left to be delivered again"));
        }
    }
}

async fn settle(delivery: &Delivery, next: Next) {
    let settled = match next {
        Next::Drop => delivery.acknowledge().await,
        Next::Later(delay) => delivery.give_back(delay).await,
    };
    if let Err(error) = settled {
        warn!(%error, "a webhook's message comes again after the acknowledgement wait");
    }
}

async fn handle(deliverer: &Deliverer, order: &Order) -> Result<Next, Error> {
    let worker = &deliverer.worker;
    let Some(job) = final_job(deliverer, &order.key).await? else {
        return Ok(Next::Later(Some(NOT_FINAL_PAUSE)));
    };
    // Deleted or expired, or never to be told of.
    let told = job.and_then(|job| Some((job.webhook.as_ref()?.url.clone(), job)));
    let Some((url, job)) = told else {
        debug!("there is nothing to tell of");
        return Ok(Next::Drop);
    };
    let Some(kept) = current(deliverer, order).await? else {
        debug!("this is about an earlier sending");
        return Ok(Next::Drop);
    };
    let state = kept.deliveries.unwrap_or_else(|| Deliveries::new(order.round));
    match state.status.known() {
        Some(Status::Waiting) => {}
        Some(Status::Delivered | Status::Failed | Status::Disabled) => return Ok(Next::Drop),
        None => {
            let what = format!("the state of the webhook of {}", order.key);
            let reason = "this version does not know its status".to_owned();
            return Err(Error::Newer { what, reason });
        }
    }
    if let Some(wait) = until(state.next_attempt_at).filter(|wait| *wait > EARLY_TOLERANCE) {
        return Ok(Next::Later(Some(wait)));
    }
    let run = RunNonce::random();
    let Ok(url) = Url::parse(&url) else {
        error!("the address of a webhook is no URL, although the gateway checked it");
        return Ok(Next::Drop);
    };
    let Some(slot) = deliverer.fetcher.reserve(&url) else {
        return Ok(Next::Later(Some(HOST_BUSY_PAUSE.mul_f64(1.0 + run.jitter()))));
    };
    let mut begun = state.clone();
    begun.begin_attempt(run, clock::now(), deliverer.timeout);
    let written = worker.webhooks.write(&order.key, &begun, kept.revision).await;
    let revision = match written {
        Ok(revision) => revision,
        Err(WriteError::Unclear(reason)) => {
            return Err(Error::Unavailable { operation: "write a webhook's state", reason });
        }
        Err(WriteError::Conflict | WriteError::TooLarge) => {
            return Ok(Next::Later(Some(CONFLICT_PAUSE)));
        }
    };
    if begun.status != Status::Waiting {
        note_end(deliverer, &begun);
        return Ok(Next::Drop);
    }
    let attempt = Attempt { deliverer, job: &job, url: &url, run };
    let kept = VersionedDeliveries { deliveries: Some(begun), revision };
    Box::pin(attempt.deliver(slot, kept)).await
}

/// Returns the job if it is final, and `Some(None)` if it is gone.
async fn final_job(deliverer: &Deliverer, key: &JobKey) -> Result<Option<Option<Job>>, Error> {
    for freshness in [ReadFrom::AnyReplica, ReadFrom::Leader] {
        match deliverer.worker.store.get_job(key, freshness).await? {
            Lookup::Job(stored) if stored.job.status.is_final() => {
                return Ok(Some(Some(stored.job)));
            }
            Lookup::Deleted if freshness == ReadFrom::Leader => return Ok(Some(None)),
            Lookup::NotFound if freshness == ReadFrom::Leader => return Ok(Some(None)),
            Lookup::Job(stored) => check_state(&stored.job)?,
            Lookup::Deleted | Lookup::NotFound => {}
        }
    }
    Ok(None)
}

/// Returns the state of the sending that a message is about; `None` if there was a later one. What is
/// left of an earlier one is forgotten.
async fn current(
    deliverer: &Deliverer,
    order: &Order,
) -> Result<Option<VersionedDeliveries>, Error> {
    let mut kept =
        deliverer.worker.webhooks.get_deliveries(&order.key, ReadFrom::AnyReplica).await?;
    if kept.deliveries.as_ref().is_none_or(|state| state.round != order.round) {
        kept = deliverer.worker.webhooks.get_deliveries(&order.key, ReadFrom::Leader).await?;
    }
    if kept.deliveries.as_ref().is_some_and(|state| state.round > order.round) {
        return Ok(None);
    }
    kept.deliveries = kept.deliveries.filter(|state| state.round == order.round);
    Ok(Some(kept))
}

fn until(due: Option<Timestamp>) -> Option<Duration> {
    Duration::try_from(due?.duration_since(Timestamp::now())).ok()
}

/// One try at delivering.
struct Attempt<'a> {
    deliverer: &'a Deliverer,
    job: &'a Job,
    url: &'a Url,
    run: RunNonce,
}

impl Attempt<'_> {
    async fn deliver(&self, slot: Slot, begun: VersionedDeliveries) -> Result<Next, Error> {
        let worker = &self.deliverer.worker;
        let start = Instant::now();
        let answer = tokio::select! {
            biased;
            answer = self.send(slot) => answer?,
            () = worker.interrupted.cancelled() => {
                self.write(begun, |state| state.hand_back(self.run)).await?;
                return Ok(Next::Later(None));
            }
        };
        worker.metrics.note_webhook_attempt(&answer, start.elapsed());
        let conclude = |state: &mut Deliveries| {
            state.end_attempt(self.run, &answer, self.deliverer.schedule, clock::now())
        };
        let Some(state) = self.write(begun, conclude).await? else {
            // It was sent again meanwhile, or deleted: there is another message, or none is needed.
            return Ok(Next::Drop);
        };
        note_end(self.deliverer, &state);
        Ok(match state.status.known() {
            Some(Status::Waiting) => Next::Later(until(state.next_attempt_at)),
            Some(Status::Delivered | Status::Failed | Status::Disabled) | None => Next::Drop,
        })
    }

    async fn send(&self, slot: Slot) -> Result<Answer, Error> {
        let body = webhook::notification::body(self.job).ok().flatten().unwrap_or_default();
        let headers = self.headers(&body);
        let span = spans::post(self.url);
        let fetcher = &self.deliverer.fetcher;
        let sending = fetcher.post(self.url, slot, headers, Bytes::from(body));
        let answered = sending.instrument(span.clone()).await;
        Ok(match answered {
            Ok(answered) => {
                telemetry::note(&span, "http.response.status_code", i64::from(answered.status));
                if answered.status >= 400 {
                    telemetry::fail(&span, answered.status.to_string());
                }
                Answer::Status { code: answered.status, retry_after: answered.retry_after }
            }
            Err(error) => {
                let failure = execute::classify_fetch_error(&error).failure;
                telemetry::fail(&span, failure.code.to_string());
                Answer::Failure(failure)
            }
        })
    }

    /// Signs a body, for now: whoever replays a delivery is told by its age.
    fn headers(&self, body: &[u8]) -> HeaderMap {
        let id = self.job.job_id.to_string();
        let timestamp = clock::now().as_second();
        let signature = self.deliverer.secrets.sign(&self.job.owner, &id, timestamp, body);
        let fields = [(ID, id), (TIMESTAMP, timestamp.to_string()), (SIGNATURE, signature)];
        let field = |(name, value)| Some((name, HeaderValue::try_from(value).ok()?));
        fields.into_iter().filter_map(field).collect()
    }

    /// Writes a change of the state, and returns it; `None` if the attempt is not under way any more.
    async fn write(
        &self,
        begun: VersionedDeliveries,
        change: impl Fn(&mut Deliveries) -> bool,
    ) -> Result<Option<Deliveries>, Error> {
        let (worker, key) = (&self.deliverer.worker, self.job.key());
        let mut current = begun;
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
                Err(reason) => debug!(?reason, "a webhook's state is not written"),
            }
            let read = || worker.webhooks.get_deliveries(&key, ReadFrom::Leader);
            current = broker_retry::retry_while_unavailable(worker, read).await?;
            // The write that was not answered had arrived.
            if current.deliveries.as_ref().is_some_and(|found| {
                found.attempts == state.attempts
                    && found.round == state.round
                    && found.under_way == state.under_way
            }) {
                return Ok(current.deliveries);
            }
        }
        let tries = WRITE_TRIES;
        Err(Error::Contended { key: key.to_string(), tries })
    }
}

fn note_end(deliverer: &Deliverer, state: &Deliveries) {
    let last = state.attempts.last();
    let status_code = last.and_then(|attempt| attempt.status_code);
    let failure = last.and_then(|attempt| attempt.failure.as_ref());
    let (code, attempts) = (failure.map(|failure| failure.code.as_str()), state.attempts.len());
    deliverer.worker.metrics.note_webhook(&state.status);
    let Some(status) = state.status.known() else { return };
    match status {
        Status::Delivered => info!(attempts, "webhook delivered"),
        Status::Waiting => info!(attempts, status_code, code, "webhook to be tried again"),
        Status::Failed => warn!(attempts, status_code, code, "webhook given up"),
        Status::Disabled => warn!(attempts, "webhook disabled by its receiver"),
    }
}
