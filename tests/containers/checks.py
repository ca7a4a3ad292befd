"""The checks of the running stack, in order. Each takes the stack and the builder of images, and
returns a summary, or raises `Failure`.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

import stack
from client import HOST, LoadGenerator, get_json, request, wait_for
from engine import Failure, docker, inspect, run

SCRAPE_SECONDS_MAX = 90
SEND_SECONDS_MAX = 30
CONNECT_SECONDS_MAX = 1
# Prints the addresses that accept a connection. A firewall drops packets instead of refusing them,
# so all are tried at the same time.
PROBE = """
import concurrent.futures, socket, sys
def is_open(address):
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=float(sys.argv[1])).close()
        return True
    except OSError:
        return False
addresses = sys.argv[2:]
with concurrent.futures.ThreadPoolExecutor(len(addresses)) as pool:
    print(*(address for address, reached in zip(addresses, pool.map(is_open, addresses)) if reached))
"""

USERS = {
    "prepare-volumes": "0:0",
    "nats": "65532:65532",
    "provision": "65532:65532",
    "gateway": "65532:65532",
    "worker": "65532:65532",
    "nginx": "101:101",
    "jaeger": "10001:10001",
    "prometheus": "65534:65534",
    "grafana": "472:0",
}
NETWORKS = {
    "prepare-volumes": {"none"},
    "nats": {"gateway-broker", "worker-broker"},
    "provision": {"worker-broker"},
    "gateway": {"http", "gateway-broker", "gateway-traces", "gateway-metrics"},
    "worker": {"worker-broker", "worker-traces", "worker-metrics"},
    "nginx": {"http"},
    "jaeger": {"gateway-traces", "worker-traces", "dashboards"},
    "prometheus": {"gateway-metrics", "worker-metrics", "dashboards"},
    "grafana": {"dashboards"},
}
# Ports on which each service listens.
PORTS = {
    "nats": [4222, 8222],
    "gateway": [8080],
    "worker": [9091],
    "nginx": [8080],
    "jaeger": [4317, 4318, 8888, 13133, 16685, 16686],
    "prometheus": [9090],
    "grafana": [3000],
}
SPANS = {"jaeger:4317", "jaeger:4318"}
DASHBOARDS = {"jaeger:8888", "jaeger:16685", "jaeger:16686", "prometheus:9090", "grafana:3000"} | SPANS
# Ports that the containers of each service can reach.
REACHABLE = {
    "nats": {"nats:4222", "gateway:8080", "worker:9091"},
    "gateway": {"nats:4222", "gateway:8080", "nginx:8080"} | SPANS,
    "worker": {"nats:4222", "worker:9091"} | SPANS,
    "nginx": {"gateway:8080", "nginx:8080"},
    "jaeger": {"gateway:8080", "worker:9091"} | DASHBOARDS,
    "prometheus": {"gateway:8080", "worker:9091"} | DASHBOARDS,
    "grafana": DASHBOARDS,
}
CPUS = {"prepare-volumes": 0.5, "nats": 2, "provision": 0.5, "gateway": 2, "worker": 2, "nginx": 1, "jaeger": 1, "prometheus": 1, "grafana": 1}
MIB = 1 << 20
MEMORY_MIB = {
    "prepare-volumes": 64, "nats": 1024, "provision": 128, "gateway": 512, "worker": 1024, "nginx": 128, "jaeger": 1024, "prometheus": 1024, "grafana": 512,
}
PIDS_MIN = 1024


def expect(actual, expected, subject):
    """Raises `Failure` unless both values are equal."""
    if actual != expected:
        raise Failure(f"{subject}: {actual!r} instead of {expected!r}")


def start(wordmill, builder):
    """Starts the stack with a volume that belongs to root, as in earlier versions. Checks that
    every container is healthy or has ended with success.
    """
    image = builder.images["nats"]
    volume = ["--volume", "wordmill_nats-data:/data"]
    docker("run", "--rm", "--user", "0", *volume, "--entrypoint", "mkdir", image, "--mode=700", "/data/jetstream")
    wordmill.up()
    counts = {}
    for service in [*stack.SERVICES, *stack.ONE_SHOT]:
        containers = wordmill.containers(service)
        counts[service] = len(containers)
        for container in containers:
            state = container["State"]
            is_one_shot = service in stack.ONE_SHOT
            actual = (state["Status"], state["ExitCode"]) if is_one_shot else state["Health"]["Status"]
            expect(actual, ("exited", 0) if is_one_shot else "healthy", container["Name"])
    replicas = {service: 2 if service in ("gateway", "worker") else 1 for service in counts}
    expect(counts, replicas, "number of containers")
    return f"{sum(counts.values())} containers"


def check_hardening(wordmill, _):
    """Checks users, capabilities, file systems, limits and networks, as the engine and the kernel
    report them.
    """
    secrets = [path.read_text().strip() for path in (wordmill.folder / "deploy/secrets").glob("[a-z]*")]
    for service in [*stack.SERVICES, *stack.ONE_SHOT]:
        for container in wordmill.containers(service):
            name = container["Name"]
            host = container["HostConfig"]
            expect(container["Config"]["User"], USERS[service], f"{name}: user")
            expect(host["ReadonlyRootfs"], True, f"{name}: root file system is read-only")
            expect(host["CapDrop"], ["ALL"], f"{name}: dropped capabilities")
            added = [name.removeprefix("CAP_") for name in host["CapAdd"] or []]
            expect(added, ["CHOWN", "DAC_READ_SEARCH"] if service == "prepare-volumes" else [], f"{name}: added capabilities")
            expect(host["SecurityOpt"], ["no-new-privileges:true"], f"{name}: security options")
            expect(host["Privileged"], False, f"{name}: privileged")
            expect(host["NanoCpus"], CPUS[service] * 10**9, f"{name}: CPU limit")
            expect(host["Memory"], MEMORY_MIB[service] * MIB, f"{name}: memory limit")
            if not host["PidsLimit"] or host["PidsLimit"] < PIDS_MIN:
                raise Failure(f"{name}: the process limit is {host['PidsLimit']}, but must be at least {PIDS_MIN}")
            networks = {network.removeprefix("wordmill_") for network in container["NetworkSettings"]["Networks"]}
            expect(networks, NETWORKS[service], f"{name}: networks")
            for published in (container["NetworkSettings"]["Ports"] or {}).values():
                for port in published or []:
                    expect(port["HostIp"], HOST, f"{name}: address of port {port['HostPort']}")
            policy = "on-failure" if service in stack.ONE_SHOT else "unless-stopped"
            expect(host["RestartPolicy"]["Name"], policy, f"{name}: restart policy")
            if any(secret in json.dumps(container) for secret in secrets if secret):
                raise Failure(f"{name}: `docker inspect` shows a secret")
            if container["State"]["Running"]:
                check_process(container, int(USERS[service].partition(":")[0]))


def check_process(container, user):
    """Checks the main process of a container as the kernel reports it."""
    text = pathlib.Path(f"/proc/{container['State']['Pid']}/status").read_text()
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    name = container["Name"]
    expect(status["Uid"].split(), [str(user)] * 4, f"{name}: user ids")
    for capabilities in ("CapPrm", "CapEff", "CapBnd", "CapAmb"):
        expect(int(status[capabilities], 16), 0, f"{name}: {capabilities}")
    expect(status["NoNewPrivs"], "1", f"{name}: NoNewPrivs")
    expect(status["Seccomp"], "2", f"{name}: Seccomp")


def addresses(wordmill):
    """Returns all addresses on which containers may listen: `address:port` to `service:port`."""
    found = {}
    for service, ports in PORTS.items():
        for container in wordmill.containers(service):
            for network in container["NetworkSettings"]["Networks"].values():
                found.update({f"{network['IPAddress']}:{port}": f"{service}:{port}" for port in ports})
    return found


def check_isolation(wordmill, _):
    """Checks which ports each service can reach, by probing from the network namespace of its first
    container. A port of the service itself counts only if it is reachable at an address other than
    loopback.
    """
    targets = addresses(wordmill)

    def probe(service):
        pid = wordmill.containers(service)[0]["State"]["Pid"]
        command = ["nsenter", "--net", f"--target={pid}", sys.executable, "-c", PROBE]
        return {targets[address] for address in run(*command, CONNECT_SECONDS_MAX, *targets).split()}

    reached = {service: probe(service) for service in PORTS}
    for service, expected in REACHABLE.items():
        expect(sorted(reached[service]), sorted(expected), f"ports that {service} can reach")
    return f"{len(targets)} addresses from {len(reached)} services"


def check_jobs(wordmill, _):
    """Runs jobs of all kinds of sources through nginx, one with a webhook."""
    api = wordmill.api
    status, _, _ = request(api.port, "POST", "/v1/jobs", {"Content-Type": "application/json"}, b'{"text": "a"}')
    expect(status, 401, "status of a submission without a key")
    wordmill.start_site()
    wait_for("the site answers", SEND_SECONDS_MAX, lambda: request(stack.SITE_PORT, "GET", "/page")[0] == 200)
    site = inspect("site")["NetworkSettings"]["Networks"]["wordmill_worker-broker"]["IPAddress"]
    page = f"http://{site}:{stack.SITE_PORT}/page"
    hook = f"http://{site}:{stack.SITE_PORT}/hook"
    jobs = {
        "text": (api.submit({"text": "To be, or not to be", "webhook": {"url": hook}}), 6),
        "URL": (api.submit({"url": page}), 8),
        "upload": (api.upload("/v1/jobs", "text/plain", "one two three " * 100_000), 300_000),
    }
    for source, (job, words) in jobs.items():
        final = api.wait(job["job_id"])
        totals = final["totals"] or {}
        expect((final["status"], totals.get("words")), ("succeeded", words), f"job with {source}: {final['failure']}")
    job_id = jobs["text"][0]["job_id"]
    check_webhook(wordmill, job_id)
    wordmill.first_job = job_id
    return ", ".join(jobs)


def check_webhook(wordmill, job_id):
    """Checks that the webhook of a job arrives once, with a valid signature."""

    def received():
        hooks = get_json(stack.SITE_PORT, "/hooks")
        return [hook for hook in hooks if hook["headers"]["webhook-id"] == job_id]

    hooks = wait_for("the webhook arrives", SEND_SECONDS_MAX, received)
    expect(len(hooks), 1, "number of webhooks")
    headers = hooks[0]["headers"]
    key = base64.b64decode(wordmill.webhook_secret().removeprefix("whsec_"))
    signed = f"{job_id}.{headers['webhook-timestamp']}.{hooks[0]['body']}".encode()
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    expect(headers["webhook-signature"], f"v1,{signature}", "signature of the webhook")


def check_trace(wordmill, _):
    """Checks that Jaeger has one trace of the first job, with spans of both services."""
    job = wordmill.api.wait(wordmill.first_job)

    def found():
        trace = get_json(stack.JAEGER_PORT, f"/api/traces/{job['trace_id']}")
        spans = trace["data"][0]["spans"] if trace else []
        names = {span["operationName"] for span in spans}
        return names if {"POST /v1/jobs", "process jobs", "process webhooks"} <= names else None

    names = wait_for("Jaeger has the trace", SEND_SECONDS_MAX, found)
    return f"{len(names)} kinds of spans"


def query(expression):
    """Returns the value of each series of an expression in Prometheus, by job and instance."""
    path = f"/api/v1/query?query={expression}"
    answer = get_json(stack.PROMETHEUS_PORT, path)
    series = answer["data"]["result"] if answer else []
    return {(one["metric"].get("job"), one["metric"].get("instance")): float(one["value"][1]) for one in series}


def wait_for_targets(gateways, workers):
    """Waits until Prometheus scrapes exactly these numbers of gateways and workers, and itself and
    Jaeger.
    """
    expected = {"wordmill-gateway": gateways, "wordmill-worker": workers, "prometheus": 1, "jaeger": 1}

    def all_up():
        up = query("up")
        counts = {}
        for (job, _), value in up.items():
            counts[job] = counts.get(job, 0) + int(value)
        return counts == expected and len(up) == sum(expected.values())

    wait_for(f"Prometheus scrapes {expected}", SCRAPE_SECONDS_MAX, all_up)


def check_metrics(wordmill, _):
    """Checks that Prometheus finds all targets through its configuration, counts the finished
    jobs, and has loaded the alerts.
    """
    wait_for_targets(gateways=2, workers=2)
    finished = wait_for("Prometheus counts the jobs", SCRAPE_SECONDS_MAX, lambda: sum(query("wordmill_jobs_finished_total").values()) >= 3)
    rules = get_json(stack.PROMETHEUS_PORT, "/api/v1/rules")["data"]["groups"]
    alerts = sum(len(group["rules"]) for group in rules)
    if not (finished and alerts):
        raise Failure("Prometheus has no alerts")
    return f"{alerts} alerts"


def kill_each(wordmill, _):
    """Kills one process of every service under load."""
    with LoadGenerator(wordmill.api) as load:
        for service in stack.SERVICES:
            wordmill.kill_process(wordmill.containers(service)[0])
    return load.check()


def scale(wordmill, _):
    """Scales the workers up and down under load, as docs/deployment.md describes."""
    with LoadGenerator(wordmill.api) as load:
        for workers in (4, 2):
            wordmill.up("--no-recreate", "--scale", f"worker={workers}")
            running = [container["State"]["Health"]["Status"] for container in wordmill.containers("worker")]
            expect(running, ["healthy"] * workers, "workers")
            if workers == 4:
                wait_for_targets(gateways=2, workers=workers)
    return load.check()


def expect_images(wordmill, images):
    """Checks that every gateway and worker runs the image of its service."""
    for service in ("gateway", "worker"):
        found = [container["Image"] for container in wordmill.containers(service)]
        expect(found, [images[service]] * 2, f"images of {service}")


def upgrade(wordmill, builder):
    """Upgrades to the images of the next version with `deploy/upgrade`, under load. No request may
    be refused.
    """
    before = wordmill.images = builder.service_ids()
    with LoadGenerator(wordmill.api) as load:
        after = builder.build_next_services()
        if before["gateway"] == after["gateway"] or before["worker"] == after["worker"]:
            raise Failure("the next version has the same images as the current one")
        wordmill.upgrade()
    expect_images(wordmill, after)
    expect(load.repeats, 0, "requests that were repeated")
    return load.check()


def roll_back(wordmill, builder):
    """Restores the images, and replaces all containers at the same time by `up`, under load."""
    with LoadGenerator(wordmill.api) as load:
        builder.restore(wordmill.images)
        wordmill.up()
    expect_images(wordmill, wordmill.images)
    return load.check()


def restart(wordmill, _):
    """Removes all containers and networks, creates them again, and finds the jobs."""
    docker("rm", "--force", "site")
    wordmill.down()
    label = "label=com.docker.compose.project=wordmill"
    for kind, command in [("containers", ["ps", "--all"]), ("networks", ["network", "ls"])]:
        expect(docker(*command, "--quiet", "--filter", label), "", f"{kind} after `down`")
    wordmill.up()
    status, result = wordmill.api.send("GET", f"/v1/jobs/{wordmill.first_job}/result")
    expect((status, result["totals"]["words"]), (200, 6), "result of the first job")


ALL = [
    ("start until healthy", start),
    ("users, limits, networks", check_hardening),
    ("isolation of networks", check_isolation),
    ("jobs through nginx", check_jobs),
    ("the trace in Jaeger", check_trace),
    ("the metrics in Prometheus", check_metrics),
    ("a killed process of every service", kill_each),
    ("scaling", scale),
    ("an upgrade in place", upgrade),
    ("a rollback by `up`", roll_back),
    ("down and up", restart),
]
