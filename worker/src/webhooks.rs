//! Tells receivers how jobs ended: a feed of its own with slots of its own, so that a receiver that is
//! dead or slow never delays counting.

mod delivery;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wordmill_common::env::Env;
use wordmill_common::webhook::{ATTEMPT_TIME_MAX, Schedule, Secrets};
use wordmill_fetch::{Fetcher, SetupError};
use wordmill_nats::delivery::{Delivery, PullSource};
use wordmill_nats::pull::{Pull, PullEvent, WhenEmpty};
use wordmill_nats::supervise::Health;

use crate::Worker;
use crate::pull_loop::{PullContext, unless_stopped};

/// Wait after the broker refused or forgot a request.
const PAUSE: Duration = Duration::from_millis(500);
/// How long nothing may come before it is looked whether something waits. If so, the pull is at fault,
/// and made anew.
const QUIET_MAX: Duration = Duration::from_secs(15);
/// What part of the slots one host may have: a dead one leaves the rest to others.
const HOST_SHARE: u32 = 2;

/// What is set about webhooks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `WORDMILL_WEBHOOK_SECRETS`: the main secrets, the current one first.
    pub secrets: Option<Secrets>,
    /// `WORDMILL_WEBHOOK_SLOTS`: how many deliveries are under way at once.
    pub slots: u32,
    /// `WORDMILL_WEBHOOK_TIMEOUT`: longest time for one.
    pub timeout: Duration,
    /// `WORDMILL_WEBHOOK_RETRY_MAX`: longest wait between two.
    pub schedule: Schedule,
}

impl Settings {
    pub(crate) fn read(env: &mut Env) -> Self {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
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
                longest: env.duration(
                    "WORDMILL_WEBHOOK_RETRY_MAX",
                    24 * 60 * minute,
                    Duration::from_millis(10),
                    24 * 60 * minute,
                ),
            },
        }
    }
}

/// What every delivery works with.
struct Deliverer {
    worker: Worker,
    fetcher: Fetcher,
    secrets: Secrets,
    schedule: Schedule,
    timeout: Duration,
}

/// Makes what webhooks are delivered with; `None` without secrets.
fn deliverer(
    worker: &Worker,
    settings: &Settings,
    fetch: &wordmill_fetch::Settings,
) -> Result<Option<Arc<Deliverer>>, SetupError> {
    let Some(secrets) = settings.secrets.clone() else { return Ok(None) };
    let mut fetch = fetch.clone();
    fetch.limits.total_timeout = settings.timeout;
    fetch.limits.per_host_max = usize::try_from(settings.slots / HOST_SHARE).unwrap_or(1).max(1);
    let (worker, fetcher) = (worker.clone(), Fetcher::try_new(&fetch)?);
    let Settings { schedule, timeout, .. } = *settings;
    Ok(Some(Arc::new(Deliverer { worker, fetcher, secrets, schedule, timeout })))
}

/// Delivers webhooks until told to stop, then hands back what was on its way. Without secrets it leaves
/// them to other workers.
///
/// # Errors
/// Settings that make no sense.
pub(crate) async fn serve(
    worker: &Worker,
    settings: &Settings,
    fetch: &wordmill_fetch::Settings,
    shared: &PullContext,
) -> Result<(), SetupError> {
    let Some(deliverer) = deliverer(worker, settings, fetch)? else {
        info!("this worker delivers no webhooks: WORDMILL_WEBHOOK_SECRETS is not set");
        return Ok(());
    };
    let slots = Arc::new(Semaphore::new(usize::try_from(settings.slots).unwrap_or(1)));
    while let Some(pull) = open(worker, shared).await {
        if pull_from(pull, &deliverer, &slots, shared).await.is_none() {
            break;
        }
        unless_stopped(&shared.stop, tokio::time::sleep(PAUSE)).await;
    }
    Ok(())
}

/// Opens the pull once the broker is ready. `None` means stop.
async fn open(worker: &Worker, shared: &PullContext) -> Option<Pull> {
    let mut health = shared.health.clone();
    loop {
        let ready = health.wait_for(|health| *health == Health::Ready);
        unless_stopped(&shared.stop, ready).await?.ok()?;
        match Pull::open(&worker.broker, PullSource::Webhooks).await {
            Ok(pull) => return Some(pull),
            Err(error) => warn!(%error, "cannot pull webhooks; trying again"),
        }
        unless_stopped(&shared.stop, tokio::time::sleep(PAUSE)).await?;
    }
}

/// Starts what comes, until the pull has to be made anew. `None` means stop.
async fn pull_from(
    mut pull: Pull,
    deliverer: &Arc<Deliverer>,
    slots: &Arc<Semaphore>,
    shared: &PullContext,
) -> Option<()> {
    let ended = fill(&mut pull, deliverer, slots, shared).await;
    for late in pull.close().await {
        if let Err(error) = late.give_back(None).await {
            debug!(%error, "a webhook that had not started comes again later");
        }
    }
    ended
}

async fn fill(
    pull: &mut Pull,
    deliverer: &Arc<Deliverer>,
    slots: &Arc<Semaphore>,
    shared: &PullContext,
) -> Option<()> {
    let mut quiet_since = Instant::now();
    loop {
        // One slot has to be free; whatever else is free is asked for, too.
        let first = unless_stopped(&shared.stop, Arc::clone(slots).acquire_owned()).await?.ok()?;
        let mut room = vec![first];
        while let Ok(more) = Arc::clone(slots).try_acquire_owned() {
            room.push(more);
        }
        if let Err(error) = pull.request(room.len(), WhenEmpty::Wait).await {
            debug!(%error, "pulling webhooks anew");
            return Some(());
        }
        loop {
            match unless_stopped(&shared.stop, pull.next()).await? {
                Ok(PullEvent::Delivery(delivery)) => {
                    quiet_since = Instant::now();
                    start(deliverer, shared, *delivery, room.pop());
                }
                Ok(PullEvent::Heartbeat) if quiet_since.elapsed() > QUIET_MAX => {
                    quiet_since = Instant::now();
                    if pull.pending().await.is_ok_and(|pending| pending > 0) {
                        warn!("webhooks wait and none comes; pulling anew");
                        return Some(());
                    }
                }
                Ok(PullEvent::Heartbeat) => {}
                Ok(PullEvent::Done) => break,
                Err(error) => {
                    debug!(%error, "pulling webhooks anew");
                    return Some(());
                }
            }
        }
    }
}

fn start<T: Send + 'static>(
    deliverer: &Arc<Deliverer>,
    shared: &PullContext,
    delivery: Delivery,
    slot: T,
) {
    let deliverer = Arc::clone(deliverer);
    shared.tasks.spawn(async move {
        delivery::run(&deliverer, &delivery).await;
        drop(slot);
    });
}
