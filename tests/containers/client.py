"""A client of the API, and a load generator.

All requests go to ports that the stack publishes on loopback.
"""

import http.client
import json
import threading
import time
import uuid

from engine import Failure

HOST = "127.0.0.1"
REQUEST_SECONDS_MAX = 30
JOB_SECONDS_MAX = 120
# Delay before a refused or failed request is repeated.
RETRY_SECONDS = 0.1
CLIENTS = 8


def request(port, method, path, headers=None, body=None, timeout=REQUEST_SECONDS_MAX):
    """Sends a request, and returns status, headers and body of the response."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def get_json(port, path, headers=None):
    """Returns the JSON document at `path`, or None if the response has another status than 200."""
    status, _, body = request(port, "GET", path, headers)
    return json.loads(body) if status == 200 else None


def wait_for(condition_name, seconds, condition):
    """Waits until `condition` returns a true value, and returns it. An error of the network counts
    as false.
    """
    deadline = time.monotonic() + seconds
    problem = None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
        except (OSError, http.client.HTTPException) as error:
            problem = error
        time.sleep(0.2)
    raise Failure(f"condition not met within {seconds} s: {condition_name}" + (f" (last error: {problem})" if problem else ""))


class Api:
    """The API behind nginx, with an API key."""

    def __init__(self, port, key):
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"}

    def send(self, method, path, headers=None, body=None):
        """Sends a request with the key, and returns status and decoded JSON (None without body)."""
        status, _, content = request(self.port, method, path, {**self.headers, **(headers or {})}, body)
        return status, json.loads(content) if content else None

    def submit(self, job, **headers):
        """Submits a JSON job, and returns it. Raises `Failure` if it is not accepted."""
        return self.upload("/v1/jobs", "application/json", json.dumps(job), **headers)

    def upload(self, path, content_type, body, **headers):
        """Submits a body, and returns the job."""
        status, answer = self.send("POST", path, {"Content-Type": content_type, **headers}, body)
        if status not in (200, 202):
            raise Failure(f"POST {path} was answered with {status}: {answer}")
        return answer

    def wait(self, job_id):
        """Returns a job once it is final."""

        def final():
            status, job = self.send("GET", f"/v1/jobs/{job_id}?wait=10")
            return job if status == 200 and job["status"] in ("succeeded", "failed", "cancelled") else None

        return wait_for(f"job {job_id} is final", JOB_SECONDS_MAX, final)


class LoadGenerator:
    """Clients that submit jobs until the end of the `with` block.

    A client repeats a request that was refused with 429 or 503, or got no response, with the same
    idempotency key. Any other response fails the check.
    """

    def __init__(self, api):
        self.api = api
        self.accepted = {}
        self.repeats = 0
        self.submit_seconds_max = 0.0
        self.problems = []
        self.is_ending = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.run_client, args=[n]) for n in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_ending.set()
        for thread in self.threads:
            thread.join()

    def run_client(self, client):
        number = 0
        while not self.is_ending.is_set() and not self.problems:
            number += 1
            words = number % 7 + 1
            started = time.monotonic()
            try:
                job_id = self.submit(f"client {client} job {number} " + "word " * words)
            except Failure as failure:
                self.problems.append(str(failure))
                return
            with self.lock:
                self.accepted[job_id] = words + 4
                self.submit_seconds_max = max(self.submit_seconds_max, time.monotonic() - started)
            # Leaves the processors to the services.
            self.is_ending.wait(0.02)

    def submit(self, text):
        headers = {**self.api.headers, "Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        body = json.dumps({"text": text})
        deadline = time.monotonic() + JOB_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                status, _, answer = request(self.api.port, "POST", "/v1/jobs", headers, body)
            except (OSError, http.client.HTTPException):
                status, answer = None, b""
            if status in (200, 202):
                return json.loads(answer)["job_id"]
            if status not in (None, 429, 503):
                raise Failure(f"a job was refused with {status}: {answer.decode(errors='replace')}")
            with self.lock:
                self.repeats += 1
            time.sleep(RETRY_SECONDS)
        raise Failure(f"no job was accepted within {JOB_SECONDS_MAX} s (last status: {status})")

    def check(self):
        """Checks that every accepted job has succeeded with the right count. Returns a summary."""
        if self.problems:
            raise Failure(self.problems[0])
        if not self.accepted:
            raise Failure("no job was accepted under load")
        for job_id, words in self.accepted.items():
            job = self.api.wait(job_id)
            counted = job["totals"]["words"] if job["status"] == "succeeded" else job["status"]
            if counted != words:
                raise Failure(f"job {job_id}: {words} words expected, but the result is {counted}")
        return f"{len(self.accepted)} jobs, {self.repeats} requests repeated, slowest submission {self.submit_seconds_max:.1f} s"
