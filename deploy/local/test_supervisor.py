"""Tests of the restart rules, with shell scripts in place of services."""

import os
import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

from supervisor import DEATHS_MAX, EXIT_USAGE, RECOVERED_SECONDS, Service, Stop, Supervisor

LIMIT_SECONDS = 10


class RecordingSupervisor(Supervisor):
    """Records printed lines. Sends SIGINT to itself when a line contains `last`."""

    def __init__(self, last):
        super().__init__(["wordmill", "service"])
        self.lines = []
        self.last = last

    def write(self, data):
        line = data.decode().rstrip("\n")
        self.lines.append(line)
        if self.last in line:
            os.kill(os.getpid(), signal.SIGINT)

    def close(self):
        self.kill(self.children)
        signal.set_wakeup_fd(-1)
        for resource in (self.selector, self.wake, self.wake_writer):
            resource.close()

    def start_script(self, script):
        return self.start_service("service", ["sh", "-c", script], os.environ, lambda: None)


def collect_delays(service, up_seconds):
    """Returns the delays of a service that dies after being up for each of these times."""
    now = 0
    found = []
    for seconds in up_seconds:
        service.started_at = now
        found.append(service.note_death(now + seconds))
        now += seconds + (found[-1] or 0)
    return found


class Delays(unittest.TestCase):
    def setUp(self):
        self.service = Service("service", [], {}, None)

    def test_the_delay_doubles_up_to_30_seconds(self):
        self.assertEqual(collect_delays(self.service, [40] * 8), [1, 2, 4, 8, 16, 30, 30, 30])

    def test_a_service_that_was_up_for_a_minute_begins_with_the_first_delay_again(self):
        self.assertEqual(collect_delays(self.service, [40, 40, 40, RECOVERED_SECONDS, 40]), [1, 2, 4, 1, 2])

    def test_the_third_death_within_a_minute_is_the_last(self):
        self.assertEqual(collect_delays(self.service, [500, 0, 0]), [1, 2, None])
        self.assertEqual(DEATHS_MAX, 3)

    def test_deaths_of_more_than_a_minute_ago_do_not_count(self):
        # From the first death to the third, 1 + 2 s of delay and twice the time up:
        # 60 s, then 61 s.
        self.assertEqual(collect_delays(self.service, [0, 28.5, 28.5]), [1, 2, None])
        self.setUp()
        self.assertEqual(collect_delays(self.service, [0, 29, 29]), [1, 2, 4])


class Restarts(unittest.TestCase):
    def supervisor(self, last="restarting"):
        supervisor = RecordingSupervisor(last)
        self.addCleanup(supervisor.close)
        return supervisor

    def serve(self, supervisor):
        """Runs `supervisor` to its end, and returns the `Stop` that ended it."""
        with self.assertRaises(Stop) as raised:
            supervisor.serve()
        return raised.exception

    def test_ctrl_c_ends_the_wait_for_a_restart(self):
        supervisor = self.supervisor()
        service = supervisor.start_script("exit 3")
        service.delay = 30
        started = time.monotonic()
        self.assertEqual(self.serve(supervisor).code, 0)
        self.assertLess(time.monotonic() - started, LIMIT_SECONDS)
        self.assertEqual(supervisor.lines, ["wordmill | service died (exit code 3); restarting in 30 s"])
        self.assertEqual(supervisor.children, [])

    def test_a_service_that_rejects_its_settings_ends_the_run_at_once(self):
        supervisor = self.supervisor()
        supervisor.start_script(f"echo bad; exit {EXIT_USAGE}")
        stop = self.serve(supervisor)
        self.assertEqual((stop.code, stop.reason), (64, "service rejects its settings (exit code 64): stopping"))
        self.assertEqual(supervisor.lines, ["service  | bad"])

    def test_a_death_before_everything_is_ready_ends_the_run_at_once(self):
        supervisor = self.supervisor()
        supervisor.start_script("exit 1")
        with self.assertRaises(Stop) as raised:
            supervisor.wait_until(lambda: "not yet", LIMIT_SECONDS, "service did not start")
        self.assertEqual(raised.exception.code, 1)
        self.assertEqual(raised.exception.reason, "service died (exit code 1) before everything was ready: stopping")

    def test_the_rest_of_the_output_comes_before_the_line_of_the_death(self):
        supervisor = self.supervisor()
        supervisor.start_script("echo one; printf two; kill -KILL $$")
        self.serve(supervisor)
        died = "wordmill | service died (killed by SIGKILL); restarting in 1 s"
        self.assertEqual(supervisor.lines, ["service  | one", "service  | two", died])

    def test_processes_that_a_dead_service_started_end_with_it(self):
        supervisor = self.supervisor()
        supervisor.start_script("sleep 1000 & echo $!; exit 1")
        self.serve(supervisor)
        left = int(supervisor.lines[0].split("| ")[1])
        deadline = time.monotonic() + LIMIT_SECONDS
        while is_running(left):
            self.assertLess(time.monotonic(), deadline, f"process {left} still runs")
            time.sleep(0.02)

    def test_a_program_that_cannot_be_started_again_counts_as_a_death(self):
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "program"
            program.write_text('#!/bin/sh\nrm "$0"\n')
            program.chmod(0o700)
            supervisor = self.supervisor("cannot be started")
            supervisor.start_service("service", [program], os.environ, lambda: None)
            self.serve(supervisor)
        deaths = ["exit code 0); restarting in 1 s", "cannot be started: No such file or directory); restarting in 2 s"]
        self.assertEqual(supervisor.lines, [f"wordmill | service died ({death}" for death in deaths])


def is_running(process_id):
    """Returns whether a process is running. A zombie is not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


if __name__ == "__main__":
    unittest.main()
