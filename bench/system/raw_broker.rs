//! The floor under jobs: the same broker, driven by its own client library and nothing else.
//!
//! What is sent is what the services send: one job's message, its first record and its last one are
//! taken from the broker as they were stored, and sent again, headers included, with another job's id
//! in the place of the first one's.

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
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// Length of a job's id as text.
const ID_LENGTH: usize = 36;
/// How many requests for messages are open at once, and for how long each.
const PULLS: usize = 4;
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// A stored message of one job, to be sent again for others.
#[derive(Clone)]
pub struct Template {
    headers: HeaderMap,
    payload: Vec<u8>,
    /// Where in the payload the job's id stands.
    places: Vec<usize>,
}

impl Template {
    /// Takes the message of job `id` on `subject`.
    pub async fn take(
        broker: &jetstream::Context,
        stream: &str,
        subject: &str,
        id: &str,
    ) -> Result<Self> {
        let stream = broker.get_stream_no_info(stream).await?;
        let found = stream.get_last_raw_message_by_subject(subject).await?;
        let payload = found.payload.to_vec();
        let places = payload.windows(ID_LENGTH).enumerate();
        let places = places.filter(|(_, window)| *window == id.as_bytes());
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        ensure!(!places.is_empty(), "{subject} does not name its job");
        Ok(Self { headers: found.headers, payload, places })
    }

    fn message(&self, id: &str) -> PublishMessage {
        let mut payload = self.payload.clone();
        for place in &self.places {
            payload[*place..place + ID_LENGTH].copy_from_slice(id.as_bytes());
        }
        PublishMessage::build().headers(self.headers.clone()).payload(Bytes::from(payload))
    }
}

/// Everything that a job leaves at the broker.
#[derive(Clone)]
pub struct Templates {
    lane: &'static str,
    pub job: Template,
    pub queued: Template,
    /// Only if it was finished.
    pub succeeded: Option<Template>,
}

impl Templates {
    /// Takes message and record of a job that waits in a lane.
    pub async fn waiting(
        broker: &jetstream::Context,
        lane: &'static str,
        id: &str,
    ) -> Result<Self> {
        let job = Template::take(broker, "JOBS", &job_subject(lane, id), id).await?;
        let queued = Template::take(broker, "KV_job_state", &record_subject(id), id).await?;
        Ok(Self { lane, job, queued, succeeded: None })
    }

    /// Takes the record of the same job, now that it is finished.
    pub async fn take_end(&mut self, broker: &jetstream::Context, id: &str) -> Result<()> {
        let ended = Template::take(broker, "KV_job_state", &record_subject(id), id).await?;
        let status = ended.headers.get("Wordmill-Status").map(|status| status.as_str());
        ensure!(status == Some("succeeded"), "the job is not finished but {status:?}");
        self.succeeded = Some(ended);
        Ok(())
    }
}

fn job_subject(lane: &str, id: &str) -> String {
    format!("jobs.{lane}.public.{id}")
}

fn record_subject(id: &str) -> String {
    format!("$KV.job_state.public.{id}")
}

/// The broker alone. Like ours, its submitter and its worker have a connection each.
pub struct Raw {
    submitter: jetstream::Context,
    worker: jetstream::Context,
    records: JetStream<()>,
    consumer: PullConsumer,
}

impl Raw {
    pub async fn connect(url: &str) -> Result<Self> {
        let submitter = stack::connect(url).await?;
        let worker = stack::connect(url).await?;
        let records = worker.get_stream_no_info("KV_job_state").await?;
        let consumer = worker.get_consumer_from_stream("interactive", "JOBS").await?;
        Ok(Self { submitter, worker, records, consumer })
    }

    /// Publishes and creates `count` jobs, `depth` at once.
    pub async fn submit(&self, templates: &Templates, count: usize, depth: usize) -> Result<Slice> {
        let started = Instant::now();
        let submitting = stream::iter(0..count)
            .map(|_| async {
                let sent = Instant::now();
                self.submit_one(templates, &Uuid::now_v7().to_string()).await?;
                Ok::<_, anyhow::Error>(sent.elapsed())
            })
            .buffer_unordered(depth);
        let latencies: Vec<_> = submitting.try_collect().await?;
        Ok(Slice { count, elapsed: started.elapsed(), latencies })
    }

    /// Takes `count` jobs through everything, `depth` at once: publish and create, pull, get, update,
    /// acknowledge.
    pub async fn cycle(&self, templates: &Templates, count: usize, depth: usize) -> Result<Slice> {
        let room = Semaphore::new(depth);
        // No more are asked for than there will be: what is on its way to nobody comes again only after the
        // acknowledgement wait.
        let batch = (depth / PULLS).max(1);
        let pulling = (0..count).step_by(batch).map(|done| batch.min(count - done));
        let messages = stream::iter(pulling)
            .then(|size| async move {
                let asked = self.consumer.batch().max_messages(size).expires(PULL_EXPIRES);
                let batch = asked.messages().await?;
                Ok::<_, anyhow::Error>(batch.map_err(anyhow::Error::from_boxed))
            })
            .try_flatten_unordered(PULLS);
        let started = Instant::now();
        // Of the last job that was sent; of use if there is one at a time.
        let sent = Cell::new(started);
        let latencies = RefCell::new(Vec::with_capacity(count));
        let submitting = stream::iter(0..count)
            .map(|_| async {
                room.acquire().await?.forget();
                sent.set(Instant::now());
                self.submit_one(templates, &Uuid::now_v7().to_string()).await
            })
            .buffer_unordered(depth)
            .try_for_each(|()| async { Ok(()) });
        let working = messages
            .map(|message| async {
                self.work_one(templates, message?).await?;
                latencies.borrow_mut().push(sent.get().elapsed());
                room.add_permits(1);
                Ok::<_, anyhow::Error>(())
            })
            .buffer_unordered(depth)
            .try_for_each(|()| async { Ok(()) });
        tokio::try_join!(submitting, working)?;
        let latencies = if depth == 1 { latencies.into_inner() } else { Vec::new() };
        Ok(Slice { count, elapsed: started.elapsed(), latencies })
    }

    /// Lets `count` subscriptions listen to some records, changes these, and returns how long it takes
    /// until all have been told.
    pub async fn tell(&self, templates: &Templates, records: usize, count: usize) -> Result<Slice> {
        let ids: Vec<String> = (0..records).map(|_| Uuid::now_v7().to_string()).collect();
        let client = self.worker.client();
        let mut listening = Vec::with_capacity(count);
        for number in 0..count {
            let subject = format!("events.{}", record_subject(&ids[number % records]));
            listening.push(client.subscribe(subject).await?);
        }
        // The broker knows them once it has answered what was asked after them.
        self.records.get_info().await?;
        let started = Instant::now();
        for id in &ids {
            let record = templates.queued.message(id).header(EXPECTED, "0");
            self.send(&self.submitter, record_subject(id), record).await?.await?;
        }
        for listener in &mut listening {
            listener.next().await.context("a subscription ended")?;
        }
        Ok(Slice { count, elapsed: started.elapsed(), latencies: Vec::new() })
    }

    /// Publishes and creates one job, both at once.
    pub async fn submit_one(&self, templates: &Templates, id: &str) -> Result<()> {
        let job = templates.job.message(id).header(MESSAGE_ID, format!("public.{id}"));
        let record = templates.queued.message(id).header(EXPECTED, "0");
        let publishing = self.send(&self.submitter, job_subject(templates.lane, id), job);
        let creating = self.send(&self.submitter, record_subject(id), record);
        let (published, created) = tokio::try_join!(publishing, creating)?;
        tokio::try_join!(published, created)?;
        Ok(())
    }

    async fn work_one(&self, templates: &Templates, message: jetstream::Message) -> Result<()> {
        let id = message.subject.rsplit('.').next().context("a subject without an id")?;
        let subject = record_subject(id);
        // The message may come before its record.
        let found = loop {
            match self.records.direct_get_last_for_subject(&subject).await {
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                found => break found?,
            }
        };
        let succeeded = templates.succeeded.as_ref().context("no record of a finished job")?;
        let record = succeeded.message(id).header(EXPECTED, found.sequence.to_string());
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
