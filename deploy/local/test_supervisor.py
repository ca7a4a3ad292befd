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
    """Records printed lines, and ends the run with SIGINT when a line contains `last`."""

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
    """Returns the restart delays of a service that dies after each of these uptimes."""
    now = 0
    delays = []
    for seconds in up_seconds:
        service.started_at = now
        delays.append(service.record_death(now + seconds))
        now += seconds + (delays[-1] or 0)
    return delays


class Delays(unittest.TestCase):
    def setUp(self):
        self.service = Service("service", [], {}, None)

    def test_the_delay_doubles_up_to_30_seconds(self):
        self.assertEqual(collect_delays(self.service, [40] * 8), [1, 2, 4, 8, 16, 30, 30, 30])

    def test_the_delay_is_reset_after_an_uptime_of_a_minute(self):
        self.assertEqual(collect_delays(self.service, [40, 40, 40, RECOVERED_SECONDS, 40]), [1, 2, 4, 1, 2])

    def test_the_third_death_within_a_minute_ends_the_run(self):
        self.assertEqual(collect_delays(self.service, [500, 0, 0]), [1, 2, None])
        self.assertEqual(DEATHS_MAX, 3)

    def test_deaths_more_than_a_minute_ago_are_ignored(self):
        # The third death is 60 s after the first: delays of 1 s and 2 s, and twice the uptime of
        # 28.5 s. With an uptime of 29 s it is 61 s.
        self.assertEqual(collect_delays(self.service, [0, 28.5, 28.5]), [1, 2, None])
        self.setUp()
        self.assertEqual(collect_delays(self.service, [0, 29, 29]), [1, 2, 4])


class Restarts(unittest.TestCase):
    def supervisor(self, last="restarting"):
        supervisor = RecordingSupervisor(last)
        self.addCleanup(supervisor.close)
        return supervisor

    def serve(self, supervisor):
        """Runs `supervisor` until it raises `Stop`, and returns the exception."""
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

    def test_invalid_settings_of_a_service_end_the_run(self):
        supervisor = self.supervisor()
        supervisor.start_script(f"echo bad; exit {EXIT_USAGE}")
        stop = self.serve(supervisor)
        self.assertEqual((stop.code, stop.reason), (64, "service has invalid settings (exit code 64): stopping"))
        self.assertEqual(supervisor.lines, ["service  | bad"])

    def test_a_death_before_everything_is_ready_ends_the_run(self):
        supervisor = self.supervisor()
        supervisor.start_script("exit 1")
        with self.assertRaises(Stop) as raised:
            supervisor.wait_until(lambda: "not yet", LIMIT_SECONDS, "service did not start")
        self.assertEqual(raised.exception.code, 1)
        self.assertEqual(raised.exception.reason, "service died (exit code 1) before everything was ready: stopping")

    def test_remaining_output_is_printed_before_the_death_is_reported(self):
        supervisor = self.supervisor()
        supervisor.start_script("echo one; printf two; kill -KILL $$")
        self.serve(supervisor)
        died = "wordmill | service died (killed by SIGKILL); restarting in 1 s"
        self.assertEqual(supervisor.lines, ["service  | one", "service  | two", died])

    def test_processes_started_by_a_dead_service_are_killed(self):
        supervisor = self.supervisor()
        supervisor.start_script("sleep 1000 & echo $!; exit 1")
        self.serve(supervisor)
        process_id = int(supervisor.lines[0].split("| ")[1])
        deadline = time.monotonic() + LIMIT_SECONDS
        while is_running(process_id):
            self.assertLess(time.monotonic(), deadline, f"process {process_id} is still running")
            time.sleep(0.02)

    def test_a_program_that_cannot_be_restarted_is_reported_as_dead(self):
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
    """Returns whether a process exists and is not a zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process_id)], stdout=subprocess.PIPE, text=True, check=False).stdout
    return state.strip()[:1] not in ("", "Z")


if __name__ == "__main__":
    unittest.main()
