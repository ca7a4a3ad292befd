"""A Docker Engine for the test, with its own data, socket, networks and processes.

The engine runs in new namespaces of mounts, processes and, unless an image build needs the network
of the host, of the network. When the test ends, even by SIGKILL, the kernel kills every process of
the engine and removes its mounts, bridges and firewall rules. The process outside of the namespaces
then removes the data; if it is killed, too, the next test does.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from supervisor import die_with

# Environment variable with the phase of the test that runs inside the namespaces.
PHASE_VARIABLE = "WORDMILL_CONTAINERS_PHASE"
NAMESPACES = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = ["apt-get", "dockerd", "docker", "iptables", "ip", "unshare", "nsenter", "debootstrap"]
PACKAGES = ["docker.io", "iptables", "iproute2", "util-linux", "debootstrap"]
# In Debian 13, docker.io only recommends the package with the program docker.
CLIENT_PACKAGE = "docker-cli"
SYSTEM_FOLDERS = ":/usr/local/sbin:/usr/sbin:/sbin"
# Sockets of the engine, in the file system that its namespaces have at /run. Paths of sockets must
# be short, and that of the working tree may be long.
SOCKET_FOLDER = pathlib.Path("/run/wordmill-containers")
# Parent of the control groups of all containers, so that the ones of a killed test can be removed.
CGROUP_NAME = "wordmill-containers"
CGROUP_ROOT = pathlib.Path("/sys/fs/cgroup")

INSTALL_SECONDS_MAX = 600
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 60
COMMAND_SECONDS_MAX = 600
POLL_SECONDS = 0.1


class Unusable(Exception):
    """The host lacks something that the test needs."""


class Failure(Exception):
    """A failed check."""


def require_host():
    """Raises `Unusable` unless the host can run the engine. Installs missing programs on Debian as
    root.
    """
    # sudo may keep the PATH of the user, which lacks these folders.
    os.environ["PATH"] += SYSTEM_FOLDERS
    if os.geteuid() != 0:
        raise Unusable('root is needed: run `sudo env PATH="$PATH" HOME="$HOME" make test-containers`')
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing and shutil.which("apt-get"):
        install(PACKAGES)
        if not shutil.which("docker"):
            install([CLIENT_PACKAGE])
        missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        packages = " ".join(PACKAGES)
        raise Unusable(f"these programs are missing: {', '.join(missing)} (Debian packages: {packages})")
    allowed = subprocess.run([*NAMESPACES, "--net", "true"], capture_output=True, text=True)
    if allowed.returncode != 0:
        raise Unusable(f"cannot create namespaces: {allowed.stderr.strip()}")


def install(packages):
    """Installs Debian packages without starting their services: installation scripts start a
    service only if they find systemd, or the runlevel is not 1.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    hide_systemd = "[ ! -d /run/systemd ] || mount -t tmpfs tmpfs /run/systemd; exec \"$@\""
    hidden = ["unshare", "--mount", "sh", "-c", hide_systemd, "sh"]
    apt = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-qq"], [*hidden, *apt]):
        done = subprocess.run(
            command, stdout=sys.stderr, env=environment, timeout=INSTALL_SECONDS_MAX
        )
        if done.returncode != 0:
            raise Unusable(f"cannot install packages: run `apt-get install {' '.join(packages)}`")


@contextlib.contextmanager
def only_one_test(lock):
    """Holds a lock, so that no other test uses the same folder. Raises `Unusable` if one does."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with open(lock, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Unusable(f"another test of containers is running: it has locked {lock}") from error
        yield


def run_inside_namespaces(phase, with_host_network):
    """Runs this program again inside new namespaces, for a phase of the test. Returns its exit
    code.
    """
    network = [] if with_host_network else ["--net"]
    command = [*NAMESPACES, *network, sys.executable, "-B", *sys.argv]
    environment = {**os.environ, PHASE_VARIABLE: phase}
    # If this process is killed, the namespaces end, too.
    return subprocess.run(command, env=environment, preexec_fn=die_with(os.getpid())).returncode


def phase():
    """Returns the phase that runs inside the namespaces, or None outside."""
    return os.environ.get(PHASE_VARIABLE)


class Engine:
    """A running Docker Engine. Its data stays until `remove`, so that a later engine can use its
    images.
    """

    def __init__(self, folder, with_host_network=False):
        self.folder = folder
        self.log = folder / "dockerd.log"
        self.with_host_network = with_host_network
        self.process = None

    def __enter__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        hide_host_engine()
        SOCKET_FOLDER.mkdir()
        if not self.with_host_network:
            run("ip", "link", "set", "lo", "up")
        socket = f"unix://{SOCKET_FOLDER}/socket"
        command = ["dockerd", "--data-root", self.folder / "data", "--exec-root", SOCKET_FOLDER / "exec"]
        command += ["--pidfile", SOCKET_FOLDER / "pid", "--host", socket, "--cgroup-parent", f"/{CGROUP_NAME}"]
        # With systemd's driver, the control groups would belong to systemd of the host.
        command += ["--exec-opt", "native.cgroupdriver=cgroupfs"]
        if self.with_host_network:
            # The engine must not change bridges and firewall rules of the host.
            command += ["--bridge", "none", "--iptables=false", "--ip-forward=false"]
        # A separate DOCKER_CONFIG, so that the user's configuration of Docker has no effect.
        os.environ.update(DOCKER_HOST=socket, DOCKER_CONFIG=str(self.folder / "config"))
        os.environ.pop("DOCKER_CONTEXT", None)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while subprocess.run(["docker", "version"], capture_output=True).returncode != 0:
            lines = "\n".join(self.log.read_text().splitlines()[-5:])
            if self.process.poll() is not None:
                raise Unusable(f"dockerd ended with exit code {self.process.returncode}:\n{lines}")
            if time.monotonic() > deadline:
                raise Unusable(f"dockerd is not ready after {START_SECONDS_MAX} s:\n{lines}")
            time.sleep(POLL_SECONDS)

    def __exit__(self, *_):
        containers = docker("ps", "--all", "--quiet", check=False).split()
        if containers:
            docker("rm", "--force", "--volumes", *containers, check=False)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def remove(folder):
    """Removes data, control groups and mounts of an engine that has ended or was killed."""
    for mount in reversed(mounts_below(folder)):
        unmount(mount)
    # The kernel may still be ending processes of the namespaces.
    deadline = time.monotonic() + STOP_SECONDS_MAX
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > deadline:
            raise Unusable(f"cannot remove {folder}")
        time.sleep(POLL_SECONDS)
    # cgroup v2 has one hierarchy, cgroup v1 one for each controller.
    for group in [CGROUP_ROOT / CGROUP_NAME, *CGROUP_ROOT.glob(f"*/{CGROUP_NAME}")]:
        for path in sorted(group.glob("**/"), reverse=True):
            with contextlib.suppress(OSError):
                path.rmdir()


def hide_host_engine():
    """Hides sockets and configuration of an engine that the host may run, and keeps the files of
    this one out of the host's folders, for the processes of these namespaces.
    """
    resolver = pathlib.Path("/etc/resolv.conf")
    servers = resolver.read_text() if resolver.exists() else ""
    pathlib.Path("/etc/docker").mkdir(exist_ok=True)
    for folder in ["/run", "/etc/docker"]:
        run("mount", "-t", "tmpfs", "tmpfs", folder)
    # /etc/resolv.conf may be a link to a file in /run.
    if not resolver.exists():
        resolver.resolve().parent.mkdir(parents=True, exist_ok=True)
        resolver.resolve().write_text(servers)


def mounts_below(folder):
    """Returns the mount points below a folder, in the order of mounting."""
    lines = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    targets = [line.split()[1] for line in lines]
    return [target for target in targets if target.startswith(f"{folder}/")]


def unmount(target):
    """Detaches a mount. Ignores errors: `remove` reports a folder that it cannot remove."""
    detach = 2  # MNT_DETACH
    ctypes.CDLL(None).umount2(target.encode(), detach)


def docker(*arguments, **options):
    """Runs `docker` with these arguments and the options of `run`, and returns its output."""
    return run("docker", *arguments, **options)


def run(*command, check=True, timeout=COMMAND_SECONDS_MAX, **options):
    """Runs a command, and returns its output. Raises `Failure` if it fails and `check` is set."""
    command = [str(part) for part in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, **options)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"`{' '.join(command)}` did not end within {timeout} s") from error
    if check and done.returncode != 0:
        output = f"{done.stdout}{done.stderr}".strip()
        raise Failure(f"`{' '.join(command)}` failed with exit code {done.returncode}:\n{output}")
    return done.stdout


def inspect(container):
    """Returns the description of a container."""
    return json.loads(docker("inspect", container))[0]
