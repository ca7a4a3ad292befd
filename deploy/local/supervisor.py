"""Supervises child processes in the foreground: prefixes their output, restarts them, and stops
them in order.

The main thread starts all children, because the kernel sends the parent-death signal as soon as the
thread that started a child ends.

A service that dies is restarted after 1 s, then after 2 s, 4 s and so on, up to 30 s. The run ends
instead if

- one service dies three times within a minute;
- a service dies before all services have been ready once, because a restart would probably fail,
  too;
- a service exits with code 64, because a restart would read the same invalid settings.
"""

import collections
import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

SERVERS = ("nats", "jaeger")  # stopped last, because services need them while they shut down
DRAIN_SECONDS = 20
NATS_STOP_SECONDS = 10
# make and the terminal may both send a signal for one Ctrl-C; a second key press takes longer.
SECOND_SIGNAL_SECONDS = 0.5
LINE_BYTES_MAX = 64 * 1024
EXIT_USAGE = 64  # exit code of our services and of this command for invalid settings

RESTART_SECONDS_FIRST = 1
RESTART_SECONDS_MAX = 30
# Uptime after which the restart delay is reset to the first one. At least DEATHS_WINDOW_SECONDS:
# with 20 s, a service would either end the run or never reach a delay of more than 2 s. With 60 s,
# a service that always dies after 40 s is restarted after 1, 2, 4, 8, 16, 30, 30, ... s.
RECOVERED_SECONDS = 60
DEATHS_MAX = 3
DEATHS_WINDOW_SECONDS = 60
READY_AGAIN_SECONDS = 60  # same limit as at the start of the run
PROBE_SECONDS = 0.2
IDLE_SECONDS = 1

COLOURS = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94]

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class Stop(Exception):
    """Ends the run with an exit code and, optionally, a reason."""

    def __init__(self, code, reason=None):
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Child:
    """A child process, and the incomplete last line of its output."""

    def __init__(self, name, command, environment):
        self.name = name
        self.partial = b""
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # In a new session, the child does not receive the terminal's SIGINT on Ctrl-C. The
            # supervisor stops all children in order instead.
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
        self.output = self.process.stdout.fileno()
        os.set_blocking(self.output, False)

    def signal(self, number):
        """Sends a signal to the process, unless it has already ended."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self):
        """Kills the process and all processes that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.poll()


def die_with(parent):
    """Returns a `preexec_fn` that makes the kernel kill the child when the process `parent` dies,
    even by SIGKILL.

    On other systems than Linux returns None.
    """
    if LIBC is None:
        return None

    def set_death_signal():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before prctl: then the signal would never be sent.
        if os.getppid() != parent:
            os._exit(1)

    return set_death_signal


class Service:
    """A program that runs until the end of the run, with its command, readiness check and deaths.
    """

    def __init__(self, name, command, environment, check_readiness):
        self.name = name
        self.command = command
        self.environment = environment
        # Function that returns None if the service is ready, otherwise the reason.
        self.check_readiness = check_readiness
        self.child = None
        self.started_at = None
        self.deaths = collections.deque(maxlen=DEATHS_MAX)
        self.delay = RESTART_SECONDS_FIRST
        # Time of the next restart or readiness check.
        self.due_at = None
        self.ready_by = None

    def record_death(self, now):
        """Records a death. Returns the seconds until the restart, or None after too many deaths."""
        if now - self.started_at >= RECOVERED_SECONDS:
            self.delay = RESTART_SECONDS_FIRST
        self.deaths.append(now)
        if len(self.deaths) == DEATHS_MAX and now - self.deaths[0] <= DEATHS_WINDOW_SECONDS:
            return None
        delay = self.delay
        self.delay = min(2 * delay, RESTART_SECONDS_MAX)
        return delay


class Supervisor:
    """Owns all child processes, prints their output, and handles signals."""

    def __init__(self, names):
        self.children = []
        self.services = []
        self.is_serving = False
        self.signals = []
        self.width = max(len(name) for name in names)
        self.colours = dict(zip(names, COLOURS * len(names)))
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.selector = selectors.DefaultSelector()
        ours, wake = socket.socketpair()
        for end in (ours, wake):
            end.setblocking(False)
        self.wake = ours
        self.wake_writer = wake
        self.selector.register(ours, selectors.EVENT_READ, None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.record_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def record_signal(self, number, frame):
        now = time.monotonic()
        if not self.signals or now - self.signals[-1] > SECOND_SIGNAL_SECONDS:
            self.signals.append(now)

    def log(self, text, name="wordmill"):
        """Prints lines with our own name as prefix."""
        for line in text.splitlines():
            self.print_line(name, line.encode())

    def print_line(self, name, line):
        label = f"{name:<{self.width}} | "
        if self.coloured:
            label = f"\x1b[{self.colours.get(name, 37)}m{label}\x1b[0m"
        self.write(label.encode() + line + b"\n")

    def write(self, data):
        """Prints bytes. If the reader has closed the pipe (`make run | head`), the run ends as
        after Ctrl-C.
        """
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if not self.signals:
                self.record_signal(signal.SIGPIPE, None)

    def start(self, name, command, environment):
        child = Child(name, command, environment)
        self.children.append(child)
        self.selector.register(child.output, selectors.EVENT_READ, child)
        return child

    def launch(self, service):
        """Starts the process of a service. A program that cannot be started is treated like one
        that dies.
        """
        service.started_at = time.monotonic()
        try:
            service.child = self.start(service.name, service.command, service.environment)
        except OSError as error:
            self.schedule_restart(service, f"cannot be started: {error.strerror}")

    def start_service(self, name, command, environment, check_readiness):
        """Starts a service. `serve` restarts it when it dies."""
        service = Service(name, command, environment, check_readiness)
        self.services.append(service)
        self.launch(service)
        return service

    def pump(self, seconds):
        """Waits for output or a signal for at most `seconds`, and prints the output."""
        for key, _ in self.selector.select(max(seconds, 0)):
            if key.data is None:
                try:
                    self.wake.recv(4096)
                except BlockingIOError:
                    pass
            else:
                self.read(key.data)

    def read(self, child):
        try:
            data = os.read(child.output, LINE_BYTES_MAX)
        except BlockingIOError:
            return
        *lines, child.partial = (child.partial + data).split(b"\n")
        if child.partial and (not data or len(child.partial) > LINE_BYTES_MAX):
            lines.append(child.partial)
            child.partial = b""
        for line in lines:
            self.print_line(child.name, line.rstrip(b"\r"))
        if not data:
            self.selector.unregister(child.output)
            child.process.stdout.close()
            child.output = None

    def finish_output(self, child):
        """Prints the remaining output of a child that has ended. Waits for at most 1 s."""
        deadline = time.monotonic() + 1
        while child.output is not None and time.monotonic() < deadline:
            self.pump(0.05)

    def remove(self, child):
        """Kills the processes that an ended child has left behind, and prints the rest of its
        output.
        """
        child.kill()
        self.finish_output(child)
        self.children.remove(child)

    def check(self):
        """Raises `Stop` after a signal, and schedules restarts of services that have died."""
        if self.signals:
            raise Stop(0)
        for service in self.services:
            code = service.child.process.poll() if service.child else None
            if code is None:
                continue
            self.remove(service.child)
            if code == EXIT_USAGE:
                raise Stop(EXIT_USAGE, f"{service.name} has invalid settings ({exit_text(code)}): stopping")
            self.schedule_restart(service, exit_text(code))

    def schedule_restart(self, service, cause):
        """Schedules the restart of a dead service. Raises `Stop` if a restart would not help."""
        service.child = None
        if not self.is_serving:
            raise Stop(1, f"{service.name} died ({cause}) before everything was ready: stopping")
        now = time.monotonic()
        delay = service.record_death(now)
        if delay is None:
            times = f"{DEATHS_MAX} times within {DEATHS_WINDOW_SECONDS} s"
            raise Stop(1, f"{service.name} died {times} (last: {cause}): stopping")
        self.log(f"{service.name} died ({cause}); restarting in {delay} s")
        service.due_at = now + delay

    def restart(self, service):
        """Starts a dead service again, and schedules its readiness checks."""
        now = time.monotonic()
        service.due_at = now + PROBE_SECONDS
        service.ready_by = now + READY_AGAIN_SECONDS
        self.launch(service)

    def probe(self, service):
        """Checks a restarted service, and prints one line when it is ready or late."""
        missing = service.check_readiness()
        now = time.monotonic()
        service.due_at = None
        if missing is None:
            self.log(f"{service.name} is ready again")
        elif now >= service.ready_by:
            self.log(f"{service.name} is not ready {READY_AGAIN_SECONDS} s after its restart: {missing}")
        else:
            service.due_at = now + PROBE_SECONDS

    def serve(self):
        """Restarts services that die, until `Stop`."""
        self.is_serving = True
        while True:
            self.check()
            wait = IDLE_SECONDS
            for service in self.services:
                if service.due_at is None:
                    continue
                if service.due_at <= time.monotonic():
                    action = self.probe if service.child else self.restart
                    action(service)
                if service.due_at is not None:
                    wait = min(wait, service.due_at - time.monotonic())
            self.pump(wait)

    def wait_until(self, condition, seconds, failure):
        """Prints output until `condition` returns None instead of a reason. After `seconds` raises
        `Stop` with `failure`.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            missing = condition()
            if missing is None:
                return
            if time.monotonic() > deadline:
                raise Stop(1, f"{failure} within {seconds} s: {missing}")
            self.pump(0.1)

    def run_once(self, name, command, environment, seconds):
        """Runs a child to completion. Raises `Stop` if it fails or takes too long."""
        child = self.start(name, command, environment)
        self.wait_until(lambda: None if child.process.poll() is not None else "it is still running", seconds, f"{name} did not finish")
        self.remove(child)
        if child.process.returncode != 0:
            raise Stop(1, f"{name} failed ({exit_text(child.process.returncode)})")

    def terminate(self, children, seconds):
        """Sends SIGTERM to children, and kills those that do not end within `seconds`."""
        for child in children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(child.process.poll() is None for child in children):
            if len(self.signals) > 1:
                raise Stop(130)
            if time.monotonic() > deadline:
                late = [child for child in children if child.process.poll() is None]
                self.log(f"{', '.join(child.name for child in late)} did not stop within {seconds} s: killing")
                break
            self.pump(0.1)
        self.kill(children)

    def kill(self, children):
        for child in children:
            child.kill()
        for child in children:
            child.process.wait()
            self.finish_output(child)

    def stop_all(self):
        """Stops the services, then the servers, which services need until they have shut down.
        Always kills remaining processes.
        """
        if len(self.signals) == 1:
            self.log("stopping (press Ctrl-C again to stop immediately)")
        servers = [child for child in self.children if child.name in SERVERS]
        services = [child for child in self.children if child.name not in SERVERS]
        try:
            self.terminate(services, DRAIN_SECONDS)
            self.terminate(servers, NATS_STOP_SECONDS)
            self.log("stopped")
        finally:
            self.kill(self.children)


def exit_text(code):
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
