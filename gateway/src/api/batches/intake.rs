//! Receives the jobs of a batch and enqueues them while the body arrives.

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};
use tracing::Instrument;
use wordmill_common::batch::{Batch, Lines};
use wordmill_common::id::{JobId, Lane};
use wordmill_common::message::JobMessage;
use wordmill_common::options::Options;
use wordmill_common::trace_context::TraceContext;

use super::lines::{JobSplitter, Shape, SplitJob};
use super::{BatchMode, LINES_MAX};
use crate::App;
use crate::auth::caller::Caller;
use crate::enqueue::in_flight_budget::BodyReservation;
use crate::enqueue::{idempotent, publish};
use crate::http::problem::{Code, Problem};
use crate::http::request_trace;
use crate::intake::json_body;
use crate::intake::new_job::{self, NewJob};
use crate::intake::query::SubmitQuery;

/// Maximum size of a batch, in bytes.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// Maximum number of jobs in flight to the broker.
const IN_FLIGHT_JOBS_MAX: usize = 256;
/// Maximum size of the jobs in flight, in bytes. The last job may exceed it.
const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// Maximum time without data from the client.
const CLIENT_STALL_TIME_MAX: Duration = Duration::from_secs(15);
/// Time limit for receiving a batch.
const BATCH_TIME_MAX: Duration = Duration::from_secs(300);
/// Options that a line may set. All others apply to the whole batch, because totals under different
/// rules cannot be merged.
pub(crate) const LINE_OPTIONS: [&str; 3] = ["language", "explain", "top"];

/// Context of a batch request, which all its lines share.
pub(super) struct Intake<'a> {
    pub(super) app: &'a App,
    pub(super) caller: &'a Caller,
    pub(super) trace: &'a TraceContext,
    pub(super) batch_id: JobId,
    pub(super) query: &'a SubmitQuery,
    pub(super) mode: BatchMode,
}

/// Outcome of all lines of a batch.
#[derive(Debug, Default)]
pub(super) struct IntakeReport {
    /// Number of lines. If the rest of the body was not read, it is one line.
    pub(super) count: u32,
    /// Number of accepted lines.
    pub(super) accepted: u32,
    /// Numbers of the refused lines.
    pub(super) refused: Lines,
    /// Entries of the response, one for each line, in order.
    pub(super) lines: Vec<Value>,
    /// Transient problem that interrupted the batch. A repeated request may succeed.
    pub(super) interrupted: Option<Problem>,
}

/// Outcome of one line.
struct LineOutcome {
    line: u32,
    bytes: usize,
    accepted: Result<JobId, Problem>,
}

impl Intake<'_> {
    /// Reads the body and enqueues its jobs, or compares them with the jobs of an existing batch.
    pub(super) async fn enqueue_lines(&self, body: Body, shape: Shape) -> IntakeReport {
        let splitter = JobSplitter::new(shape, self.app.json_size_max);
        let mut batch_body =
            BatchBody::new(body, splitter, self.app.in_flight_budget.reserve_body());
        let mut in_flight = FuturesUnordered::new();
        let mut bytes = 0_usize;
        let mut count = 0_u32;
        let mut outcomes = Vec::new();
        let mut is_finished = false;
        let mut interrupted = None;
        while !(is_finished && in_flight.is_empty()) {
            let can_accept = in_flight.len() < IN_FLIGHT_JOBS_MAX && bytes < IN_FLIGHT_BYTES_MAX;
            let next = tokio::select! {
                // Outcomes first: they free capacity for further jobs and may stop the batch.
                biased;
                Some(outcome) = in_flight.next(), if !in_flight.is_empty() => Err(outcome),
                next = batch_body.next(), if can_accept && !is_finished => Ok(next),
            };
            match next {
                Ok(BodyEvent::End) => is_finished = true,
                Ok(BodyEvent::Job(_)) if count >= LINES_MAX => {
                    let detail = format!("A batch has at most {LINES_MAX} jobs.");
                    outcomes
                        .push(refuse_rest(&mut count, Problem::new(Code::InputTooLarge, detail)));
                    is_finished = true;
                }
                Ok(BodyEvent::Job(split_job)) => {
                    count += 1;
                    match split_job {
                        SplitJob::Job(job) => {
                            bytes += job.len();
                            in_flight.push(self.submit(count, job));
                        }
                        SplitJob::Skipped(problem) => {
                            outcomes.push(LineOutcome {
                                line: count,
                                bytes: 0,
                                accepted: Err(problem),
                            });
                        }
                    }
                }
                Ok(BodyEvent::Invalid(problem)) => {
                    outcomes.push(refuse_rest(&mut count, problem));
                    is_finished = true;
                }
                // Await the jobs in flight, because the response must list them.
                Ok(BodyEvent::Interrupted(problem)) => {
                    interrupted = Some(problem);
                    is_finished = true;
                }
                Err(outcome) => {
                    let outcome: LineOutcome = outcome;
                    bytes -= outcome.bytes;
                    if let Err(problem) = &outcome.accepted
                        && problem.is_transient()
                    {
                        interrupted.get_or_insert_with(|| problem.clone());
                        is_finished = true;
                    }
                    outcomes.push(outcome);
                }
            }
        }
        // Drain the body: a client that is still sending might otherwise not read the response.
        if !batch_body.has_ended {
            json_body::drain(batch_body.body).await;
        }
        outcomes.sort_unstable_by_key(|outcome| outcome.line);
        IntakeReport::new(count, outcomes, interrupted)
    }

    async fn submit(&self, line: u32, job: Bytes) -> LineOutcome {
        let bytes = job.len();
        let (span, trace) = request_trace::begin_member_trace(self.trace);
        let submitting = async {
            let message = self.build_message(line, &job, &trace)?;
            // Free the raw bytes before the job is published: the parsed job needs as much memory
            // again.
            drop(job);
            match self.mode {
                BatchMode::WithoutKey => publish::accept(self.app, &message, &trace).await,
                BatchMode::NewKey => Box::pin(idempotent::accept(self.app, message, &trace)).await,
                BatchMode::ExistingBatch => idempotent::compare(self.app, &message).await,
            }
        };
        let accepted = match submitting.instrument(span).await {
            // Report the line as accepted: its record was deleted, has expired or, if the batch
            // exists already, was never created. Only a line whose job is still stored can be
            // refused by its fingerprint.
            Err(problem)
                if self.mode != BatchMode::WithoutKey && problem.has_code(Code::ResultExpired) =>
            {
                Ok(Batch::member(&self.caller.owner, self.batch_id, line))
            }
            accepted => accepted.map(|job| job.job_id),
        };
        LineOutcome { line, bytes, accepted }
    }

    /// Parses a line and returns the message of its job.
    fn build_message(
        &self,
        line: u32,
        job: &[u8],
        trace: &TraceContext,
    ) -> Result<JobMessage, Problem> {
        let job: NewJob = json_body::parse_object(job)?;
        if job.lane.is_some() {
            return Err(Problem::new(
                Code::InvalidRequest,
                "A line of a batch cannot have a lane: all its jobs are bulk jobs.",
            ));
        }
        let mut labels = self.query.labels.clone();
        labels.extend(job.labels.unwrap_or_default());
        let webhook = job.webhook.map(|webhook| new_job::parse_webhook(self.app, &webhook.url));
        let key = self.caller.job_key(Batch::member(&self.caller.owner, self.batch_id, line));
        let source = new_job::parse_source(job.url, job.text)?;
        Ok(JobMessage {
            lane: Lane::Bulk,
            options: self.merge_options(job.options)?,
            labels: new_job::check_labels(labels)?,
            webhook: webhook.transpose()?,
            batch: Some(self.batch_id),
            ..JobMessage::new(key, source, trace.trace_id())
        })
    }

    /// Returns the options of the batch, overridden by those of one line.
    fn merge_options(&self, own: Option<Value>) -> Result<Options, Problem> {
        let invalid = |detail: String| Problem::new(Code::InvalidOption, detail);
        let own = match own {
            None | Some(Value::Null) => return Ok(self.query.options.clone()),
            Some(Value::Object(own)) => own,
            Some(_) => return Err(invalid("\"options\" must be an object.".to_owned())),
        };
        if let Some(name) = own.keys().find(|name| !LINE_OPTIONS.contains(&name.as_str())) {
            return Err(invalid(format!(
                "The option \"{name}\" applies to the whole batch: set it in the query. A line \
                 can set only {}.",
                LINE_OPTIONS.join(", ")
            )));
        }
        let mut all = json!(self.query.options).as_object().cloned().unwrap_or_default();
        all.extend(own);
        new_job::parse_options(Some(Value::Object(all)))
    }
}

/// Returns one refused entry that stands for the unread rest of the body, and counts it as a line.
fn refuse_rest(count: &mut u32, problem: Problem) -> LineOutcome {
    *count = count.saturating_add(1);
    let detail = format!("{} This line and all further lines were not read.", problem.detail());
    LineOutcome { line: *count, bytes: 0, accepted: Err(problem.with_detail(detail)) }
}

impl IntakeReport {
    fn new(count: u32, outcomes: Vec<LineOutcome>, interrupted: Option<Problem>) -> Self {
        let mut report = Self { count, interrupted, ..Self::default() };
        for LineOutcome { line, accepted, .. } in outcomes {
            report.lines.push(match accepted {
                Ok(job_id) => {
                    report.accepted += 1;
                    json!({"line": line, "job_id": job_id})
                }
                Err(problem) => {
                    report.refused.add(line);
                    json!({"line": line, "problem": problem.summary()})
                }
            });
        }
        report
    }
}

/// An event while the body of a batch is read.
enum BodyEvent {
    Job(SplitJob),
    /// The body ended early, timed out or exceeded the memory budget.
    Interrupted(Problem),
    /// The rest of the body cannot be split into jobs, or is too large.
    Invalid(Problem),
    End,
}

/// The body of a batch, split into jobs while it arrives.
struct BatchBody {
    body: Body,
    splitter: JobSplitter,
    /// Memory reserved for the bytes that are not split into jobs yet.
    reservation: BodyReservation,
    bytes: usize,
    last_activity: Instant,
    deadline: Instant,
    has_ended: bool,
}

impl BatchBody {
    fn new(body: Body, splitter: JobSplitter, reservation: BodyReservation) -> Self {
        let now = Instant::now();
        Self {
            body,
            splitter,
            reservation,
            bytes: 0,
            last_activity: now,
            deadline: now + BATCH_TIME_MAX,
            has_ended: false,
        }
    }

    /// Waits for the next job. Cancel-safe.
    async fn next(&mut self) -> BodyEvent {
        loop {
            let split_job = if self.has_ended { self.splitter.end() } else { self.splitter.next() };
            match split_job {
                Err(problem) => return BodyEvent::Invalid(problem),
                Ok(Some(job)) => {
                    // Backpressure may have delayed this read, so the client's idle time begins
                    // only now.
                    self.last_activity = Instant::now();
                    return BodyEvent::Job(job);
                }
                Ok(None) if self.has_ended => return BodyEvent::End,
                Ok(None) => {}
            }
            let until = self.deadline.min(self.last_activity + CLIENT_STALL_TIME_MAX);
            let arriving = tokio::time::timeout_at(until, self.body.frame()).await;
            let Ok(frame) = arriving else {
                self.has_ended = true;
                let detail = "The batch did not arrive in time.";
                return BodyEvent::Interrupted(Problem::new(Code::RequestTimeout, detail));
            };
            self.last_activity = Instant::now();
            match frame {
                None => self.has_ended = true,
                Some(Err(_)) => {
                    self.has_ended = true;
                    let detail = "The body of the batch is incomplete.";
                    return BodyEvent::Interrupted(Problem::new(Code::IncompleteBody, detail));
                }
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    self.bytes = self.bytes.saturating_add(data.len());
                    if self.bytes > BATCH_BYTES_MAX {
                        let detail = format!("A batch has at most {BATCH_BYTES_MAX} bytes.");
                        return BodyEvent::Invalid(Problem::new(Code::InputTooLarge, detail));
                    }
                    let buffered = self.splitter.buffered_bytes().saturating_add(data.len());
                    if let Err(problem) = self.reservation.resize(buffered) {
                        return BodyEvent::Interrupted(problem);
                    }
                    self.splitter.push(&data);
                }
            }
        }
    }
}
