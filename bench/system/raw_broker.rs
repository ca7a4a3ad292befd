//! The baseline for jobs: the same broker, driven only by its client library.
//!
//! It sends the same bytes as the services: the message of one job and its first and last record
//! are read from the broker and sent again with the ids of other jobs, including their headers.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream as JetStream};
use async_nats::{HeaderMap, jetstream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use crate::measure::Slice;
use crate::stack;

const MESSAGE_ID: &str = "Nats-Msg-Id";
const EXPECTED_REVISION: &str = "Nats-Expected-Last-Subject-Sequence";
/// Length of the id of a job as text.
const ID_LENGTH: usize = 36;
/// Number of concurrent pull requests, and their expiry.
const PULLS: usize = 4;
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// A stored message of one job, to be sent again for other jobs.
#[derive(Clone)]
pub struct MessageTemplate {
    headers: HeaderMap,
    payload: Vec<u8>,
    /// The offsets of the job's id in the payload.
    id_offsets: Vec<usize>,
}

impl MessageTemplate {
    /// Loads the message of job `id` on `subject`.
    pub async fn load(
        broker: &jetstream::Context,
        stream: &str,
        subject: &str,
        id: &str,
    ) -> Result<Self> {
        let stream = broker.get_stream_no_info(stream).await?;
        let message = stream.get_last_raw_message_by_subject(subject).await?;
        let payload = message.payload.to_vec();
        let id_offsets = payload.windows(ID_LENGTH).enumerate();
        let id_offsets = id_offsets.filter(|(_, window)| *window == id.as_bytes());
        let id_offsets: Vec<usize> = id_offsets.map(|(offset, _)| offset).collect();
        ensure!(!id_offsets.is_empty(), "the message on {subject} does not contain its job id");
        Ok(Self { headers: message.headers, payload, id_offsets })
    }

    fn message(&self, id: &str) -> PublishMessage {
        let mut payload = self.payload.clone();
        for offset in &self.id_offsets {
            payload[*offset..offset + ID_LENGTH].copy_from_slice(id.as_bytes());
        }
        PublishMessage::build().headers(self.headers.clone()).payload(Bytes::from(payload))
    }
}

/// The message and the records of a job.
#[derive(Clone)]
pub struct JobTemplates {
    lane: &'static str,
    pub job: MessageTemplate,
    pub queued: MessageTemplate,
    /// The final record, if the job is finished.
    pub succeeded: Option<MessageTemplate>,
}

impl JobTemplates {
    /// Loads the message and the record of a queued job.
    pub async fn of_queued_job(
        broker: &jetstream::Context,
        lane: &'static str,
        id: &str,
    ) -> Result<Self> {
        let job = MessageTemplate::load(broker, "JOBS", &job_subject(lane, id), id).await?;
        let queued = MessageTemplate::load(broker, "KV_job_state", &record_subject(id), id).await?;
        Ok(Self { lane, job, queued, succeeded: None })
    }

    /// Loads the record of the same job after it was finished.
    pub async fn add_final_record(&mut self, broker: &jetstream::Context, id: &str) -> Result<()> {
        let record = MessageTemplate::load(broker, "KV_job_state", &record_subject(id), id).await?;
        let status = record.headers.get("Wordmill-Status").map(|status| status.as_str());
        ensure!(status == Some("succeeded"), "the status of the job is {status:?}");
        self.succeeded = Some(record);
        Ok(())
    }
}

fn job_subject(lane: &str, id: &str) -> String {
    format!("jobs.{lane}.public.{id}")
}

fn record_subject(id: &str) -> String {
    format!("$KV.job_state.public.{id}")
}

/// The broker without Wordmill. As in Wordmill, submitter and worker have separate connections.
pub struct RawBroker {
    submitter: jetstream::Context,
    worker: jetstream::Context,
    records: JetStream<()>,
    consumer: PullConsumer,
}

impl RawBroker {
    pub async fn connect(url: &str) -> Result<Self> {
        let submitter = stack::connect(url).await?;
        let worker = stack::connect(url).await?;
        let records = worker.get_stream_no_info("KV_job_state").await?;
        let consumer = worker.get_consumer_from_stream("interactive", "JOBS").await?;
        Ok(Self { submitter, worker, records, consumer })
    }

    /// Publishes and creates `count` jobs, `depth` of them concurrently.
    pub async fn submit(
        &self,
        templates: &JobTemplates,
        count: usize,
        depth: usize,
    ) -> Result<Slice> {
        let started = Instant::now();
        let submissions = stream::iter(0..count)
            .map(|_| async {
                let sent = Instant::now();
                self.submit_one(templates, &Uuid::now_v7().to_string()).await?;
                Ok::<_, anyhow::Error>(sent.elapsed())
            })
            .buffer_unordered(depth);
        let latencies: Vec<_> = submissions.try_collect().await?;
        Ok(Slice { count, elapsed: started.elapsed(), latencies })
    }

    /// Runs `count` jobs, `depth` of them concurrently: publish and create, pull, get, update,
    /// acknowledge.
    pub async fn run_jobs(
        &self,
        templates: &JobTemplates,
        count: usize,
        depth: usize,
    ) -> Result<Slice> {
        let free_slots = Semaphore::new(depth);
        // Requests only as many messages as will arrive: a message for a pull request that has
        // already expired would be redelivered only after the ack wait.
        let batch = (depth / PULLS).max(1);
        let pull_sizes = (0..count).step_by(batch).map(|done| batch.min(count - done));
        let messages = stream::iter(pull_sizes)
            .then(|size| async move {
                let request = self.consumer.batch().max_messages(size).expires(PULL_EXPIRES);
                let batch = request.messages().await?;
                Ok::<_, anyhow::Error>(batch.map_err(anyhow::Error::from_boxed))
            })
            .try_flatten_unordered(PULLS);
        let started = Instant::now();
        // The start of the last job; used only if jobs run one at a time.
        let sent = Cell::new(started);
        let latencies = RefCell::new(Vec::with_capacity(count));
        let submitting = stream::iter(0..count)
            .map(|_| async {
                free_slots.acquire().await?.forget();
                sent.set(Instant::now());
                self.submit_one(templates, &Uuid::now_v7().to_string()).await
            })
            .buffer_unordered(depth)
            .try_for_each(|()| async { Ok(()) });
        let working = messages
            .map(|message| async {
                self.work_one(templates, message?).await?;
                latencies.borrow_mut().push(sent.get().elapsed());
                free_slots.add_permits(1);
                Ok::<_, anyhow::Error>(())
            })
            .buffer_unordered(depth)
            .try_for_each(|()| async { Ok(()) });
        tokio::try_join!(submitting, working)?;
        let latencies = if depth == 1 { latencies.into_inner() } else { Vec::new() };
        Ok(Slice { count, elapsed: started.elapsed(), latencies })
    }

    /// Opens `count` subscriptions to some records, changes these, and measures the time until all
    /// subscriptions are notified.
    pub async fn notify_subscribers(
        &self,
        templates: &JobTemplates,
        records: usize,
        count: usize,
    ) -> Result<Slice> {
        let ids: Vec<String> = (0..records).map(|_| Uuid::now_v7().to_string()).collect();
        let client = self.worker.client();
        let mut subscriptions = Vec::with_capacity(count);
        for number in 0..count {
            let subject = format!("events.{}", record_subject(&ids[number % records]));
            subscriptions.push(client.subscribe(subject).await?);
        }
        // The broker processes commands in order, so it has the subscriptions once it answers this
        // request.
        self.records.get_info().await?;
        let started = Instant::now();
        for id in &ids {
            let record = templates.queued.message(id).header(EXPECTED_REVISION, "0");
            self.send(&self.submitter, record_subject(id), record).await?.await?;
        }
        for subscription in &mut subscriptions {
            subscription.next().await.context("a subscription ended")?;
        }
        Ok(Slice { count, elapsed: started.elapsed(), latencies: Vec::new() })
    }

    /// Publishes and creates one job, both concurrently.
    pub async fn submit_one(&self, templates: &JobTemplates, id: &str) -> Result<()> {
        let job = templates.job.message(id).header(MESSAGE_ID, format!("public.{id}"));
        let record = templates.queued.message(id).header(EXPECTED_REVISION, "0");
        let publishing = self.send(&self.submitter, job_subject(templates.lane, id), job);
        let creating = self.send(&self.submitter, record_subject(id), record);
        let (published, created) = tokio::try_join!(publishing, creating)?;
        tokio::try_join!(published, created)?;
        Ok(())
    }

    async fn work_one(&self, templates: &JobTemplates, message: jetstream::Message) -> Result<()> {
        let id = message.subject.rsplit('.').next().context("a subject without an id")?;
        let subject = record_subject(id);
        // The message may arrive before its record.
        let queued_record = loop {
            match self.records.direct_get_last_for_subject(&subject).await {
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                result => break result?,
            }
        };
        let succeeded = templates.succeeded.as_ref().context("no record of a finished job")?;
        let record =
            succeeded.message(id).header(EXPECTED_REVISION, queued_record.sequence.to_string());
        self.send(&self.worker, subject, record).await?.await?;
        message.ack().await.map_err(anyhow::Error::from_boxed)
    }

    async fn send(
        &self,
        context: &jetstream::Context,
        subject: String,
        message: PublishMessage,
    ) -> Result<PublishAckFuture> {
        Ok(context.send_publish(subject, message).await?)
    }
}
