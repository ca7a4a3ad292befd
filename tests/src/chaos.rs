//! Injects random faults under load, and compares the outcome of each job with its plan.
//!
//! The expected outcome is computed from the plan, without code of the product. The actual outcome
//! is read from the API, and from the broker as its administrator.

mod connection_owner;
mod fault;
mod fleet;
mod load;
mod plan;
mod random;
mod reconcile;
mod record;
mod report;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use crate::admin::Admin;
use crate::chaos::fault::{Fault, Incidents};
use crate::chaos::fleet::{Directory, Fleet};
use crate::chaos::load::{Ledger, Load};
use crate::chaos::plan::{ACK_WAIT, Kind};
use crate::chaos::random::Random;
use crate::chaos::reconcile::Evidence;
use crate::cluster::Cluster;
use crate::site::{Page, Site};
use crate::{pause, wait_for};

/// Number of gateways.
const GATEWAYS: usize = 2;
/// Number of workers.
const WORKERS: usize = 4;
/// Number of clients that submit jobs.
const CLIENTS: u64 = 4;
/// Number of clients that poll jobs.
const POLLERS: u64 = 2;
/// Number of long jobs that are submitted after the faults.
const JOBS_AFTER_FAULTS: u64 = 8;
/// Maximum wait after the last fault for all jobs to become final.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// Minimum delay of a timer for which a stall of the machine is recorded.
const STALL_MIN: Duration = Duration::from_secs(1);
/// Number of stored revisions per record, so that a change of a final record is visible.
const REVISIONS_PER_RECORD: i64 = 64;

/// Parameters of one chaos run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Number of nats-servers: 1 or 3.
    pub nodes: usize,
    /// Duration of the fault injection.
    pub time: Duration,
    /// Seed of the random jobs and faults.
    pub seed: u64,
}

/// Times of all requests for a page, by the name of the submission.
type Visits = Arc<Mutex<HashMap<String, Vec<SystemTime>>>>;

impl Run {
    /// Runs the test, and returns a table of the outcome.
    ///
    /// # Panics
    /// If an outcome differs from the plan, after printing the history of the affected jobs.
    pub fn run(&self) -> String {
        let cluster = Cluster::start(self.nodes);
        cluster.provision(&[]);
        let admin = Admin::connect_to_any(&cluster.addresses());
        admin.set_ack_wait(ACK_WAIT);
        admin.reconfigure("KV_job_state", |config| {
            config.max_messages_per_subject = REVISIONS_PER_RECORD
        });
        let mut fleet = Fleet::start(cluster, GATEWAYS, WORKERS);
        let site = Site::start();
        let visits = Visits::default();
        let features = load::detect_features(&fleet.directory.gateways()[0]);
        let load = Load {
            seed: self.seed,
            features,
            directory: fleet.directory.clone(),
            site: site.url(""),
            ledger: Ledger::default(),
            next: Arc::new(AtomicU64::new(0)),
            stop: Arc::new(AtomicBool::new(false)),
        };
        serve(&site, &load, &visits, &fleet.incidents);
        let began = Instant::now();
        let polled = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            for client in 0..POLLERS {
                let load = Load { stop: Arc::clone(&polled), ..load.clone() };
                scope.spawn(move || load.poll(client));
            }
            let incidents = fleet.incidents.clone();
            let ended = Arc::clone(&polled);
            scope.spawn(move || watch_machine(&incidents, &ended));
            // The threads must stop even after a panic, because the scope waits for them.
            let _stops = (StopOnDrop(&load.stop), StopOnDrop(&polled));
            std::thread::scope(|scope| {
                let _stop = StopOnDrop(&load.stop);
                for client in 0..CLIENTS {
                    let load = load.clone();
                    scope.spawn(move || load.submit(client));
                }
                self.inject_faults(&mut fleet);
                load.stop.store(true, Ordering::SeqCst);
                fleet.recover();
            });
            settle(&mut fleet, &admin);
            // Later failures must not be attributed to an earlier fault.
            wait_for("the aftermath of the last fault has passed", SETTLE_MAX, || {
                fleet.tick();
                let all = fleet.incidents.all();
                let now = SystemTime::now();
                (!all.iter().any(|incident| incident.overlaps(now, now))).then_some(())
            });
            load.submit_after_faults(JOBS_AFTER_FAULTS);
            settle(&mut fleet, &admin);
        });
        let evidence = Evidence {
            run: *self,
            took: began.elapsed(),
            features,
            submissions: load.ledger.all(),
            records: record::by_submission(&admin.all_messages("KV_job_state")),
            dead: admin.all_messages("DEAD_JOBS"),
            waiting: admin.message_count("JOBS"),
            visits: visits.lock().expect("visits").clone(),
            incidents: fleet.incidents.all(),
            unexpected_events: fleet.unexpected_events.clone(),
            gateway: fleet.directory.gateways()[0].clone(),
        };
        require_no_difference(&evidence, &fleet)
    }

    fn inject_faults(&self, fleet: &mut Fleet) {
        let mut random = Random::new(self.seed, 1);
        let end = Instant::now() + self.time;
        let mut next = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            pause(Duration::from_millis(20));
            fleet.tick();
            if Instant::now() >= next {
                fleet.inject_fault(&mut random);
                next = Instant::now() + random.between_ms(200, 1400);
            }
        }
    }
}

/// Returns the table of the run. Panics after printing the differences, if there are any.
fn require_no_difference(evidence: &Evidence, fleet: &Fleet) -> String {
    let differences = evidence.differences();
    let table = report::table(evidence, &differences);
    if !differences.is_empty() {
        report::print_differences(evidence, &differences, &fleet.outputs());
        panic!("{table}\n{} differences; the first:\n{}", differences.len(), differences[0]);
    }
    table
}

/// Sets a flag when dropped.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Serves the pages of all plans. A poisonous page kills the worker that requests it.
fn serve(site: &Site, load: &Load, visits: &Visits, incidents: &Incidents) {
    let ledger = load.ledger.clone();
    let directory = load.directory.clone();
    let visits = Arc::clone(visits);
    let incidents = incidents.clone();
    let site_port = site.port();
    site.handle(move |path, port| {
        let name = path.trim_start_matches('/').to_owned();
        let earlier = {
            let mut visits = visits.lock().expect("visits");
            let times = visits.entry(name.clone()).or_default();
            times.push(SystemTime::now());
            times.len() - 1
        };
        let Some(plan) = ledger.plan(&name) else {
            return Page::status("404 Not Found");
        };
        if plan.kind == Kind::Poison {
            kill_visitor((port, site_port), &directory, &incidents);
        }
        plan.page(earlier)
    });
}

fn kill_visitor((from, to): (u16, u16), directory: &Directory, incidents: &Incidents) {
    let workers = directory.workers();
    let processes: Vec<u32> = workers.iter().map(|(process, _)| *process).collect();
    // Reading the kernel's table may miss a connection while others open and close.
    let owner = (0..50).find_map(|_| {
        let owner = connection_owner::owner_of_connection(from, to, &processes);
        if owner.is_none() {
            pause(Duration::from_millis(20));
        }
        owner
    });
    let Some(owner) = owner else {
        return;
    };
    if let Some((_, name)) = workers.iter().find(|(process, _)| *process == owner) {
        incidents.begin(Fault::Poison, name);
        let id = i32::try_from(owner).ok().and_then(Pid::from_raw).expect("a process id");
        // The worker may have been killed already.
        let _ = kill_process(id, Signal::KILL);
    }
}

/// Waits until the queue is empty and every record is final: poisonous jobs may still kill workers,
/// and the sweeper must end jobs that were never queued. Returns after at most [`SETTLE_MAX`]. Jobs
/// that are not final by then are reported as differences.
fn settle(fleet: &mut Fleet, admin: &Admin) {
    let end = Instant::now() + SETTLE_MAX;
    while Instant::now() < end {
        fleet.tick();
        if admin.message_count("JOBS") == 0 && are_all_final(admin) {
            return;
        }
        pause(Duration::from_millis(200));
    }
}

fn are_all_final(admin: &Admin) -> bool {
    let records = record::by_submission(&admin.all_messages("KV_job_state"));
    records.values().flatten().all(|one| one.last().is_final() || one.last().job.is_none())
}

/// Records stalls of the whole machine, during which no process can meet a deadline.
fn watch_machine(incidents: &Incidents, stop: &AtomicBool) {
    let interval = Duration::from_millis(50);
    while !stop.load(Ordering::SeqCst) {
        let begin = SystemTime::now();
        let started = Instant::now();
        pause(interval);
        if started.elapsed() > interval + STALL_MIN {
            incidents.add_stall(begin);
        }
    }
}
