//! What was done to whom, and when.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How long a broken link, or a service that was killed or paused, may still be felt.
const LINK_AFTERMATH: Duration = Duration::from_secs(4);
/// How long a broker that was away may still be felt: servers elect leaders, clients reconnect.
const BROKER_AFTERMATH: Duration = Duration::from_secs(12);

/// The kinds of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// SIGSTOP, later SIGCONT.
    Pause,
    /// All connections to the broker are cut, and none are made for a while.
    Cut,
    /// Nothing that the broker says arrives for a while.
    Mute,
    /// The same, and then SIGKILL.
    MuteAndKill,
    /// SIGKILL by a page that the worker fetched.
    Poison,
    /// Not a fault of ours: everything on this machine stood still.
    Stall,
}

/// One fault.
#[derive(Debug, Clone)]
pub struct Incident {
    /// What was done.
    pub fault: Fault,
    /// To whom: `gateway-0`, `worker-3`, `nats-1`.
    pub target: String,
    /// When it began.
    pub begin: SystemTime,
    /// When everything was there again.
    pub end: Option<SystemTime>,
}

impl Incident {
    /// Tells whether it was the broker, or one of its servers.
    pub fn is_broker(&self) -> bool {
        self.target.starts_with("nats")
    }

    /// Tells whether it could be felt by a service of this name.
    pub fn concerns(&self, name: &str) -> bool {
        self.is_broker() || self.fault == Fault::Stall || self.target == name
    }

    /// Tells whether it could be felt between two times.
    pub fn overlaps(&self, from: SystemTime, to: SystemTime) -> bool {
        let aftermath = if self.is_broker() { BROKER_AFTERMATH } else { LINK_AFTERMATH };
        self.begin <= to && self.end.is_none_or(|end| end + aftermath >= from)
    }
}

/// Everything that was done, in order. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Incidents(Arc<Mutex<Vec<Incident>>>);

impl Incidents {
    /// Notes that something begins.
    pub fn begin(&self, fault: Fault, target: &str) {
        let incident =
            Incident { fault, target: target.to_owned(), begin: SystemTime::now(), end: None };
        self.0.lock().expect("incidents").push(incident);
    }

    /// Records a time in which the machine stood still.
    pub fn add_stall(&self, begin: SystemTime) {
        let target = "machine".to_owned();
        let end = Some(SystemTime::now());
        let incident = Incident { fault: Fault::Stall, target, begin, end };
        self.0.lock().expect("incidents").push(incident);
    }

    /// Notes that `target` is there again.
    pub fn end(&self, target: &str) {
        let now = SystemTime::now();
        for incident in self.0.lock().expect("incidents").iter_mut() {
            if incident.target == target && incident.end.is_none() {
                incident.end = Some(now);
            }
        }
    }

    /// Returns all.
    pub fn all(&self) -> Vec<Incident> {
        self.0.lock().expect("incidents").clone()
    }
}
