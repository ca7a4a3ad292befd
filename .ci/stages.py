"""Runs targets of the Makefile one by one, within a time limit, and prints the duration of each.

.ci/run runs it: `stages.py MINUTES TARGET...`. .ci/slow imports it.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Time for a stage to clean up after SIGTERM, before it is killed.
STOP_SECONDS_MAX = 30


class Stage:
    """A target of the Makefile, with the duration and the result of its run."""

    def __init__(self, target, **variables):
        self.target = target
        self.variables = variables
        self.seconds = None
        self.failure = None

    def run(self, seconds_max):
        """Runs `make <target>` for at most `seconds_max` seconds."""
        begun = time.monotonic()
        command = ["make", "--no-print-directory", self.target]
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **self.variables}, start_new_session=True)
        try:
            code = process.wait(timeout=max(seconds_max, 0))
            self.failure = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            self.failure = "stopped at the time limit"
        finally:
            stop(process)
            self.seconds = time.monotonic() - begun

    def __str__(self):
        minutes = "not run" if self.seconds is None else f"{self.seconds / 60:.1f} min"
        return f"  {self.target:<18} {minutes:>8}" + (f"  FAILED: {self.failure}" if self.failure else "")


def stop(process):
    """Ends a stage and everything that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_SECONDS_MAX)
            if number == signal.SIGKILL:
                return


def run(stages, minutes_max):
    """Runs stages until one fails, prints the table, and returns whether all passed in time."""
    begun = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for stage in stages:
            print(f"=== {stage.target}", flush=True)
            stage.run(minutes_max * 60 - (time.monotonic() - begun))
            if stage.failure:
                break
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    total = (time.monotonic() - begun) / 60
    print(*["=== duration", *stages], f"  {'all':<18} {total:4.1f} min of {minutes_max:g}", sep="\n", flush=True)
    return all(stage.seconds is not None and not stage.failure for stage in stages)


if __name__ == "__main__":
    sys.exit(not run([Stage(target) for target in sys.argv[2:]], float(sys.argv[1])))
