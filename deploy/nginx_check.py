"""Runs nginx with deploy/nginx.conf in front of a mock gateway, and reports requests and responses
that nginx loses or changes.
"""

import contextlib
import http.client
import http.server
import json
import pathlib
import re
import socket
import subprocess
import tempfile
import threading
import time

START_SECONDS = 10
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BODY_BYTES = 3 * 1024 * 1024  # more than nginx's own default limit of 1 MiB


class MockGateway(http.server.BaseHTTPRequestHandler):
    """Echoes requests. /v1/jobs/x/events sends one event and stays open."""

    protocol_version = "HTTP/1.1"
    release_events = threading.Event()

    def respond(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.path.endswith("/events"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: 1\n\n")
            self.release_events.wait(START_SECONDS)
            return
        status = 413 if self.path == "/too-large" else 200
        echo = {"path": self.path, "headers": {k.lower(): v for k, v in self.headers.items()}, "bytes": len(body)}
        data = json.dumps(echo).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json" if status == 413 else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = respond

    def log_message(self, *arguments):
        pass


def find_problems(nginx, conf):
    """Returns the problems of the configuration as sentences."""
    with tempfile.TemporaryDirectory() as scratch:
        test = subprocess.run([nginx, "-t", "-p", scratch, "-c", str(conf)], capture_output=True, text=True)
        if test.returncode != 0:
            return [f"nginx rejects deploy/nginx.conf: {test.stderr.strip()}"]
        port, gateway_port = free_ports(2)
        text, replaced = make_local(conf.read_text(), scratch, port, gateway_port)
        if replaced != [1, 1]:
            return [f"nginx.conf must set its port and the address of the gateway once each, but sets them {replaced} times"]
        local = pathlib.Path(scratch) / "nginx.conf"
        local.write_text(text)
        log = open(pathlib.Path(scratch) / "log", "w+")
        with running([nginx, "-p", scratch, "-c", str(local), "-g", "daemon off;"], log) as process:
            if not wait_for_port(port):
                log.seek(0)
                return [f"nginx did not start with deploy/nginx.conf (exit code {process.poll()}): {log.read().strip()}"]
            try:
                return list(check_responses(port, gateway_port))
            except (OSError, http.client.HTTPException, ValueError) as error:
                return [f"nginx with deploy/nginx.conf broke a connection: {error!r}"]


def make_local(text, scratch, port, gateway_port):
    """Returns the configuration with local addresses and folders, and how often it set the port and
    the gateway.
    """
    text, listens = re.subn(r"listen \d+;", f"listen 127.0.0.1:{port};", text)
    text, gateways = re.subn(r"set \$gateway \S+;", f"set $gateway 127.0.0.1:{gateway_port};", text)
    return text.replace(" /tmp/", f" {scratch}/"), [listens, gateways]


def check_responses(port, gateway_port):
    """Checks the responses of nginx without a gateway, with a gateway, and after its restart."""
    status, headers, body = request(port, "GET", "/v1/jobs/1")
    if status != 503 or headers.get("Content-Type") != "application/problem+json" or json.loads(body)["code"] != "gateway_unavailable":
        yield f"without a gateway nginx answers {status} {headers.get('Content-Type')} instead of a 503 problem document"

    for start in ("first", "restarted"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", gateway_port), MockGateway)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield from check_gateway(port, start)
        finally:
            server.shutdown()
            server.server_close()


def check_gateway(port, start):
    """Yields a sentence for each difference that a client or a gateway would notice."""
    sent = {"traceparent": TRACEPARENT, "Idempotency-Key": "k", "X-Forwarded-For": "192.0.2.7", "Content-Type": "text/plain"}
    path = "/v1/jobs?lane=bulk&label=a%3Ab"
    status, _, body = request(port, "POST", path, b"x" * BODY_BYTES, sent)
    if status != 200:
        yield f"nginx does not reach a {start} gateway, and answers {status}"
        return
    echo = json.loads(body)
    received = echo["headers"]
    if echo["path"] != path or echo["bytes"] != BODY_BYTES:
        yield f"nginx changes the request: {echo['path']}, {echo['bytes']} bytes"
    host = f"127.0.0.1:{port}"
    for name, expected in [("host", host), ("traceparent", TRACEPARENT), ("idempotency-key", "k"), ("x-forwarded-for", "192.0.2.7, 127.0.0.1")]:
        if received.get(name) != expected:
            yield f"the gateway receives {name}: {received.get(name)} instead of {expected}"

    status, _, body = request(port, "GET", "/word-count", b'{"job_id":"1"}')
    if json.loads(body).get("bytes") != 14:
        yield "nginx drops the body of a GET request"
    status, _, body = request(port, "GET", "/metrics")
    if (status, json.loads(body).get("code")) != (404, "route_not_found"):
        yield f"nginx does not hide /metrics, and answers {status}"
    status, headers, _ = request(port, "POST", "/too-large", b"x" * BODY_BYTES)
    if (status, headers.get("Content-Type")) != (413, "application/problem+json"):
        yield f"nginx changes the gateway's response 413 to {status} {headers.get('Content-Type')}"

    MockGateway.release_events.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=3)
    connection.request("GET", "/v1/jobs/1/events")
    try:
        if connection.getresponse().read(9) != b"data: 1\n\n":
            yield "nginx changes an event"
    except TimeoutError:
        yield "nginx buffers an event until its stream ends"
    finally:
        MockGateway.release_events.set()
        connection.close()


def request(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def wait_for_port(port):
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.05)
    return False


@contextlib.contextmanager
def running(command, log):
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(10)
        log.close()
