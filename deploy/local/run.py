#!/usr/bin/env python3
"""Runs all services of Wordmill on this machine in the foreground. `make run` calls it.

Starts and provisions nats-server, then starts one gateway and the workers. TRACE=1 also starts
Jaeger, which receives their traces. Prefixes every line of output with the name of its process,
restarts services that die (see supervisor.py), and stops everything on Ctrl-C.

Everything listens on loopback only, so fixed development passwords are sufficient. Settings come
from the environment: PORT, NATS_PORT, WORKERS, DATA_DIR, BIN_DIR, NATS_SERVER, TRACE, JAEGER and
JAEGER_*PORT. OTEL_* and WORDMILL_* are passed to every service.
"""

import errno
import fcntl
import functools
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys

sys.dont_write_bytecode = True

from supervisor import EXIT_USAGE, Stop, Supervisor, die_with  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HOST = "127.0.0.1"
ROLES = ["gateway", "worker", "sweeper", "inspector", "admin"]
# Variables that this program always sets itself: from the ports, and from the development
# passwords. Other WORDMILL_* variables of the user override the defaults of this program.
PORT_VARIABLES = {"WORDMILL_LISTEN": "PORT", "WORDMILL_NATS_URL": "NATS_PORT"}
CREDENTIALS = {"WORDMILL_NATS_USER", "WORDMILL_NATS_PASSWORD", "WORDMILL_NATS_SWEEPER_USER", *(f"WORDMILL_NATS_{role.upper()}_PASSWORD" for role in ROLES)}
# Signs webhooks. Safe in development only, because it is public.
WEBHOOK_SECRET = "development-secret-of-make-run-only"

WORKERS_MAX = 64
WORKER_PORT_FIRST = 9091
WORKER_PORTS_TRIED_MAX = 1000
NATS_START_SECONDS = 60  # reading a large backlog from disk takes a while
PROVISION_SECONDS = 60
READY_SECONDS = 60
JAEGER_START_SECONDS = 60


class Settings:
    """Settings from the environment. Raises one `Stop` that lists all invalid settings."""

    def __init__(self, environment):
        problems = []

        def number(name, default, low, high):
            text = environment.get(name) or str(default)
            if text.isascii() and text.isdigit() and low <= int(text) <= high:
                return int(text)
            problems.append(f"{name}={text} must be a whole number from {low} to {high}")
            return default

        self.port = number("PORT", 8080, 1, 65535)
        self.nats_port = number("NATS_PORT", 4222, 1, 65535)
        self.workers = number("WORKERS", 2, 0, WORKERS_MAX)
        if self.port == self.nats_port:
            problems.append(f"PORT and NATS_PORT are both {self.port}")
        trace = environment.get("TRACE", "")
        if trace not in ("", "0", "1"):
            problems.append(f"TRACE={trace} must be 1, 0 or empty")
        self.trace = trace == "1"
        # Ports of Jaeger, by their variables in jaeger.yaml.
        self.jaeger = {
            "JAEGER_HTTP": number("JAEGER_PORT", 16686, 1, 65535),
            "JAEGER_GRPC": number("JAEGER_GRPC_PORT", 16685, 1, 65535),
            "JAEGER_OTLP": number("JAEGER_OTLP_PORT", 4318, 1, 65535),
        }
        self.data_dir = pathlib.Path(environment.get("DATA_DIR") or ".data")
        self.bin_dir = pathlib.Path(environment.get("BIN_DIR") or "target/debug")

        listen = environment.get("WORDMILL_WORKER_LISTEN") or f"{HOST}:{WORKER_PORT_FIRST}"
        self.worker_host, _, port = listen.rpartition(":")
        self.worker_port = int(port) if port.isascii() and port.isdigit() else 0
        if not self.worker_host or not 1 <= self.worker_port <= 65535:
            problems.append(f"WORDMILL_WORKER_LISTEN={listen} must be an address and a port, such as {HOST}:{WORKER_PORT_FIRST}")

        for binary in ["wordmill-nats", "wordmill-gateway", "wordmill-worker"]:
            if not os.access(self.bin_dir / binary, os.X_OK):
                problems.append(f"{self.bin_dir / binary} is missing: run `make services` first (`make run` does this)")
        if problems:
            raise Stop(EXIT_USAGE, "\n".join(problems))


def lock_data_dir(path):
    """Locks the data folder and returns its handle, or None if another run holds the lock.

    Locks the folder itself. The kernel releases the lock when the process ends, so no stale lock
    file can remain.
    """
    path.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def port_problem(host, port):
    """Returns the reason why no service can listen on a port, or None."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = host.strip("[]")
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return "used by another program" if error.errno == errno.EADDRINUSE else f"not available ({error.strerror})"
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return "used by another program" if probe.connect_ex((address, port)) == 0 else None


def check_start(settings):
    """Checks data folder and ports before anything starts. Returns the lock on the data folder."""
    problems = []
    try:
        lock = lock_data_dir(settings.data_dir)
    except OSError as error:
        raise Stop(1, f"DATA_DIR {settings.data_dir} cannot be used: {error.strerror}") from error
    if lock is None:
        problems.append(
            f"another run uses {settings.data_dir}: stop it, or choose another folder, for example `make run DATA_DIR=.data2`"
        )
    for name, port in settings.jaeger.items() if settings.trace else ():
        problem = port_problem(HOST, port)
        if problem:
            variable = "JAEGER_PORT" if name == "JAEGER_HTTP" else f"{name}_PORT"
            problems.append(f"port {port} for Jaeger is {problem}: choose another, for example `make run TRACE=1 {variable}={port + 10}`")
    for owner, variable, port, example in [
        ("the gateway", "PORT", settings.port, 8081),
        ("NATS", "NATS_PORT", settings.nats_port, 4223),
    ]:
        problem = port_problem(HOST, port)
        if problem:
            example = example if example != port else example + 1
            problems.append(f"port {port} for {owner} is {problem}: choose another, for example `make run {variable}={example}`")
    if problems:
        raise Stop(1, "\n".join(problems))
    worker_ports(settings)
    return lock


def worker_ports(settings):
    """Returns a free port for each worker, from the first port for workers upwards."""
    ports = []
    last = min(settings.worker_port + WORKER_PORTS_TRIED_MAX, 65536)
    for port in range(settings.worker_port, last):
        if len(ports) == settings.workers:
            break
        if port not in (settings.port, settings.nats_port) and port_problem(settings.worker_host, port) is None:
            ports.append(port)
    if len(ports) < settings.workers:
        first = f"{settings.worker_host}:{settings.worker_port}"
        raise Stop(1, f"fewer than {settings.workers} ports are free for workers, from {first} upwards")
    return ports


def find_or_install(installer):
    """Returns the path of a program that an installer finds or installs."""
    run = subprocess.run([str(ROOT / installer)], stdout=subprocess.PIPE, text=True, preexec_fn=die_with(os.getpid()))
    if run.returncode != 0:
        raise Stop(1)  # the installer has printed the reason
    return run.stdout.strip()


def service_environment(settings, user, **overrides):
    """Returns the user's environment with the credentials of one role, and without those of the
    others.
    """
    environment = {name: value for name, value in os.environ.items() if name not in CREDENTIALS}
    environment.setdefault("WORDMILL_LOG_FORMAT", "pretty")  # for reading in a terminal
    environment["WORDMILL_NATS_URL"] = f"nats://{HOST}:{settings.nats_port}"
    environment["WORDMILL_NATS_USER"] = user
    environment["WORDMILL_NATS_PASSWORD"] = f"dev-{user}"
    environment.setdefault("WORDMILL_WEBHOOK_SECRETS", WEBHOOK_SECRET)
    if settings.trace:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://{HOST}:{settings.jaeger['JAEGER_OTLP']}"
        environment.setdefault("WORDMILL_TRACE_URL", f"http://{HOST}:{settings.jaeger['JAEGER_HTTP']}")
    return {**environment, **overrides}


def nats_environment():
    return {**os.environ, **{f"WORDMILL_NATS_{role.upper()}_PASSWORD": f"dev-{role}" for role in ROLES}}


def nats_problem(port):
    """Returns None if nats-server sends its greeting on a port, else the reason."""
    try:
        with socket.create_connection((HOST, port), timeout=1) as connection:
            greeting = connection.recv(5)
    except OSError as error:
        return str(error)
    return None if greeting == b"INFO " else "another program answers on its port"


def http_problem(host, port, path="/readyz"):
    """Returns None if a GET request for the path has status 200, else the error or the response."""
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=1)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(300).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if response.status == 200 else f"{response.status} {body}"


def inbox_prefix(role):
    """Returns the inbox prefix that nats/server.conf allows for a role, so that it reads only
    replies to its own requests.
    """
    return f"_INBOX_{role}"


def ready_text(settings, ports, nats_server):
    gateway = f"http://{HOST}:{settings.port}"
    nats = f"nats://{HOST}:{settings.nats_port}"
    workers = [f"http://{settings.worker_host}:{port}" for port in ports] or ["none (WORKERS=0): jobs wait in the queue"]
    text = json.dumps({"text": "the cat saw the other cat"})
    rows = [("gateway", gateway), ("NATS", nats), *(("worker" if ports else "workers", at) for at in workers)]
    if settings.trace:
        rows.append(("Jaeger", f"http://{HOST}:{settings.jaeger['JAEGER_HTTP']} (`make trace JOB=$job` shows a job's trace in a terminal)"))
    rows += [("data", f"{settings.data_dir}"), ("server", nats_server)]
    table = "\n".join(f"  {name:<8} {value}" for name, value in rows)
    return f"""
ready

{table}

Submit a text, then show its job and its words:

  job=$(curl -sS {gateway}/v1/jobs -H 'Content-Type: application/json' -d '{text}' \\
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["job_id"])')
  curl -sS {gateway}/v1/jobs/$job
  curl -sS {gateway}/v1/jobs/$job/result

Show the NATS streams (nats/install-cli installs the CLI and prints its path, see nats/README.md):

  nats --server {nats} --user inspector --password dev-inspector --inbox-prefix {inbox_prefix("inspector")} stream report

Ctrl-C stops everything. The jobs are kept for the next run.

"""


def start_jaeger(settings, supervisor, jaeger):
    """Starts Jaeger, and waits until the services can send traces to it."""
    addresses = {name: f"{HOST}:{port}" for name, port in settings.jaeger.items()}
    # Prevents Jaeger from recording traces of itself.
    environment = {**os.environ, **addresses, "OTEL_TRACES_SAMPLER": "always_off"}
    command = [jaeger, "--config", ROOT / "deploy" / "local" / "jaeger.yaml"]
    check_readiness = functools.partial(http_problem, HOST, settings.jaeger["JAEGER_HTTP"], "/api/services")
    service = supervisor.start_service("jaeger", command, environment, check_readiness)
    supervisor.wait_until(service.check_readiness, JAEGER_START_SECONDS, "Jaeger did not start")


def run(settings, supervisor, nats_server, jaeger):
    if jaeger:
        start_jaeger(settings, supervisor, jaeger)
    nats_command = [nats_server, "-c", ROOT / "nats" / "server.conf", "--addr", HOST, "--port", settings.nats_port]
    nats_command += ["--store_dir", (settings.data_dir / "nats").absolute()]
    check_readiness = functools.partial(nats_problem, settings.nats_port)
    nats = supervisor.start_service("nats", nats_command, nats_environment(), check_readiness)
    supervisor.wait_until(nats.check_readiness, NATS_START_SECONDS, "nats-server did not start")

    binaries = settings.bin_dir.absolute()
    admin = service_environment(settings, "admin")
    supervisor.run_once("provision", [binaries / "wordmill-nats", "provision"], admin, PROVISION_SECONDS)

    # `make run` allows fetching from loopback by default, so that workers can count local pages.
    fetch_allow = os.environ.get("WORDMILL_FETCH_ALLOW", "127.0.0.0/8,::1/128")
    listen = f"{HOST}:{settings.port}"
    # The sweeper runs in the gateway as a separate NATS user.
    gateway = service_environment(settings, "gateway", WORDMILL_LISTEN=listen, WORDMILL_NATS_SWEEPER_PASSWORD="dev-sweeper")
    check_readiness = functools.partial(http_problem, HOST, settings.port)
    services = [supervisor.start_service("gateway", [binaries / "wordmill-gateway"], gateway, check_readiness)]
    # Chosen again, because another run may have started its workers since the first check.
    ports = worker_ports(settings)
    for number, port in enumerate(ports, 1):
        at = f"{settings.worker_host}:{port}"
        worker = service_environment(settings, "worker", WORDMILL_WORKER_LISTEN=at, WORDMILL_FETCH_ALLOW=fetch_allow)
        check_readiness = functools.partial(http_problem, settings.worker_host, port)
        services.append(supervisor.start_service(f"worker {number}", [binaries / "wordmill-worker"], worker, check_readiness))
    for service in services:
        supervisor.wait_until(service.check_readiness, READY_SECONDS, f"{service.name} did not become ready")

    supervisor.write(ready_text(settings, ports, nats_server).encode())
    supervisor.serve()


def main():
    try:
        settings = Settings(os.environ)
        lock = check_start(settings)
        nats_server = find_or_install("nats/install-server")
        jaeger = find_or_install("deploy/install-jaeger") if settings.trace else None
    except Stop as stop:
        if stop.reason:
            print(stop.reason, file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        return 130

    names = ["wordmill", "nats", "jaeger", "provision", "gateway", *(f"worker {number}" for number in range(1, settings.workers + 1))]
    supervisor = Supervisor(names)
    for name, port_name in PORT_VARIABLES.items():
        if name in os.environ:
            supervisor.log(f"{name} in the environment is ignored: set {port_name} instead")
    try:
        run(settings, supervisor, nats_server, jaeger)
    except Stop as stop:
        code = stop.code
        if stop.reason:
            supervisor.log(stop.reason)
    except Exception:
        supervisor.kill(supervisor.children)
        raise
    try:
        supervisor.stop_all()
    except Stop as stop:
        code = stop.code
    # Released last, so that the next run cannot start before all children of this run have ended.
    os.close(lock)
    return code


if __name__ == "__main__":
    sys.exit(main())
