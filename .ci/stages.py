"""Runs targets of the Makefile one after another within a time limit, and prints the duration of
each.

.ci/run calls it as `stages.py MINUTES TARGET...`, and .ci/slow imports it.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Time that a stage has to clean up after SIGTERM before it is killed.
STOP_SECONDS_MAX = 30
POLL_SECONDS = 0.1
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAKE_VARIABLES = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL")


class Stage:
    """A target of the Makefile, with the duration and the result of its run."""

    def __init__(self, target, **variables):
        self.target = target
        self.variables = variables
        self.seconds = None
        self.failure = None

    def run(self, seconds_max):
        """Runs `make <target>` for at most `seconds_max` seconds."""
        started = time.monotonic()
        # Removes the options and variables of a `make` that runs this script.
        environment = {name: value for name, value in os.environ.items() if name not in MAKE_VARIABLES}
        command = ["make", "--no-print-directory", self.target]
        command += [f"{name}={value}" for name, value in self.variables.items()]
        self.failure = "interrupted"
        process = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
        try:
            code = process.wait(timeout=max(seconds_max, 0))
            self.failure = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            self.failure = "stopped at the time limit"
        finally:
            stop(process)
            self.seconds = time.monotonic() - started

    def __str__(self):
        minutes = "not run" if self.seconds is None else f"{self.seconds / 60:.1f} min"
        return f"  {self.target:<18} {minutes:>8}" + (f"  FAILED: {self.failure}" if self.failure else "")


def stop(process):
    """Ends a stage and all processes that it started. Ignores further signals in the meantime."""
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in STOP_SIGNALS}
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS_MAX
            # make may end before the processes that it started.
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(POLL_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(stages, minutes_max):
    """Runs stages until one fails, prints the table, and returns whether all passed in time."""
    started = time.monotonic()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        for stage in stages:
            print(f"=== {stage.target}", flush=True)
            stage.run(minutes_max * 60 - (time.monotonic() - started))
            if stage.failure:
                break
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    total = (time.monotonic() - started) / 60
    print(*["=== duration", *stages], f"  {'all':<18} {total:4.1f} min of {minutes_max:g}", sep="\n", flush=True)
    return all(stage.seconds is not None and not stage.failure for stage in stages)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: stages.py MINUTES TARGET...")
    sys.exit(not run([Stage(target) for target in sys.argv[2:]], float(sys.argv[1])))
