//! The services and the broker under test, and the faults to inject into them. Each service reaches
//! the broker through its own proxies.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::chaos::fault::{Fault, Incidents};
use crate::chaos::plan::{ATTEMPTS, BODY_MAX, SWEEP_GRACE};
use crate::chaos::random::Random;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::process::Process;
use crate::proxy::Proxy;
use crate::stack::{Gateway, Worker, wait_until_ready};

/// Maximum number of workers with a fault at the same time.
const FAULTY_WORKERS_MAX: usize = 2;
/// Minimum time between two faults of the broker.
const BROKER_FAULT_INTERVAL_MIN: Duration = Duration::from_secs(6);
/// Maximum wait for a service to exit after SIGTERM, including its shutdown grace period.
const EXIT_TIME_MAX: Duration = Duration::from_secs(20);

/// State of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    /// It has received SIGTERM.
    Ending {
        since: Instant,
    },
    /// It has exited, and is restarted at `until`.
    Down {
        until: Instant,
    },
    Paused {
        until: Instant,
    },
    /// Its connections are cut or half-open.
    Cut {
        until: Instant,
    },
    /// Its connections are half-open, and it is killed at `until`.
    KillPending {
        until: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Gateway,
    Worker,
}

struct Slot {
    role: Role,
    name: String,
    proxies: Vec<Proxy>,
    process: Process,
    state: State,
}

/// Current gateways and workers. Clones share the state, so that other threads notice restarts.
#[derive(Clone, Default)]
pub struct Directory {
    gateways: Arc<Mutex<Vec<Client>>>,
    workers: Arc<Mutex<Vec<(u32, String)>>>,
}

impl Directory {
    /// Returns a client of each gateway.
    pub fn gateways(&self) -> Vec<Client> {
        self.gateways.lock().expect("gateways").clone()
    }

    /// Returns process id and name of each worker.
    pub fn workers(&self) -> Vec<(u32, String)> {
        self.workers.lock().expect("workers").clone()
    }
}

/// All processes under test.
pub struct Fleet {
    slots: Vec<Slot>,
    broker_states: Vec<State>,
    broker_rested: Instant,
    /// The broker.
    pub cluster: Cluster,
    /// Current gateways and workers.
    pub directory: Directory,
    /// All injected faults.
    pub incidents: Incidents,
    /// Unexpected events, for example a service that exited without a fault.
    pub unexpected_events: Vec<String>,
    /// Name and output of exited processes.
    exited: Vec<(String, String)>,
}

impl Fleet {
    /// Starts gateways and workers with a provisioned broker, and waits until the gateways are
    /// ready.
    pub fn start(cluster: Cluster, gateways: usize, workers: usize) -> Self {
        let directory = Directory::default();
        let roles = std::iter::repeat_n(Role::Gateway, gateways)
            .enumerate()
            .chain(std::iter::repeat_n(Role::Worker, workers).enumerate());
        let slots = roles
            .map(|(index, role)| {
                let proxies: Vec<Proxy> =
                    cluster.addresses().iter().map(|address| Proxy::start(address)).collect();
                let name = match role {
                    Role::Gateway => format!("gateway-{index}"),
                    Role::Worker => format!("worker-{index}"),
                };
                let process = start(role, &name, &proxies, &cluster, &directory);
                Slot { role, name, proxies, process, state: State::Up }
            })
            .collect();
        let fleet = Self {
            slots,
            broker_states: vec![State::Up; cluster.nodes.len()],
            broker_rested: Instant::now(),
            cluster,
            directory,
            incidents: Incidents::default(),
            unexpected_events: Vec::new(),
            exited: Vec::new(),
        };
        fleet.directory.gateways().iter().for_each(wait_until_ready);
        fleet
    }

    /// Ends faults that are due: restarts, resumes and reconnects processes.
    pub fn tick(&mut self) {
        let now = Instant::now();
        for index in 0..self.slots.len() {
            self.tick_slot(index, now);
        }
        for index in 0..self.broker_states.len() {
            self.tick_node(index, now);
        }
    }

    /// Injects a random fault into a service or into a server of the broker.
    pub fn inject_fault(&mut self, random: &mut Random) {
        if random.below(4) == 0 {
            self.inject_broker_fault(random);
        } else {
            self.inject_service_fault(random);
        }
    }

    /// Ends all faults, and waits until all processes have recovered.
    pub fn recover(&mut self) {
        let end = Instant::now() + EXIT_TIME_MAX * 3;
        let is_up = |state: &State| *state == State::Up;
        loop {
            for slot in &mut self.slots {
                slot.state = end_fault_now(slot.state);
            }
            for state in &mut self.broker_states {
                *state = end_fault_now(*state);
            }
            self.tick();
            let services = self.slots.iter().all(|slot| is_up(&slot.state));
            if services && self.broker_states.iter().all(is_up) {
                break;
            }
            assert!(Instant::now() < end, "the fleet has not recovered in time");
            crate::pause(Duration::from_millis(20));
        }
        self.cluster.wait_until_healthy();
        self.directory.gateways().iter().for_each(wait_until_ready);
    }

    /// Returns name and output of all processes, including exited ones.
    pub fn outputs(&self) -> Vec<(String, String)> {
        let running = self.slots.iter().map(|slot| (slot.name.clone(), slot.process.output()));
        self.exited.iter().cloned().chain(running).collect()
    }

    /// Injects a fault into a random service. Skips it if the service, or too many services of the
    /// same role, already have one.
    fn inject_service_fault(&mut self, random: &mut Random) {
        let index = random.index(self.slots.len());
        let role = self.slots[index].role;
        let faulty =
            self.slots.iter().filter(|slot| slot.role == role && slot.state != State::Up).count();
        let faulty_max = if role == Role::Worker { FAULTY_WORKERS_MAX } else { 1 };
        if self.slots[index].state != State::Up || faulty >= faulty_max {
            return;
        }
        let now = Instant::now();
        let slot = &mut self.slots[index];
        let fault = match random.below(12) {
            0..3 => Fault::Kill,
            3..5 => Fault::Terminate,
            5..8 => Fault::Pause,
            8 => Fault::Cut,
            9 => Fault::Mute,
            _ => Fault::MuteAndKill,
        };
        self.incidents.begin(fault, &slot.name);
        slot.state = match fault {
            Fault::Kill | Fault::Poison | Fault::Stall => {
                slot.process.kill();
                State::Down { until: now + random.between_ms(0, 1500) }
            }
            Fault::Terminate => {
                slot.process.signal(Signal::TERM);
                State::Ending { since: now }
            }
            Fault::Pause => {
                slot.process.signal(Signal::STOP);
                // Half of the pauses exceed the ack wait, so that another worker gets the job.
                let is_long = random.below(2) == 0;
                let (min, max) = if is_long { (5000, 11_000) } else { (500, 4000) };
                State::Paused { until: now + random.between_ms(min, max) }
            }
            Fault::Cut => {
                slot.proxies.iter().for_each(Proxy::cut);
                State::Cut { until: now + random.between_ms(100, 3000) }
            }
            Fault::Mute => {
                slot.proxies.iter().for_each(Proxy::mute);
                State::Cut { until: now + random.between_ms(300, 4000) }
            }
            Fault::MuteAndKill => {
                slot.proxies.iter().for_each(Proxy::mute);
                State::KillPending { until: now + random.between_ms(100, 1500) }
            }
        };
    }

    fn inject_broker_fault(&mut self, random: &mut Random) {
        let now = Instant::now();
        let all_up = self.broker_states.iter().all(|state| *state == State::Up);
        if !all_up || now < self.broker_rested || !self.cluster.is_healthy() {
            return;
        }
        let index = random.index(self.broker_states.len());
        let process = &mut self.cluster.nodes[index].process;
        let target = format!("nats-{index}");
        self.broker_states[index] = match random.below(5) {
            0..3 => {
                self.incidents.begin(Fault::Kill, &target);
                process.kill();
                State::Down { until: now + random.between_ms(200, 4000) }
            }
            3 => {
                self.incidents.begin(Fault::Terminate, &target);
                process.signal(Signal::TERM);
                State::Ending { since: now }
            }
            _ => {
                self.incidents.begin(Fault::Pause, &target);
                process.signal(Signal::STOP);
                State::Paused { until: now + random.between_ms(500, 8000) }
            }
        };
    }

    fn tick_slot(&mut self, index: usize, now: Instant) {
        let slot = &mut self.slots[index];
        let next = match slot.state {
            // A poisonous page may also crash a worker that has another fault.
            State::Up | State::Paused { .. } | State::Cut { .. }
                if let Some(status) = slot.process.exit_status() =>
            {
                let poisoned = self.incidents.all().iter().any(|incident| {
                    let is_open = incident.end.is_none() && incident.target == slot.name;
                    incident.fault == Fault::Poison && is_open
                });
                if !poisoned {
                    let event = format!("{} exited without a fault: {status}", slot.name);
                    self.unexpected_events.push(event);
                }
                slot.proxies.iter().for_each(Proxy::restore);
                Some(State::Down { until: now + Duration::from_millis(300) })
            }
            State::Ending { since } => match slot.process.exit_status() {
                Some(_) => Some(State::Down { until: now }),
                None if now > since + EXIT_TIME_MAX => {
                    self.unexpected_events
                        .push(format!("{} did not exit after SIGTERM", slot.name));
                    slot.process.kill();
                    Some(State::Down { until: now })
                }
                None => None,
            },
            State::Paused { until } if now >= until => {
                slot.process.signal(Signal::CONT);
                Some(State::Up)
            }
            State::Cut { until } if now >= until => {
                slot.proxies.iter().for_each(Proxy::restore);
                Some(State::Up)
            }
            State::KillPending { until } if now >= until => {
                slot.process.kill();
                slot.proxies.iter().for_each(Proxy::restore);
                Some(State::Down { until: now + Duration::from_millis(200) })
            }
            State::Down { until } if now >= until => {
                let started =
                    start(slot.role, &slot.name, &slot.proxies, &self.cluster, &self.directory);
                let old = std::mem::replace(&mut slot.process, started);
                self.exited.push((slot.name.clone(), old.output()));
                Some(State::Up)
            }
            State::Up
            | State::Down { .. }
            | State::Paused { .. }
            | State::Cut { .. }
            | State::KillPending { .. } => None,
        };
        if let Some(next) = next {
            slot.state = next;
            if next == State::Up {
                self.incidents.end(&slot.name);
            }
        }
    }

    fn tick_node(&mut self, index: usize, now: Instant) {
        let node = &mut self.cluster.nodes[index];
        let next = match self.broker_states[index] {
            State::Ending { .. } if node.process.exit_status().is_some() => {
                State::Down { until: now + Duration::from_millis(500) }
            }
            State::Paused { until } if now >= until => {
                node.process.signal(Signal::CONT);
                State::Up
            }
            State::Down { until } if now >= until => {
                let output = node.process.output();
                node.restart();
                self.exited.push((format!("nats-{index}"), output));
                State::Up
            }
            State::Up if node.process.exit_status().is_some() => {
                self.unexpected_events.push(format!("nats-{index} exited without a fault"));
                State::Down { until: now }
            }
            _ => return,
        };
        self.broker_states[index] = next;
        if next == State::Up {
            self.incidents.end(&format!("nats-{index}"));
            self.broker_rested = Instant::now() + BROKER_FAULT_INTERVAL_MIN;
        }
    }
}

/// Returns a state that ends now.
fn end_fault_now(state: State) -> State {
    let until = Instant::now();
    match state {
        State::Up | State::Ending { .. } => state,
        State::Down { .. } => State::Down { until },
        State::Paused { .. } => State::Paused { until },
        State::Cut { .. } => State::Cut { until },
        State::KillPending { .. } => State::KillPending { until },
    }
}

fn start(
    role: Role,
    name: &str,
    proxies: &[Proxy],
    cluster: &Cluster,
    directory: &Directory,
) -> Process {
    let attempts = ATTEMPTS.to_string();
    let size = BODY_MAX.to_string();
    let replicas = cluster.nodes.len().to_string();
    let grace = format!("{}s", SWEEP_GRACE.as_secs());
    let settings = [
        ("WORDMILL_REPLICAS", replicas.as_str()),
        ("WORDMILL_WORKER_NAME", name),
        ("WORDMILL_ATTEMPTS", &attempts),
        ("WORDMILL_RETRY_BASE", "200ms"),
        ("WORDMILL_JSON_SIZE_MAX", &size),
        ("WORDMILL_SHUTDOWN_GRACE", "2s"),
        ("WORDMILL_SWEEP_INTERVAL", "1s"),
        ("WORDMILL_SWEEP_GRACE", &grace),
        ("WORDMILL_LOG", "info,wordmill_nats=debug,wordmill_worker=debug,wordmill_gateway=debug"),
    ];
    let nats: Vec<String> = proxies.iter().map(Proxy::address).collect();
    let nats = nats.join(",");
    let index: usize = name.rsplit('-').next().and_then(|n| n.parse().ok()).expect("a number");
    match role {
        Role::Gateway => {
            let gateway = Gateway::start(&nats, &settings);
            set_or_push(&mut directory.gateways.lock().expect("gateways"), index, gateway.client);
            gateway.process
        }
        Role::Worker => {
            let worker = Worker::start(&nats, &settings);
            let entry = (worker.process.id(), name.to_owned());
            set_or_push(&mut directory.workers.lock().expect("workers"), index, entry);
            worker.process
        }
    }
}

fn set_or_push<T>(list: &mut Vec<T>, index: usize, value: T) {
    match list.get_mut(index) {
        Some(old) => *old = value,
        None => list.push(value),
    }
}
