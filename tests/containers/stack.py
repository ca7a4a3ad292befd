"""The stack of docker-compose.yml in the test's own engine."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import compose
from client import HOST, Api, wait_for
from engine import Failure, docker, inspect, run

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SERVICES = ["nats", "gateway", "worker", "nginx", "jaeger", "prometheus", "grafana"]
ONE_SHOT = ["prepare-volumes", "provision"]
OWNER = "tests"
API_PORT, JAEGER_PORT, PROMETHEUS_PORT = 8080, 16686, 9090
SITE_PORT = 9000
UP_SECONDS_MAX = 180
RESTART_SECONDS_MAX = 90
LOG_LINES = 10


def clean_environment():
    """Returns the environment without settings that Compose would read instead of compose.env."""
    names = ["PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG"]
    return {name: os.environ[name] for name in names if name in os.environ}


class Stack:
    """A copy of the files of the stack, with secrets and settings of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.compose = compose.find_compose_command()
        tracked = run("git", "-C", ROOT, "ls-files", "-z", "docker-compose.yml", "deploy", "nats", "observability")
        names = [name for name in tracked.split("\0") if name and os.path.lexists(ROOT / name)]
        folder.mkdir(parents=True)
        run("cp", "-a", "--parents", "-t", folder, "--", *names, cwd=ROOT)
        run(folder / "deploy/create-secrets")
        # nats-server would read a password of digits as a number, and an editor adds a line break.
        (folder / "deploy/secrets/nats-gateway").write_text("1234567890\n")
        self.env_file = folder / "deploy/compose.env"
        self.settings = {
            "WORDMILL_KEYS_FILE": "/etc/wordmill/keys.jsonl",
            # The site's address is known only after the network exists.
            "WORDMILL_FETCH_ALLOW": f"172.16.0.0/12:{SITE_PORT},192.168.0.0/16:{SITE_PORT}",
            "WORDMILL_TRACE_URL": f"http://{HOST}:{JAEGER_PORT}",
        }
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))
        self.api = Api(API_PORT, self.create_key())
        # Set by the checks: the id of the first job, and the images before the upgrade.
        self.first_job = None
        self.images = None

    def create_key(self):
        """Creates an API key as docs/access.md describes, and returns it."""
        command = ["docker", "run", "--rm", "wordmill-gateway", "key", "new", "--name", "tests", "--owner", OWNER]
        created = subprocess.run(command, capture_output=True, text=True)
        key = re.search(r"\bwm_\w+", created.stderr)
        if created.returncode != 0 or not key:
            raise Failure(f"`{' '.join(command)}` failed: {created.stderr}")
        (self.folder / "deploy/access/keys.jsonl").write_text(created.stdout)
        return key[0]

    def run_compose(self, *arguments, timeout=UP_SECONDS_MAX):
        """Runs Docker Compose in the folder of the stack."""
        command = [*self.compose, "--env-file", self.env_file, *arguments]
        return run(*command, cwd=self.folder, env=clean_environment(), timeout=timeout)

    def upgrade(self):
        """Replaces the containers with `deploy/upgrade`."""
        environment = {**clean_environment(), "COMPOSE": " ".join(self.compose)}
        run(self.folder / "deploy/upgrade", env=environment, timeout=2 * UP_SECONDS_MAX)

    def up(self, *arguments):
        """Starts or changes the stack, and waits until it is healthy."""
        self.run_compose("up", "--no-build", "--pull", "never", "--detach", "--wait", *arguments)

    def down(self):
        """Stops the stack, and keeps its volumes."""
        self.run_compose("down")

    def containers(self, service):
        """Returns the descriptions of the containers of a service, running or not."""
        ids = self.run_compose("ps", "--all", "--quiet", service).split()
        return json.loads(docker("inspect", *ids)) if ids else []

    def start_site(self):
        """Starts the site that jobs fetch from, in the network of the workers."""
        docker(
            "run", "--detach", "--name", "site", "--network", "wordmill_worker-broker",
            "--publish", f"{HOST}:{SITE_PORT}:{SITE_PORT}", "site",
        )

    def kill_process(self, container):
        """Kills the main process of a container, and waits until the restart policy has started
        another one that is healthy. (`docker kill` would suspend the policy.)
        """
        before = inspect(container["Id"])
        os.kill(before["State"]["Pid"], signal.SIGKILL)

        def restarted():
            after = inspect(container["Id"])
            is_new = after["RestartCount"] > before["RestartCount"] and after["State"]["Running"]
            return is_new and after["State"].get("Health", {}).get("Status") == "healthy"

        wait_for(f"{container['Name']} runs again and is healthy", RESTART_SECONDS_MAX, restarted)

    def webhook_secret(self):
        """Returns the secret that verifies webhooks of the owner, as docs/webhooks.md describes."""
        gateway = self.containers("gateway")[0]["Id"]
        printed = docker("exec", gateway, "wordmill-gateway", "webhook", "secret", "--owner", OWNER)
        return printed.split()[-1]

    def print_problems(self):
        """Prints state and last log lines of every container, after a failure."""
        print(docker("ps", "--all", check=False), file=sys.stderr)
        for container in docker("ps", "--all", "--quiet", check=False).split():
            command = ["docker", "logs", "--tail", str(LOG_LINES), container]
            logs = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            name = inspect(container)["Name"]
            print(f"--- {name}", logs.stdout.decode(errors="replace"), sep="\n", file=sys.stderr)
