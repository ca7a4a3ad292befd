#!/usr/bin/env python3
"""Measures the cost of tracing, for `make bench-trace`.

Runs the same text jobs of 1 kB on three stacks of one broker, one gateway and one worker each: with
tracing off, at 1 % and at 100 %. All stacks run concurrently and get slices of jobs in turns, a
fraction of a second each, so that other load and the speed of the machine affect all of them
equally. A sink receives the spans and discards them. The CPU time is that of gateway and worker in
a complete round, including the export of the last spans. Everything listens on loopback, and stops
at the end.

Settings: ROUNDS, JOBS (per mode and round), CONNECTIONS, WORDMILL_BIN_DIR, NATS_SERVER.
"""

import asyncio
import json
import multiprocessing
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("WORDMILL_BIN_DIR") or ROOT / "target/release").absolute()
ROUNDS = int(os.environ.get("ROUNDS") or 8)
JOBS = int(os.environ.get("JOBS") or 10000)
SLICE = 500
CONNECTIONS = int(os.environ.get("CONNECTIONS") or 32)
WARM_UP = 2000
WAIT_SECONDS = 300
ROLES = ["gateway", "worker", "sweeper", "inspector", "admin"]
MODES = [("off", None), ("1 %", "0.01"), ("100 %", "1")]
WORDS = "the quick brown fox jumps over the lazy dog while seven other words stand by and wait "


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(process):
    """Returns the CPU time that all threads of a process have used, with a resolution of
    nanoseconds.
    """
    # Clock id of another process, as clock_getcpuclockid(3) computes it on Linux.
    return time.clock_gettime((~process.pid << 3) | 2)


def run_sink(port, received):
    """Serves HTTP requests: discards each body, and adds its length to `received`."""

    class Sink(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport, self.head, self.left = transport, b"", 0

        def data_received(self, data):
            while data:
                if self.left:
                    part = min(self.left, len(data))
                    self.left, data = self.left - part, data[part:]
                else:
                    self.head += data
                    head, found, data = self.head.partition(b"\r\n\r\n")
                    if not found:
                        return
                    self.head = b""
                    length = re.search(rb"(?i)content-length: *(\d+)", head)
                    self.left = int(length.group(1)) if length else 0
                    received.value += self.left
                if not self.left:
                    self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def serve():
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


class Submitter(asyncio.Protocol):
    """A connection that submits one job after another."""

    def __init__(self, request, todo, done):
        self.request, self.todo, self.done = request, todo, done
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport
        self.submit_next()

    def submit_next(self):
        if self.todo[0] == 0:
            self.transport.close()
        else:
            self.todo[0] -= 1
            self.transport.write(self.request)

    def data_received(self, data):
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found or len(body) < int(re.search(rb"(?i)content-length: *(\d+)", head).group(1)):
            return
        if not head.startswith(b"HTTP/1.1 202"):
            raise SystemExit(f"the gateway did not accept a job: {head!r}")
        self.buffer = b""
        self.submit_next()

    def connection_lost(self, error):
        self.done.set_result(error)


def submit(port, jobs):
    """Submits jobs over `CONNECTIONS` connections, and returns the elapsed seconds."""
    body = json.dumps({"text": (WORDS * 12)[:1024]}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    todo = [jobs]

    async def run():
        loop = asyncio.get_running_loop()
        ends = []
        for _ in range(CONNECTIONS):
            ends.append(loop.create_future())
            await loop.create_connection(lambda: Submitter(head.encode() + body, todo, ends[-1]), "127.0.0.1", port)
        await asyncio.gather(*ends)

    started = time.monotonic()
    asyncio.run(run())
    return time.monotonic() - started


def read_metric(port, name):
    """Returns a metric of a service, summed over its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))


def count_finished(port):
    """Returns the number of jobs that the worker has finished."""
    return read_metric(port, "wordmill_jobs_finished_total")


def wait_until(description, condition):
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"timeout after {WAIT_SECONDS} s while waiting until {description}")
        time.sleep(0.05)


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


class Stack:
    """One broker, one gateway and one worker, which trace the share `ratio` of jobs."""

    def __init__(self, ratio, endpoint, folder):
        self.nats, self.gateway, self.worker = free_port(), free_port(), free_port()
        self.processes = []
        passwords = {f"WORDMILL_NATS_{role.upper()}_PASSWORD": f"bench-{role}" for role in ROLES}
        server = os.environ.get("NATS_SERVER") or "nats-server"
        command = [server, "-c", ROOT / "nats/server.conf", "--addr", "127.0.0.1", "--port", str(self.nats), "--store_dir", folder]
        self.start(command, passwords)
        wait_until("nats-server listens", lambda: socket.socket().connect_ex(("127.0.0.1", self.nats)) == 0)
        settings = {"WORDMILL_LOG": "warn", "WORDMILL_RESULT_TTL": "1h"}
        if ratio:
            settings |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
        subprocess.run([BIN / "wordmill-nats", "provision"], env=self.environment("admin", settings), check=True, stdout=subprocess.DEVNULL)
        listen = {"WORDMILL_LISTEN": f"127.0.0.1:{self.gateway}", "WORDMILL_WORKER_LISTEN": f"127.0.0.1:{self.worker}"}
        self.gateway_process = self.start([BIN / "wordmill-gateway"], self.environment("gateway", settings | listen))
        self.worker_process = self.start([BIN / "wordmill-worker"], self.environment("worker", settings | listen))
        for port in (self.gateway, self.worker):
            wait_until("the services are ready", lambda: is_ready(port))

    def environment(self, role, settings):
        """Returns the environment of a service: our own without its settings, the credentials of a
        role, and `settings`.
        """
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WORDMILL_", "OTEL_"))}
        broker = {"WORDMILL_NATS_URL": f"nats://127.0.0.1:{self.nats}", "WORDMILL_NATS_USER": role, "WORDMILL_NATS_PASSWORD": f"bench-{role}"}
        return inherited | broker | settings

    def start(self, command, environment):
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def cpu(self):
        """Returns the CPU seconds that gateway and worker have used."""
        return [cpu_seconds(self.gateway_process), cpu_seconds(self.worker_process)]

    def run(self, jobs):
        """Runs jobs. Returns the seconds until all are submitted and until all are finished."""
        before = count_finished(self.worker)
        started = time.monotonic()
        submit_seconds = submit(self.gateway, jobs)
        wait_until("all jobs are finished", lambda: count_finished(self.worker) >= before + jobs)
        return submit_seconds, time.monotonic() - started

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=60)


def measure(stacks):
    """Runs one round of jobs on every stack.

    Returns for each mode the submitted and the finished jobs per second, and the CPU time of
    gateway and worker in microseconds per job.
    """
    before = {name: stack.cpu() for name, stack in stacks.items()}
    seconds = {name: [0.0, 0.0] for name in stacks}
    order = list(stacks)
    for _ in range(JOBS // SLICE):
        for name in order:
            seconds[name] = [total + part for total, part in zip(seconds[name], stacks[name].run(SLICE))]
        order.append(order.pop(0))
    time.sleep(1.5)  # until the last spans are exported
    jobs = JOBS // SLICE * SLICE
    used = {name: [(new - old) / jobs * 1e6 for new, old in zip(stack.cpu(), before[name])] for name, stack in stacks.items()}
    return {name: [*(jobs / part for part in seconds[name]), *used[name]] for name in stacks}


def main():
    received, port = multiprocessing.Value("q", 0), free_port()
    sink = multiprocessing.Process(target=run_sink, args=(port, received), daemon=True)
    sink.start()
    rounds, stacks = [], {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            for index, (name, ratio) in enumerate(MODES):
                stacks[name] = Stack(ratio, f"http://127.0.0.1:{port}", f"{folder}/{index}")
                stacks[name].run(WARM_UP)
            for number in range(1, ROUNDS + 1):
                rounds.append(measure(stacks))
                figures = (f"{name} {gateway:.0f} + {worker:.0f} µs" for name, (_, _, gateway, worker) in rounds[-1].items())
                print(f"round {number}: " + ", ".join(figures), file=sys.stderr, flush=True)
            for stack in stacks.values():
                if any(read_metric(port, "wordmill_telemetry_dropped_spans_total") for port in (stack.gateway, stack.worker)):
                    raise SystemExit("a service dropped spans, so the measured cost of tracing is too low")
        finally:
            for stack in stacks.values():
                stack.stop()
    sink.terminate()
    if received.value == 0:
        raise SystemExit("the sink received no spans, so the cost of tracing was not measured")
    print(f"{ROUNDS} rounds of {JOBS} jobs over {CONNECTIONS} connections, medians; {received.value / 1e6:.1f} MB of spans received\n")
    print("| tracing | submitted/s | finished/s | CPU µs per job, gateway | worker | both | more than off (range of rounds) |")
    print("|---|---|---|---|---|---|---|")
    base = None
    for name, _ in MODES:
        submitted, done, gateway, worker = (statistics.median(column) for column in zip(*(measured[name] for measured in rounds)))
        base = base or (submitted, done)
        more = sorted(sum(measured[name][2:]) - sum(measured["off"][2:]) for measured in rounds)
        print(
            f"| {name} | {submitted:.0f} ({submitted / base[0]:.0%}) | {done:.0f} ({done / base[1]:.0%}) | {gateway:.0f} | {worker:.0f} "
            f"| {gateway + worker:.0f} | {statistics.median(more):.0f} ({more[0]:.0f} to {more[-1]:.0f}) |"
        )


if __name__ == "__main__":
    main()
