"""Child processes in the foreground: prefixed output, an order of stopping, and nothing left behind.

One thread does everything: a child's kernel-side death signal is tied to the thread that started it, and this one lives to the end.
"""

import ctypes
import os
import selectors
import signal
import socket
import subprocess
import sys
import time

SERVERS = ("nats", "jaeger")  # stopped last: the services still talk to them while they end
DRAIN_SECONDS = 20
NATS_STOP_SECONDS = 10
SECOND_SIGNAL_SECONDS = 0.5  # make and the terminal may both pass on one Ctrl-C; a person needs longer than this
LINE_BYTES_MAX = 64 * 1024
COLOURS = [36, 33, 32, 35, 34, 96, 93, 92, 95, 94]

LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1


class Stop(Exception):
    """Ends the run; carries the exit code."""

    def __init__(self, code, reason=None):
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Child:
    """One process of ours and the output it has not finished a line of."""

    def __init__(self, name, command, environment):
        self.name = name
        self.partial = b""
        self.stopping = False
        self.process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A session of its own: the terminal's Ctrl-C reaches only us, and we decide the order.
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )
        self.output = self.process.stdout.fileno()
        os.set_blocking(self.output, False)

    def signal(self, number):
        """Signals the process; one that has already ended is not an error."""
        if self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self):
        """Ends the process and whatever it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            self.process.poll()


def die_with(parent):
    """Returns what a new child runs before its program: asks the kernel to kill it when we die, even by SIGKILL (Linux only)."""
    if LIBC is None:
        return None

    def ask():
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return ask


class Supervisor:
    """Owns the children, their output and our signals."""

    def __init__(self, names):
        self.children = []
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
            signal.signal(number, self.note_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)

    def note_signal(self, number, frame):
        now = time.monotonic()
        if not self.signals or now - self.signals[-1] > SECOND_SIGNAL_SECONDS:
            self.signals.append(now)

    def say(self, text, name="wordmill"):
        """Prints lines under our own name."""
        for line in text.splitlines():
            self.print_line(name, line.encode())

    def print_line(self, name, line):
        label = f"{name:<{self.width}} | "
        if self.coloured:
            label = f"\x1b[{self.colours.get(name, 37)}m{label}\x1b[0m"
        self.write(label.encode() + line + b"\n")

    def write(self, data):
        """Prints bytes; a reader who has gone away (`make run | head`) ends the run like Ctrl-C does."""
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if not self.signals:
                self.note_signal(signal.SIGPIPE, None)

    def start(self, name, command, environment):
        child = Child(name, command, environment)
        self.children.append(child)
        self.selector.register(child.output, selectors.EVENT_READ, child)
        return child

    def pump(self, seconds):
        """Passes on output until something happens or the time is over."""
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
        """Prints what an ended child had still in its pipe."""
        deadline = time.monotonic() + 1
        while child.output is not None and time.monotonic() < deadline:
            self.pump(0.05)

    def check(self):
        """Raises `Stop` on a signal or when a child that should live has ended."""
        if self.signals:
            raise Stop(0)
        for child in self.children:
            code = child.process.poll()
            if code is not None and not child.stopping:
                self.finish_output(child)
                raise Stop(1, f"{child.name} ended unexpectedly ({exit_text(code)}); stopping everything")

    def wait_until(self, condition, seconds, what):
        """Pumps output until `condition` returns None; a text says what is still missing."""
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            missing = condition()
            if missing is None:
                return
            if time.monotonic() > deadline:
                raise Stop(1, f"{what} within {seconds} s: {missing}")
            self.pump(0.1)

    def run_once(self, name, command, environment, seconds):
        """Runs a child to its end; anything but success stops the run."""
        child = self.start(name, command, environment)
        child.stopping = True
        self.wait_until(lambda: None if child.process.poll() is not None else "it still runs", seconds, f"{name} did not finish")
        self.finish_output(child)
        if child.process.returncode != 0:
            raise Stop(1, f"{name} failed ({exit_text(child.process.returncode)})")
        self.children.remove(child)

    def end(self, children, seconds):
        """Asks children to end, waits, and kills those that did not."""
        for child in children:
            child.stopping = True
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(child.process.poll() is None for child in children):
            if len(self.signals) > 1:
                raise Stop(130)
            if time.monotonic() > deadline:
                late = [child for child in children if child.process.poll() is None]
                self.say(f"{', '.join(child.name for child in late)} did not stop within {seconds} s: killed")
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
        """Stops the services first, so that they can drain, then the server. Leaves nothing behind, however it ends."""
        if len(self.signals) == 1:
            self.say("stopping (press Ctrl-C again to stop at once)")
        servers = [child for child in self.children if child.name in SERVERS]
        services = [child for child in self.children if child.name not in SERVERS]
        try:
            self.end(services, DRAIN_SECONDS)
            self.end(servers, NATS_STOP_SECONDS)
            self.say("stopped")
        finally:
            self.kill(self.children)


def exit_text(code):
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
