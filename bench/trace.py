#!/usr/bin/env python3
"""Measures what tracing costs: what `make bench-trace` calls.

Takes the same text jobs of 1 kB through one gateway and one worker with tracing off, at 1 % and at 100 %, in turns, several rounds in one
run. A sink takes the spans and discards them. CPU is the time of the two processes as the kernel counts it, children and waiting apart, so
it holds on a busy machine; throughput does so only in comparison. Everything listens on loopback and is stopped at the end.

Settings: ROUNDS, JOBS (for each mode and round), CONNECTIONS, BIN_DIR, NATS_SERVER.
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
BIN = pathlib.Path(os.environ.get("BIN_DIR") or ROOT / "target/release").absolute()
ROUNDS = int(os.environ.get("ROUNDS") or 3)
JOBS = int(os.environ.get("JOBS") or 20000)
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
    """Returns the user and system time of a process so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sink(port, received):
    """Takes every request, and discards it."""

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
    """One connection that submits one job after the other."""

    def __init__(self, request, todo, done):
        self.request, self.todo, self.done = request, todo, done
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport
        self.next()

    def next(self):
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
            raise SystemExit(f"a job was not accepted: {head!r}")
        self.buffer = b""
        self.next()

    def connection_lost(self, error):
        self.done.set_result(error)


def submit(port, jobs):
    """Submits jobs over several connections and returns the seconds that took."""
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


def finished(port):
    """Returns how many jobs the worker has finished."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("wordmill_jobs_finished_total{"))


def wait(what, condition):
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {WAIT_SECONDS} s: {what}")
        time.sleep(0.05)


def is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


class Stack:
    """One broker, one gateway, one worker."""

    def __init__(self, ratio, endpoint, folder):
        self.nats, self.gateway, self.worker = free_port(), free_port(), free_port()
        self.processes = []
        passwords = {f"WORDMILL_NATS_{role.upper()}_PASSWORD": f"bench-{role}" for role in ROLES}
        server = os.environ.get("NATS_SERVER") or "nats-server"
        command = [server, "-c", ROOT / "nats/server.conf", "--addr", "127.0.0.1", "--port", str(self.nats), "--store_dir", folder]
        self.start(command, passwords)
        wait("nats-server listens", lambda: socket.socket().connect_ex(("127.0.0.1", self.nats)) == 0)
        settings = {"WORDMILL_LOG": "warn", "WORDMILL_RESULT_TTL": "1h"}
        if ratio:
            settings |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": ratio}
        subprocess.run([BIN / "wordmill-nats", "provision"], env=self.role("admin", settings), check=True, stdout=subprocess.DEVNULL)
        listen = {"WORDMILL_LISTEN": f"127.0.0.1:{self.gateway}", "WORDMILL_WORKER_LISTEN": f"127.0.0.1:{self.worker}"}
        self.gateway_process = self.start([BIN / "wordmill-gateway"], self.role("gateway", settings | listen))
        self.worker_process = self.start([BIN / "wordmill-worker"], self.role("worker", settings | listen))
        for port in (self.gateway, self.worker):
            wait("the services are ready", lambda: is_ready(port))

    def role(self, role, settings):
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("WORDMILL_", "OTEL_"))}
        own = {"WORDMILL_NATS_URL": f"nats://127.0.0.1:{self.nats}", "WORDMILL_NATS_USER": role, "WORDMILL_NATS_PASSWORD": f"bench-{role}"}
        return plain | own | settings

    def start(self, command, environment):
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def measure(self, jobs):
        """Returns jobs submitted and finished each second, and microseconds of CPU for each job, by the gateway and by the worker."""
        before = finished(self.worker)
        cpu = [cpu_seconds(self.gateway_process), cpu_seconds(self.worker_process)]
        started = time.monotonic()
        submitting = submit(self.gateway, jobs)
        wait("all jobs are finished", lambda: finished(self.worker) >= before + jobs)
        took = time.monotonic() - started
        time.sleep(1.5)  # the last spans are sent
        after = [cpu_seconds(self.gateway_process), cpu_seconds(self.worker_process)]
        return [jobs / submitting, jobs / took, *((new - old) / jobs * 1e6 for old, new in zip(cpu, after))]

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait(timeout=60)


def main():
    received, port = multiprocessing.Value("q", 0), free_port()
    taking = multiprocessing.Process(target=sink, args=(port, received), daemon=True)
    taking.start()
    results = {name: [] for name, _ in MODES}
    for number in range(ROUNDS):
        for name, ratio in MODES if number % 2 == 0 else reversed(MODES):
            with tempfile.TemporaryDirectory() as folder:
                stack = Stack(ratio, f"http://127.0.0.1:{port}", folder)
                try:
                    stack.measure(WARM_UP)
                    results[name].append(stack.measure(JOBS))
                finally:
                    stack.stop()
            print(f"round {number + 1}, {name}: " + " ".join(f"{value:.1f}" for value in results[name][-1]), file=sys.stderr, flush=True)
    taking.terminate()
    if received.value == 0:
        raise SystemExit("no spans reached the sink: nothing was measured")
    print(f"{ROUNDS} rounds of {JOBS} jobs over {CONNECTIONS} connections, medians; {received.value / 1e6:.1f} MB of spans taken\n")
    print("| tracing | submitted/s | finished/s | CPU µs a job, gateway | worker | both | more than off |")
    print("|---|---|---|---|---|---|---|")
    base = None
    for name, _ in MODES:
        submitted, done, gateway, worker = (statistics.median(column) for column in zip(*results[name]))
        base = base or (submitted, done, gateway + worker)
        print(
            f"| {name} | {submitted:.0f} ({submitted / base[0]:.0%}) | {done:.0f} ({done / base[1]:.0%}) | {gateway:.0f} | {worker:.0f} "
            f"| {gateway + worker:.0f} | {gateway + worker - base[2]:.0f} |"
        )


if __name__ == "__main__":
    main()
