//! Delivers webhooks. They have their own queue and slots, so that an unresponsive or slow receiver
//! never delays counting.

mod delivery;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tracing::info;
use wordmill_common::webhook::{ATTEMPT_TIME_MAX, Schedule, Secrets};
use wordmill_fetch::{Fetcher, SetupError};
use wordmill_nats::delivery::{Delivery, PullSource};
use wordmill_nats::supervise::Health;
use wordmill_service::env::Env;

use crate::Worker;
use crate::pull_loop::{self, DeliveryHandler, PullContext};

/// Divisor of the slots that one host may use, so that an unresponsive host leaves the rest to
/// others.
const HOST_SLOTS_DIVISOR: u32 = 2;

/// Settings of webhooks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `WORDMILL_WEBHOOK_SECRETS`: main secrets for signatures, the current one first. Without
    /// secrets, this worker delivers no webhooks.
    pub secrets: Option<Secrets>,
    /// `WORDMILL_WEBHOOK_SLOTS`: maximum number of concurrent deliveries.
    pub slots: u32,
    /// `WORDMILL_WEBHOOK_TIMEOUT`: time limit of one attempt.
    pub timeout: Duration,
    /// `WORDMILL_WEBHOOK_RETRY_MAX`: maximum delay between two attempts.
    pub schedule: Schedule,
}

impl Settings {
    pub(crate) fn read(env: &mut Env) -> Self {
        let second = Duration::from_secs(1);
        let minute = Duration::from_secs(60);
        let secrets = Secrets::parse(&env.secret("WORDMILL_WEBHOOK_SECRETS"));
        let secrets = secrets.unwrap_or_else(|invalid| {
            env.refuse(format!("WORDMILL_WEBHOOK_SECRETS: {invalid}"));
            None
        });
        Self {
            secrets,
            slots: env.number("WORDMILL_WEBHOOK_SLOTS", 8, 2, 1024),
            timeout: env.duration(
                "WORDMILL_WEBHOOK_TIMEOUT",
                15 * second,
                second,
                ATTEMPT_TIME_MAX,
            ),
            schedule: Schedule {
                delay_max: env.duration(
                    "WORDMILL_WEBHOOK_RETRY_MAX",
                    24 * 60 * minute,
                    Duration::from_millis(10),
                    24 * 60 * minute,
                ),
            },
        }
    }
}

/// Clients and settings for deliveries.
struct Deliverer {
    worker: Worker,
    fetcher: Fetcher,
    secrets: Secrets,
    schedule: Schedule,
    timeout: Duration,
}

/// Creates the deliverer; `None` if there are no secrets.
fn new_deliverer(
    worker: &Worker,
    settings: &Settings,
    fetch: &wordmill_fetch::Settings,
) -> Result<Option<Arc<Deliverer>>, SetupError> {
    let Some(secrets) = settings.secrets.clone() else { return Ok(None) };
    let mut fetch = fetch.clone();
    fetch.limits.total_timeout = settings.timeout;
    fetch.limits.per_host_max =
        usize::try_from(settings.slots / HOST_SLOTS_DIVISOR).unwrap_or(1).max(1);
    Ok(Some(Arc::new(Deliverer {
        worker: worker.clone(),
        fetcher: Fetcher::try_new(&fetch)?,
        secrets,
        schedule: settings.schedule,
        timeout: settings.timeout,
    })))
}

/// Delivers webhooks until the worker stops, then returns to the queue the deliveries that have not
/// started. Without secrets, it returns immediately and leaves webhooks to other workers.
///
/// # Errors
/// [`SetupError`] if the settings of the fetcher are invalid.
pub(crate) async fn serve(
    worker: &Worker,
    settings: &Settings,
    fetch: &wordmill_fetch::Settings,
    context: &PullContext,
) -> Result<(), SetupError> {
    let Some(deliverer) = new_deliverer(worker, settings, fetch)? else {
        info!("this worker delivers no webhooks: WORDMILL_WEBHOOK_SECRETS is not set");
        return Ok(());
    };
    let handler = WebhookHandler {
        deliverer,
        slots: Arc::new(Semaphore::new(usize::try_from(settings.slots).unwrap_or(1))),
        health: context.health.clone(),
        tasks: context.tasks.clone(),
    };
    pull_loop::run(&worker.broker, context, handler).await;
    Ok(())
}

/// [`DeliveryHandler`] of the webhooks.
struct WebhookHandler {
    deliverer: Arc<Deliverer>,
    slots: Arc<Semaphore>,
    health: watch::Receiver<Health>,
    tasks: TaskTracker,
}

impl DeliveryHandler for WebhookHandler {
    type Slot = OwnedSemaphorePermit;

    fn source(&self) -> PullSource {
        PullSource::Webhooks
    }

    async fn reserve_slots(&self) -> Vec<OwnedSemaphorePermit> {
        // Each request is for as many messages as slots are free. While the broker is unavailable,
        // the client library would buffer several such requests, and each would return messages
        // after a reconnect.
        let mut health = self.health.clone();
        if health.wait_for(|health| *health == Health::Ready).await.is_err() {
            // The supervision of the broker has ended, so the worker is about to stop.
            return std::future::pending().await;
        }
        let mut slots = Vec::new();
        // The semaphore is never closed, so this adds the first slot.
        slots.extend(Arc::clone(&self.slots).acquire_owned().await);
        while let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            slots.push(slot);
        }
        slots
    }

    fn receive(&mut self, delivery: Delivery, slot: Option<OwnedSemaphorePermit>) {
        let deliverer = Arc::clone(&self.deliverer);
        self.tasks.spawn(async move {
            delivery::run(&deliverer, &delivery).await;
            drop(slot);
        });
    }
}
