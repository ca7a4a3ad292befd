//! Injected faults with their targets and times.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// Time after a partition, crash or pause of a service during which jobs may still be affected.
const LINK_AFTERMATH: Duration = Duration::from_secs(4);
/// Time after a fault of the broker during which jobs may still be affected: servers elect leaders,
/// and clients reconnect.
const BROKER_AFTERMATH: Duration = Duration::from_secs(12);

/// Kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Crash, by SIGKILL.
    Kill,
    /// Shutdown, by SIGTERM.
    Terminate,
    /// Pause, by SIGSTOP and later SIGCONT.
    Pause,
    /// Partition: all connections to the broker are cut, and new ones are refused for a while.
    Cut,
    /// Half-open connections: messages from the broker are dropped for a while.
    Mute,
    /// Half-open connections, followed by SIGKILL.
    MuteAndKill,
    /// Crash, by SIGKILL, of a worker that requests a poisonous page.
    Poison,
    /// Stall of the entire machine. It is detected, but never injected.
    Stall,
}

/// One fault with its target and times.
#[derive(Debug, Clone)]
pub struct Incident {
    /// Kind of the fault.
    pub fault: Fault,
    /// Name of the target: `gateway-0`, `worker-3`, `nats-1` or `machine`.
    pub target: String,
    /// Start of the fault.
    pub begin: SystemTime,
    /// Time of the recovery, or `None` while the fault lasts.
    pub end: Option<SystemTime>,
}

impl Incident {
    /// Returns whether the target is a server of the broker.
    pub fn is_broker(&self) -> bool {
        self.target.starts_with("nats")
    }

    /// Returns whether the fault may affect the service `name`.
    pub fn concerns(&self, name: &str) -> bool {
        self.is_broker() || self.fault == Fault::Stall || self.target == name
    }

    /// Returns whether the fault, with its aftermath, overlaps the time between `from` and `to`.
    pub fn overlaps(&self, from: SystemTime, to: SystemTime) -> bool {
        let aftermath = if self.is_broker() { BROKER_AFTERMATH } else { LINK_AFTERMATH };
        self.begin <= to && self.end.is_none_or(|end| end + aftermath >= from)
    }
}

/// All faults of a run, in the order of recording. Clones share the list.
#[derive(Debug, Clone, Default)]
pub struct Incidents(Arc<Mutex<Vec<Incident>>>);

impl Incidents {
    /// Records the start of a fault.
    pub fn begin(&self, fault: Fault, target: &str) {
        let incident =
            Incident { fault, target: target.to_owned(), begin: SystemTime::now(), end: None };
        self.0.lock().expect("incidents").push(incident);
    }

    /// Records a stall of the machine from `begin` until now.
    pub fn add_stall(&self, begin: SystemTime) {
        let target = "machine".to_owned();
        let end = Some(SystemTime::now());
        let incident = Incident { fault: Fault::Stall, target, begin, end };
        self.0.lock().expect("incidents").push(incident);
    }

    /// Records the recovery of `target`.
    pub fn end(&self, target: &str) {
        let now = SystemTime::now();
        for incident in self.0.lock().expect("incidents").iter_mut() {
            if incident.target == target && incident.end.is_none() {
                incident.end = Some(now);
            }
        }
    }

    /// Returns all faults.
    pub fn all(&self) -> Vec<Incident> {
        self.0.lock().expect("incidents").clone()
    }
}
