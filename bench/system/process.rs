//! Child processes: their CPU time and memory, and how they are stopped.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Time after SIGTERM until a process is killed.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A running child. It is stopped when dropped.
pub struct Process {
    pub name: &'static str,
    child: Child,
}

impl Process {
    /// Starts `command` and discards its output.
    pub fn start(name: &'static str, mut command: Command) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {name}: {command:?}"))?;
        Ok(Self { name, child })
    }

    /// Returns the CPU time of all threads of the process so far, in seconds. Fails if the process
    /// has exited.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name (field 2, in parentheses) may contain spaces. The rest begins with field 3, the
        // state; user and system time are fields 14 and 15.
        let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        ensure!(fields.first().is_some_and(|state| *state != "Z"), "{} has exited", self.name);
        let mut ticks = 0;
        for time in fields.get(11..13).context("too few fields in stat")? {
            ticks += time.parse::<u64>()?;
        }
        Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Returns the resident memory of the process, in bytes.
    pub fn memory_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
        Ok(kib.trim().parse::<u64>()? * 1024)
    }

    /// Pauses or resumes the process.
    pub fn pause(&self, paused: bool) -> Result<()> {
        self.signal(if paused { Signal::STOP } else { Signal::CONT })
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no id")?;
        Ok(kill_process(id, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A paused process handles SIGTERM only after SIGCONT. Errors are ignored, because the
        // process may have exited already.
        let _ = self.pause(false);
        let _ = self.signal(Signal::TERM);
        let end = Instant::now() + STOP_MAX;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
